"""What a score costs: test AUC against time, size and arithmetic, every model a labelled point.

Models that no other beats at less cost are joined by steps, the Pareto front. Times on two devices
are not comparable, so each device has a panel and a front of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from deeplense_batch.core.scoring.figures import DPI, GREY, fix_layout, panels_of, plain
from deeplense_batch.report.columns import time_unit
from deeplense_batch.report.compare import pareto
from deeplense_batch.report.plots.charts import MEAN, SEED, explain

__all__ = ["auc_against_cost", "auc_against_time"]

Points = NDArray[np.float64]  # (points, 2): cost, AUC

_MOST_OF_FRONT = 16  # labels; with more they cover each other

_FRONT: dict[str, Any] = {"color": "black", "lw": 0.8, "zorder": 1}
_HOLLOW = MEAN | {"color": "white"}
_CROWD: dict[str, Any] = {"marker": "o", "ls": "", "color": GREY, "mew": 0, "ms": 3, "zorder": 2}
_POINT = DPI / 72  # pixels in a point of type
_TIE = {"arrowstyle": "-", "color": GREY, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
_LABEL: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
_ANGLES = np.radians([0, 180, 90, 270, *range(30, 360, 30)])  # right, left, above, below, ...
_AROUND = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_ALONG = 2000  # spots of a front that labels avoid
_WIDE = 4  # times the least cost: from there on a logarithmic axis reads better
_BESIDE = 20, 24  # models, and letters of a label, up to which two panels are side by side


@dataclass(frozen=True)
class _Panel:
    title: str
    name: str  # of the cost, with its unit
    models: Sequence[Mapping[str, Any]]
    unit: float = 1.0
    filled: bool = True  # its marks
    comparable: bool = True  # its costs: else no front can be said


def auc_against_time(devices: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw test AUC against training time, a panel for each device, the first filled.

    Arguments:
        devices: ``device``, ``comparable`` (False where it may be several, which have no front),
            and ``models`` with ``label``, ``runs`` ([seconds, AUC] of each) and
            ``named`` (False: a small mark without a label, unless it is on the front; of a long
            front some, evenly).
    """
    panels: list[_Panel] = []
    for device in devices:
        models = device["models"]
        unit, length = time_unit(max(run[0] for model in models for run in model["runs"]))
        name = f"training time ({unit})"
        known = device["comparable"]
        panels.append(_Panel(device["device"], name, models, length, not panels, known))
    return _scatter(panels, log=False, columns=1)


