"""Figures of one run: arrays in, `Figure` out; with the numbers a reader needs beside the marks.

Colours are those of Okabe and Ito (2008), which colour-blind readers can distinguish; in grey,
line style, marker and order do. pyplot's global state is never touched. One figure gives one
file, byte for byte, however often it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from deeplense_batch.core.files import temporary_name
from deeplense_batch.core.scoring.calibration import RareBins, rare_edges

__all__ = [
    "BLUE",
    "COLOURS",
    "DASHES",
    "DPI",
    "FORMATS",
    "GREY",
    "ORANGE",
    "PALE",
    "SKY",
    "agreement",
    "calibration",
    "confusion",
    "fix_layout",
    "history",
    "panels_of",
    "plain",
    "precision_recall",
    "rare_calibration",
    "roc",
    "save",
]

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
Reliability = tuple[ArrayLike, ArrayLike, ArrayLike]

BLUE, _RED, SKY, ORANGE = "#0072B2", "#D55E00", "#56B4E9", "#E69F00"
COLOURS = (BLUE, _RED, "#009E73", "#CC79A7", ORANGE, SKY)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
GREY, PALE = "#777777", "#e5e5e5"
_IDEAL: dict[str, Any] = {"color": GREY, "lw": 0.8, "ls": (0, (1, 2))}
DPI = 150
_MACRO_AUC = {"auc": ("macro AUC", "AUC")}
FORMATS: dict[str, dict[str, Any]] = {  # and the times that matplotlib would write into each
    "png": {},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def agreement(true: ArrayLike, predicted: ArrayLike, name: str, unit: str) -> Figure:
    """Draw a predicted number of every sample against its truth.

    Arguments:
        true, predicted: (N,) float.
        name: What it is, in words.
        unit: Its unit.
    """
    true, predicted = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    figure, (axes,) = panels_of(4.6, 4.4)
    label = f"{len(true)} samples"
    if len(true):
        off = np.abs(predicted - true)
        label += f", median |error| {np.median(off):.3g} {unit}"
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axes.plot(ends, ends, color=GREY, lw=0.8, ls=(0, (1, 2)))
    axes.plot(true, predicted, ".", color=BLUE, ms=3, alpha=0.6)
    axes.set(xlabel=f"true {name} ({unit})", ylabel=f"predicted {name} ({unit})")
    axes.set_title(label, fontsize=9)
    return figure


def calibration(
    bins: Mapping[str, Reliability], errors: Mapping[str, float], floors: Mapping[str, float]
) -> Figure:
    """Draw how often answers are right against how sure the network is; below, how many there are.

    Arguments:
        bins: By what they are of, such as ``as trained`` and ``temperature 1.31``: confidence,
            accuracy and count of each bin (`calibration.reliability`).
        errors: The expected calibration errors, by the same names.
        floors: What is below says nothing (`calibration.calibration_error_floor`), by the same.
    """
    figure, (upper, lower) = panels_of(4.6, 5.2, ratios=(3.4, 1))
    upper.plot([0, 1], [0, 1], label="perfectly calibrated", **_IDEAL)
    for (name, (confidence, accuracy, count)), colour, dashes, marker in zip(
        bins.items(), COLOURS, DASHES, "osD^vP", strict=False
    ):
        sure, right = np.asarray(confidence, np.float64), np.asarray(accuracy, np.float64)
        filled = np.isfinite(sure)
        style: dict[str, Any] = {"color": colour, "ls": dashes}
        label = f"{plain(name)}: ECE {errors[name]:.4f} (perfect: below {floors[name]:.4f})"
        upper.plot(sure[filled], right[filled], marker=marker, ms=4, label=label, **style)
        edges = np.linspace(0, 1, len(sure) + 1)
        lower.stairs(np.asarray(count), edges, baseline=None, lw=1.3, **style)
    lowest = min((np.nanmin(values[0], initial=1) for values in bins.values()), default=0)
    for panel in (upper, lower):
        panel.set_xlim(max(0.0, float(lowest) - 0.1), 1.01)
    upper.set(ylabel="accuracy", ylim=(-0.02, 1.02))
    _finish_calibration(upper, lower, "confidence: probability of the class answered")
    return figure


def rare_calibration(bins: Mapping[str, RareBins], sums: Mapping[str, float], name: str) -> Figure:
    """Draw how often samples are of a rare class against its probability, both on log axes.

    Bars are 95 % intervals (Wilson); of a bin without any of the class there is only the upper
    end, a triangle. Below, how many samples there are.

    Arguments:
        bins: By what they are of (`calibration.rare_reliability`).
        sums: Of the probabilities, by the same names: how many of the class they expect.
        name: Of the class.
    """
    figure, (upper, lower) = panels_of(4.8, 5.6, ratios=(3.4, 1))
    edges, name = rare_edges(), plain(name)
    edges[0] = edges[1] * 0.4  # what is below all decades has a narrow bin
    upper.plot(edges[[0, -1]], edges[[0, -1]], label="perfectly calibrated", **_IDEAL)
    least, empty = edges[0], f"no {name} there: upper end of 95 %"
    for (of, one), colour, dashes, marker in zip(
        bins.items(), COLOURS, DASHES, "osD^vP", strict=False
    ):
        share, low, high = one.shares()
        seen, none = one.positives > 0, (one.samples > 0) & (one.positives == 0)
        place = np.clip(one.probability, 1.5 * edges[0], 1)
        bars = np.maximum([(share - low)[seen], (high - share)[seen]], 0)
        label = f"{plain(of)}: sum {sums[of]:.1f}, {one.positives.sum()} are {name}"
        upper.errorbar(
            place[seen], share[seen], bars, color=colour, ls=dashes, lw=1.2, marker=marker, ms=4,
            elinewidth=0.8, label=label,
        )  # fmt: skip
        if none.any():
            upper.plot(place[none], high[none], "v", c=colour, mfc="none", ms=5, label=empty)
            empty = "_"  # which a legend leaves out
        least = min([least, *share[seen] / 2, *high[none] / 2])
        lower.stairs(one.samples, edges, baseline=None, lw=1.3, color=colour, ls=dashes)
    for panel in (upper, lower):
        panel.set(xscale="log", xlim=(edges[0], 1.15))
        panel.axvline(edges[1], color=GREY, lw=0.6)
    upper.set(yscale="log", ylim=(least, 1.3), ylabel=f"share that are {name}")
    axis = f"probability of {name}; left of the line all below {edges[1]:g}"
    _finish_calibration(upper, lower, axis)
    return figure


def _finish_calibration(upper: Axes, lower: Axes, label: str) -> None:
    """Legend, and the axes of both panels."""
    upper.tick_params(labelbottom=False)
    upper.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)
    lower.set(xlabel=label, ylabel="samples")
    lower.set(yscale="log", ylim=(0.7, None))  # so that few samples are seen beside many


def confusion(counts: ArrayLike, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix with the count and the share of its row in every cell.

    Arguments:
        counts: (K, K) integers, rows are the truth.
        classes: Names, K of them.
    """
    cells = np.asarray(counts)
    samples = cells.sum(axis=1, keepdims=True)
    shares = cells / np.maximum(samples, 1)
    figure, (axes,) = panels_of(len(classes) + 1.9, len(classes) + 1.5)
    axes.grid(visible=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(cells.shape):
        share = f"{shares[row, column]:.1%}" if samples[row, 0] else "no sample"
        colour = "white" if shares[row, column] > 0.55 else "black"
        text = f"{cells[row, column]}\n{share}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    names = [plain(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 4 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted class", ylabel="true class", title=f"{samples.sum()} samples")
    return figure


