"""A run directory as a row of the table, whatever state it is in.

No run is dropped: one whose files are damaged or foreign is a row that says so. Runs may be at
work meanwhile: what is read here was renamed whole.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deeplense_batch.core import yaml_text
from deeplense_batch.core.result import read_metrics
from deeplense_batch.core.rundir import RunDir, RunDirError, find_runs

__all__ = ["COLUMNS", "STATES", "CollectError", "Row", "read_rows", "run_row"]

Row = dict[str, Any]

STATES = ("done", "running", "queued", "planned", "stopped", "failed", "lost", "unreadable")
COLUMNS = (
    *(
        "job",
        "task",
        "learns",
        "model",
        "variant",
        "seed",
        "state",
        "reason",
        "attempts",
        "epochs",
    ),
    *("planned_epochs", "best_epoch", "valid_auc", "auc", "accuracy", "balanced_accuracy", "nll"),
    *("train_seconds", "images_per_s", "device", "reference_hours", "parameters_m", "gflops"),
    *(
        "data_digest",
        "test",
        "test_samples",
        "notes",
        "data_root",
        "commit",
        "updated",
        "run",
        "log",
    ),
)

_KINDS = {
    "job.yaml": "job",
    "status.json": "state",
    "history.jsonl": "history",
    "metrics.json": "result",
}
_UNCOUNTED = ("name", "seed", "data.root", "judge")  # fields that make no variant
_SCORES = r"auc(_.*)?|accuracy|balanced_accuracy|nll"


class CollectError(ValueError):
    """There is nothing to collect, or no place to put it."""

    exit_code = 3


def run_row(run: RunDir) -> Row:
    """Read one run, whatever its state: the columns of `results.csv`, None where unknown.

    A file that is damaged or foreign makes the state ``unreadable``; the reason names it.
    """
    row = _read(run)
    del row["recipe"]
    return row


def read_rows(root: Path | str) -> list[Row]:
    """Read every run below a folder; ``recipe`` of a row holds its job, flat by dotted field.

    Raises:
        CollectError: There is no such folder, or no run in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise CollectError(f"{root}: no such folder")
    rows = [_read(run) for run in find_runs(root)]
    if not rows:
        raise CollectError(f"{root}: no runs here (expected <job>/<run>/job.yaml)")
    return rows


def _read(run: RunDir) -> Row:
    row: Row = dict.fromkeys(COLUMNS) | {"job": run.path.parent.name, "run": str(run.path)}
    row["recipe"] = {}
    if (run.path / "log.txt").exists():
        row["log"] = str(run.path / "log.txt")
    faults = []
    for name, read in _READERS.items():
        if name == "metrics.json" and row["state"] != "done":
            continue  # not yet there, or of an earlier attempt
        try:
            if (run.path / name).exists() and not (run.path / name).is_file():
                raise RunDirError(run.path / name, "is no file")
            row |= read(run)
        except Exception as error:  # a foreign file may hold, and so raise, anything
            faults.append(f"{name}: {_fault(run.path / name, error)}")
    return row | {"state": "unreadable", "reason": "; ".join(faults)} if faults else row


def _fault(path: Path, error: Exception) -> str:
    """Say what is wrong with a file that could not be read, as a person would."""
    if isinstance(error, FileNotFoundError):
        done = ", though the run is said to be done" if path.name == "metrics.json" else ""
        return f"is missing{done}"
    if isinstance(error, RunDirError):
        return error.fault
    if path.is_file() and not path.stat().st_size:
        return "is empty"
    if isinstance(error, yaml_text.YamlError):
        return f"is damaged or cut short ({error})"
    detail = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return f"is damaged or cut short ({detail})"
    return f"is not a {_KINDS[path.name]} this program wrote ({detail})"


def _read_job(run: RunDir) -> Row:
    job = yaml_text.load((run.path / "job.yaml").read_text(encoding="utf-8"))
    if "simulate" in job:
        made = job["simulate"]
        names = {"job": str(job["name"]), "seed": int(job["seed"]), "planned_epochs": 1}
        label = " ".join(filter(None, (made["kind"], made["preset"])))
        return names | {"model": label, "simulates": True, "recipe": dict(_flat(job))}
    if "evaluate" in job:
        section = job["evaluate"]
        names = {"job": str(job["name"]), "planned_epochs": 1, "evaluates": str(section["run"])}
        model, _, seed = re.sub(r"-[0-9a-f]{10}$", "", Path(section["run"]).name).rpartition("-s")
        names |= {"model": model, "seed": int(seed), "test": section["data"]["slice"]}
        return names | {"data_root": str(section["data"]["root"]), "recipe": dict(_flat(job))}
    names = {"job": str(job["name"]), "model": str(job["model"]["name"]), "seed": int(job["seed"])}
    counts = {"planned_epochs": int(job["train"]["epochs"]), "test": str(job["data"]["test"])}
    place = {"data_root": str(job["data"]["root"]), "task": str(job["task"]["name"])}
    return names | counts | place | {"recipe": dict(_flat(job))}


