"""The table of runs as text, as a terminal and a page show it, and what is to be said above it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from deeplense_batch.report.scores import score
from deeplense_batch.report.sentences import score_name
from deeplense_batch.rows import STATES, Row

__all__ = ["missing_runs", "padded", "state_counts", "table_cells"]

_ADVICE = {
    "failed": "submit --retry tries it again",
    "unreadable": "submit --force starts it over",
    "stopped": "submit goes on with it",
    "lost": "submit goes on with it",
}


def state_counts(rows: Sequence[Row]) -> str:
    """Say how many runs are in each state."""
    counts = Counter(row["state"] for row in rows)
    found = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"{len(rows)} run{'s' if len(rows) > 1 else ''}: {found}"


def missing_runs(rows: Sequence[Row]) -> str:
    """Say how many runs are missing from the comparison; empty where none is.

    Runs that make data are not compared, and not missed.
    """
    rows = [row for row in rows if not row.get("simulates")]
    done = sum(row["state"] == "done" for row in rows)
    return f"incomplete: {done} of {len(rows)} runs done" if done < len(rows) else ""


def table_cells(
    rows: Sequence[Row], columns: Sequence[str], heads: Mapping[str, str] | None = None
) -> list[list[str]]:
    """Give a table as text, its head first: the name of the column, or another of `heads`."""
    heads = heads or {}
    head = [heads.get(name, name.replace("_", " ")) for name in columns]
    return [head, *([_cell(row, name) for name in columns] for row in rows)]


def _cell(row: Row, name: str) -> str:
    if name == "epoch":
        return f"{_cell(row, 'epochs')}/{_cell(row, 'planned_epochs')}"
    value = row[name]
    if name in ("valid_auc", "auc") and row.get("monitor", "auc") != "auc":  # it knows none
        more = row.get("more") or {}
        value = row["valid_score"] if name == "valid_auc" else more.get(row["monitor"])
        return "-" if value is None else f"{score_name(row['monitor'])} {score(value)}"
    if name == "reason":
        text = " ".join(str(value or "").split())
        cut = text if len(text) <= 160 else f"{text[:157]}..."
        return "; ".join(filter(None, (cut, _ADVICE.get(row["state"])))) or "-"
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}" if name.endswith("_seconds") else score(value)
    return " ".join(str(Path(value).name if name == "run" else value).split())


def padded(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """Fill up the cells of a table to the widths of its columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [[c.ljust(width) for c, width in zip(line, widths, strict=True)] for line in cells]
