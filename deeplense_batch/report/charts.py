"""Figures of a comparison: models side by side, one row or one point for each.

Scores that crowd near 1 are marks on a zoomed axis: a bar's length would lie there. Seconds are
bars from zero, and each device has a panel of its own, since seconds of two devices do not
compare. Every figure says what its marks are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from deeplense_batch.figures import BLUE, COLOURS, DASHES, DPI, GREY, SKY, panels_of

__all__ = ["accuracy_bars", "auc_against_labels", "auc_against_time", "auc_bars", "time_bars"]

Points = NDArray[np.float64]  # (points, 2): abscissa, ordinate
Timed = tuple[float, float]  # seconds, AUC
Values = Mapping[str, Sequence[float]]  # by model, one for each seed

_BAR: dict[str, Any] = {"facecolor": SKY, "edgecolor": "black", "lw": 0.6}
_MEAN: dict[str, Any] = {"marker": "D", "ls": "", "color": BLUE, "mec": "black", "mew": 0.6}
_MEAN |= {"ms": 5.5, "zorder": 3}
_SEED: dict[str, Any] = {"marker": "o", "ls": "", "color": "white", "mec": "black", "mew": 0.8}
_SEED |= {"ms": 3.4, "zorder": 4}  # on top: a mean hides no seed
_WHISKER: dict[str, Any] = {"fmt": "none", "ecolor": GREY, "elinewidth": 1.2, "zorder": 2}
_POINT = DPI / 72  # pixels in a point of type
_TIE = {"arrowstyle": "-", "color": GREY, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
_LABEL: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
_ANGLES = np.radians([0, 180, 90, 270, *range(30, 360, 30)])  # right, left, above, below, ...
_AROUND = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def auc_bars(values: Values, errors: Mapping[str, float] | None = None) -> Figure:
    """Draw the test AUC of every model: its mean, and a circle for each of several seeds.

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
    several = any(len(values) > 1 for models in seconds.values() for values in models.values())
    height = 0.25 * sum(sizes) + 0.9 * len(sizes) + 0.4 * several  # the last for the legend
    figure, panels = panels_of(width, height, ratios=sizes)
    for axes, (device, models) in zip(panels, seconds.items(), strict=True):
        order = sorted(models, key=lambda label: -float(np.mean(models[label])))
        unit, length = _unit(max(max(values) for values in models.values()))
        runs = [np.divide(models[label], length) for label in order]
        means = [float(np.mean(values)) for values in runs]
        axes.barh(range(len(order)), means, height=0.62, **_BAR)
        _rows(axes, order, runs, [f"{mean:.3g}" for mean in means])
        axes.set_title(device, fontsize=9, loc="left")
        axes.set_xlabel(f"training time ({unit})")
    if several:
        _explain(figure, {"mean of the seeds": Patch(**_BAR), "one seed": Line2D([], [], **_SEED)})
    return figure


def auc_against_time(points: Mapping[str, Mapping[str, Sequence[Timed]]]) -> Figure:
    """Draw test AUC against training time, a panel for each device, every model labelled.

    Arguments:
        points: By device, then by model, (seconds, AUC) of each seed.
    """
    heights = [min(3.2 + 0.08 * len(models), 9.0) for models in points.values()]
    figure, panels = panels_of(4 + max(heights), sum(heights) + 0.2, ratios=heights)
    drawn = []
    for axes, (device, models) in zip(panels, points.items(), strict=True):
        seeds = np.array([point for runs in models.values() for point in runs], dtype=np.float64)
        unit, length = _unit(seeds[:, 0].max())
        means = np.array([np.mean(runs, axis=0) for runs in models.values()]) / (length, 1)
        drawn.append((axes, means, seeds / (length, 1), list(models)))
        axes.plot(*means.T, **_MEAN)
        if len(seeds) > len(models):
            axes.plot(*drawn[-1][2].T, **_SEED)
        axes.margins(0.12)
        axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
        axes.set_title(device, fontsize=9, loc="left")
        axes.set(xlabel=f"training time ({unit})", ylabel="test AUC")
    several = any(len(runs) > 1 for models in points.values() for runs in models.values())
    _explain(figure, _score_marks(several))
    figure.draw_without_rendering()  # labels are placed in pixels: the layout must be final
    figure.set_layout_engine("none")
    for panel in drawn:
        _place(*panel)
    return figure


