"""Figures of a comparison as data: what draws each, from which numbers, and what it shows.

`figures.json` beside the figures holds it all, so that every one can be drawn again, or by other
means, from saved numbers alone::

    {"schema": 1, "figures": [{"name", "function", "arguments", "caption"}]}

``function`` names one of `FUNCTIONS`, and ``arguments`` are its keywords.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from deeplense_batch.core.rundir import RunDir, RunDirError
from deeplense_batch.core.scoring import figures
from deeplense_batch.report.plots import charts, costs, hardest, heat_map, lines, selection
from deeplense_batch.report.run_table import CollectError

__all__ = ["FUNCTIONS", "Picture", "draw", "redraw", "write"]

FUNCTIONS: dict[str, Callable[..., Figure]] = {
    "auc_against_cost": costs.auc_against_cost,
    "gain_against_labels": lines.gain_against_labels,
    "auc_against_labels": lines.auc_against_labels,
    "auc_against_time": costs.auc_against_time,
    "beside_real": charts.beside_real,
    "by_quantity": selection.by_quantity,
    "differences": charts.differences,
    "ensembles": charts.ensembles,
    "hardest": hardest.sheet,
    "heat_map": heat_map.heat_map,
    "precision_recall": lines.precision_recall,
    "roc_low_fpr": lines.roc_low_fpr,
    "score_dots": charts.score_dots,
    "time_bars": charts.time_bars,
}

_FILE = "figures.json"
_SCHEMA = 1
_NAME = re.compile(r"[a-z0-9_]+(-[1-9]\d*)?")
_WRITTEN = ("png", "svg")


@dataclass(frozen=True)
class Picture:
    """One figure, not yet drawn."""

    name: str  # of its files, without the suffix
    function: str  # of `FUNCTIONS`
    arguments: Mapping[str, Any]  # JSON
    caption: str  # one sentence


def draw(picture: Picture) -> Figure:
    """Draw a figure."""
    return FUNCTIONS[picture.function](**picture.arguments)


def write(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    """Draw figures into a folder, each as PNG and SVG, with the numbers to draw them again.

    Figures of an earlier report that are no longer written are removed: they show old numbers.

    Returns:
        The files, `figures.json` first.
    """
    try:
        before = _read(folder)
    except (CollectError, OSError):
        before = []  # none, or not ours to remove
    drawn = [path for one in pictures for path in _save(draw(one), folder / one.name, _WRITTEN)]
    for path in [folder / f"{old.name}.{kind}" for old in before for kind in figures.FORMATS]:
        if path not in drawn:
            path.unlink(missing_ok=True)
    content = {"schema": _SCHEMA, "figures": [asdict(picture) for picture in pictures]}
    RunDir(folder).write_json(_FILE, content)
    return [folder / _FILE, *drawn]


def redraw(folder: Path | str, formats: Sequence[str] = _WRITTEN) -> list[Path]:
    """Draw all figures of a folder again, from the numbers of its `figures.json`.

    Arguments:
        folder: Of a report.
        formats: Of `figures.FORMATS`.

    Returns:
        The files.

    Raises:
        CollectError: The file is not there, damaged or foreign, or a format is unknown; or images
            that a figure shows are not at hand.
    """
    for kind in formats:
        if kind not in figures.FORMATS:
            raise CollectError(f"{kind}: no format of figures; {', '.join(figures.FORMATS)} are")
    try:
        pictures = _read(Path(folder))
    except OSError as error:
        raise CollectError(f"{Path(folder) / _FILE}: cannot be read ({error.strerror})") from error
    paths = []
    for picture in pictures:
        try:
            figure = draw(picture)
        except CollectError:
            raise
        except Exception as error:  # a foreign file may hold, and so raise, anything
            raise CollectError(
                f"{Path(folder) / _FILE}: the numbers of figure '{picture.name}' cannot be drawn "
                f"({type(error).__name__}: {error})"
            ) from error
        paths += _save(figure, Path(folder) / picture.name, formats)
    return paths


def _save(figure: Figure, path: Path, formats: Sequence[str]) -> list[Path]:
    """Write a figure in several formats: `path` with the suffix of each."""
    figures.fix_layout(figure)
    paths = [path.with_name(f"{path.name}.{kind}") for kind in formats]
    for one in paths:
        figures.save(figure, one)
    return paths


def _read(folder: Path) -> list[Picture]:
    """Read the figures that a folder has."""
    path = folder / _FILE
    try:
        content = RunDir(folder).read_json(_FILE)
        if content["schema"] != _SCHEMA:
            raise ValueError(f"schema {content['schema']!r}, expected {_SCHEMA}")
        pictures = [Picture(**figure) for figure in content["figures"]]
        for picture in pictures:
            if not _NAME.fullmatch(picture.name) or picture.function not in FUNCTIONS:
                raise ValueError(f"no such figure: {picture.name!r} by {picture.function!r}")
    except RunDirError as error:
        raise CollectError(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise CollectError(
            f"{path}: does not hold figures of this program ({type(error).__name__}: {error})"
        ) from error
    return pictures
