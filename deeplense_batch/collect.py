"""The comparison of runs: a state table for a terminal, and tables, figures and a report on disk.

Every run is a row; only runs tested on the same samples are compared (`compare`); seconds are
compared on one device only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deeplense_batch.report.markdown import best_model, page
from deeplense_batch.report.tables import missing_runs, padded, state_counts, table_cells
from deeplense_batch.rows import COLUMNS, CollectError, Row, read_rows
from deeplense_batch.rundir import RunDir

if TYPE_CHECKING:  # they take a second to load, and `status` has no use for them
    import pandas as pd
    from matplotlib.figure import Figure

    from deeplense_batch.compare import Compared

__all__ = ["CollectError", "Report", "collect", "incomplete", "status"]

_SCHEMA = 1
_FIGURE = re.compile(r"(auc|accuracy|time|auc_time|auc_labels)(-\d+)?\.png")


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
    cells = table_cells(rows, ("job", "run", "state", "epoch", "valid_auc", "updated", "reason"))
    return "\n".join([*("  ".join(line).rstrip() for line in padded(cells)), state_counts(rows)])


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
        "results.json", {"schema": _SCHEMA, "complete": not missing_runs(rows)} | content
    )
    folder.write_text("report.md", page(rows, comparisons, pictures))
    names = ("report.md", "results.csv", "models.csv", "results.json", *drawn)
    paths = tuple(folder.path / name for name in names)
    lines = [
        missing_runs(rows),
        state_counts(rows),
        *(best_model(models) + _on_which(models, comparisons) for models in comparisons),
        f"report: {paths[0]}",
    ]
    return Report(table, models, paths, not missing_runs(rows), "\n".join(filter(None, lines)))


def _on_which(models: Sequence[Compared], comparisons: Sequence[Sequence[Compared]]) -> str:
    """The data of a comparison, where there are several."""
    first = models[0].runs[0]
    several = len(comparisons) > 1
    return f" ({first['test']} of {Path(first['data_root']).name})" if several else ""


def _pictures(models: Sequence[Compared], number: int) -> dict[str, Figure]:
    """Draw a comparison, by file name; a figure with nothing to show is left out."""
    from deeplense_batch.compare import short_label
    from deeplense_batch.report import charts

    pictures = {}
    named = {short_label(m.label, place): m for place, m in enumerate(models, start=1)}
    aucs = {label: m.values("auc") for label, m in named.items() if m.values("auc")}
    if aucs:
        errors = {label: model.row()["auc_error"] or 0.0 for label, model in named.items()}
        pictures["auc"] = charts.auc_bars(aucs, errors)
    accuracies = {label: m.values("accuracy") for label, m in named.items()}
    accuracies = {label: values for label, values in accuracies.items() if values}
    if accuracies:
        pictures["accuracy"] = charts.accuracy_bars(accuracies)
    seconds: dict[str, dict[str, list[float]]] = {}
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for label, run in [(label, run) for label, model in named.items() for run in model.runs]:
        device, spent, auc = (run[name] for name in ("device", "train_seconds", "auc"))
        if spent is not None:
            seconds.setdefault(device, {}).setdefault(label, []).append(spent)
        if spent is not None and auc is not None:
            points.setdefault(device, {}).setdefault(label, []).append((spent, auc))
    if seconds:
        pictures["time"] = charts.time_bars(seconds)
    if points:
        pictures["auc_time"] = charts.auc_against_time(points)
    shares: dict[str, list[tuple[int, float]]] = {}
    for run in [run for model in models for run in model.runs]:
        if run.get("train_samples") and run["auc"] is not None:
            shares.setdefault(run["model"], []).append((run["train_samples"], run["auc"]))
    if len({images for some in shares.values() for images, _ in some}) > 1:
        pictures["auc_labels"] = charts.auc_against_labels(shares)
    suffix = f"-{number}" if number > 1 else ""
    return {f"{name}{suffix}.png": figure for name, figure in pictures.items()}


def _tables(
    rows: Sequence[Row], comparisons: Sequence[Sequence[Compared]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    from deeplense_batch.compare import MODEL_COLUMNS

    classes = dict.fromkeys(name for row in rows for name in row if name.startswith("auc_"))
    more = dict.fromkeys(name for row in rows for name in row.get("more") or ())
    place, end = COLUMNS.index("auc") + 1, COLUMNS.index("nll") + 1
    plain = [
        row | (row.get("more") or {}) | {"notes": "; ".join(row["notes"] or ()) or None}
        for row in rows
    ]
    names = [*COLUMNS[:place], *classes, *COLUMNS[place:end], *more, *COLUMNS[end:]]
    table = pd.DataFrame(plain, columns=names)
    sums = [model.row() for models in comparisons for model in models]
    place = MODEL_COLUMNS.index("auc_error") + 1
    columns = [*MODEL_COLUMNS[:place], *(f"{name}_mean" for name in classes)]
    return table, pd.DataFrame(sums, columns=[*columns, *MODEL_COLUMNS[place:]])