def auc_against_labels(points: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Draw test AUC against the number of training images, a line for each model.

    Arguments:
        points: By model, (training images, AUC) of each seed and share.
    """
    figure, (axes,) = panels_of(5.2, 3.8)
    for (label, runs), colour, dashes, marker in zip(
        points.items(), cycle(COLOURS), cycle(DASHES), cycle("osD^vP")
    ):
        values = np.array(sorted(runs), dtype=np.float64)
        images, place = np.unique(values[:, 0], return_inverse=True)
        means = np.bincount(place, values[:, 1]) / np.bincount(place)
        axes.plot(*values.T, ls="", marker=marker, ms=3, mfc="white", mec=colour, mew=0.8)
        axes.plot(images, means, ls=dashes, color=colour, marker=marker, ms=5, label=label)
    axes.set_xscale("log")
    axes.set(xlabel="training images", ylabel="test AUC (macro, one against the rest)")
    axes.legend(frameon=False, fontsize=8, title="mean; white: one seed", title_fontsize=7)
    return figure


def _dots(values: Values, errors: Mapping[str, float], name: str) -> Figure:
    """Draw a row for each model, the best mean on top."""
    order = sorted(values, key=lambda label: float(np.mean(values[label])))
    means = np.array([np.mean(values[label]) for label in order])
    whiskers = np.array([errors.get(label, 0.0) for label in order])
    figure, (axes,) = panels_of(_width(order), 0.25 * len(order) + 1.3)
    if whiskers.any():
        axes.errorbar(means, range(len(order)), xerr=whiskers, **_WHISKER)
    axes.plot(means, range(len(order)), **_MEAN)
    _rows(axes, order, [values[label] for label in order], [f"{mean:.4f}" for mean in means])
    axes.set_xlabel(f"{name}\naxis does not start at 0", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6))  # else long numbers touch
    marks = _score_marks(any(len(seeds) > 1 for seeds in values.values()))
    if whiskers.any():
        marks["standard error by the size of the test slice"] = Line2D([], [], lw=1.2, c=GREY)
    _explain(figure, marks)
    return figure


def _score_marks(several: bool) -> dict[str, Artist]:
    """Marks of a score by what they are."""
    if not several:
        return {"one run": Line2D([], [], **_MEAN)}
    return {
        "mean of the seeds": Line2D([], [], **_MEAN),
        "one seed": Line2D([], [], **_SEED),
    }


def _explain(figure: Figure, marks: Mapping[str, Artist]) -> None:
    """Say below a figure what its marks are."""
    figure.legend(
        [*marks.values()], [*marks], loc="outside lower center", ncols=len(marks), frameon=False,
        fontsize=8, handlelength=1.5,
    )  # fmt: skip


def _rows(axes: Axes, labels: Sequence[str], seeds: Sequence[Any], numbers: Sequence[str]) -> None:
    """Name the rows on the left, give their numbers on the right, circle several seeds."""
    for row, (values, number) in enumerate(zip(seeds, numbers, strict=True)):
        axes.text(1.02, row, number, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
        if len(values) > 1:
            axes.plot(values, [row] * len(values), **_SEED)
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


def _unit(seconds: float) -> tuple[str, float]:
    """The unit in which a time reads best, and its seconds."""
    return ("s", 1.0) if seconds < 120 else ("min", 60.0) if seconds < 7200 else ("h", 3600.0)


def _width(labels: Sequence[str]) -> float:
    """Inches that leave the marks their room beside the longest label."""
    return 5.2 + 0.06 * max(len(label) for label in labels)