def precision_recall(
    curve: Curve,
    average_precision: float,
    share: float,
    threshold: tuple[float, float, float] | None = None,
) -> Figure:
    """Draw the precision at every recall of a search.

    Arguments:
        curve: Recall and precision (`curves.precision_recall`).
        average_precision: The area below its steps.
        share: Of positives among the samples: the precision of chance.
        threshold: The stated one, and recall and precision there.
    """
    figure, (axes,) = panels_of(4.8, 4.8)
    axes.axhline(share, color=GREY, lw=0.8, ls=(0, (1, 2)), label=f"chance, {share:.3g}")
    label = f"average precision {average_precision:.4f}"
    axes.plot(*curve, drawstyle="steps-pre", color=BLUE, label=label)
    if threshold is not None:
        at, *point = threshold
        label = f"threshold {at:.4g}: recall {point[0]:.4f}, precision {point[1]:.4f}"
        axes.plot(*point, "*", c=ORANGE, mec="black", ms=12, label=label)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.set(xlabel="recall (completeness)", ylabel="precision among the test samples")
    figure.legend(loc="outside lower center", frameon=False, fontsize=8)
    return figure


def roc(curves: Mapping[str, Curve], macro: Curve, scores: Mapping[str, float | None]) -> Figure:
    """Draw a ROC curve for each class, their macro average, and the top left corner enlarged.

    Arguments:
        curves: False and true positive rate by class (`curves.roc`), where defined.
        macro: Their average (`curves.macro_roc`), drawn where there are several.
        scores: Holds the areas, ``auc`` and ``auc_<class>`` (`metrics.classification_scores`).
    """
    figure, panels = panels_of(5.6, 5.6 + 0.1 * len(curves))
    panels[0].plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=(0, (1, 2)), label="chance, 0.5")
    panels[0].set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    panels[0].set(xlabel="false positive rate", ylabel="true positive rate")
    if any(np.interp(0.2, *curve) > 0.8 for curve in curves.values()):  # else nothing is there
        panels.append(panels[0].inset_axes((0.5, 0.1, 0.46, 0.46)))
        panels[1].set(xlim=(0, 0.2), ylim=(0.8, 1.004))
        panels[1].tick_params(labelsize=8)
        panels[0].indicate_inset_zoom(panels[1], edgecolor=GREY, alpha=0.6)
    for panel in panels:
        panel.set_prop_cycle(color=COLOURS, linestyle=DASHES)
        for name, curve in curves.items():
            panel.plot(*curve, label=f"{plain(name)}, AUC {scores[f'auc_{name}']:.4f}")
        if len(curves) > 1:
            label = f"macro average, AUC {scores['auc']:.4f}"
            panel.plot(*macro, color="black", ls="-", lw=2.2, zorder=1.9, label=label)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9, handlelength=3)
    return figure


