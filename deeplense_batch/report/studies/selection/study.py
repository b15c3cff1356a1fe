"""Selection functions: how well models do as a function of a quantity of the test images.

``collect --by theta_e`` asks for one: a column of the catalogue or of the truth that runs have
kept of their test images. Images are sorted into bins (`bins`), and every model
is measured in each (`numbers`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.formats.counted import counted
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.run_table import CollectError, Row
from deeplense_batch.report.statistics.resamples import Resamples
from deeplense_batch.report.statistics.several_numbers import as_single
from deeplense_batch.report.studies.selection.bins import (
    Bins,
    bins_between,
    having,
    is_known,
    quantiles,
)
from deeplense_batch.report.studies.selection.known import known_columns
from deeplense_batch.report.studies.selection.measures import InBins
from deeplense_batch.report.studies.selection.numbers import Answers, numbers

__all__ = ["Wanted", "check_found", "read_wanted", "study"]

_LEAST = 30  # images that are searched for in a bin; of each class
_NAMED = 20  # columns of an error


@dataclass(frozen=True)
class Wanted:
    """A quantity to study a comparison by."""

    column: str
    edges: tuple[float, ...] = ()  # of its bins; none: bins of equally many images


def read_wanted(texts: Sequence[str]) -> list[Wanted]:
    """Read ``theta_e`` and ``theta_e=0.5:1:2``.

    Raises:
        CollectError: Edges are no numbers that rise, or a column is named twice.
    """
    wanted: list[Wanted] = []
    for text in texts:
        column, equals, given = (part.strip() for part in text.partition("="))
        try:
            edges = tuple(float(edge) for edge in given.split(":")) if equals else ()
        except ValueError:
            edges = (0.0,)
        rise = len(edges) != 1 and all(np.isfinite(edges)) and (np.diff(edges) > 0).all()
        if not column or not rise:
            raise CollectError(
                f"--by: got '{text}', expected a column, or a column and two or more edges that "
                "rise, such as theta_e=0.5:1:2"
            )
        if column in [one.column for one in wanted]:
            raise CollectError(f"--by: column {column} is named twice")
        wanted.append(Wanted(column, edges))
    return wanted


def study(models: Sequence[ModelRuns], wanted: Sequence[Wanted]) -> dict[str, Row]:
    """Study the models of one comparison by some quantities.

    Arguments:
        models: Of the comparison, the best first.
        wanted: The quantities.

    Returns:
        JSON, by column: ``edges`` (null where a bin is a value), ``labels`` and ``medians`` of K
        bins (of the images that are searched for; null where a bin is a value), ``equal`` (whether
        bins hold equally many), ``counts`` (K) and ``without``, a number, of images by class,
        ``unknown`` and ``outside`` (images of no bin, of classes that have the quantity),
        ``searched`` (class of a detection), ``resampled`` (a column of groups, or null), ``notes``
        and ``models``: ``label``, ``runs``, and ``numbers`` by name, (K,), each null or ``value``,
        ``low``, ``high`` (null where there is no interval) and ``runs``, the value of each run.
        Or ``fault`` alone, a sentence that says why there is no study.
    """
    resamples = Resamples.unscored(models)
    answers, notes = _answers(models, resamples)
    if not answers:
        fault = "; ".join(["no model can be studied by it", *notes])
        return {one.column: {"fault": fault} for one in wanted}
    studied = [model for model in models if model.label in answers]
    runs = [run for model in studied for run in model.runs]
    first = as_single(resamples.samples)
    try:
        known = known_columns(runs, first.ids, [one.column for one in wanted])
    except CollectError as error:
        return {one.column: {"fault": str(error)} for one in wanted}
    found: dict[str, Row] = {}
    for one in wanted:
        try:
            if one.column in known.lacking:
                raise CollectError(
                    f"{known.lacking[one.column]} has no truth '{one.column}', which other files "
                    "of these images have"
                )
            if one.column not in known.columns:
                raise CollectError(_about_columns(one.column, known.columns, runs[0]))
            values, is_search = known.columns[one.column], runs[0]["task"] == "detection"
            own = _by(one, values, answers, first, is_search)
            said = _about_thresholds(studied, answers) if is_search else []
            found[one.column] = own | {"notes": [*notes, *said]}
        except (CollectError, ValueError) as error:
            found[one.column] = {"fault": str(error)}
    return found


def check_found(wanted: Sequence[Wanted], studies: Sequence[Mapping[str, Row]]) -> None:
    """Make sure that every quantity is known somewhere; where it is not, its block says why.

    Arguments:
        wanted: The quantities.
        studies: Of every comparison, as `study` gives them.

    Raises:
        CollectError: One is known in no comparison.
    """
    for one in wanted:
        faults = [found[one.column].get("fault") for found in studies]
        if all(faults):
            reason = faults[0] if faults else "there is no finished run"
            raise CollectError(f"--by {one.column}: {reason}")


def _answers(
    models: Sequence[ModelRuns], resamples: Resamples
) -> tuple[dict[str, list[Predictions]], list[str]]:
    """What every run says of the images, in one order; and which models cannot be studied."""
    faults = {label: why for why, labels in resamples.faults.items() for label in labels}
    answers: dict[str, list[Predictions]] = {}
    for model in models:
        if model.label in faults:
            continue
        own = [as_single(resamples.predictions[run["run"]]) for run in model.runs]
        if names := next((samples.several.names for samples in own if samples.several), ()):
            faults[model.label] = (
                f"its runs predict {len(names)} numbers of an image ({', '.join(names)}), and "
                "--by measures the error of one"
            )
        elif any(samples.classes != resamples.samples.classes for samples in own):
            faults[model.label] = "its classes are not those of the others"
        else:
            answers[model.label] = own
    labels = [model.label for model in models if model.label in faults]
    return answers, [f"Left out is {label}: {faults[label]}" for label in labels]


def _about_columns(column: str, columns: Mapping[str, Any], run: Row) -> str:
    """Say which columns there are, where one is not."""
    names = sorted(columns)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    there = f"there are {', '.join(names[:_NAMED])}{more}" if names else "there is none"
    where = run["data_root"] or run["run"]
    return f"the test images of {where} ({run['test']}) have no column '{column}'; {there}"


def _by(
    wanted: Wanted, values: NDArray, answers: Answers, first: Predictions, is_search: bool
) -> Row:
    """The study by one column, without its notes.

    Raises:
        CollectError: It is known of no image, or bins cannot be made of it.
    """
    classes, targets = first.classes, first.targets
    searched = first.positive if is_search else None
    labelled = _scored(first)
    have = tuple(having(values, targets, len(classes))) if _of_classes(first) else ()
    own = labelled & np.isin(targets, have) if have else labelled
    if not (own & is_known(values)).any() or (_of_classes(first) and not have):
        zero = "" if values.dtype == object else " or 0"
        raise CollectError(f"it is unknown{zero} of every test image that is scored")
    shown = own & (targets == searched) if searched in have else own  # what bins are for
    least = _LEAST * (len(have) if have and searched is None else 1)
    bins = _bins(wanted, _only(values, own), shown, least)
    images = InBins(bins, targets, have, searched)
    inside = bins.numbers >= 0
    names, rows = numbers(answers, images, *_drawn_from(first))
    return {
        "edges": None if bins.edges is None else list(bins.edges),
        "labels": list(bins.labels),
        "medians": _medians(values, bins, shown),
        "equal": bins.edges is not None and not wanted.edges,
        "counts": {classes[k]: bins.counts(targets == k) for k in have}
        or {"images": bins.counts(inside)},
        "without": {
            classes[k]: n for k in range(len(classes))
            if _of_classes(first) and k not in have and (n := int((targets == k).sum()))
        },
        "unknown": int((own & ~is_known(values)).sum()),
        "outside": int((own & is_known(values) & ~inside).sum()),
        "searched": None if searched is None else classes[searched],
        "resampled": None if first.grouping is None else first.grouping.column,
        "measures": names,
        "models": rows,
    }  # fmt: skip


def _bins(wanted: Wanted, values: NDArray, counted: NDArray[np.bool_], least: int) -> Bins:
    try:
        if wanted.edges:
            return bins_between(values, wanted.edges)
        return quantiles(values, counted, least)
    except ValueError as error:
        raise CollectError(str(error)) from None


def _scored(samples: Predictions) -> NDArray[np.bool_]:
    """Images that have a label, or of a regression a true number, or are restored, (N,)."""
    if samples.numbers is not None:
        return np.isfinite(samples.numbers[:, 0])
    return samples.targets >= 0 if _of_classes(samples) else np.ones(len(samples.ids), bool)


def _of_classes(samples: Predictions) -> bool:
    """Whether they say to which class each image belongs."""
    return samples.probabilities is not None


def _only(values: NDArray, own: NDArray[np.bool_]) -> NDArray:
    """The values of some images; those of the others are unknown."""
    if values.dtype == object:
        return np.where(own, values, "")
    return np.where(own, values, np.nan)


def _medians(values: NDArray, bins: Bins, shown: NDArray[np.bool_]) -> list[float] | None:
    """The middle of each bin: of its images that are shown, else of its edges."""
    if bins.edges is None:
        return None
    middles: list[float] = []
    for k, (low, high) in enumerate(itertools.pairwise(bins.edges)):
        here = values[shown & (bins.numbers == k)]
        middles.append(float(np.median(here)) if len(here) else (low + high) / 2)
    return middles


def _drawn_from(samples: Predictions) -> tuple[NDArray, NDArray | None]:
    """Stratum, and group where there are groups, of each image that is resampled."""
    strata = samples.targets if _of_classes(samples) else np.zeros(len(samples.ids), np.int64)
    return strata, None if samples.grouping is None else samples.grouping.values


def _about_thresholds(models: Sequence[ModelRuns], answers: Answers) -> list[str]:
    """Name the models of which a run has no threshold, and so finds nothing."""
    notes = []
    for model in models:
        runs = answers[model.label]
        without = sum(samples.called is None for samples in runs)
        folds = " in each of its folds" * any("members" in run for run in model.runs)
        if without == len(runs):
            notes.append(
                f"No run of {model.label} found a threshold{folds}, so that it finds nothing"
            )
        elif without:
            notes.append(
                f"{without} of {counted(len(runs), 'run')} of {model.label} found no "
                f"threshold{folds}; what depends on one is that of the others"
            )
    return notes
