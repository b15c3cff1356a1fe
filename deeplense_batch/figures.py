"""Figures: arrays in, `Figure` out; the numbers a reader needs stand beside the marks.

Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart; in grey, line
style, marker and order tell the same. Scores that crowd near 1 are dots on a zoomed axis: a bar's
length would lie there. Seconds are bars from zero, and each device has a panel of its own, since
seconds of two devices do not compare. pyplot's global state is never touched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "accuracy_bars",
    "auc_against_time",
    "auc_bars",
    "confusion",
    "history",
    "roc",
    "save",
    "time_bars",
]

Points = NDArray[np.float64]  # (points, 2): abscissa, ordinate
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
Timed = tuple[float, float]  # seconds, AUC
Values = Mapping[str, Sequence[float]]  # by model, one for each seed

_BLUE, _RED, _SKY, _ORANGE = "#0072B2", "#D55E00", "#56B4E9", "#E69F00"
_COLOURS = (_BLUE, _RED, "#009E73", "#CC79A7", _ORANGE, _SKY)
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
_GREY, _PALE = "#777777", "#e5e5e5"
_DPI, _POINT = 150, 150 / 72  # pixels in an inch, and in a point of type
_TIE = {"arrowstyle": "-", "color": _GREY, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
_LABEL: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
_ANGLES = np.radians([0, 180, 90, 270, *range(30, 360, 30)])  # right, left, above, below, ...
_AROUND = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def confusion(counts: ArrayLike, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix with the count and the share of its row in every cell.

    Arguments:
        counts: (K, K) integers, rows are the truth.
        classes: Names, K of them.
    """
    cells = np.asarray(counts)
    samples = cells.sum(axis=1, keepdims=True)
    shares = cells / np.maximum(samples, 1)
    figure, (axes,) = _figure(len(classes) + 1.9, len(classes) + 1.5)
    axes.grid(visible=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(cells.shape):
        share = f"{shares[row, column]:.1%}" if samples[row, 0] else "no sample"
        colour = "white" if shares[row, column] > 0.55 else "black"
        text = f"{cells[row, column]}\n{share}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(classes)), classes, rotation=30 if len(classes) > 4 else 0)
    axes.set_yticks(range(len(classes)), classes)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted class", ylabel="true class", title=f"{samples.sum()} samples")
    return figure


def roc(curves: Mapping[str, Curve], macro: Curve, scores: Mapping[str, float | None]) -> Figure:
    """Draw a ROC curve for each class, their macro average, and the top left corner enlarged.

    Arguments:
        curves: False and true positive rate by class (`metrics.roc`), where defined.
        macro: Their average (`metrics.macro_roc`), not drawn where there is no curve.
        scores: Holds the areas, ``auc`` and ``auc_<class>`` (`metrics.classification_scores`).
    """
    figure, panels = _figure(5.6, 5.6 + 0.1 * len(curves))
    panels[0].plot([0, 1], [0, 1], color=_GREY, lw=0.8, ls=(0, (1, 2)), label="chance, 0.5")
    panels[0].set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    panels[0].set(xlabel="false positive rate", ylabel="true positive rate")
    if any(np.interp(0.2, *curve) > 0.8 for curve in curves.values()):  # else nothing is there
        panels.append(panels[0].inset_axes((0.5, 0.1, 0.46, 0.46)))
        panels[1].set(xlim=(0, 0.2), ylim=(0.8, 1.004))
        panels[1].tick_params(labelsize=8)
        panels[0].indicate_inset_zoom(panels[1], edgecolor=_GREY, alpha=0.6)
    for panel in panels:
        panel.set_prop_cycle(color=_COLOURS, linestyle=_DASHES)
        for name, curve in curves.items():
            panel.plot(*curve, label=f"{name}, AUC {scores[f'auc_{name}']:.4f}")
        if curves:
            label = f"macro average, AUC {scores['auc']:.4f}"
            panel.plot(*macro, color="black", ls="-", lw=2.2, zorder=1.9, label=label)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9, handlelength=3)
    return figure