def auc_against_cost(costs: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw test AUC against costs that no device changes, a panel for each.

    Arguments:
        costs: ``name`` with its unit, and ``models`` as in `auc_against_time`, where the runs hold
            [cost, AUC].
    """
    models = [model for cost in costs for model in cost["models"]]
    most, longest = _BESIDE
    few = len(models) <= most * len(costs) and all(len(m["label"]) <= longest for m in models)
    panels = [_Panel("", cost["name"], cost["models"]) for cost in costs]
    return _scatter(panels, log=True, columns=len(costs) if few else 1)


def _scatter(panels: Sequence[_Panel], *, log: bool, columns: int) -> Figure:
    heights = [min(3.2 + 0.08 * sum(m["named"] for m in p.models), 9.0) for p in panels]
    if columns > 1:
        figure, grid = panels_of(columns * (max(heights) + 1), max(heights) + 0.3, columns=columns)
    else:
        figure, grid = panels_of(4 + max(heights), sum(heights) + 0.2, ratios=heights)
    drawn, several, crowd = [], False, False
    for axes, panel in zip(grid, panels, strict=True):
        models, unit = panel.models, (panel.unit, 1)
        seeds = np.array([run for model in models for run in model["runs"]], np.float64) / unit
        means = np.array([np.mean(model["runs"], axis=0) for model in models]) / unit
        front = _front(means) if panel.comparable else []
        labelled = set(front[:: -(-len(front) // _MOST_OF_FRONT) or 1])
        named = [i for i, model in enumerate(models) if model["named"] or i in labelled]
        axes.plot(*means[named].T, **(MEAN if panel.filled else _HOLLOW))
        if len(named) < len(models):  # a crowd: its seeds would cover all
            crowd, seeds = True, means
            axes.plot(*np.delete(means, named, axis=0).T, **_CROWD)
        elif len(seeds) > len(models):
            several = True
            axes.plot(*seeds.T, **SEED)
        _limit(axes, log and means[:, 0].max() > _WIDE * means[:, 0].min())
        steps = _steps(means[front], axes.get_xlim()[1])
        if front:
            axes.plot(*steps.T, **_FRONT)
        drawn.append((axes, means, seeds, steps, {k: plain(models[k]["label"]) for k in named}))
        axes.set_title(plain(panel.title), fontsize=9, loc="left")
        axes.set(xlabel=panel.name, ylabel="test AUC")
    marks = _meanings(several, crowd, others=not all(panel.filled for panel in panels))
    if any(panel.comparable for panel in panels):
        marks["Pareto front: none is better for less"] = Line2D([], [], **_FRONT)
    explain(figure, marks)
    fix_layout(figure)  # labels are placed in pixels
    for arguments in drawn:
        _put_labels(*arguments)
    return figure


def _front(points: Points) -> list[int]:
    """Numbers of the points that none beats for less, the cheapest first."""
    known = np.flatnonzero(pareto(points.tolist()))
    return sorted(known.tolist(), key=lambda index: points[index, 0])


def _steps(front: Points, end: float) -> Points:
    """The best that can be had for each cost, (points, 2): across, up, and on to an end."""
    if not len(front):
        return front
    corners = np.concatenate([front, [[end, front[-1, 1]]]]).repeat(2, axis=0)
    return np.stack([corners[1:, 0], corners[:-1, 1]], axis=1)[:-1]


def _limit(axes: Axes, log: bool) -> None:
    """Leave room for labels, but for no time below 0 and little AUC above 1."""
    axes.margins(0.12)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(axes.get_xlim())
    else:
        axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
        axes.xaxis.set_major_locator(MaxNLocator(8))
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, min(top, 1 + 0.1 * (1 - bottom)))


def _meanings(several: bool, crowd: bool, others: bool) -> dict[str, Artist]:
    """What the marks are."""
    run = "mean of the seeds" if several or crowd else "one run"
    marks: dict[str, Artist] = {run: Line2D([], [], **MEAN)}
    if others:
        marks[f"{run}, another device"] = Line2D([], [], **_HOLLOW)
    if crowd:
        marks["model without a label"] = Line2D([], [], **_CROWD)
    if several:
        marks["one seed"] = Line2D([], [], **SEED)
    return marks


def _put_labels(
    axes: Axes, points: Points, seeds: Points, steps: Points, labels: Mapping[int, str]
) -> None:
    """Write labels beside points, tied to them where far, at the place of the lowest cost.

    The cost is the distance in pixels, and more for what the label or its tie would cover.
    """
    spots, corners = axes.transData.transform(points), axes.transData.transform(steps)
    per_step = max(_ALONG // max(len(corners) - 1, 1), 2)
    line = np.linspace(corners[:-1], corners[1:], min(per_step, 40)).reshape(-1, 2)
    taken = _boxes(spots, 4 * _POINT)
    minor = _boxes(axes.transData.transform(seeds), 2.5 * _POINT)
    minor = np.concatenate([minor, _boxes(line, 0.5 * _POINT)])
    reaches = np.geomspace(4, 400, 28).repeat(len(_AROUND)) * _POINT
    for row in sorted(labels, key=lambda row: spots[row, 1]):
        spot = spots[row]
        text = axes.annotate(labels[row], points[row], (0, 0), size=7.5, arrowprops=_TIE, **_LABEL)
        text.set_in_layout(False)
        half = np.array(Text.get_window_extent(text).size) / 2 + _POINT
        centres = spot + (half + reaches[:, None]) * np.tile(_AROUND, (28, 1))
        boxes, ties = _boxes(centres, half), np.linspace(spot, centres, 12)[3:]
        inside = (boxes[:, :2] > axes.bbox.min) & (boxes[:, 2:] < axes.bbox.max)
        cost = reaches + 1e6 * ~inside.all(axis=1)
        cost += 200 * _overlaps(boxes, taken) + 20 * _overlaps(boxes, minor)
        cost += sum(5 * _overlaps(_boxes(step, 0), taken[len(spots) :]) for step in ties)
        best = cost.argmin()
        text.xyann = tuple((centres[best] - spot) / _POINT)
        taken = np.concatenate([taken, boxes[best : best + 1]])
        minor = np.concatenate([minor, _boxes(ties[:, best], _POINT)])


def _boxes(centres: Points, half: float | Points) -> NDArray[np.float64]:
    """Boxes around centres, (N, 4): left, bottom, right, top."""
    return np.concatenate([centres - half, centres + half], axis=1)


def _overlaps(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of the other boxes each box meets, (N,)."""
    left, bottom, right, top = boxes.T[:, :, None]
    meets = (left < others[:, 2]) & (right > others[:, 0])
    meets &= (bottom < others[:, 3]) & (top > others[:, 1])
    return meets.sum(axis=1)
