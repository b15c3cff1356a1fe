"""The score against the number of training images: learning curves, each of one training data.

Runs of one curve learn from more or less of the same images: their slices differ (``train[:10%]``)
and nothing else does. Another setting of a job's grid has a curve of its own, and so have images
of another set, which are no more of the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from deeplense_batch.report.plots.lines import MOST_LINES
from deeplense_batch.report.plots.pictures import Picture
from deeplense_batch.report.plots.short_names import named_networks
from deeplense_batch.report.run_table import Row

__all__ = ["learning_curves"]

_SLICE = re.compile(r"(?<=[0-9a-f]{16}):\w+(\[[^\]]*\])?")  # behind the digest of a set
_SLICE_NAMED = re.compile(r" \w+\[[^\]]*\]")  # behind the folder of a set


def learning_curves(runs: Sequence[Row]) -> Iterator[Picture]:
    """The figure ``auc_labels``; none unless the number of images varies on one curve.

    Arguments:
        runs: Of one comparison (`run_table`), with ``training`` where it is known.
    """
    curves: dict[tuple[str, str], list[Row]] = {}  # by network with settings, and images
    known = [run for run in runs if run.get("train_samples") and run["auc"] is not None]
    for run, network in zip(known, named_networks(known), strict=True):
        curves.setdefault((network, _images(run)), []).append(run)
    if not any(len({run["train_samples"] for run in curve}) > 1 for curve in curves.values()):
        return
    models = [model for model, _ in curves]
    lines = [
        {
            "label": model
            if models.count(model) == 1
            else f"{model}, trained on {_named(curve[0])}",
            "runs": [[run["train_samples"], run["auc"]] for run in curve],
        }
        for (model, _), curve in curves.items()
    ]
    caption = "Test AUC against the number of training images, a line for each training data"
    more = len(lines) - MOST_LINES
    caption += (
        f"; it shows the first {MOST_LINES} lines and leaves out {more}." * (more > 0) or "."
    )
    yield Picture("auc_labels", "auc_against_labels", {"models": lines[:MOST_LINES]}, caption)


def _images(run: Row) -> str:
    """What tells the training data of a run from others, whatever their slices."""
    training = run.get("training") or {}
    return _SLICE.sub("", training.get("digest") or training.get("name") or "")


def _named(run: Row) -> str:
    training = run.get("training")
    return _SLICE_NAMED.sub("", training["name"]) if training else "unknown data"
