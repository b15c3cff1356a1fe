"""Selection functions: what models find, or how far they err, by a quantity of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeplense_batch.core.scoring.figures import COLOURS, DASHES, GREY, panels_of, plain

__all__ = ["by_quantity"]

_WIDE = 15.0  # largest over least edge of a logarithmic axis
_APART = 0.055  # of the axis, between edges that are labelled
_REFERENCES = {"AUC": 0.5, "median error": 0.0}  # of chance, and of no error
_WHOLE = ("completeness", "purity", "recall")  # drawn from 0 to 1
_CHARACTERS = 60  # of labels in a row
_MARGIN = 0.03  # of the axis, beyond its outer edges

Model = Mapping[str, Any]


def by_quantity(
    column: str,
    labels: Sequence[str],
    edges: Sequence[float] | None,
    medians: Sequence[float] | None,
    panels: Mapping[str, str],
    counts: Mapping[str, Sequence[int]],
    models: Sequence[Model],
) -> Figure:
    """Draw numbers of models in K bins, and how many images each bin holds.

    Arguments:
        column: Name of the quantity.
        labels: Of the bins, (K,).
        edges: Of the bins, (K + 1,); None where each is a value.
        medians: Where a bin is drawn, (K,); None where each is a value.
        panels: Names of the numbers, and their titles.
        counts: Images in the bins, (K,), by what they are.
        models: ``label``, and ``numbers`` by name, (K,), each None or ``value``, ``low``,
            ``high`` and ``runs``. The runs are drawn of one model alone.
    """
    height = 1.9 * len(panels) + 1.3 + 0.19 * len(models)
    figure, axes = panels_of(6.0, height, ratios=[1.9] * len(panels) + [0.8])
    places = np.asarray(range(len(labels)) if medians is None else medians, np.float64)
    for panel, (name, title) in zip(axes, panels.items(), strict=False):
        for place, (model, style) in enumerate(zip(models, _styles(len(models)), strict=True)):
            aside = 0.0 if edges else (place - (len(models) - 1) / 2) * 0.5 / len(models)
            cells, alone = model["numbers"][name], len(models) == 1
            _draw(panel, np.add(places, aside), cells, style, joined=bool(edges), alone=alone)
        _finish(panel, title)
    _draw_counts(axes[-1], counts, edges)
    for panel in axes:
        _ticks(panel, column if panel is axes[-1] else "", labels, edges)
    handles, _ = axes[0].get_legend_handles_labels()
    several = any(len(cell["runs"]) > 1 for m in models for c in m["numbers"].values()
                  for cell in c if cell)  # fmt: skip
    thin = "; thin lines: single runs" if several and len(models) == 1 else ""
    shown = [plain(model["label"]) for model in models]
    figure.legend(
        handles, shown, loc="outside lower center", frameon=False, fontsize=8,
        handlelength=4, title=f"95 % intervals over test images{thin}", title_fontsize=8,
    )  # fmt: skip
    return figure


def _draw(
    panel: Axes,
    places: NDArray[np.float64],
    cells: Sequence[Mapping[str, Any] | None],
    style: Mapping[str, Any],
    *,
    joined: bool,
    alone: bool,
) -> None:
    """One number of one model: marks with intervals, and a band where bins have an order."""
    value, low, high = (_column(cells, name) for name in ("value", "low", "high"))
    line = style if joined else {**style, "ls": ""}
    bars = np.nan_to_num(np.maximum([value - low, high - value], 0))
    panel.errorbar(
        places, value, bars, ms=5, lw=1.4, elinewidth=0.9, capsize=2, label="model", **line
    )  # fmt: skip
    if joined:
        alpha = 0.18 if alone else 0.08
        panel.fill_between(places, low, high, color=style["color"], alpha=alpha, lw=0)
    if not alone:
        return
    runs = max((len(cell["runs"]) for cell in cells if cell), default=0)
    for number in range(runs if runs > 1 else 0):
        own = [np.nan if cell is None else cell["runs"][number] for cell in cells]
        thin = {"lw": 0.6} if joined else {"ls": "", "marker": "_", "ms": 9}
        panel.plot(places, np.array(own, np.float64), color=style["color"], alpha=0.7, **thin)


def _column(cells: Sequence[Mapping[str, Any] | None], name: str) -> NDArray[np.float64]:
    return np.array([np.nan if c is None or c[name] is None else c[name] for c in cells])


def _finish(panel: Axes, title: str) -> None:
    """Title, the line of chance, and limits that hold all that is drawn."""
    panel.set_ylabel(title, fontsize=9)
    panel.tick_params(labelbottom=False)
    if title in _REFERENCES:
        low, high = panel.get_ylim()
        panel.axhline(_REFERENCES[title], color=GREY, lw=0.8, ls=(0, (1, 2)))
        if title == "AUC" and low > _REFERENCES[title]:
            panel.set_ylim(low, min(high, 1.01))
    if title.startswith(_WHOLE):
        panel.set_ylim(-0.03, 1.03)


def _draw_counts(
    panel: Axes, counts: Mapping[str, Sequence[int]], edges: Sequence[float] | None
) -> None:
    """How many images each bin holds, by what they are."""
    for number, ((name, values), dashes) in enumerate(zip(counts.items(), cycle(DASHES))):
        shade = str(0.2 + 0.6 * number / max(len(counts), 1))
        label = f"{plain(name)}, {sum(values)}"
        if edges:
            panel.stairs(values, edges, baseline=None, lw=1.3, ls=dashes, color=shade, label=label)
        else:
            offset = (number - (len(counts) - 1) / 2) * 0.8 / len(counts)
            panel.bar(
                np.arange(len(values)) + offset,
                values,
                0.7 / len(counts),
                color=shade,
                label=label,
            )
    panel.set_ylabel("images", fontsize=9)
    most = max(max(values, default=0) for values in counts.values())
    least = min((v for values in counts.values() for v in values if v), default=1)
    if most > 10 * least:  # lenses beside many others
        panel.set(yscale="log", ylim=(0.7, 2 * most))
    else:
        panel.set_ylim(0, 1.15 * most)
    panel.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=8,
        borderaxespad=0.1,
    )  # fmt: skip


def _ticks(panel: Axes, column: str, labels: Sequence[str], edges: Sequence[float] | None) -> None:
    """Edges as ticks, with labels but where they would overlap; or the value of each bin."""
    if edges is None:
        names = [plain(label) for label in labels]
        turned = max(map(len, names)) * len(names) > _CHARACTERS
        panel.set_xticks(range(len(names)), names, rotation=30 if turned else 0, fontsize=8)
        panel.set_xlim(-0.6, len(names) - 0.4)
    else:
        logarithmic = edges[0] > 0 and edges[-1] > _WIDE * edges[0]
        if logarithmic:
            panel.set_xscale("log")
        ends = np.log(edges) if logarithmic else np.asarray(edges, np.float64)
        kept, last = [], -np.inf
        for end, edge in zip(ends, edges, strict=True):
            if end - last >= _APART * (ends[-1] - ends[0]):
                kept.append(edge)
                last = end
        panel.set_xticks(
            edges, labels=[f"{e:.4g}" if e in kept else "" for e in edges], fontsize=8
        )
        panel.set_xticks([], minor=True)
        margin = _MARGIN * (ends[-1] - ends[0])
        limits = np.array([ends[0] - margin, ends[-1] + margin])
        panel.set_xlim(*(np.exp(limits) if logarithmic else limits).tolist())
    if column:
        panel.set_xlabel(plain(column))
    else:
        panel.tick_params(labelbottom=False)


def _styles(count: int) -> list[dict[str, Any]]:
    """Styles of models, which differ in more than colour."""
    styles = zip(cycle(COLOURS), cycle(DASHES[:5]), cycle("osD^vP"))
    return [{"color": c, "ls": dashes, "marker": m} for c, dashes, m in islice(styles, count)]
