"""The test images that the most models get wrong, side by side."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deeplense_batch.core.scoring.image_grid import contact_sheet
from deeplense_batch.data.formats.filters import colour_channels
from deeplense_batch.data.shards import ShardError, Split, data_digest, open_split
from deeplense_batch.report.catalogue import position
from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.run_table import CollectError

__all__ = ["NOT_SHOWN", "check_colours", "find_images", "hardest", "sheet"]

_log = logging.getLogger(__name__)

NOT_SHOWN = "the hardest images are not shown"
_TITLE = "Test images that the most models get wrong"
_MOST, _COLUMNS = 24, 8  # images of a sheet, and of a row of it
_LETTERS = 14  # of the name of a class below an image


def hardest(models: Sequence[Predictions], most: int = _MOST) -> list[dict[str, Any]]:
    """Find the samples that the most models get wrong, of one run each.

    Among samples that equally many get wrong, the one whose true class has the lowest mean
    probability comes first, then by id.

    Arguments:
        models: Their predictions of classes on the same samples, in any order.
        most: How many to find.

    Returns:
        ``id``, ``truth``, ``said`` (the wrong class most often predicted), ``wrong`` (models)
        and ``of`` (all models) of each; none that all models get right.

    Raises:
        CollectError: The models were tested on different samples or classes.
    """
    classes, first = models[0].classes, np.argsort(models[0].ids)
    ids, targets = models[0].ids[first], models[0].targets[first]
    count, samples = len(models), np.arange(len(ids))
    true = np.zeros(len(ids))
    said = np.zeros((len(ids), len(classes)), np.int64)
    for model in models:
        by_id = np.argsort(model.ids)
        if not np.array_equal(model.ids[by_id], ids) or model.classes != classes:
            raise CollectError(
                f"{NOT_SHOWN}: the models were tested on different samples or classes"
            )
        assert model.probabilities is not None
        probabilities = model.probabilities[by_id]
        said[samples, probabilities.argmax(axis=1)] += 1
        true += probabilities[samples, targets] / count
    said[samples, targets] = 0
    wrong = np.where(targets >= 0, said.sum(axis=1), 0)
    order = np.lexsort((ids, true, -wrong))[:most]
    return [
        {"id": str(ids[i]), "truth": classes[targets[i]], "said": classes[said[i].argmax()]}
        | {"wrong": int(wrong[i]), "of": count}
        for i in order
        if wrong[i]
    ]


def find_images(root: str, digest: str, test: str, ids: Sequence[str]) -> list[Split]:
    """Find samples by id, each as a slice of one.

    Raises:
        CollectError: They are not at hand: the folder is gone, or holds other data.
    """
    try:
        if data_digest(root) != digest:
            raise ShardError(f"{root} holds other data now")
        slice_ = open_split(root, test)
        indices = {name: index for index, name in enumerate(slice_.ids())}
        return [slice_.part(indices[id_], indices[id_] + 1) for id_ in ids]
    except KeyError as error:
        raise CollectError(f"{NOT_SHOWN}: {root} has no {error}") from error
    except (OSError, ValueError) as error:
        raise CollectError(f"{NOT_SHOWN}: {error}") from error


def check_colours(bands: Sequence[str], rgb: Sequence[str]) -> None:
    """Warn where there are no such bands, which a page alone would say too late.

    Raises:
        ShardError: There are no such bands.
    """
    try:
        colour_channels(bands, rgb)
    except ShardError as error:
        _log.warning("%s: %s", NOT_SHOWN, error)
        raise


def sheet(
    root: str,
    digest: str,
    test: str,
    samples: Sequence[Mapping[str, Any]],
    rgb: Sequence[str] = (),
) -> Figure:
    """Show images, each with its truth, what most take it for, and how many models are wrong.

    Arguments:
        root: Folder of shards.
        digest: Of the data that the models were tested on.
        test: The slice.
        samples: As `hardest` gives them, and with ``catalogue`` where it is known.
        rgb: Bands that are red, green and blue; by default those of the longest waves.

    Raises:
        CollectError: The images are not at hand.
        ShardError: There are no such bands.
    """
    splits = find_images(root, digest, test, [sample["id"] for sample in samples])
    names = [
        f"{sample['id']}\n{_place(sample)}true {_short(sample['truth'])}\n"
        f"taken for {_short(sample['said'])}\nwrong in {sample['wrong']} of {sample['of']}"
        for sample in samples
    ]
    images = [split.images()[0] for split in splits]
    channels = colour_channels(splits[0].info.bands, rgb)
    return contact_sheet(images, names, _TITLE, columns=_COLUMNS, rgb=channels)


def _place(sample: Mapping[str, Any]) -> str:
    """Where a sample is on the sky, on a line of its own, if that is known."""
    place = position(sample.get("catalogue", {}))
    return f"{place}\n" if place else ""


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
