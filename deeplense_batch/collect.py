"""The comparison of runs: a state table for a terminal, and tables, figures and a report on disk.

Every run is a row; only runs tested on the same samples are compared (`compare`); seconds are
compared on one device only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deeplense_batch.rows import COLUMNS, STATES, CollectError, Row, read_rows
from deeplense_batch.rundir import RunDir

if TYPE_CHECKING:  # they take a second to load, and `status` has no use for them
    import pandas as pd
    from matplotlib.figure import Figure

    from deeplense_batch.compare import Compared

__all__ = ["CollectError", "Report", "collect", "incomplete", "status"]

_SCHEMA = 1
_MODELS = (  # columns of the page
    *("model", "job", "runs", "valid_auc", "auc_mean", "auc_sd", "accuracy_mean", "accuracy_sd"),
    *("train_seconds", "device"),
)
_UNFINISHED = ("job", "run", "state", "epoch", "reason", "log")
_ALL = (
    *("job", "run", "variant", "state", "epoch", "valid_auc", "auc", "accuracy", "train_seconds"),
    "device",
)
_FIGURE = re.compile(r"(auc|accuracy|time|auc_time)(-\d+)?\.png")
_MARKUP = re.compile(r"([\\`*\[\]<>|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_FAIRNESS = """\
Models are ranked by validation AUC. Runs tested on other data (digest) or on another test slice
stand in separate sections and are never ranked together, nor are seconds of different devices.
The sd is over seeds (n - 1)."""


@dataclass(frozen=True)
class Report:
    """What `collect` found and wrote."""

    table: pd.DataFrame  # a row for each run
    models: pd.DataFrame  # a row for each model, over its seeds
    paths: tuple[Path, ...]
    complete: bool  # every run is done
    summary: str


def status(root: Path | str) -> str:
    """Show the state of every run below a folder: an aligned table and a line of counts.

    Raises:
        CollectError: There are no runs.
    """
    rows = read_rows(root)
    cells = _cells(rows, ("job", "run", "state", "epoch", "valid_auc", "updated", "reason"))
    return "\n".join([*("  ".join(line).rstrip() for line in _padded(cells)), _counts(rows)])


def incomplete(root: Path | str) -> bool:
    """Whether any run below a folder is not done.

    Raises:
        CollectError: There are no runs.
    """
    return any(row["state"] != "done" for row in read_rows(root))


def collect(root: Path | str, out: Path | str = "report") -> Report:
    """Compare the runs below a folder.

    Writes `results.csv` (a row for each run), `models.csv` (a row for each model, over its seeds),
    `results.json` (both), `report.md` and its figures; each is replaced whole.

    Raises:
        CollectError: There are no runs, or `out` is not a folder.
    """
    from deeplense_batch import figures
    from deeplense_batch.compare import compare, name_variants

    rows = read_rows(root)
    name_variants(rows)
    comparisons = compare(rows)
    folder = RunDir(out)  # for its way of replacing a file
    if folder.path.exists() and not folder.path.is_dir():
        raise CollectError(f"{out}: not a folder")
    folder.path.mkdir(parents=True, exist_ok=True)
    pictures = [_pictures(models, number) for number, models in enumerate(comparisons, start=1)]
    drawn = {name: figure for some in pictures for name, figure in some.items()}
    for name, figure in drawn.items():
        figures.save(figure, folder.path / name)
    for path in folder.path.glob("*.png"):
        if _FIGURE.fullmatch(path.name) and path.name not in drawn:
            path.unlink()  # of a comparison that is no more
    table, models = _tables(rows, comparisons)
    folder.write_text("results.csv", table.convert_dtypes().to_csv(index=False))
    folder.write_text("models.csv", models.convert_dtypes().to_csv(index=False))
    content = {"rows": rows, "models": models.to_dict("records")}
    folder.write_json(
        "results.json", {"schema": _SCHEMA, "complete": not _missing(rows)} | content
    )
    folder.write_text("report.md", _report(rows, comparisons, pictures))
    names = ("report.md", "results.csv", "models.csv", "results.json", *drawn)
    paths = tuple(folder.path / name for name in names)
    lines = [_missing(rows), _counts(rows), *map(_best, comparisons), f"report: {paths[0]}"]
    return Report(table, models, paths, not _missing(rows), "\n".join(filter(None, lines)))


def _pictures(models: Sequence[Compared], number: int) -> dict[str, Figure]:
    """Draw a comparison, by file name; a figure with nothing to show is left out."""
    from deeplense_batch import figures

    pictures = {}
    aucs = {model.label: model.values("auc") for model in models if model.values("auc")}
    if aucs:
        errors = {model.label: model.row()["auc_error"] or 0.0 for model in models}
        pictures["auc"] = figures.auc_bars(aucs, errors)
    accuracies = {m.label: m.values("accuracy") for m in models if m.values("accuracy")}
    if accuracies:
        pictures["accuracy"] = figures.accuracy_bars(accuracies)
    seconds: dict[str, dict[str, list[float]]] = {}
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for label, run in [(model.label, run) for model in models for run in model.runs]:
        device, spent, auc = (run[name] for name in ("device", "train_seconds", "auc"))
        if spent is not None:
            seconds.setdefault(device, {}).setdefault(label, []).append(spent)
        if spent is not None and auc is not None:
            points.setdefault(device, {}).setdefault(label, []).append((spent, auc))
    if seconds:
        pictures["time"] = figures.time_bars(seconds)
    if points:
        pictures["auc_time"] = figures.auc_against_time(points)
    suffix = f"-{number}" if number > 1 else ""
    return {f"{name}{suffix}.png": figure for name, figure in pictures.items()}


def _report(
    rows: Sequence[Row],
    comparisons: Sequence[Sequence[Compared]],
    pictures: Sequence[Mapping[str, Figure]],
) -> str:
    """Write the page, Markdown."""
    banner = [f"**{_missing(rows)}**"] if _missing(rows) else []
    parts = ["# Comparison of runs", *banner, _counts(rows), _FAIRNESS]
    for models, drawn in zip(comparisons, pictures, strict=True):
        first, sums = models[0].row(), [model.row() | {"model": model.label} for model in models]
        parts += [
            f"## Data {first['data_digest']}, test slice {first['test']}",
            _escaped(_best(models)) + ".",
            _markdown(sums, _MODELS),
        ]
        if first["auc_error"] is not None:
            parts.append(_noise(first))
        parts += [f"![{name}]({name})" for name in drawn]
    unfinished = [row for row in rows if row["state"] != "done"]
    if unfinished:
        parts += ["## Runs that are not done", _markdown(unfinished, _UNFINISHED)]
    return "\n\n".join([*parts, "## All runs", _markdown(rows, _ALL)]) + "\n"


def _tables(
    rows: Sequence[Row], comparisons: Sequence[Sequence[Compared]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    from deeplense_batch.compare import MODEL_COLUMNS

    classes = dict.fromkeys(name for row in rows for name in row if name.startswith("auc_"))
    place = COLUMNS.index("auc") + 1
    table = pd.DataFrame(rows, columns=[*COLUMNS[:place], *classes, *COLUMNS[place:]])
    sums = [model.row() for models in comparisons for model in models]
    return table, pd.DataFrame(sums, columns=MODEL_COLUMNS)


def _counts(rows: Sequence[Row]) -> str:
    counts = Counter(row["state"] for row in rows)
    found = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"{len(rows)} run{'s' if len(rows) > 1 else ''}: {found}"


def _missing(rows: Sequence[Row]) -> str:
    """Say how many runs are missing from the comparison; empty where none is."""
    done = sum(row["state"] == "done" for row in rows)
    return f"incomplete: {done} of {len(rows)} runs done" if done < len(rows) else ""


def _best(models: Sequence[Compared]) -> str:
    row = models[0].row()
    if row["valid_auc"] is None:
        return "No validation AUC to pick a model by"
    error = f" (standard error {row['auc_error']:.4f})" if row["auc_error"] else ""
    return (
        f"Best by validation: {models[0].label}, validation AUC {_cell(row, 'valid_auc')}, "
        f"test AUC {_cell(row, 'auc_mean')}{error} on {row['test_samples']} samples"
    )


def _noise(row: Row) -> str:
    return (
        f"On a test slice of {row['test_samples']} samples the standard error of an AUC like the "
        f"first is about {row['auc_error']:.4f} (Hanley and McNeil 1982, one class against the "
        "rest, classes of one size): smaller differences do not rank models."
    )


def _markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    cells = [[_escaped(cell) for cell in line] for line in _cells(rows, columns)]
    head, *body = [f"| {' | '.join(line)} |" for line in _padded(cells)]
    return "\n".join([head, re.sub(r"[^|]", "-", head), *body])


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)


def _cells(rows: Sequence[Row], columns: Sequence[str]) -> list[list[str]]:
    """A table as text, its head first."""
    head = [name.replace("_", " ") for name in columns]
    return [head, *([_cell(row, name) for name in columns] for row in rows)]


def _cell(row: Row, name: str) -> str:
    if name == "epoch":
        return f"{_cell(row, 'epochs')}/{_cell(row, 'planned_epochs')}"
    value = row[name]
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}" if name.endswith("_seconds") else f"{value:.4f}"
    text = " ".join(str(Path(value).name if name == "run" else value).split())
    return text if name != "reason" or len(text) <= 160 else f"{text[:157]}..."


def _padded(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [[c.ljust(width) for c, width in zip(line, widths, strict=True)] for line in cells]
