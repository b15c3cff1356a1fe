"""Figures of several predicted numbers: agreement with error bars, coverage, ranks and pulls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import binom, norm

from deeplense_batch.core.scoring.figures import (
    BLUE,
    COLOURS,
    DASHES,
    GREY,
    ORANGE,
    panels_of,
    plain,
)
from deeplense_batch.core.scoring.posteriors.coverage import (
    BINS,
    central,
    coverage,
    coverage_band,
    coverage_error,
    error_floor,
)

__all__ = ["agreement_of", "coverage_curves", "draw_numbers", "pull_histograms", "rank_histograms"]

_BARS = 300  # error bars in a panel: more cannot be told apart
_BAND: dict[str, Any] = {"color": GREY, "alpha": 0.25, "lw": 0}

Array = NDArray[np.float64]
Label = tuple[str, str]  # what a number is called, and its unit, empty where that is not known


def draw_numbers(
    outputs: Mapping[str, NDArray[Any]], names: Sequence[str], labels: Sequence[Label]
) -> dict[str, Figure]:
    """All figures of a run, by name: ``predicted``, and of a posterior three more.

    Arguments:
        outputs: As of `numbers.scores`; ``quantiles`` (N, D, 5) where they are known.
        names: Of the numbers, D.
        labels: Of the numbers, in words.
    """
    true = np.asarray(outputs["true"], np.float64)
    predicted = np.asarray(outputs["predicted"], np.float64)
    if "log_prob" not in outputs:
        return {"predicted": agreement_of(true, predicted, None, labels)}
    sd = np.asarray(outputs["sd"], np.float64)
    low, high = predicted - sd, predicted + sd
    if "quantiles" in outputs:
        low, high = (np.asarray(outputs["quantiles"], np.float64)[..., k] for k in (1, 3))
    drawn = {"predicted": agreement_of(true, predicted, (low, high), labels)}
    known = np.isfinite(true).all(1)
    if not known.any():
        return drawn
    ranks = np.asarray(outputs["rank"], np.float64)[known]
    tarp = np.asarray(outputs["tarp"], np.float64)[known] if "tarp" in outputs else None
    pulls = ((true - predicted) / sd)[known]
    return drawn | {
        "coverage": coverage_curves(ranks, tarp, names),
        "ranks": rank_histograms(ranks, names),
        "pulls": pull_histograms(pulls, names),
    }


def agreement_of(
    true: Array, predicted: Array, bars: tuple[Array, Array] | None, labels: Sequence[Label]
) -> Figure:
    """Draw predicted numbers of every sample against their truth, a panel for each number.

    Arguments:
        true, predicted: (N, D); NaN where the truth is unknown.
        bars: Lower and upper ends of the 68 % credible intervals, (N, D), drawn for at most
            300 samples, evenly spread; or None.
        labels: Of the numbers.
    """
    figure, panels = panels_of(0.6 + 3.7 * len(labels), 3.9, columns=len(labels))
    for d, (panel, (name, unit)) in enumerate(zip(panels, labels, strict=True)):
        known = np.flatnonzero(np.isfinite(true[:, d]))
        t, p = true[known, d], predicted[known, d]
        title = f"{len(known)} samples"
        if len(known):
            title += f", RMSE {np.sqrt(np.mean((p - t) ** 2)):.3g} {unit}".rstrip()
            ends = [min(t.min(), p.min()), max(t.max(), p.max())]
            panel.plot(ends, ends, color=GREY, lw=0.8, ls=(0, (1, 2)))
        panel.plot(t, p, ".", color=BLUE, ms=3, alpha=0.6)
        if bars is not None and len(known):
            some = known[np.unique(np.linspace(0, len(known) - 1, _BARS).astype(int))]
            low, high = bars[0][some, d], bars[1][some, d]
            panel.vlines(true[some, d], low, high, color=BLUE, lw=0.6, alpha=0.35)
        panel.set(xlabel=f"true {plain(name)}" + f" ({unit})" * bool(unit), ylabel="predicted")
        panel.set_title(title, fontsize=8)
    return figure


def coverage_curves(ranks: Array, tarp: Array | None, names: Sequence[str]) -> Figure:
    """Draw coverage less level against the level, of each number and by TARP of all together.

    Above 0 error bars are too wide, below too narrow. The grey band holds 95 % of the curves of a
    right posterior at each level.

    Arguments:
        ranks: Probability below the truth, (N, D).
        tarp: Probability nearer to a random point, (N,), where it is known.
        names: Of the numbers.
    """
    levels = np.linspace(0.01, 0.99, 99)
    low, high = coverage_band(levels, len(ranks))
    figure, (panel,) = panels_of(5.4, 4.2)
    floor = error_floor(len(ranks))
    label = f"right posterior, {len(ranks)} samples (error below {floor:.4f})"
    panel.fill_between(levels, low - levels, high - levels, label=label, **_BAND)
    panel.axhline(0, color=GREY, lw=0.8)
    kinds = dict(zip(names, central(ranks).T, strict=True))
    for (name, own), colour, dashes in zip(kinds.items(), COLOURS * 9, DASHES * 9, strict=False):
        label = f"{plain(name)}: error {coverage_error(own):.4f}"
        panel.plot(levels, coverage(own, levels) - levels, c=colour, ls=dashes, label=label)
    if tarp is not None:
        label = f"all together, TARP: error {coverage_error(tarp):.4f}"
        panel.plot(levels, coverage(tarp, levels) - levels, c="black", lw=2, label=label)
    panel.set(xlabel="credible level", ylabel="coverage less level", xlim=(0, 1))
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)
    return figure


def rank_histograms(ranks: Array, names: Sequence[str]) -> Figure:
    """Draw how the ranks of the truth are spread, a panel for each number.

    They are even where a posterior is right, within the grey band of 95 % of bins; a hill in the
    middle is of error bars that are too wide, a valley of ones too narrow, a slope of a bias.

    Arguments:
        ranks: (N, D) in [0, 1].
        names: Of the numbers.
    """
    figure, panels = panels_of(max(4.4, 0.6 + 3.2 * len(names)), 3.3, columns=len(names))
    low, high = binom.ppf([0.025, 0.975], len(ranks), 1 / BINS)
    for panel, name, own in zip(panels, names, ranks.T, strict=True):
        counts, edges = np.histogram(own, bins=BINS, range=(0, 1))
        panel.fill_between([0, 1], low, high, label="95 % of bins, right posterior", **_BAND)
        panel.axhline(len(ranks) / BINS, color=GREY, lw=0.8)
        panel.stairs(counts, edges, color=BLUE, lw=1.3, label="samples")
        panel.set(xlabel=f"rank of true {plain(name)}", ylabel="samples", ylim=(0, None))
    _explain(figure, panels[0])
    return figure


def pull_histograms(pulls: Array, names: Sequence[str]) -> Figure:
    """Draw (true - predicted) / sd beside a normal distribution, a panel for each number.

    Arguments:
        pulls: (N, D).
        names: Of the numbers.
    """
    figure, panels = panels_of(max(4.4, 0.6 + 3.2 * len(names)), 3.5, columns=len(names))
    edges, x = np.linspace(-4, 4, 33), np.linspace(-4, 4, 161)
    for panel, name, own in zip(panels, names, pulls.T, strict=True):
        counts, _ = np.histogram(np.clip(own, -4, 4), bins=edges)
        normal = norm.pdf(x) * len(own) * 0.25
        panel.plot(x, normal, color=ORANGE, lw=1.2, label="normal, mean 0, sd 1")
        panel.stairs(counts, edges, color=BLUE, lw=1.3, label="samples")
        panel.set_title(f"mean {own.mean():.3f}, sd {own.std():.3f}", fontsize=8)
        panel.set(xlabel=f"pull of {plain(name)}", ylabel="samples")
    _explain(figure, panels[0])
    return figure


def _explain(figure: Figure, panel: Axes) -> None:
    """Say once, below all panels, what is drawn in each."""
    marks, labels = panel.get_legend_handles_labels()
    figure.legend(
        marks, labels, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=8
    )
