"""The comparison of runs: a state table for a terminal, and tables, figures and a report on disk.

Every run is a row; only runs tested on the same samples are compared (`compare`); seconds are
compared on one device only.
"""

from __future__ import annotations

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

    from deeplense_batch.compare import Compared
    from deeplense_batch.report.pictures import Picture

__all__ = ["CollectError", "Report", "collect", "incomplete", "status"]

_SCHEMA = 1
_SIGMAS = 1.96  # half a 95% interval


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
    `results.json` (both), `report.md`, and its figures with the numbers to draw them again,
    `figures.json`; each is replaced whole.

    Raises:
        CollectError: There are no runs, or `out` is not a folder.
    """
    from deeplense_batch.compare import compare, name_variants
    from deeplense_batch.report.pictures import write

    rows = read_rows(root)
    name_variants(rows)
    comparisons = compare(rows)
    folder = RunDir(out)  # for its way of replacing a file
    if folder.path.exists() and not folder.path.is_dir():
        raise CollectError(f"{out}: not a folder")
    folder.path.mkdir(parents=True, exist_ok=True)
    pictures = [_pictures(models, number) for number, models in enumerate(comparisons, start=1)]
    drawn = write(folder.path, [picture for some in pictures for picture in some])
    table, models = _tables(rows, comparisons)
    folder.write_text("results.csv", table.convert_dtypes().to_csv(index=False))
    folder.write_text("models.csv", models.convert_dtypes().to_csv(index=False))
    content = {"rows": rows, "models": models.to_dict("records")}
    folder.write_json(
        "results.json", {"schema": _SCHEMA, "complete": not missing_runs(rows)} | content
    )
    names = [[f"{picture.name}.png" for picture in some] for some in pictures]
    folder.write_text("report.md", page(rows, comparisons, names))
    files = ("report.md", "results.csv", "models.csv", "results.json")
    paths = (*(folder.path / name for name in files), *drawn)
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


def _pictures(models: Sequence[Compared], number: int) -> list[Picture]:
    """Say which figures a comparison has."""
    from deeplense_batch.report.compose import compose

    rows = []
    for model in models:
        row = model.row() | {"label": model.label, "valid_score": model.valid_score}
        row["parameters_m"] = model.runs[0]["parameters_m"]
        if row["auc_mean"] is not None and row["auc_error"] is not None:
            row["auc_low"] = row["auc_mean"] - _SIGMAS * row["auc_error"]
            row["auc_high"] = min(row["auc_mean"] + _SIGMAS * row["auc_error"], 1.0)
        rows.append(row)
    interval = "95% interval by the size of the test slice (Hanley and McNeil 1982)"
    comparison = {"number": number, "models": rows, "interval": interval}
    return compose(comparison, [model.runs for model in models])


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
