"""Sheets of images: arrays in, `Figure` out; each image is a picture as `colours` makes it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from deeplense_batch.core.scoring.colours import Rgb, stretched
from deeplense_batch.core.scoring.figures import panels_of, plain

__all__ = ["contact_sheet", "map_sheet"]

_INCHES = 1.5  # of a panel
_LETTERS = 28  # of a name above a panel
_ROOM = 0.9  # inches of titles, two lines of them
_LETTER, _LINE = 0.7, 1.3  # width of a wide letter and height of a line, over the font's size
_POINT = 1 / 72  # inches


def contact_sheet(
    images: Sequence[NDArray],
    names: Sequence[str],
    title: str,
    *,
    columns: int = 10,
    like: Sequence[NDArray] = (),
    rgb: Rgb | None = None,
) -> Figure:
    """Show images side by side, each under its name.

    Arguments:
        images: Values, each (C, H, W).
        names: A line or more for each.
        title: Of the sheet; a long one is broken into lines.
        columns: Images in a row.
        like: Images by which all are stretched alike; by default each by itself.
        rgb: Channels that are red, green and blue, if not as `colours.stretched` chooses.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    lines = 1 + max(name.count("\n") for name in names)
    width = max(columns * _INCHES, 4.5)
    title, room = _broken(title, width, size=9)
    height = rows * (_INCHES + 0.13 * lines) + room
    figure, panels = panels_of(width, height, columns=columns, ratios=(1,) * rows)
    for axes in panels:
        axes.set_axis_off()
    for axes, image, name in zip(panels, images, names, strict=False):
        _show(axes, image, like, rgb)
        axes.set_title(_short(name), fontsize=6.5, pad=2)
    figure.suptitle(title, fontsize=9)
    return figure


def map_sheet(
    images: Sequence[NDArray],
    names: Sequence[str],
    maps: Sequence[Mapping[str, NDArray]],
    title: str,
    *,
    common: str,
    own: Sequence[str] = (),
    rgb: Rgb | None = None,
) -> Figure:
    """Show images in rows, each beside its maps.

    Arguments:
        images: Values, each (C, H, W).
        names: A line or more for each.
        maps: Of each image, (h, w) by name; their pixels cover the image, whatever their number.
        title: Of the sheet; a long one is broken into lines.
        common: What the colours mean, in maps that share one scale from 0 to the row's largest.
        own: Names of maps that have a scale of their own; its range is written below each.
        rgb: Channels that are red, green and blue, if not as `colours.stretched` chooses.
    """
    columns = 1 + len(maps[0])
    width = columns * 1.9 + 0.6
    title, room = _broken(title, width, size=8)
    figure, panels = panels_of(
        width, len(images) * 2.1 + room, columns=columns, ratios=(1,) * len(images)
    )
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
    coloured = None
    for row, (image, name, of_image) in enumerate(zip(images, names, maps, strict=True)):
        first, *others = panels[row * columns : (row + 1) * columns]
        _show(first, image, rgb=rgb)
        first.set_title(_short(name), fontsize=7, pad=3)
        coloured = _show_maps(others, of_image, image.shape[1:], own) or coloured
    if coloured is not None:
        bar = figure.colorbar(coloured, ax=panels, shrink=0.6, aspect=40, pad=0.02)
        bar.set_label(common, fontsize=7)
        bar.ax.tick_params(labelsize=6)
    figure.suptitle(title, fontsize=8)
    return figure


def _show_maps(
    panels: Sequence[Axes], maps: Mapping[str, NDArray], size: Sequence[int], own: Sequence[str]
) -> AxesImage | None:
    """Show the maps of one image, of ``size`` (H, W); one of those that share a scale."""
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    largest = max((float(v.max()) for k, v in maps.items() if k not in own), default=1.0)
    shared = None
    for axes, (label, values) in zip(panels, maps.items(), strict=True):
        if label in own:
            axes.imshow(values, cmap="viridis", extent=extent)
            axes.set_xlabel(f"{values.min():.3g} to {values.max():.3g}", fontsize=6.5)
        else:
            scaled = values / (largest or 1.0)
            shared = axes.imshow(scaled, cmap="inferno", vmin=0, vmax=1, extent=extent)
        axes.set_title(label, fontsize=7, pad=3)
    return shared


def _show(
    axes: Axes, image: NDArray, like: Sequence[NDArray] = (), rgb: Rgb | None = None
) -> None:
    picture = stretched(image, like, rgb)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _broken(title: str, width: float, *, size: float) -> tuple[str, float]:
    """A title in lines that fit a sheet, and the room for them; inches, and a size in points."""
    letters = int(width / (_LETTER * size * _POINT))
    lines = [part for line in title.split("\n") for part in textwrap.wrap(line, letters)]
    more = max(len(lines) - 2, 0) * _LINE * size * _POINT
    return "\n".join(plain(line) for line in lines), _ROOM + more


def _short(name: str) -> str:
    """A name whose first line, an id, may be long: its end is kept, which tells it from others."""
    id_, *more = name.split("\n")
    id_ = id_ if len(id_) <= _LETTERS else f"...{id_[3 - _LETTERS :]}"
    return "\n".join(plain(line) for line in (id_, *more))
