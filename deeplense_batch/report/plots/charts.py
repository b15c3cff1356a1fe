"""Rows of a comparison: a score, a difference or a time of every model, one below the other.

Scores that crowd near 1 are marks on a zoomed axis, where the length of a bar would mislead.
Seconds are bars from zero, and each device has a panel of its own, since times on two devices are
not comparable. Every figure has a legend; marks differ in shape and filling, not in colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from deeplense_batch.core.scoring.figures import BLUE, GREY, ORANGE, SKY, panels_of, plain
from deeplense_batch.report.columns import time_unit

__all__ = [
    "INTERVALS",
    "MARKS",
    "MEAN",
    "SEED",
    "beside_real",
    "differences",
    "ensembles",
    "explain",
    "score_dots",
    "time_bars",
]

MEAN: dict[str, Any] = {"marker": "D", "ls": "", "color": BLUE, "mec": "black", "mew": 0.6}
MEAN |= {"ms": 5.5, "zorder": 3}
SEED: dict[str, Any] = {"marker": "o", "ls": "", "color": "white", "mec": "black", "mew": 0.7}
SEED |= {"ms": 2.8, "zorder": 4}  # on top: a mean hides no seed
MARKS: dict[str, tuple[str, dict[str, Any]]] = {  # by how a model compares with the best
    "best": ("best by {by}", MEAN | {"marker": "*", "ms": 10, "color": ORANGE}),
    "not resolved": ("difference in {score} not resolved", MEAN),
    "resolved": ("difference in {score} resolved", MEAN | {"color": "white"}),
    "unknown": ("difference not known", MEAN | {"marker": "s", "color": SKY}),
}
INTERVALS: dict[str, tuple[str, dict[str, Any]]] = {  # by how they were computed
    "samples and seeds": ("95%, test sample and seeds", {"ls": "-"}),
    "samples": ("95%, test sample", {"ls": (0, (5, 1))}),
    "Hanley-McNeil": ("95%, number of test samples", {"ls": ":"}),
}
_BAR: dict[str, Any] = {"facecolor": SKY, "edgecolor": "black", "lw": 0.6}
_WHISKER: dict[str, Any] = {"color": GREY, "lw": 1.2}
_BELOW = 0.27  # of a row: how far the seeds are below the mean, which would cover them
_LETTER = 5.0  # points of a letter of the numbers
_LETTERS = 16  # of a legend in an inch
_MARK = 6  # letters that a mark and its margin take


def score_dots(models: Sequence[Mapping[str, Any]], score: str, compared: str, by: str) -> Figure:
    """Draw a score of every model: its mean, its interval, and a circle for each of its seeds.

    Arguments:
        models: ``label``, ``mean``, ``low``, ``high`` and ``interval`` (of `INTERVALS`; None where
            unknown), ``seeds`` (one value a run) and ``mark`` (of `MARKS`) of each.
        score: What it is, in words.
        compared: The score by which models are compared with the best.
        by: What picked the best.
    """
    rows = sorted(models, key=lambda model: model["mean"])
    several = any(len(row["seeds"]) > 1 for row in rows)
    numbers = {"mean" if several else "": [f"{row['mean']:.4f}" for row in rows]}
    figure, (axes,) = panels_of(_width(rows, numbers), 0.25 * len(rows) + 1.7)
    marks = _marks(axes, rows, "mean", score=compared, by=by)
    _rows(axes, rows, [row["seeds"] for row in rows], numbers)
    axes.set_xlabel(f"{score}\naxis does not start at 0", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6))  # else long numbers touch
    if several:
        marks["one seed"] = Line2D([], [], **SEED)
    explain(figure, marks | _whiskers(axes, rows))
    return figure


def differences(models: Sequence[Mapping[str, Any]], score: str, by: str) -> Figure:
    """Draw the paired difference of every model to the best.

    Arguments:
        models: ``label``, ``difference``, ``low``, ``high`` and ``interval``, ``p`` (None where
            unknown) and ``mark`` of each; that of the best is 0 and has no interval.
        score: What differs, in words.
        by: What picked the best.
    """
    rows = sorted(models, key=lambda model: model["difference"])
    numbers = {
        "difference": [_difference(row) for row in rows],
        "interval": [_between(row) for row in rows],
        "p (Holm)": [_probability(row["p"]) for row in rows],
    }
    figure, (axes,) = panels_of(_width(rows, numbers), 0.25 * len(rows) + 1.9)
    axes.axvline(0, color="black", lw=0.8, zorder=1)
    marks = _marks(axes, rows, "difference", score=score, by=by)
    _rows(axes, rows, [()] * len(rows), numbers)
    axes.set_xlabel(f"{score} minus that of the best by {by}", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    explain(figure, marks | _whiskers(axes, rows))
    return figure


def ensembles(models: Sequence[Mapping[str, Any]], score: str) -> Figure:
    """Draw a score of every ensemble; below it each member and their mean, then the best member.

    Arguments:
        models: ``label``, ``ensemble`` with ``low`` and ``high``, ``members`` (a value each),
            ``best`` of them (by validation; None where unknown) and ``mean`` of each.
        score: What it is, in words.
    """
    rows = sorted(models, key=lambda model: model["ensemble"])
    heads = {"ensemble": "ensemble", "mean": "members' mean", "best": "best member"}
    numbers = {
        head: ["-" if row[kind] is None else f"{row[kind]:.4f}" for row in rows]
        for kind, head in heads.items()
    }
    figure, (axes,) = panels_of(_width(rows, numbers), 0.45 * len(rows) + 1.9)
    marks = _whiskers(axes, [{**row, "interval": "samples"} for row in rows])
    shown = {
        "ensemble": ("ensemble", MEAN, 0.0),
        "mean": (
            "mean of its members",
            {"marker": "|", "ls": "", "color": BLUE, "ms": 9},
            -_BELOW,
        ),
        "best": (  # below its circle: a star would cover others, and the mean
            "its best member by validation",
            MARKS["best"][1] | {"ms": 9},
            -2 * _BELOW,
        ),
    }
    for kind, (meaning, style, shift) in shown.items():
        known = [(row[kind], i + shift) for i, row in enumerate(rows) if row[kind] is not None]
        if known:
            axes.plot(*zip(*known, strict=True), **style)
            marks[meaning] = Line2D([], [], **style)
    _rows(axes, rows, [row["members"] for row in rows], numbers)
    axes.set_xlabel(f"{score}\naxis does not start at 0", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    explain(figure, marks | {"one member": Line2D([], [], **SEED)})
    return figure


def beside_real(models: Sequence[Mapping[str, Any]], score: str) -> Figure:
    """Draw how far generated images are from held-out ones, and how far real ones are.

    Arguments:
        models: ``label``, ``generated`` and ``real`` of each; less is better.
        score: The distance, in words.
    """
    rows = sorted(models, key=lambda model: -model["generated"])
    kinds = {"generated": MEAN, "real": SEED | {"ms": 5.0, "zorder": 3}}
    numbers = {kind: [f"{row[kind]:.3g}" for row in rows] for kind in kinds}
    figure, (axes,) = panels_of(_width(rows, numbers), 0.25 * len(rows) + 1.7)
    values = {kind: [row[kind] for row in rows] for kind in kinds}
    axes.hlines(range(len(rows)), values["real"], values["generated"], **_WHISKER, zorder=2)
    for kind, style in kinds.items():
        axes.plot(values[kind], range(len(rows)), **style)
    if min(min(some) for some in values.values()) > 0:
        axes.set_xscale("log")
    _rows(axes, rows, [()] * len(rows), numbers)
    axes.set_xlabel(score, fontsize=9)
    words = ("generated images", "as many real training images")
    marks = (Line2D([], [], **style) for style in kinds.values())
    explain(figure, dict(zip(words, marks, strict=True)))
    return figure


def time_bars(devices: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw training time, a panel for each device: bars of the mean, a circle for each seed.

    Arguments:
        devices: ``device``, and ``models`` with ``label`` and ``seconds`` (one a run), of each.
    """
    sizes = [len(device["models"]) for device in devices]
    every = [model for device in devices for model in device["models"]]
    several = any(len(model["seconds"]) > 1 for model in every)
    height = 0.25 * sum(sizes) + 0.9 * len(sizes) + 0.4 * several  # the last for the legend
    figure, panels = panels_of(_width(every, {"mean": ["0.000"]}), height, ratios=sizes)
    for axes, device in zip(panels, devices, strict=True):
        rows = sorted(device["models"], key=lambda model: -float(np.mean(model["seconds"])))
        unit, length = time_unit(max(max(row["seconds"]) for row in rows))
        runs = [np.divide(row["seconds"], length) for row in rows]
        means = [float(np.mean(values)) for values in runs]
        axes.barh(range(len(rows)), means, height=0.62, **_BAR)
        _rows(axes, rows, runs, {"": [f"{mean:#.3g}".rstrip(".") for mean in means]}, below=0)
        axes.set_title(plain(device["device"]), fontsize=9, loc="left")
        axes.set_xlabel(f"training time ({unit})")
    if several:
        explain(figure, {"mean of the seeds": Patch(**_BAR), "one seed": Line2D([], [], **SEED)})
    return figure


