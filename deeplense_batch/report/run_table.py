"""A run directory as a row of the table, whatever state it is in.

No run is dropped: one whose files are damaged or foreign is a row that says so. Runs may be at
work meanwhile: what is read here was renamed whole.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeplense_batch.core import yaml_text
from deeplense_batch.core.job import DrawSection
from deeplense_batch.core.result import read_metrics
from deeplense_batch.core.rundir import RunDir, RunDirError, find_runs
from deeplense_batch.core.sections.dotted import flat_fields, joined
from deeplense_batch.core.sections.evaluate import ensemble_label, model_in
from deeplense_batch.core.sections.fold_names import as_given
from deeplense_batch.report.trained_on import name_starts, trained_on

__all__ = [
    "COLUMNS",
    "STATES",
    "CollectError",
    "Row",
    "members_of",
    "read_rows",
    "run_row",
    "score_columns",
    "score_of",
]

Row = dict[str, Any]

STATES = ("done", "running", "queued", "planned", "stopped", "failed", "lost", "unreadable")
COLUMNS = (
    *("job", "task", "learns", "model", "variant", "seed", "state", "reason", "attempts"),
    *("epochs", "planned_epochs", "best_epoch"),
    *("valid_auc", "auc", "accuracy", "balanced_accuracy", "nll"),
    *("train_seconds", "checkpoint_seconds", "other_seconds", "images_per_s"),
    *("device", "reference_hours", "parameters_m", "gflops"),
    *("data_digest", "valid", "test", "test_samples", "notes", "data_root", "commit", "updated"),
    *("run", "log"),
)

_KINDS = {
    "job.yaml": "job",
    "status.json": "state",
    "history.jsonl": "history",
    "metrics.json": "result",
}
# Fields that tell no variant from another; what a run was trained on does (`training`).
_ADAPT = "task.options.adapt"
_SETS = ("data.root", "data.roots", "data.curriculum", "data.simulate")
_NO_VARIANT = ("name", "seed", *_SETS, "judge", _ADAPT)
_NO_VARIANT_SECTIONS = ("resources.", "judge.")
_DRAWN = tuple(f"evaluate.{name}" for name in ("seed", "tta", *DrawSection.model_fields))
_COMMON_SCORES = r"auc(_.*)?|accuracy|balanced_accuracy|nll"  # which are columns of every run


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
    name_starts(rows)
    if not rows:
        raise CollectError(f"{root}: no runs here (expected <job>/<run>/job.yaml)")
    return rows


def score_of(row: Row, name: str) -> float | None:
    """A test score of a run by its name in `metrics.json`; None where it has none."""
    more: Row = row.get("more") or {}
    return row.get(name, more.get(name))


def members_of(row: Row) -> list[Row]:
    """The runs that a row is of: those of all folds of one that is pooled, else the run itself."""
    return row.get("members") or [row]


def score_columns(scores: Mapping[str, Any]) -> Row:
    """Scores by their names in `metrics.json` as a row has them: some as columns, ``more``."""
    row: Row = {name: scores[name] for name in scores if re.fullmatch(_COMMON_SCORES, name)}
    return row | {"more": {n: v for n, v in scores.items() if n not in row and n != "loss"}}


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
            own = {f: v for f, v in row["recipe"].items() if f.startswith(_DRAWN)}
            row |= read(run)
            row["recipe"] = row["recipe"] | own  # that of an evaluated run, and how it was
            if "learnt" in row:
                learnt, digest = row["learnt"], row.get("learnt_digest")
                adapt = row.get("adapts")
                row["training"] = trained_on(learnt, digest, adapt)
                # what all folds together are of
                uncut = trained_on(_uncut(learnt), digest, adapt)
                row |= {"uncut": uncut} if uncut != row["training"] else {}
        except Exception as error:  # a foreign file may hold, and so raise, anything
            faults.append(f"{name}: {_fault(run.path / name, error)}")
    for used in ("learnt", "learnt_digest", "adapts"):
        row.pop(used, None)
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
    row: Row = {"job": str(job["name"]), "seed": int(job["seed"]), "recipe": _settings(job)}
    if "simulate" in job:
        section = job["simulate"]
        label = " ".join(filter(None, (section["kind"], section["preset"])))
        return row | {"model": label, "simulates": True, "planned_epochs": 1}
    if "evaluate" in job:
        section = job["evaluate"]
        runs = [section["run"]] if isinstance(section["run"], str) else section["run"]
        evaluated = " + ".join(Path(run).name for run in runs)
        named = re.fullmatch(r"([^+]+)-s(\d+)-[0-9a-f]{10}", evaluated)  # not one that was renamed
        if section.get("ensemble"):
            evaluated = ensemble_label(model_in(Path(run).name) for run in runs)
        row["recipe"] |= {"evaluate.seed": row["seed"]}
        if judge := section.get("classifier"):
            row["recipe"] |= {"evaluate.classifier": Path(judge).name}
        return row | {
            "model": named[1] if named else evaluated,
            "seed": int(named[2]) if named else None,
            "data_root": str(section["data"]["root"]),
            "test": str(section["data"]["slice"]),
            "planned_epochs": 1,
        }
    return row | {
        "task": str(job["task"]["name"]),
        "model": str(job["model"]["name"]),
        "learnt": job["data"],
        "adapts": joined(dict(flat_fields(job))).get(_ADAPT),
        "data_root": str(job["data"]["root"]),
        "test": str(job["data"]["test"]),
        "planned_epochs": int(job["train"]["epochs"]),
    }


def _read_status(run: RunDir) -> Row:
    status = run.status()
    if status.state not in STATES:
        raise ValueError(f"unknown state {status.state!r}")
    reason = ": ".join(text for text in (status.reason, status.message) if text)
    row: Row = {"state": status.state, "reason": reason or None, "updated": status.updated}
    row |= {"attempts": int(status.attempt), "epochs": int(status.epoch)}
    return row | ({"element": status.element} if status.element else {})


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
    data, cost = metrics["data"], metrics["cost"]
    if "simulate_seconds" in cost:  # it made data, and has no scores
        return {"images_per_s": _number(cost["images_per_s"]), "epochs": 1}
    valid, test = metrics["valid"], metrics["test"]
    scores = {name: _number(value) for name, value in test["scores"].items()}
    row = score_columns(scores)
    if test.get("tta") is not None:
        row["tta"] = bool(test["tta"])
    if counts := test.get("class_counts"):
        row["class_counts"] = {str(name): int(count) for name, count in counts.items()}
    row |= {name: metrics[name] for name in ("identity", "resolved") if metrics.get(name)}
    if evaluated := metrics.get("evaluated"):  # what may tell its model from others is its recipe
        row |= {"model": str(metrics["model"]), "seed": int(metrics["seed"])}
        row |= {"task": str(evaluated["task"]), "trained_in": str(evaluated.get("run") or "")}
        if members := evaluated.get("members"):
            row["ensemble"] = len(members)  # networks whose answers it averages
        row["recipe"] = _settings(evaluated["recipe"])
        learnt = joined(evaluated["recipe"])
        digest = evaluated.get("data_digest")  # which earlier versions did not write
        row["evaluated"] = _evaluated_network(evaluated)
        if training := evaluated.get("training"):  # of an ensemble
            row["training"] = training
        elif "data.root" in learnt:
            row["learnt"] = {f.removeprefix("data."): value for f, value in learnt.items()}
            row["adapts"] = learnt.get(_ADAPT)
        if "data.valid" in learnt:
            row["valid"] = str(learnt["data.valid"])
            if digest != data["digest"]:
                row["valid"] += f" of {Path(learnt['data.root']).name}, {digest or 'unknown'}"
    monitor, device = str(valid.get("monitor", "auc")), metrics["device"]
    return row | {
        "learnt_digest": evaluated.get("data_digest") if evaluated else str(data["digest"]),
        "train_samples": int(data["samples"].get("train", 0)) or None,
        "learns": metrics.get("learns"),
        "monitor": monitor,
        "valid_score": _number(valid["scores"].get(monitor)),
        "valid_auc": _number(valid["scores"].get("auc")),
        "best_epoch": None if valid["epoch"] is None else int(valid["epoch"]),
        "epochs": 1 if evaluated else int(cost["epochs"]),
        "train_seconds": _number(cost["train_seconds"]),
        "checkpoint_seconds": _number(cost.get("checkpoint_seconds")),
        "other_seconds": _other_seconds(cost, device["count"]),
        "images_per_s": _number(cost["images_per_s"]),
        "device": f"{device['name']} x{device['count']}".removesuffix(" x1"),
        "parameters_m": int(cost["parameters"]) / 1e6,
        "gflops": _number(cost.get("gflops")),
        "data_digest": str(data["digest"]),
        "valid": data.get("valid", row.get("valid")),
        "test": str(data["test"]),
        "test_samples": int(test.get("scored", data["samples"]["test"])),
        "notes": [str(note) for note in test.get("notes") or ()] or None,
        "commit": metrics.get("commit"),
    }


def _evaluated_network(evaluated: Mapping[str, Any]) -> Row:
    """Which network an evaluation scored: the job and identity of its training, its own test."""
    members = evaluated.get("members") or ()  # of an ensemble
    identity = evaluated.get("identity") or " ".join(sorted(m["identity"] for m in members))
    recipe = evaluated["recipe"]
    network: Row = {"job": recipe.get("name"), "identity": identity or evaluated.get("run")}
    if drawn := evaluated.get("drawn"):  # how samples were, whose mean was scored
        network["drawn"] = ", ".join(f"{name} {value}" for name, value in sorted(drawn.items()))
    return network | {"digest": evaluated.get("data_digest"), "test": recipe.get("data.test")}


def _other_seconds(cost: Mapping[str, Any], devices: int) -> float | None:
    """Wall time of all attempts outside training and validation: loading, testing, waiting."""
    hours, busy = cost.get("device_hours"), cost.get("evaluate_seconds")
    if hours is None or busy is None:
        return None
    return _number(hours * 3600 / devices - cost["train_seconds"] - busy)


_READERS = {
    "job.yaml": _read_job,
    "status.json": _read_status,
    "history.jsonl": _read_history,
    "metrics.json": _read_metrics,
}


def _settings(job: Mapping[str, Any]) -> dict[str, Any]:
    """What may tell one variant of a model from another, by dotted field."""
    return {
        field: value
        for field, value in joined(as_given(dict(flat_fields(job)))).items()
        if field not in _NO_VARIANT and not field.startswith(_NO_VARIANT_SECTIONS)
    }


def _uncut(data: Mapping[str, Any]) -> dict[str, Any]:
    """Section ``data`` of a recipe, with whole splits where folds of them are trained on."""
    fields = as_given({f"data.{name}": value for name, value in data.items()})
    return {field.removeprefix("data."): value for field, value in fields.items()}


def _number(value: Any) -> float | None:
    """The value as a finite number; None where there is none."""
    return float(value) if value is not None and math.isfinite(float(value)) else None
