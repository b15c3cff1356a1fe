"""What a submission will ask of SLURM, and what it will cost, before anything happens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from deeplense_batch.cluster.site import Profile
from deeplense_batch.cluster.slurm_script import Array, check, grouped
from deeplense_batch.core.job import Job
from deeplense_batch.core.result import read_metrics
from deeplense_batch.core.rundir import RunDir, find_runs
from deeplense_batch.data.shards import open_split
from deeplense_batch.report.run_table import CollectError, read_rows
from deeplense_batch.runs.planning.plan import PlannedRun
from deeplense_batch.runs.planning.validate import Memo

__all__ = ["forecast"]

Workload = tuple[str, int | None, int | None, str]  # model, crop, size, cuda or cpu


def forecast(
    todo: Sequence[PlannedRun],
    out: Path,
    profile: Profile,
    *,
    device: str | None = None,
    bench: Path | str | None = None,
) -> str:
    """The arrays that runs will be in, a line each, and a line of the hours that they will take.

    Hours are those of the images a run sees, at the speed that `bench` measured, or at that of
    finished runs of the same network on images of the same size. Without either they are unknown.

    Arguments:
        todo: Runs, at least one.
        out: Folder of the runs.
        profile: Of the site; a price is given where the profile has one.
        device: ``cpu`` or ``cuda``, in place of what the jobs ask for.
        bench: What ``bench --out`` wrote.

    Raises:
        JobError: A run cannot be in an array on this site.
        CollectError: `bench` is no such file.
    """
    check(todo, profile)
    arrays = grouped(todo, "", device)
    hours, unknown = _hours(arrays, out, bench)
    parts = [f"about {value:.2g} {unit} will be used" for unit, value in hours.items()]
    if unknown:
        parts.append(f"hours of {unknown} run{'s' * (unknown > 1)} unknown: none like it ran here")
    if profile.gpu_hour_price is not None and "GPU-hours" in hours:
        cost = hours["GPU-hours"] * profile.gpu_hour_price
        parts.append(f"at {profile.gpu_hour_price:g} {profile.currency} each, {cost:.2f}")
    return "\n".join([*map(str, arrays), "; ".join(parts)])


def _hours(
    arrays: Sequence[Array], out: Path, bench: Path | str | None
) -> tuple[dict[str, float], int]:
    """Hours by their unit, of GPUs or of CPUs, and for how many runs they are unknown."""
    measured = {} if bench is None else _measured(bench)
    past = _past(out)
    memo = Memo()
    hours: dict[str, float] = {}
    unknown = 0
    for job, needed in [(item.job, array.needed) for array in arrays for item in array.runs]:
        device, unit = ("cuda", "GPU-hours") if needed.gpus else ("cpu", "CPU-hours")
        seconds = None  # of the device, for an image
        if isinstance(job, Job):
            seconds = measured.get((job.label, device), past.get(_workload(job, device)))
        if seconds is None or not isinstance(job, Job):
            unknown += 1
            continue
        hours[unit] = hours.get(unit, 0.0) + seconds * _images(job, memo) / 3600
    return hours, unknown


def _workload(job: Job, device: str) -> Workload:
    return job.model.name, job.data.crop, job.data.size, device


def _images(job: Job, memo: Memo) -> int:
    """How many images all epochs have; where a network adapts, as many of the target."""
    sets = [(each.root, each.train) for each in job.data.roots]
    left = job.train.epochs - sum(each.epochs for each in job.data.curriculum)
    passes = [(each, left) for each in sets or [(job.data.root, job.data.train)]]
    if (new := job.data.simulate) is not None:
        passes = []
    passes += [((each.root, each.train), each.epochs) for each in job.data.curriculum]
    images = sum(memo.once(each, partial(_samples, *each)) * epochs for each, epochs in passes)
    images += 0 if new is None else new.images * left
    return images if job.task.adaptation is None else 2 * images


def _samples(root: str, slice_: str) -> int:
    return len(open_split(root, slice_))


def _past(out: Path) -> dict[Workload, float]:
    """Device-seconds for an image, of finished runs; the median of each workload."""
    seconds: dict[Workload, list[float]] = {}
    for row in read_rows(out) if find_runs(out) else ():
        if row["state"] != "done" or not row.get("train_samples"):
            continue
        metrics = read_metrics(RunDir(row["run"]))
        crop, size = (row["recipe"].get(f"data.{name}") for name in ("crop", "size"))
        workload = (row["model"], crop, size, metrics["device"]["type"])
        images = row["train_samples"] * row["epochs"]
        images *= 2 if "adapted" in (row.get("training") or {}) else 1
        total = metrics["cost"]["device_hours"] * 3600
        seconds.setdefault(workload, []).append(total / images)
    return {workload: median(values) for workload, values in seconds.items()}


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
