"""Scores as columns: which there are, their names, and how many digits; `-` is unknown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplense_batch.report.run_table import STATES, Row

__all__ = [
    "beside_real",
    "interval",
    "missing_runs",
    "number",
    "p_value",
    "padded",
    "score",
    "score_name",
    "score_names",
    "state_counts",
    "table_cells",
    "time_unit",
    "with_real",
]

_ADVICE = {
    "failed": "submit --retry tries it again",
    "unreadable": "submit --force starts it over",
    "stopped": "submit goes on with it",
    "lost": "submit goes on with it",
}
_NAMES = {
    **{"auc": "AUC", "r2": "R2", "snr_db": "SNR (dB)", "fid": "FID", "kid": "KID"},
    **{"fid_inception": "FID by Inception", "useful_auc": "useful AUC"},
}


def score_name(monitor: str) -> str:
    """The name of a score in a sentence."""
    return _NAMES.get(monitor, monitor.replace("_", " "))


def score_names(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the scores that any model has: those whose ``<name>_mean`` is known."""
    names = dict.fromkeys(
        key.removesuffix("_mean")
        for model in models
        for key, value in model.items()
        if key.endswith("_mean") and value is not None
    )
    return list(names)


def with_real(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the scores of generated images that stand beside those of real ones."""
    names = dict.fromkeys(key for model in models for key in model)
    return [name for name in names if f"{name}_real" in names]


def beside_real(model: Mapping[str, Any], name: str) -> str:
    """Write a score of generated images and, in brackets, of real ones: ``10.5 (1.6)``."""
    value, real = model.get(name), model.get(f"{name}_real")
    if value is None:
        return "-"
    return f"{value:.3g} ({'-' if real is None else f'{real:.3g}'})"


def number(value: float | None, digits: int = 4, *, signed: bool = False) -> str:
    """Write a number with some digits behind the point, and a true minus sign."""
    if value is None:
        return "-"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")  # noqa: RUF001


def score(value: float) -> str:
    """Write any score: with four digits, or with an exponent where all of them would be zero."""
    return f"{value:.1e}" if value and abs(value) < 5e-5 else f"{value:.4f}"


def interval(
    mean: float | None, low: float | None, high: float | None, *, signed: bool = False
) -> str:
    """Write a score and its interval: ``0.9875 [0.985, 0.990]``.

    The bounds get three digits, more where they would look alike; those of a signed number, a
    difference, four, since its sign is what is looked at.
    """
    if mean is None or low is None or high is None:
        return number(mean, signed=signed)
    digits = 4 if signed else 3
    if high > low:
        digits = max(digits, min(6, math.ceil(-math.log10(high - low))))
    bounds = ", ".join(number(bound, digits, signed=signed) for bound in (low, high))
    return f"{number(mean, max(4, digits), signed=signed)} [{bounds}]"


def p_value(p: float | None) -> str:
    """Write a p-value with three digits; one below them as ``<0.001``."""
    return "<0.001" if p is not None and p < 0.0005 else number(p, 3)


def time_unit(seconds: Sequence[float]) -> tuple[str, float]:
    """The unit in which times read best side by side, and its seconds."""
    longest = max(seconds)
    return ("s", 1.0) if longest < 120 else ("min", 60.0) if longest < 7200 else ("h", 3600.0)


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


def padded(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """Fill up the cells of a table to the widths of its columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [[c.ljust(width) for c, width in zip(line, widths, strict=True)] for line in cells]


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
