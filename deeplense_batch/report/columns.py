"""The tables of a report: which columns there are, and how a number is written in one.

A score keeps its name from `metrics.json` to a cell: ``test.scores.r2`` of a run is ``r2`` in its
row, ``r2_mean`` (``_sd``, ``_low``, ``_high``) of its model, and the column ``r2``. The pages in
HTML, Markdown and LaTeX render one list of columns (`model_columns`). A `-` is unknown.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeplense_batch.core.result import OF_A_BASELINE
from deeplense_batch.report.run_table import STATES, Row, score_of

__all__ = [
    "Cell",
    "Column",
    "missing_runs",
    "model_columns",
    "number",
    "p_value",
    "padded",
    "score_name",
    "score_names",
    "score_text",
    "state_counts",
    "table_cells",
    "time_unit",
    "verdict",
    "with_interval",
]

Model = Mapping[str, Any]  # one of the `models` of a comparison in `results.json`

_RUN_HEADS = {"valid_auc": "valid AUC", "auc": "test AUC", "train_seconds": "training, s"}
_ADVICE = {
    "failed": "submit --retry tries it again",
    "unreadable": "submit --force starts it over",
    "stopped": "submit goes on with it",
    "lost": "submit goes on with it",
}
_NAMES = {
    **{"auc": "AUC", "r2": "R2", "snr_db": "SNR (dB)", "fid": "FID", "kid": "KID", "ece": "ECE"},
    **{"ece_calibrated": "ECE, calibrated", "fid_inception": "FID by Inception"},
    **{"ece_floor": "ECE floor", "ece_calibrated_floor": "ECE floor, calibrated"},
    **{"nll": "NLL", "nll_calibrated": "NLL, calibrated", "tpr0": "TPR0", "tpr10": "TPR10"},
    **{f"recall_fpr_1e-{n}": f"recall at FPR 1e-{n}" for n in (2, 3, 4)},
    **{"useful_auc": "useful AUC", "log_prob": "log probability", "tarp_error": "TARP error"},
    "coverage_error_floor": "coverage error floor",
    **{"psnr": "PSNR (dB)", "ssim": "SSIM", "mse": "MSE", "gain": "gain over fitted bicubic (dB)"},
}
_OF_NUMBERS = {  # beginnings of scores of one of several numbers, whose name follows
    **{"r2_": "R2 of", "rmse_": "RMSE of", "mae_": "MAE of", "bias_": "bias of"},
    **{"crps_": "CRPS of", "coverage68_": "share within 68 % of"},
    **{"coverage95_": "share within 95 % of", "coverage_error_": "coverage error of"},
    **{"pull_mean_": "mean pull of", "pull_sd_": "sd of pulls of"},
}
_TINY, _SMALL = 5e-5, 1e-3  # of which four digits are zero, or three
_SEEN_FIRST = ("average_precision", "completeness", "purity", "mae")  # of those of one task
_SEEN_OF_NUMBERS = ("r2_", "rmse_", "crps_", "coverage68_", "tarp_error")
_BOUNDS = ("_low", "_high", "_real")  # parts of the score without that end
_MORE_IS_BETTER = ("accuracy", "auc", "diversity", "precision", "recall")  # ends of names


class Cell(NamedTuple):
    """What one model has in a column."""

    text: str
    value: float | None = None  # what it is sorted by, where that is a number
    group: str | None = None  # sorted by before: seconds of two devices do not compare


class Column(NamedTuple):
    """One number of every model."""

    name: str  # of the score or the cost, as in `results.json`
    head: str
    cells: Sequence[Cell]
    first: str = "descending"  # how the first click on its head sorts; or ascending
    unit: str = ""
    is_text: bool = False
    extra: bool = False  # few read it: a page shows it when asked

    @property
    def title(self) -> str:
        """The head, with the unit."""
        return f"{self.head}, {self.unit}" if self.unit else self.head

    @property
    def known(self) -> bool:
        """Whether any model has a value in it."""
        return any(cell.text != "-" for cell in self.cells)


def model_columns(comparison: Mapping[str, Any]) -> list[Column]:
    """The columns of a comparison's models, left to right; what no model knows is left out.

    Arguments:
        comparison: One of `results.json`.
    """
    models, classes = comparison["models"], comparison["classes"]
    monitor = comparison["score"]
    ordinary = {"auc", "accuracy", *(f"auc_{name}" for name in classes)}
    own = [name for name in score_names(models) if name not in ordinary]
    valid_auc = [] if monitor == "auc" else [_plain("valid_auc", "valid AUC", models)]
    columns = [
        _aside(_text("job", "job", [model.get("job") for model in models])),
        _plain("valid_score", f"valid {score_name(monitor)}", models),
        *valid_auc,
        *_score("auc", "test AUC", models),
        *_differences(models),
        *_score("accuracy", "accuracy", models),
        *(column for name in own for column in _score(name, score_name(name), models)),
        *_of_task([n for n in comparison["more"] if n not in own and not _is_apart(n)], models),
        *_generated(models),
        *_costs(models),
        *(
            _aside(_plain(f"auc_{name}", f"AUC {name}", models, key=f"auc_{name}_mean"))
            for name in classes
        ),
    ]
    return [column for column in columns if column.known]


def _is_apart(name: str) -> bool:
    """Whether a score is in a table of its own: of interpolation, or of what a classifier sees."""
    return name.startswith("seen_") or bool(OF_A_BASELINE.search(name))


def _score(name: str, head: str, models: Sequence[Model]) -> list[Column]:
    """A score with its interval, and its sd over the seeds."""
    cells = []
    for model in models:
        mean, low, high = (model.get(f"{name}_{part}") for part in ("mean", "low", "high"))
        by_size = name == "auc" and model.get("interval") == "Hanley-McNeil"
        cells.append(Cell(with_interval(mean, low, high) + "*" * by_size, mean))
    sd = f"{head.removeprefix('test ')} sd"
    return [Column(name, head, cells), _aside(_plain(f"{name}_sd", sd, models, "ascending"))]


def _differences(models: Sequence[Model]) -> list[Column]:
    """How far every model is from the best, and whether that is more than noise."""
    bounds = ("difference", "difference_low", "difference_high")
    differences = [with_interval(*map(model.get, bounds), signed=True) for model in models]
    verdicts = [Cell(verdict(model), model.get("p_value")) for model in models]
    seeds = [*map(_seeds, models)]
    return [
        _column("difference", "difference to the best", differences, models),
        Column("verdict", "verdict", verdicts, "ascending"),
        _aside(_plain("visible", "least difference seen", models, "ascending")),
        _aside(_column("seeds_needed", "seeds to resolve it", seeds, models, "ascending")),
    ]


def _seeds(model: Model) -> str:
    """The seeds of each that would resolve such a difference; unknown if each model has one."""
    if model.get("seeds_needed") is not None:
        return str(model["seeds_needed"])
    too_many = model.get("seed_sd") is not None and model.get("resolved") is False
    return "over 1,000" if too_many else "-"


def verdict(model: Model) -> str:
    """Whether a model differs from the best by more than noise, in a few words."""
    if model.get("resolved") is None:
        return "-"
    word = "lower" if model["difference"] < 0 else "higher"
    said = word if model["resolved"] else "not resolved"
    p = p_value(model["p_value"])
    return f"{said}, p {p}"


def _of_task(names: Sequence[str], models: Sequence[Model]) -> list[Column]:
    """Scores that only the task has, with an interval where it is known."""
    columns = []
    for name in names:
        if name.endswith(_BOUNDS) or f"{name}_real" in names:
            continue
        texts = [
            score_text(value)
            if not (value := model.get(name)) or abs(value) < _TINY or f"{name}_low" not in model
            else with_interval(*(model.get(f"{name}{part}") for part in ("", "_low", "_high")))
            for model in models
        ]
        column = _column(name, score_name(name), texts, models)
        seen = name in _SEEN_FIRST or name.startswith(_SEEN_OF_NUMBERS)
        columns.append(column if seen else _aside(column))
    return columns


def _generated(models: Sequence[Model]) -> list[Column]:
    """Scores of generated images and, in brackets, of real ones: ``10.5 (1.6)``."""
    names = dict.fromkeys(key for model in models for key in model)
    columns = []
    for name in names:
        if (real := f"{name}_real") not in names:
            continue
        texts = [
            "-" if model.get(name) is None else f"{model[name]:.3g} ({_short(model.get(real))})"
            for model in models
        ]
        first = "descending" if name.endswith(_MORE_IS_BETTER) else "ascending"
        columns.append(_column(name, f"{score_name(name)} (real)", texts, models, first))
    return columns


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _costs(models: Sequence[Model]) -> list[Column]:
    """Seconds of training, in the unit that suits them, with their device; and what has none."""
    known = [m["train_seconds"] for m in models if m["train_seconds"] is not None]
    unit, length = time_unit(max(known, default=0.0))
    times = [
        Cell("-")
        if (seconds := model["train_seconds"]) is None
        else Cell(number(seconds / length, 1), seconds, model["device"])
        for model in models
    ]
    device = _text("device", "device", [model["device"] for model in models])
    hours = "reference GPU\N{NON-BREAKING HYPHEN}hours"
    return [
        Column("train_seconds", "training", times, "ascending", unit),
        device if len({model["device"] for model in models}) > 1 else _aside(device),
        _plain("reference_hours", hours, models, "ascending", digits=3),
        _plain("parameters_m", "parameters", models, "ascending", digits=1, unit="M", small=True),
        _aside(_plain("gflops", "GFLOPs", models, "ascending", digits=2, small=True)),
    ]


def _plain(
    name: str, head: str, models: Sequence[Model], first: str = "descending",
    *, key: str | None = None, digits: int = 4, unit: str = "", small: bool = False,
) -> Column:  # fmt: skip
    """A number without an interval; `small` ones get two digits that count, if they had one."""
    values, least = [model.get(key or name) for model in models], 10 ** (1 - digits) * small
    texts = [f"{v:.2g}" if v and 0 < v < least else number(v, digits) for v in values]
    return Column(name, head, [*map(Cell, texts, values)], first, unit)


def _column(
    name: str, head: str, texts: Sequence[str], models: Sequence[Model], first: str = "descending"
) -> Column:
    """Numbers that are already written."""
    cells = [Cell(text, model.get(name)) for text, model in zip(texts, models, strict=True)]
    return Column(name, head, cells, first)


def _aside(column: Column) -> Column:
    return column._replace(extra=True)


def _text(name: str, head: str, texts: Sequence[str | None]) -> Column:
    return Column(name, head, [Cell(text or "-") for text in texts], "ascending", is_text=True)


def score_name(name: str) -> str:
    """What a score is called in a sentence."""
    if name in _NAMES:
        return _NAMES[name]
    for start, said in _OF_NUMBERS.items():
        if name.startswith(start):
            return f"{said} {name.removeprefix(start)}"
    return name.replace("_", " ")


def score_names(models: Sequence[Model]) -> list[str]:
    """Names of the scores that any model has: those whose ``<name>_mean`` is known."""
    names = dict.fromkeys(
        key.removesuffix("_mean")
        for model in models
        for key, value in model.items()
        if key.endswith("_mean") and value is not None
    )
    return list(names)


def number(value: float | None, digits: int = 4, *, signed: bool = False) -> str:
    """Write a number with some digits behind the point, and a true minus sign."""
    if value is None:
        return "-"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")  # noqa: RUF001


def score_text(value: float | None) -> str:
    """Write any score: with four digits, small ones with three or two that count."""
    if not value or abs(value) >= _SMALL:
        return number(value)
    return f"{value:.{'1e' if abs(value) < _TINY else '3g'}}".replace("-", "−", value < 0)  # noqa: RUF001


def with_interval(
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
    """Write a p-value with three digits; one below them as ``<0.001``, one below 0.05 below it."""
    if p is not None and p < 0.0005:
        return "<0.001"
    return number(p, 4 if p is not None and 0.0495 <= p < 0.05 else 3)


def time_unit(longest: float) -> tuple[str, float]:
    """The unit in which times read best side by side, by the longest in seconds; its seconds."""
    return ("s", 1.0) if longest < 120 else ("min", 60.0) if longest < 7200 else ("h", 3600.0)


def state_counts(rows: Sequence[Row]) -> str:
    """Say how many runs are in each state."""
    counts = Counter(row["state"] for row in rows)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"{len(rows)} run{'s' if len(rows) > 1 else ''}: {states}"


def missing_runs(rows: Sequence[Row]) -> str:
    """Say how many runs are missing from the comparison; empty where none is.

    Runs that make data are not compared, and not missed.
    """
    rows = [row for row in rows if not row.get("simulates")]
    done = sum(row["state"] == "done" for row in rows)
    return f"incomplete: {done} of {len(rows)} runs done" if done < len(rows) else ""


def table_cells(rows: Sequence[Row], columns: Sequence[str]) -> list[list[str]]:
    """Write columns of the table of runs (`run_table.COLUMNS`, and ``epoch``), the head first."""
    head = [_RUN_HEADS.get(name, name.replace("_", " ")) for name in columns]
    told = [row | {"variant": v} for row, v in zip(rows, _variants(rows), strict=True)]
    return [head, *([_run_cell(row, name) for name in columns] for row in told)]


def _variants(rows: Sequence[Row]) -> list[str | None]:
    """What tells runs from their sisters in a table of all, where no heading names the data.

    Of an evaluation that is also what it was scored on; and what runs were trained on where those
    that are alike otherwise were trained on different data.
    """
    own = [re.sub(r"(^|, )trained on .*", "", row["variant"] or "") for row in rows]
    alike = [(row["job"], row["model"], name) for row, name in zip(rows, own, strict=True)]
    names = [(row.get("training") or {}).get("name") for row in rows]
    trained: dict[tuple[str, ...], set[str]] = {}
    for key, name in zip(alike, names, strict=True):
        if name:
            trained.setdefault(key, set()).add(name)
    variants: list[str | None] = []
    for row, key, name in zip(rows, alike, names, strict=True):
        said = [row["variant"]] if row["variant"] else []
        if name and len(trained[key]) > 1 and key[-1] == (row["variant"] or ""):
            said.append(f"trained on {name}")
        if row.get("evaluated") and row["data_root"]:
            said.append(f"scored on {row['test']} of {Path(row['data_root']).name}")
        variants.append(", ".join(said) or None)
    return variants


def padded(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """Fill up the cells of a table to the widths of its columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [[c.ljust(width) for c, width in zip(line, widths, strict=True)] for line in lines]


def _run_cell(row: Row, name: str) -> str:
    if name == "epoch":
        return f"{_run_cell(row, 'epochs')}/{_run_cell(row, 'planned_epochs')}"
    value, monitor = row[name], row.get("monitor", "auc")
    if name in ("valid_auc", "auc") and monitor != "auc":  # its task has none: its own score
        value = row["valid_score"] if name == "valid_auc" else score_of(row, monitor)
        return "-" if value is None else f"{score_name(monitor)} {score_text(value)}"
    if name == "reason":
        text = " ".join(str(value or "").split())
        cut = text if len(text) <= 160 else f"{text[:157]}..."
        return "; ".join(filter(None, (cut, _ADVICE.get(row["state"])))) or "-"
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}" if name.endswith("_seconds") else score_text(value)
    return " ".join(str(Path(value).name if name == "run" else value).split())
