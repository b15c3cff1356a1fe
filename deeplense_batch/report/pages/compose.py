"""Which figures a comparison has, and from which numbers each is drawn.

Of very many models the first of the table, the best by validation, are shown; the caption says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring import curves
from deeplense_batch.data.header import ShardError
from deeplense_batch.report.catalogue import DamagedCatalogueError, kept_rows
from deeplense_batch.report.columns import score_name
from deeplense_batch.report.compare import ModelRuns, equally_valid
from deeplense_batch.report.pages.learning_curve import learning_curves
from deeplense_batch.report.plots.hardest import NOT_SHOWN, check_colours, find_images, hardest
from deeplense_batch.report.plots.lines import MOST_LINES
from deeplense_batch.report.plots.pictures import Picture
from deeplense_batch.report.plots.short_names import short_names
from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.run_table import CollectError, Row, score_of

__all__ = ["Search", "compose", "compose_hardest", "search", "searches"]

_MOST_ROWS = 40  # more cannot be read
_MOST_NAMES = 16  # of points
_UNNAMED = "hardware not named, perhaps of several kinds: times are not comparable"

Model = Mapping[str, Any]  # one of `models` of a comparison


@dataclass(frozen=True)
class Search:
    """How one model of a comparison finds rare objects: of the run that validation picks."""

    roc: curves.Curve
    precision_recall: curves.Curve
    average_precision: float
    share: float  # of positives among the test samples
    point: tuple[float, float] | None  # recall and precision at the stated threshold


def search(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float | None
) -> Search:
    """Follow a search through all thresholds.

    Arguments:
        positive: Whether a sample is a lens, (N,).
        scores: Higher means more likely, (N,).
        threshold: The stated one; what scores as high or higher is called a lens.

    Raises:
        ValueError: All samples are of one kind.
    """
    steps = curves.precision_recall(positive, scores)
    selected = np.zeros_like(positive) if threshold is None else scores >= threshold
    hits = float(positive[selected].sum())
    return Search(
        roc=curves.thinned(curves.roc(positive, scores)),
        precision_recall=curves.thinned(steps),
        average_precision=float(np.sum(np.diff(steps[0]) * steps[1][1:])),
        share=float(positive.mean()),
        point=(hits / float(positive.sum()), hits / float(selected.sum())) if hits else None,
    )


def searches(
    models: Sequence[ModelRuns], predictions: Mapping[str, Predictions]
) -> list[Search | None]:
    """Follow the search of each model of a detection; None where its predictions are not at hand.

    Arguments:
        models: Of one comparison.
        predictions: Of the run of each that validation picks, by label (`significance.infer`).
    """
    return [_search_of(model, predictions.get(model.label)) for model in models]


def _search_of(model: ModelRuns, samples: Predictions | None) -> Search | None:
    if samples is None or samples.probabilities is None or model.runs[0]["task"] != "detection":
        return None
    k, labelled = samples.positive, samples.targets >= 0
    positive = samples.targets[labelled] == k
    if not 0 < positive.sum() < len(positive):
        return None
    threshold = score_of(model.picked, "threshold")
    return search(positive, samples.probabilities[labelled, k], threshold)


def compose(
    comparison: Mapping[str, Any],
    runs: Sequence[Sequence[Row]],
    searched: Sequence[Search | None] = (),
) -> list[Picture]:
    """List the figures of a comparison; one with nothing to show is left out.

    Arguments:
        comparison: As in `results.json`; the best model by validation first.
        runs: The runs of each model (`run_table`).
        searched: Of each model, where something rare is searched for (`searches`).
    """
    labels = short_names([model["label"] for model in comparison["models"]])
    models = [
        dict(model) | {"label": label, "rows": rows}
        for label, model, rows in zip(labels, comparison["models"], runs, strict=True)
    ]
    for index, model in enumerate(models):
        model |= {"shown": index < _MOST_ROWS, "named": index < _MOST_NAMES, "best": index == 0}
    pictures = [
        *_scores(comparison, models),
        *_differences(comparison, models),
        *_generated(models),
        *_times(models),
        *_costs(models),
        *learning_curves([run for model in models for run in model["rows"]]),
        *_searches(labels, searched),
    ]
    suffix = _suffix(comparison["number"])
    return [replace(picture, name=f"{picture.name}{suffix}") for picture in pictures]


def compose_hardest(
    number: int,
    predictions: Sequence[Predictions],
    root: str,
    digest: str,
    test: str,
    *,
    runs: Sequence[Path] = (),
    rgb: Sequence[str] = (),
) -> tuple[list[Picture], list[str]]:
    """Show the test images that the most models of a comparison get wrong.

    Arguments:
        number: Of the comparison.
        predictions: Of each model, those of the run that validation picks.
        root: Folder of shards.
        digest: Of the data that the models were tested on.
        test: The slice.
        runs: That may have kept the catalogue of the test images.
        rgb: Bands that are red, green and blue; by default those of the longest waves.

    Returns:
        The figure and no note; or no figure and a note, where the images are not at hand; or
        neither, where no model is wrong anywhere.
    """
    classified = [samples for samples in predictions if samples.probabilities is not None]
    try:
        samples = hardest(classified) if classified else []
        if samples:
            ids = [sample["id"] for sample in samples]
            images = find_images(root, digest, test, ids)
            check_colours(images[0].info.bands, rgb)
            known = {id_: row for run in runs for id_, row in kept_rows(run, ids).items()}
            samples = [
                one | ({"catalogue": known[one["id"]]} if one["id"] in known else {})
                for one in samples
            ]
    except CollectError as error:
        return [], [str(error)]
    except (DamagedCatalogueError, ShardError) as error:
        return [], [f"{NOT_SHOWN}: {error}"]
    if not samples:
        return [], []
    arguments = {"root": root, "digest": digest, "test": test, "samples": samples}
    arguments |= {"rgb": list(rgb)} if rgb else {}
    caption = f"The {len(samples)} test images that the most models get wrong."
    return [Picture(f"hardest{_suffix(number)}", "hardest", arguments, caption)], []


def _scores(comparison: Model, models: Sequence[Model]) -> Iterator[Picture]:
    """The scores that every classifier has, or the one that picks models of another task."""
    words = {"auc": f"{_words('auc')} (macro, one against the rest)"}
    words |= {name: _words(name) for name in ("accuracy", comparison["score"]) if name != "auc"}
    for name, score in words.items():
        known = [model for model in models if model.get(f"{name}_mean") is not None]
        shown = [
            {
                "label": model["label"],
                "mean": model[f"{name}_mean"],
                "low": model.get(f"{name}_low"),
                "high": model.get(f"{name}_high"),
                "interval": model.get("interval"),
                "seeds": _values(model["rows"], name),
                "mark": _mark(model),
            }
            for model in known
            if model["shown"]
        ]
        if shown:
            arguments = {"models": shown, "score": score, "by": _picker(models)}
            arguments["compared"] = _words(comparison["score"])
            caption = f"{score[0].upper()}{score[1:]} of each model, {_means(models)}"
            yield Picture(name, "score_dots", arguments, caption + _others(known, shown))


def _differences(comparison: Model, models: Sequence[Model]) -> Iterator[Picture]:
    known = [m for m in models if m["best"] or m.get("difference") is not None]
    if len(known) < 2:
        return
    shown = [
        {
            "label": model["label"],
            "difference": model.get("difference") or 0.0,
            "low": model.get("difference_low"),
            "high": model.get("difference_high"),
            "interval": model.get("interval"),
            "p": model.get("p_value"),
            "mark": _mark(model),
        }
        for model in known
        if model["shown"]
    ]
    score, by = _words(comparison["score"]), _picker(models)
    caption = (
        f"{score[0].upper()}{score[1:]} of each model minus that of the best by {by}, on the same "
        f"samples{_others(known, shown)}"
    )
    arguments = {"models": shown, "score": score, "by": by}
    yield Picture("differences", "differences", arguments, caption)


def _generated(models: Sequence[Model]) -> Iterator[Picture]:
    """The distance of generated images from real ones, where they were judged by a classifier."""
    known = [model for model in models if model.get("fid") is not None]
    shown = [
        {"label": model["label"], "generated": model["fid"], "real": model["fid_real"]}
        for model in known
        if model["shown"]
    ]
    if shown:
        score = "FID from held-out images, in the features of a classifier"
        yield Picture(
            "fid", "beside_real", {"models": shown, "score": score}, score + _others(known, shown)
        )


def _times(models: Sequence[Model]) -> Iterator[Picture]:
    """Training time, and the score against it, on each device: that of most runs first."""
    spent: dict[str, int] = {}
    for run in (run for model in models for run in model["rows"]):
        if run["train_seconds"] is not None:
            name = run["device"] or _UNNAMED
            spent[name] = spent.get(name, 0) + 1
    devices = sorted(spent, key=lambda device: -spent[device])
    timed, scored = [], []
    for device in devices:
        bars, points = [], []
        for model in models:
            runs = [
                [run["train_seconds"], run["auc"]]
                for run in model["rows"]
                if (run["device"] or _UNNAMED) == device and run["train_seconds"] is not None
            ]
            name = {"label": model["label"]}
            if runs and model["shown"]:
                bars.append(name | {"seconds": [seconds for seconds, _ in runs]})
            if runs := [run for run in runs if run[1] is not None]:
                points.append(name | {"named": model["named"], "runs": runs})
        if bars:
            timed.append({"device": device, "models": bars})
        if points:
            known = device != _UNNAMED
            scored.append({"device": device, "comparable": known, "models": points})
    others = _others(models, [model for model in models if model["shown"]])
    apart = "; times on different devices are not comparable" if len(devices) > 1 else ""
    if timed:
        caption = f"Training time of each model{apart}{others}"
        yield Picture("time", "time_bars", {"devices": timed}, caption)
    if scored:
        caption = f"Test AUC against training time{apart}{_unnamed(models)}"
        yield Picture("auc_time", "auc_against_time", {"devices": scored}, caption)


def _costs(models: Sequence[Model]) -> Iterator[Picture]:
    """The score against costs that compare whatever the device."""
    size = [
        _cost(models, "parameters_m", "parameters (millions)"),
        _cost(models, "gflops", "GFLOPs an image"),
    ]
    reference = [_cost(models, "reference_hours", "GPU-hours on the reference device")]
    for name, costs, words in (
        ("auc_cost", size, "size and arithmetic"),
        ("auc_reference", reference, "training time on one reference device"),
    ):
        panels = [panel for panel in costs if len(panel["models"]) > 1]
        if panels:
            caption = f"Test AUC against {words}{_unnamed(models)}"
            yield Picture(name, "auc_against_cost", {"costs": panels}, caption)


def _cost(models: Sequence[Model], name: str, words: str) -> dict[str, Any]:
    points = [
        {
            "label": model["label"],
            "named": model["named"],
            "runs": [[model[name], auc] for auc in _values(model["rows"], "auc")],
        }
        for model in models
        if (model.get(name) or 0) > 0 and _values(model["rows"], "auc")
    ]
    return {"name": words, "models": points}


def _searches(labels: Sequence[str], searched: Sequence[Search | None]) -> Iterator[Picture]:
    known = [(label, search) for label, search in zip(labels, searched, strict=False) if search]
    shown = known[:MOST_LINES]
    if not shown:
        return
    roc, steps = [], []
    for label, one in shown:
        roc.append({"label": label, "x": one.roc[0].tolist(), "y": one.roc[1].tolist()})
        recall, precision = one.precision_recall
        point = None if one.point is None else list(one.point)
        steps.append({"label": label, "x": recall.tolist(), "y": precision.tolist(),
                      "area": one.average_precision, "point": point})  # fmt: skip
    of = "of the run of each model that validation picks" + _others(known, shown)
    caption = f"Completeness at low rates of false positives, {of}"
    yield Picture("roc_low_fpr", "roc_low_fpr", {"models": roc}, caption)
    arguments = {"models": steps, "share": shown[0][1].share}
    caption = f"Precision at every completeness, {of}"
    yield Picture("precision_recall", "precision_recall", arguments, caption)


def _suffix(number: int) -> str:
    """What tells the figures of several comparisons apart."""
    return f"-{number}" if number > 1 else ""


def _mark(model: Model) -> str:
    """How a model compares with the best: one of `charts.MARKS`."""
    if model["best"]:
        return "best"
    resolved = model.get("resolved")
    return "unknown" if resolved is None else "resolved" if resolved else "not resolved"


def _values(rows: Sequence[Row], name: str) -> list[float]:
    """One number for each run that has it."""
    values = [score_of(row, name) for row in rows]
    return [value for value in values if value is not None]


def _words(name: str) -> str:
    return f"test {score_name(name)}"


def _picker(models: Sequence[Model]) -> str:
    """Which slice picked the best model; without validation the test slice, which flatters it."""
    same = equally_valid([model.get("valid_score") for model in models])
    return f"validation, first of {same} alike" if same > 1 else "validation" if same else "test"


def _means(models: Sequence[Model]) -> str:
    several = any(len(model["rows"]) > 1 for model in models)
    return "the mean over its seeds" if several else "one run each"


def _others(known: Sequence[Any], shown: Sequence[Any]) -> str:
    """Say at the end of a caption how many models it leaves out."""
    more = len(known) - len(shown)
    if not more:
        return "."
    return f"; it shows the first {len(shown)} models of the table and leaves out {more}."


def _unnamed(models: Sequence[Model]) -> str:
    """Say at the end of a caption which points have a label."""
    most = sum(model["named"] for model in models)
    if most == len(models):
        return "."
    return f"; labels name the Pareto front and the first {most} of {len(models)} models."
