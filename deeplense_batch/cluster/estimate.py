"""What a submission will ask of SLURM, and what it will cost, before anything happens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from deeplense_batch.cluster.site import Profile
from deeplense_batch.cluster.slurm_script import check, grouped
from deeplense_batch.core.job import Job
from deeplense_batch.core.result import read_metrics
from deeplense_batch.core.rundir import RunDir, find_runs
from deeplense_batch.data.shards import open_split
from deeplense_batch.report.run_table import CollectError, read_rows
from deeplense_batch.runs.plan import PlannedRun
from deeplense_batch.runs.validate import Memo

__all__ = ["forecast"]

Workload = tuple[str, int | None, int | None, str]  # model, crop, size, cuda or cpu


def forecast(
    todo: Sequence[PlannedRun], out: Path, profile: Profile, *, bench: Path | str | None = None
) -> str:
    """The arrays that runs will be in, and the hours that they will take, a line each.

    Hours are those of the images a run sees: at the pace of finished runs of the same network on
    the same pixels, or at that which `bench` measured. Where there is neither, they are unknown.

    Arguments:
        todo: Runs, at least one.
        out: Folder of the runs.
        profile: Of the site; its price is told where it has one.
        bench: What ``bench --out`` wrote.

    Raises:
        JobError: A run is none for this site.
        CollectError: `bench` is no such file.
    """
    check(todo, profile)
    seconds = {} if bench is None else _measured(bench)
    memo = Memo()
    past = _past(out)
    known: dict[str, float] = {}
    unknown = 0
    for item in todo:
        gpus = item.job.resources.gpus
        kind = (
            _workload(item.job, "cuda" if gpus else "cpu") if isinstance(item.job, Job) else None
        )
        pace = seconds.get((item.job.label, "cuda" if gpus else "cpu"))
        pace = past.get(kind) if pace is None and kind else pace
        if pace is None or kind is None:
            unknown += 1
            continue
        name = "GPU-hours" if gpus else "CPU-hours"
        hours = pace * _images(item.training, memo) * item.training.train.epochs / 3600
        known[name] = known.get(name, 0.0) + hours
    told = [f"about {hours:.2g} {name} will be used" for name, hours in known.items()]
    if unknown:
        told.append(f"hours of {unknown} run{'s' * (unknown > 1)} unknown: none like it ran here")
    if profile.gpu_hour_price is not None and "GPU-hours" in known:
        cost = known["GPU-hours"] * profile.gpu_hour_price
        told.append(f"at {profile.gpu_hour_price:g} {profile.currency} each, {cost:.2f}")
    return "\n".join([*map(str, grouped(todo, "")), "; ".join(told)])


def _workload(job: Job, device: str) -> Workload:
    return job.model.name, job.data.crop, job.data.size, device


def _images(job: Job, memo: Memo) -> int:
    asked = job.data.root, job.data.train
    return memo.once(asked, lambda: len(open_split(*asked)))


def _past(out: Path) -> dict[Workload, float]:
    """Device-seconds for an image, of finished runs; the median of each kind."""
    paces: dict[Workload, list[float]] = {}
    for row in read_rows(out) if find_runs(out) else ():
        if row["state"] != "done" or not row.get("train_samples"):
            continue
        metrics = read_metrics(RunDir(row["run"]))
        crop, size = (row["recipe"].get(f"data.{name}") for name in ("crop", "size"))
        kind = (row["model"], crop, size, metrics["device"]["type"])
        seen = row["train_samples"] * row["epochs"]
        paces.setdefault(kind, []).append(metrics["cost"]["device_hours"] * 3600 / seen)
    return {kind: median(values) for kind, values in paces.items()}


def _measured(bench: Path | str) -> dict[tuple[str, str], float]:
    """Device-seconds for an image, by model and device."""
    try:
        content: Mapping = json.loads(Path(bench).read_text(encoding="utf-8"))
        device = str(content["device"]["type"])
        return {(str(m["model"]), device): 1 / float(m["images_per_s"]) for m in content["models"]}
    except OSError as error:
        raise CollectError(f"--bench: {bench}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        raise CollectError(f"--bench: {bench}: is not what 'bench --out' wrote") from None
