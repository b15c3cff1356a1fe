"""A table of scores as a heat map: training sets downwards, test sets to the right.

Every cell has its number, and its interval in small print; dark is good, also where colours are
printed in grey. The cell of a training set's own test set has a frame. A cell without runs is
empty.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from deeplense_batch.core.scoring.figures import GREY, panels_of, plain
from deeplense_batch.report.columns import number
from deeplense_batch.report.plots.charts import explain

__all__ = ["heat_map"]

_CELL = 1.25, 0.72  # inches, wide and high
_LETTER = 0.075  # inches of a letter of a name
_LONGEST, _LONGEST_HEAD = 30, 16  # letters of a line of a name, of a row and of a column
_LINES = 3  # of a name
_LEAST_SPAN = 0.1  # of the colours: smaller differences are not made to look large
_DARKEST = 0.85  # of the colours, which white numbers are read on
_DARK = 0.5  # luminance below which a number is white
_EMPTY: dict[str, Any] = {"fill": False, "ec": GREY, "lw": 0.6, "ls": (0, (2, 3))}
_FRAME: dict[str, Any] = {"fill": False, "ec": "black", "lw": 2.2, "zorder": 3}


def heat_map(
    score: str,
    trainings: Sequence[str],
    tests: Sequence[Mapping[str, Any]],
    cells: Sequence[Mapping[str, Any]],
) -> Figure:
    """Draw a score of every training set on every test set.

    Arguments:
        score: What it is, in words.
        trainings: Names of the training sets, from top to bottom.
        tests: ``name`` and ``images``, their number, of the test sets, from left to right.
        cells: ``training`` and ``test``, names; ``value``; ``low`` and ``high``, None where
            unknown; ``own``, whether the test set is the training set's own; and ``note``, short,
            or None. What is left out stays empty.
    """
    rows = {name: i for i, name in enumerate(trainings)}
    columns = {test["name"]: j for j, test in enumerate(tests)}
    values = np.full((len(rows), len(columns)), np.nan)
    for cell in cells:
        values[rows[cell["training"]], columns[cell["test"]]] = cell["value"]
    longest = max(min(len(name), _LONGEST) for name in trainings)
    width = _CELL[0] * len(columns) + _LETTER * longest + 1.6
    figure, (axes,) = panels_of(width, _CELL[1] * len(rows) + 1.5)
    image = axes.imshow(values, cmap=_colours(), norm=_range(values), aspect="auto")
    for i, j in np.argwhere(np.isnan(values)).tolist():
        axes.add_patch(Rectangle((j - 0.47, i - 0.46), 0.94, 0.92, **_EMPTY))
    for cell in cells:
        i, j = rows[cell["training"]], columns[cell["test"]]
        _write(axes, cell, i, j, _ink(image.to_rgba(cell["value"])))
        if cell["own"]:
            axes.add_patch(Rectangle((j - 0.47, i - 0.46), 0.94, 0.92, **_FRAME))
    heads = [
        f"{_wrapped(test['name'], _LONGEST_HEAD)}\n{test['images']:,} images" for test in tests
    ]
    axes.set_xticks(range(len(columns)), heads, fontsize=8)
    axes.set_yticks(range(len(rows)), [_wrapped(name, _LONGEST) for name in trainings], fontsize=8)
    axes.set(xlabel="tested on", ylabel="trained on")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label=score, fraction=0.08, aspect=14, pad=0.02)
    bar.ax.tick_params(labelsize=8)
    explain(figure, {"own test set": Rectangle((0, 0), 1, 1, **_FRAME)})
    return figure


def _colours() -> mpl.colors.Colormap:
    """From white to a blue that is dark, evenly in luminance; an unknown number has none."""
    shades = mpl.colormaps["Blues"](np.linspace(0.05, _DARKEST, 256))
    return mpl.colors.ListedColormap(shades).with_extremes(bad="white")


def _range(values: NDArray[np.float64]) -> Normalize:
    """From the least to the greatest number, some span apart."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return Normalize(min(low, high - _LEAST_SPAN), high)


def _ink(colour: ArrayLike) -> str:
    """Black or white, whichever is read on a colour."""
    red, green, blue = np.ravel(colour)[:3]
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < _DARK else "black"


def _write(axes: Axes, cell: Mapping[str, Any], i: int, j: int, ink: str) -> None:
    """The number of a cell, its interval below, and a note where there is one."""
    known = cell["low"] is not None and cell["high"] is not None
    small = [f"[{number(cell['low'], 3)}, {number(cell['high'], 3)}]"] if known else []
    small += [cell["note"]] if cell.get("note") else []
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": ink, "clip_on": True}
    axes.text(j, i - 0.17 * bool(small), number(cell["value"], 3), fontsize=11, **style)
    if small:
        axes.text(j, i + 0.22, "\n".join(small), fontsize=6.5, linespacing=1.1, **style)


def _wrapped(name: str, letters: int) -> str:
    """A name on as many lines as leave the cells their room."""
    return "\n".join(textwrap.wrap(plain(name), letters, max_lines=_LINES, placeholder=" …"))