def explain(figure: Figure, marks: Mapping[str, Artist]) -> None:
    """Say below a figure what its marks are, in as many columns as it is wide."""
    room = figure.get_figwidth() * _LETTERS
    longest = max(map(len, marks), default=0) + _MARK
    figure.legend(
        [*marks.values()], [*marks], loc="outside lower center", frameon=False, fontsize=8,
        ncols=max(1, min(len(marks), int(room / longest))), handlelength=1.5, columnspacing=1.5,
    )  # fmt: skip


def _marks(
    axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, **words: str
) -> dict[str, Artist]:
    """Mark one number of every row; what the marks are."""
    shown: dict[str, Artist] = {}
    for mark, (meaning, style) in MARKS.items():
        marked = [index for index, row in enumerate(rows) if row["mark"] == mark]
        if marked:
            axes.plot([rows[index][name] for index in marked], marked, **style)
            shown[meaning.format(**words)] = Line2D([], [], **style)
    return shown


def _whiskers(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> dict[str, Artist]:
    """Draw the intervals that are known; what they are."""
    shown: dict[str, Artist] = {}
    for kind, (meaning, style) in INTERVALS.items():
        ends = [
            (index, row["low"], row["high"])
            for index, row in enumerate(rows)
            if row["interval"] == kind and None not in (row["low"], row["high"])
        ]
        if ends:
            axes.hlines(*zip(*ends, strict=True), **_WHISKER | style, zorder=2)
            shown[meaning] = Line2D([], [], **_WHISKER | style)
    return shown


def _rows(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    seeds: Sequence[Sequence[float]],
    numbers: Mapping[str, Sequence[str]],
    below: float = _BELOW,
) -> None:
    """Name the rows on the left, give their numbers on the right, circle several seeds."""
    left, top = 6.0, len(rows) - 0.3
    style: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "va": "center", "fontsize": 8}
    style |= {"textcoords": "offset points"}
    for head, cells in numbers.items():
        for height, text in (*enumerate(cells), (top, head)):
            axes.annotate(text, (1, height), (left, 0), **style)
        left += _LETTER * (max(map(len, (head, *cells))) + 2)
    for index, values in enumerate(seeds):
        if len(values) > 1:
            axes.plot(values, [index - below] * len(values), **SEED)
    axes.set_yticks(range(len(rows)), [plain(row["label"]) for row in rows], fontsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.4)
    axes.tick_params(axis="y", length=0)


def _difference(row: Mapping[str, Any]) -> str:
    return "best" if row["mark"] == "best" else _signed(row["difference"])


def _between(row: Mapping[str, Any]) -> str:
    known = row["low"] is not None and row["high"] is not None
    return f"[{_signed(row['low'])}, {_signed(row['high'])}]" if known else "-"


def _signed(number: float) -> str:
    return f"{number:+.4f}".replace("-", "\N{MINUS SIGN}")


def _probability(p: float | None) -> str:
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def _width(rows: Sequence[Mapping[str, Any]], numbers: Mapping[str, Sequence[str]]) -> float:
    """Inches that leave the marks their room between the longest label and the numbers."""
    letters = sum(max(map(len, (head, *cells))) + 2 for head, cells in numbers.items())
    return 4.6 + 0.06 * max(len(row["label"]) for row in rows) + _LETTER / 72 * letters
