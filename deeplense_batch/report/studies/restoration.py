"""Restored images beside what they have to be better than, and what of the lens they keep.

Everything is paired over the images of the test slice, on the resamples of the comparison: scores
of networks, of interpolation and of the truth without its noise, and what a classifier sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.report.columns import number, score_text, with_interval
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.run_table import Row
from deeplense_batch.report.statistics import bootstrap
from deeplense_batch.report.statistics.resamples import Resamples
from deeplense_batch.report.studies.block import Block
from deeplense_batch.report.studies.gains.survival import seen_by_classifiers, survival_block

__all__ = ["restoration_blocks", "restored"]

# What is held against the networks, by its name among scores, in words.
_BASELINES = {
    "noise_free": "truth without noise",
    "fitted": "bicubic, fitted",
    "bicubic": "bicubic",
    "bilinear": "bilinear",
    "nearest": "nearest",
}
_SCORES = ("psnr", "ssim", "mse", "gain", "psnr_clean", "ssim_clean", "gain_clean")
_PHYSICS = {
    "ring_error": "ring radius, median error",
    "flux_error": "flux, median relative error",
    "power_error": "power, rms error (dex)",
    "invented": "peaks invented",
    "lost": "peaks lost",
}
_SURE = {
    "coverage_68": "in the central 68 %",
    "coverage_95": "in the central 95 %",
    "outside": "beyond all samples",
    "spread": "sd over error",
    "pixel_crps": "CRPS",
    "pixel_crps_fitted": "CRPS of bicubic, fitted",
}
_ENDS = ("low", "high")

Array = NDArray[np.float64]


def restored(models: Sequence[ModelRuns], resamples: Resamples) -> list[Row]:
    """Scores of restoring networks and of what they are held against.

    Arguments:
        models: Of one comparison, the best first.
        resamples: Of their runs.

    Returns:
        JSON, a row for each network and then for each baseline: ``label``, ``kind`` (``network``
        or ``baseline``); ``<score>``, ``<score>_low`` and ``_high``, 95 % intervals, of psnr,
        ssim, mse, gain over the fitted bicubic image, and of the same against the truth without
        noise (``_clean``), where they are known; ``ring_error``, ``flux_error``, ``power_error``,
        ``invented``, ``lost``. Of a network that drew samples also ``coverage_68``,
        ``coverage_95``, ``outside``, ``spread``, ``pixel_crps`` and ``pixel_crps_fitted``, means
        over its runs. Of a network that classifiers were asked about also ``seen``
        (`gains.survival.seen_by_classifiers`). No row where nothing is restored.
    """
    measured = {run: p.measured for run, p in resamples.predictions.items() if p.measured}
    having = [m for m in models if all(run["run"] in measured for run in m.runs)]
    if not having:
        return []
    rows = [_network(model, resamples) for model in having]
    first = having[0].picked
    return rows + _baselines(measured[first["run"]], first, resamples)


def _network(model: ModelRuns, resamples: Resamples) -> Row:
    row: Row = {"label": model.label, "kind": "network", "runs": len(model.runs)}
    for name in _SCORES:
        if (mean := model.mean(name)) is not None:
            bounds = {f"{name}_{end}": model.inferred.get(f"{name}_{end}") for end in _ENDS}
            row |= {name: mean} | bounds
    row |= {name: model.mean(name) for name in _PHYSICS}
    if model.mean("pixel_crps") is not None:
        row |= {name: model.mean(name) for name in _SURE}
    if seen := seen_by_classifiers(model, resamples):
        row["seen"] = seen
    return row


def _baselines(measured: Mapping[str, Array], first: Row, resamples: Resamples) -> list[Row]:
    """The rows of what the best network is held against, of its own run."""
    wanted: list[tuple[str, str, Array]] = []
    for how in _BASELINES:
        for end in ("", "_clean"):
            for name in ("psnr", "ssim", "mse"):
                if (values := measured.get(f"{name}_{how}{end}")) is not None:
                    wanted.append((how, f"{name}{end}", values))
            fitted, own = (measured.get(f"psnr_{one}{end}") for one in ("fitted", how))
            if how != "fitted" and fitted is not None and own is not None:
                wanted.append((how, f"gain{end}", own - fitted))
    drawn = resamples.draw([bootstrap.mean_of(values) for *_, values in wanted])
    rows: dict[str, Row] = {}
    for (how, name, values), resampled in zip(wanted, drawn, strict=True):
        row = rows.setdefault(how, {"label": _BASELINES[how], "kind": "baseline"})
        low, high = bootstrap.interval(resampled)
        row |= {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}
    more = first.get("more") or {}
    if "fitted" in rows:
        rows["fitted"] |= {name: more.get(f"{name}_fitted") for name in _PHYSICS}
    return [*rows.values()]


def restoration_blocks(rows: Sequence[Row], notes: Sequence[str] = ()) -> list[Block]:
    """Say how well images are restored, how surely, what of the lens they keep and what survives.

    Arguments:
        rows: Of `restored`.
        notes: Sentences on the scores, of the runs.
    """
    if not rows:
        return []
    blocks = [_quality_block(rows, notes), _sure_block(rows), _physics_block(rows)]
    blocks += [survival_block([row for row in rows if "seen" in row])]
    return [block for block in blocks if block.lines]


def _quality_block(rows: Sequence[Row], notes: Sequence[str]) -> Block:
    fitted = next((row for row in rows if row["label"] == _BASELINES["fitted"]), None)
    said = [
        "Gains are over the bicubic image fitted to the training pairs, a x bicubic + b, paired "
        "over the images; intervals (95 %) cover the test sample, and of networks the seeds where "
        "there are several.",
        *notes,
    ]
    if any(row["label"] == _BASELINES["noise_free"] for row in rows):
        said.append(
            "The truth without noise is scored as if it was restored: a network goes beyond it "
            "only by making noise again, which inputs can have in common with the images."
        )
    best = rows[0]
    headline = ""
    if fitted is not None and best.get("gain") is not None:
        headline = (
            f"{best['label']}: PSNR {number(best['psnr'], 2)} dB, "
            f"{_interval(best, 'gain', signed=True)} dB over fitted bicubic."
        )
    heads = {
        "psnr": "PSNR (dB)",
        "ssim": "SSIM",
        "mse": "MSE",
        "gain": "gain (dB)",
        "psnr_clean": "PSNR to noise-free truth (dB)",
        "ssim_clean": "SSIM to it",
        "gain_clean": "gain (dB) to it",
    }
    known = [name for name in heads if any(row.get(name) is not None for row in rows)]
    lines = [
        [row["label"], *(_interval(row, name, signed="gain" in name) for name in known)]
        for row in rows
    ]
    head = ["images by", *(heads[name] for name in known)]
    return Block("Restored images", said, head, lines, headline=headline)


def _sure_block(rows: Sequence[Row]) -> Block:
    some = [row for row in rows if row.get("pixel_crps") is not None]
    known = [name for name in _SURE if any(row.get(name) is not None for row in some)]
    said = [
        "Networks that draw several samples of each image: shares of the pixels of the image as"
        " it is, which should be what the head says, and 2 / (S + 1) beyond all of S samples; "
        "the sd of the samples over the error of their mean, which should be 1; and the CRPS, "
        "in units of the set, the lower the better, beside that of the bicubic image, its mean "
        "absolute error."
    ]
    lines = [[row["label"], *(score_text(row.get(name)) for name in known)] for row in some]
    head = ["images by", *(_SURE[name] for name in known)]
    return Block("How sure restored images are", said, head, lines)


def _physics_block(rows: Sequence[Row]) -> Block:
    known = [name for name in _PHYSICS if any(row.get(name) is not None for row in rows)]
    some = [row for row in rows if any(row.get(name) is not None for name in known)]
    said = [
        "Against the truth without noise where it is known, else against the image as it is. "
        "Radii in arcsec, or pixels where their width is not known; power where the truth is "
        "above the noise; a peak counts where it exceeds all of the "
        "other image near it by 3 sd of the noise; peaks are an image's."
    ]
    lines = [[row["label"], *(score_text(row.get(name)) for name in known)] for row in some]
    return Block("What of the lens is kept", said, ["images by", *map(_PHYSICS.get, known)], lines)  # type: ignore[list-item]


def _interval(row: Row, name: str, *, signed: bool = False) -> str:
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "-"
    if name.startswith("mse"):
        return f"{value:.3g}"
    return with_interval(value, low, high, signed=signed)