def _read_status(run: RunDir) -> Row:
    status = run.status()
    if status.state not in STATES:
        raise ValueError(f"unknown state {status.state!r}")
    reason = ": ".join(text for text in (status.reason, status.message) if text)
    numbers = {"attempts": int(status.attempt), "epochs": int(status.epoch)}
    element = {"element": status.element} if status.element else {}
    told = {"state": status.state, "reason": reason or None, "updated": status.updated}
    return numbers | told | element


def _read_history(run: RunDir) -> Row:
    """Best validation AUC so far and its epoch, the first of several."""
    epochs = [
        (_number(line["valid"].get("auc")), line) for line in run.read_lines("history.jsonl")
    ]
    scored = [(auc, -int(line["epoch"])) for auc, line in epochs if auc is not None]
    auc, epoch = max(scored, default=(None, 0))
    return {"valid_auc": auc, "best_epoch": -epoch or None}


def _read_metrics(run: RunDir) -> Row:
    metrics = read_metrics(run)
    if "simulate_seconds" in metrics["cost"]:  # it made data, and has no scores
        return {"images_per_s": _number(metrics["cost"]["images_per_s"]), "epochs": 1}
    data, device, cost = metrics["data"], metrics["device"], metrics["cost"]
    scores = {name: _number(value) for name, value in metrics["test"]["scores"].items()}
    row: Row = {name: scores[name] for name in scores if re.fullmatch(_SCORES, name)}
    row["more"] = {n: v for n, v in scores.items() if n not in row and n != "loss"}
    row |= {name: _number(cost[name]) for name in ("train_seconds", "images_per_s")}
    row["device"] = f"{device['name']} x{device['count']}".removesuffix(" x1")
    row |= {"data_digest": str(data["digest"]), "test": str(data["test"])}
    if counts := metrics["test"].get("class_counts"):
        row["class_counts"] = {str(name): int(count) for name, count in counts.items()}
    scored = metrics["test"].get("scored", data["samples"]["test"])
    row |= {"test_samples": int(scored), "epochs": int(cost["epochs"])}
    row |= {name: metrics[name] for name in ("identity", "resolved") if metrics.get(name)}
    row["learns"] = metrics.get("learns")
    row["train_samples"] = int(data["samples"].get("train", 0)) or None
    row["notes"] = [str(note) for note in metrics["test"].get("notes") or ()] or None
    row["commit"] = metrics.get("commit")
    row["parameters_m"] = int(cost["parameters"]) / 1e6
    row["gflops"] = _number(cost.get("gflops"))
    if evaluated := metrics.get("evaluated"):  # its model, and the recipe of that
        row |= {"model": str(metrics["model"]), "task": str(evaluated["task"]), "epochs": 1}
        kept = {n: v for n, v in evaluated["recipe"].items() if _counts(n)}
        row["recipe"] = kept
    row["valid_auc"] = _number(metrics["valid"]["scores"].get("auc"))
    row["monitor"] = str(metrics["valid"].get("monitor", "auc"))
    row["valid_score"] = _number(metrics["valid"]["scores"].get(row["monitor"]))
    return row | {"best_epoch": int(metrics["valid"]["epoch"])}


_READERS = {
    "job.yaml": _read_job,
    "status.json": _read_status,
    "history.jsonl": _read_history,
    "metrics.json": _read_metrics,
}


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif _counts(f"{prefix}{key}"):
            yield f"{prefix}{key}", value


def _counts(field: str) -> bool:
    """Whether a field of a recipe makes a variant."""
    return field not in _UNCOUNTED and not field.startswith(("resources.", "judge."))


def _number(value: Any) -> float | None:
    """The value as a finite number; None where there is none."""
    return float(value) if value is not None and math.isfinite(float(value)) else None