def history(
    lines: Sequence[Mapping[str, Any]],
    scores: Mapping[str, tuple[str, str]] = _MACRO_AUC,
    *,
    loss: str = "loss",
    part: str = "loss",
    alike: bool = True,
) -> Figure:
    """Draw losses and validation scores by epoch and mark the best epoch.

    Arguments:
        lines: Of `history.jsonl`: ``epoch``, and ``train`` and ``valid`` with ``loss`` and perhaps
            scores; a number may be None.
        scores: What the axis of each says, and its name; each that is known has a panel. The first
            picks the best epoch, or where no epoch has it the lowest validation loss does.
        loss: What the axis of the losses says.
        part: Of the training loss, that the validation loss is of; where training has none by
            this name, all of its loss.
        alike: Whether the two losses are one quantity; else validation is left to the scores.
    """
    epochs = np.array([line["epoch"] for line in lines])
    train, valid = _column(lines, "train", part), _column(lines, "valid", "loss")
    if not np.isfinite(train).any():
        train = _column(lines, "train", "loss")
    columns = {name: _column(lines, "valid", name) for name in scores}
    known = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    by_score = next(iter(scores), None) in known
    figure, panels = panels_of(0.4 + 3.6 * (1 + len(known)), 3.2, columns=1 + len(known))
    panels[0].plot(epochs, train, "o--", color=_RED, ms=3.5, label="training")
    if alike or not by_score:
        panels[0].plot(epochs, valid, "s-", color=BLUE, ms=3.5, label="validation")
    panels[0].set_ylabel(loss)
    for panel, (name, values) in zip(panels[1:], known.items(), strict=True):
        there = np.isfinite(values)
        panel.plot(epochs[there], values[there], "s-", color=BLUE, ms=3.5, label="validation")
        panel.set_ylabel(scores[name][0])
    name, shown, quality, panel = "loss", valid, -valid, panels[0]
    if by_score:
        first = next(iter(known))
        name, shown, quality, panel = scores[first][1], known[first], known[first], panels[1]
    if np.isfinite(quality).any():
        best = int(np.nanargmax(quality))
        label = f"best: epoch {epochs[best]}, {name} {shown[best]:.4f}"
        panel.plot(epochs[best], shown[best], "*", c=ORANGE, mec="black", ms=12, label=label)
        for panel in panels:
            panel.axvline(epochs[best], color=GREY, lw=1, ls=":", zorder=0)
    for panel in panels:
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a file, in the format of its suffix: PNG of 150 dpi, SVG or PDF.

    It is made under a temporary name and renamed: it is whole or not there.

    Raises:
        ValueError: The suffix is another.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise ValueError(f"{path}: a figure is a .{', .'.join(FORMATS)} file")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        # journals refuse fonts of type 3, which are the default
        with mpl.rc_context({"svg.hashsalt": "deeplense_batch", "pdf.fonttype": 42}):
            figure.savefig(temporary, format=kind, dpi=DPI, metadata=FORMATS[kind])
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def fix_layout(figure: Figure) -> None:
    """Compute the layout of a figure once: drawn again, in several formats, it stays the same."""
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # "none" would leave one that costs a drawing for each file


def plain(text: str) -> str:
    """A text that matplotlib shows as it is, on one line: no dollar starts a formula.

    What cannot be printed, and would break an SVG, is shown by its code.
    """
    line = " ".join(text.split())
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return "".join(shown).replace("$", r"\$")


def panels_of(
    width: float, height: float, *, columns: int = 1, ratios: Sequence[float] = (1,)
) -> tuple[Figure, list[Axes]]:
    """Make panels: a row for each ratio of heights. Sizes in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(ratios), columns, squeeze=False, height_ratios=ratios)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=PALE, lw=0.5)
        axes.set_axisbelow(True)
        axes.ticklabel_format(useOffset=False)  # a number beside a tick is the number
    return figure, list(grid.flat)


def _column(lines: Sequence[Mapping[str, Any]], part: str, name: str) -> NDArray[np.float64]:
    """One number of every epoch, NaN where it is missing."""
    return np.array([line.get(part, {}).get(name) for line in lines], dtype=np.float64)