def history(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw losses and validation AUC by epoch and mark the best epoch.

    Arguments:
        lines: Of `history.jsonl`: ``epoch``, and ``train`` and ``valid`` with ``loss`` and perhaps
            ``auc``; a number may be None. Without an AUC, the lowest validation loss is best.
    """
    epochs = [line["epoch"] for line in lines]
    train, valid = _column(lines, "train", "loss"), _column(lines, "valid", "loss")
    auc = _column(lines, "valid", "auc")
    scored = bool(np.isfinite(auc).any())
    figure, panels = _figure(7.6 if scored else 4.0, 3.2, columns=2 if scored else 1)
    panels[0].plot(epochs, train, "o--", color=_RED, ms=3.5, label="training")
    panels[0].plot(epochs, valid, "s-", color=_BLUE, ms=3.5, label="validation")
    panels[0].set_ylabel("loss")
    if scored:
        panels[1].plot(epochs, auc, "s-", color=_BLUE, ms=3.5, label="validation")
        panels[1].set_ylabel("macro AUC")
    name, shown, quality = ("AUC", auc, auc) if scored else ("loss", valid, -valid)
    if np.isfinite(quality).any():
        best = int(np.nanargmax(quality))
        label = f"best: epoch {epochs[best]}, {name} {shown[best]:.4f}"
        panels[-1].plot(epochs[best], shown[best], "*", c=_ORANGE, mec="black", ms=12, label=label)
        for panel in panels:
            panel.axvline(epochs[best], color=_GREY, lw=1, ls=":", zorder=0)
    for panel in panels:
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8)
    return figure


def auc_bars(values: Values, errors: Mapping[str, float] | None = None) -> Figure:
    """Draw the test AUC of every model: its mean, and a dot for each of several seeds.

    Arguments:
        values: By model, one for each seed.
        errors: By model, standard error from the size of the test slice, drawn as a whisker.
    """
    return _dots(values, errors or {}, "test AUC (macro, one against the rest)")


def accuracy_bars(values: Values, errors: Mapping[str, float] | None = None) -> Figure:
    """Draw the test accuracy of every model, as `auc_bars` does the AUC."""
    return _dots(values, errors or {}, "test accuracy")


def time_bars(seconds: Mapping[str, Values]) -> Figure:
    """Draw training time, a panel for each device: bars of the mean, a dot for each seed.

    Arguments:
        seconds: By device, then by model, one for each seed.
    """
    sizes = [len(models) for models in seconds.values()]
    width = _width([label for models in seconds.values() for label in models])
    figure, panels = _figure(width, 0.25 * sum(sizes) + 0.9 * len(sizes), ratios=sizes)
    for axes, (device, models) in zip(panels, seconds.items(), strict=True):
        order = sorted(models, key=lambda label: -float(np.mean(models[label])))
        unit, length = _unit(max(max(values) for values in models.values()))
        runs = [np.divide(models[label], length) for label in order]
        means = [float(np.mean(values)) for values in runs]
        axes.barh(range(len(order)), means, height=0.62, color=_SKY, edgecolor="black", lw=0.6)
        _rows(axes, order, runs, [f"{mean:.3g}" for mean in means])
        axes.set_title(device, fontsize=9, loc="left")
        axes.set_xlabel(f"training time ({unit})")
    return figure


def auc_against_time(points: Mapping[str, Mapping[str, Sequence[Timed]]]) -> Figure:
    """Draw test AUC against training time, a panel for each device, every model labelled.

    Arguments:
        points: By device, then by model, (seconds, AUC) of each seed.
    """
    heights = [3.2 + 0.08 * len(models) for models in points.values()]
    figure, panels = _figure(4 + max(heights), sum(heights), ratios=heights)
    drawn = []
    for axes, (device, models) in zip(panels, points.items(), strict=True):
        seeds = np.array([point for runs in models.values() for point in runs], dtype=np.float64)
        unit, length = _unit(seeds[:, 0].max())
        means = np.array([np.mean(runs, axis=0) for runs in models.values()]) / (length, 1)
        drawn.append((axes, means, seeds / (length, 1), list(models)))
        if len(seeds) > len(models):
            axes.plot(*drawn[-1][2].T, "o", mfc="none", mec=_GREY, ms=3.5)
        axes.plot(*means.T, "o", color=_BLUE, mec="black", mew=0.6, ms=6)
        axes.margins(0.12)
        axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
        axes.set_title(device, fontsize=9, loc="left")
        axes.set(xlabel=f"training time ({unit})", ylabel="test AUC")
    figure.draw_without_rendering()  # labels are placed in pixels: the layout must be final
    figure.set_layout_engine("none")
    for panel in drawn:
        _place(*panel)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of 150 dpi under a temporary name and rename it: it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=_DPI)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _figure(
    width: float, height: float, *, columns: int = 1, ratios: Sequence[float] = (1,)
) -> tuple[Figure, list[Axes]]:
    """Make panels: a row for each ratio of heights. Sizes in inches."""
    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(ratios), columns, squeeze=False, height_ratios=ratios)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=_PALE, lw=0.5)
        axes.set_axisbelow(True)
    return figure, list(grid.flat)


def _dots(values: Values, errors: Mapping[str, float], name: str) -> Figure:
    """Draw a row for each model, the best mean on top."""
    order = sorted(values, key=lambda label: float(np.mean(values[label])))
    means = np.array([np.mean(values[label]) for label in order])
    whiskers = np.array([errors.get(label, 0.0) for label in order])
    figure, (axes,) = _figure(_width(order), 0.25 * len(order) + 1.1)
    rows = range(len(order))
    axes.errorbar(means, rows, xerr=whiskers, fmt="D", c=_BLUE, mec="black", ecolor=_GREY)
    _rows(axes, order, [values[label] for label in order], [f"{mean:.4f}" for mean in means])
    note = "; whisker: 1 standard error of the test slice" if whiskers.any() else ""
    axes.set_xlabel(f"{name}\naxis does not start at 0{note}", fontsize=9)
    return figure


def _rows(axes: Axes, labels: Sequence[str], seeds: Sequence[Any], numbers: Sequence[str]) -> None:
    """Name the rows on the left, give their numbers on the right, dot the seeds of several."""
    for row, (values, number) in enumerate(zip(seeds, numbers, strict=True)):
        axes.text(1.02, row, number, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
        if len(values) > 1:
            axes.plot(values, [row] * len(values), "o", color="white", mec="black", ms=3.6)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.tick_params(axis="y", length=0)


def _place(axes: Axes, points: Points, seeds: Points, labels: Sequence[str]) -> None:
    """Write labels beside points, tied to them where far, at the place of the lowest cost.

    The cost is the distance in pixels, and more for what the label or its tie would cover.
    """
    spots = axes.transData.transform(points)
    taken = _boxes(spots, 4 * _POINT)
    minor = _boxes(axes.transData.transform(seeds), 2.5 * _POINT)
    reaches = np.geomspace(4, 400, 28).repeat(len(_AROUND)) * _POINT
    for row in spots[:, 1].argsort():
        spot = spots[row]
        text = axes.annotate(labels[row], points[row], (0, 0), size=7.5, arrowprops=_TIE, **_LABEL)
        text.set_in_layout(False)
        half = np.array(Text.get_window_extent(text).size) / 2 + _POINT
        centres = spot + (half + reaches[:, None]) * np.tile(_AROUND, (28, 1))
        places, ties = _boxes(centres, half), np.linspace(spot, centres, 12)[3:]
        inside = (places[:, :2] > axes.bbox.min) & (places[:, 2:] < axes.bbox.max)
        cost = reaches + 1e6 * ~inside.all(axis=1)
        cost += 200 * _overlaps(places, taken) + 20 * _overlaps(places, minor)
        cost += sum(5 * _overlaps(_boxes(step, 0), taken[len(spots) :]) for step in ties)
        best = cost.argmin()
        text.xyann = tuple((centres[best] - spot) / _POINT)
        taken = np.concatenate([taken, places[best : best + 1]])
        minor = np.concatenate([minor, _boxes(ties[:, best], _POINT)])


def _boxes(centres: Points, half: float | Points) -> NDArray[np.float64]:
    """Boxes around centres, (N, 4): left, bottom, right, top."""
    return np.concatenate([centres - half, centres + half], axis=1)


def _overlaps(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of the other boxes each box meets, (N,)."""
    meets = (boxes[:, None, :2] < others[:, 2:]) & (boxes[:, None, 2:] > others[:, :2])
    return meets.all(axis=2).sum(axis=1)


def _column(lines: Sequence[Mapping[str, Any]], part: str, name: str) -> NDArray[np.float64]:
    """One number of every epoch, NaN where it is missing."""
    return np.array([line.get(part, {}).get(name) for line in lines], dtype=np.float64)


def _unit(seconds: float) -> tuple[str, float]:
    """The unit in which a time reads best, and its seconds."""
    return ("s", 1.0) if seconds < 120 else ("min", 60.0) if seconds < 7200 else ("h", 3600.0)


def _width(labels: Sequence[str]) -> float:
    """Inches that leave the marks their room beside the longest label."""
    return 5.2 + 0.06 * max(len(label) for label in labels)
