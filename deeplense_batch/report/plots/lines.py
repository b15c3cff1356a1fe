"""Lines of a comparison, one a model, which differ in dashes and markers, not in colour alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from deeplense_batch.core.scoring.figures import COLOURS, DASHES, panels_of, plain
from deeplense_batch.report.plots.short_names import in_legend

__all__ = [
    "MOST_LINES",
    "auc_against_labels",
    "gain_against_labels",
    "precision_recall",
    "roc_low_fpr",
]

MOST_LINES = 8  # more are a tangle
_LETTER = 0.068  # inches of one of a legend

Model = dict[str, Any]


def auc_against_labels(models: Sequence[Model]) -> Figure:
    """Draw test AUC against the number of training images, a line for each model.

    Arguments:
        models: ``label``, and ``runs`` ([training images, AUC] of each), of each.
    """
    figure, (axes,) = panels_of(_width(5.2, models), 3.8 + _height(models))
    lines = []
    for model, style in zip(models, _styles(), strict=False):
        values = np.array(sorted(model["runs"]), dtype=np.float64)
        images, group = np.unique(values[:, 0], return_inverse=True)
        means = np.bincount(group, values[:, 1]) / np.bincount(group)
        seeds = {"marker": style["marker"], "mec": style["color"], "mew": 0.8}
        axes.plot(*values.T, ls="", ms=3, mfc="white", **seeds)
        lines += axes.plot(images, means, ms=5, **style)
    axes.set_xscale("log")
    axes.set(xlabel="training images", ylabel="test AUC (macro, one against the rest)")
    _legend(figure, lines, _labels(models), "mean; white: one seed")
    return figure


def gain_against_labels(curves: Sequence[Model], score: str) -> Figure:
    """Draw what pretraining gains against the number of training images, with its intervals.

    Arguments:
        curves: ``label``, and ``gains`` ([training images, gain, low, high] of each; no interval
            is None), of each.
        score: What is gained, in words.
    """
    figure, (axes,) = panels_of(_width(5.2, curves), 3.8 + _height(curves))
    lines = []
    for place, (curve, style) in enumerate(zip(curves, _styles(), strict=False)):
        values = np.array(sorted(curve["gains"], key=lambda gain: gain[0]), dtype=np.float64)
        images, gain, low, high = values.T
        images = images * 1.04**place  # so that bars lie side by side
        axes.vlines(images, low, high, color=style["color"], lw=1.2)
        lines += axes.plot(images, gain, ms=5, **style)
    axes.axhline(0, color="black", lw=0.8, ls=(0, (1, 2)))
    axes.set_xscale("log")
    axes.set(xlabel="training images", ylabel=f"gain of pretraining, {score}")
    _legend(figure, lines, _labels(curves), "bars: 95% intervals")
    return figure


def roc_low_fpr(models: Sequence[Model]) -> Figure:
    """Draw the ROC curves of a search where it counts: at few false positives.

    Arguments:
        models: ``label``, and false and true positive rates ``x`` and ``y``, of each.
    """
    figure, (axes,) = panels_of(_width(5.6, models), 4.2 + _height(models))
    positive = [x for model in models for x in model["x"] if x > 0]
    least = min(positive) / 1.5
    lines = []
    for model, style in zip(models, _styles(), strict=False):
        rates = np.maximum(model["x"], least)  # none at all is drawn at the left edge
        lines += axes.plot(rates, model["y"], **style, markevery=0.12, ms=4)
    axes.set(xscale="log", xlim=(least, 1.05), ylim=(-0.01, 1.02))
    axes.set(xlabel="false positive rate (left edge: none)")
    axes.set(ylabel="true positive rate (completeness)")
    _legend(figure, lines, _labels(models))
    return figure


def precision_recall(models: Sequence[Model], share: float) -> Figure:
    """Draw the precision of a search at every recall.

    Arguments:
        models: ``label``, recall and precision ``x`` and ``y``, ``area`` (average precision) and
            ``point`` (both at the stated threshold; None for none), of each.
        share: Of positives among the test samples: the precision of chance.
    """
    figure, (axes,) = panels_of(_width(5.6, models), 4.2 + _height(models))
    lines = []
    for model, style in zip(models, _styles(), strict=False):
        axes.plot(model["x"], model["y"], drawstyle="steps-pre", **style | {"marker": ""})
        lines.append(Line2D([], [], **style))
        if model["point"]:
            axes.plot(*model["point"], **style | {"ls": ""}, ms=8, mec="black", zorder=3)
    axes.axhline(share, color="black", lw=0.8, ls=(0, (1, 2)))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.set(xlabel="recall (completeness)", ylabel="precision among the test samples")
    stated = "; large marks: at the stated threshold" if any(m["point"] for m in models) else ""
    areas = [f"{model['area']:.4f}" for model in models]
    labels = [f"{label}, {area}" for label, area in zip(_labels(models), areas, strict=True)]
    _legend(figure, lines, labels, f"average precision{stated}; dotted: chance")
    return figure


def _styles() -> Iterator[dict[str, Any]]:
    """Styles of lines that differ in more than colour."""
    for colour, dashes, marker in zip(cycle(COLOURS), cycle(DASHES[:5]), cycle("osD^vPX")):
        yield {"color": colour, "ls": dashes, "marker": marker}


def _height(models: Sequence[Model]) -> float:
    """Inches of the legend."""
    return 0.3 + 0.19 * len(models)


def _width(least: float, models: Sequence[Model]) -> float:
    """Inches that hold the legend, too."""
    return max(least, 1.4 + _LETTER * max(map(len, _labels(models)), default=0))


def _labels(models: Sequence[Model]) -> list[str]:
    return [plain(label) for label in in_legend([model["label"] for model in models])]


def _legend(
    figure: Figure, lines: Sequence[Line2D], labels: Sequence[str], title: str = ""
) -> None:
    figure.legend(
        lines, labels, loc="outside lower center", frameon=False, fontsize=8, handlelength=4,
        title=title, title_fontsize=8,
    )  # fmt: skip
