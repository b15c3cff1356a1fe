"""One part of a simulation, start to end, as a run: its directory tells what became of it."""

from __future__ import annotations

import contextlib
import logging
import time

import torch

from deeplense_batch.core import provenance
from deeplense_batch.core.job import Simulation
from deeplense_batch.core.processes import signals
from deeplense_batch.core.result import Metrics, write_metrics
from deeplense_batch.data.shards import ShardError
from deeplense_batch.runs.lifecycle import attempt, heart, logging_to
from deeplense_batch.runs.plan import PlannedRun, put_aside
from deeplense_batch.simulation.simulate import simulate

__all__ = ["simulate_part"]

_log = logging.getLogger(__name__)


def simulate_part(planned: PlannedRun, *, force: bool = False) -> None:
    """Make one part of a simulated set; go on with it if it was cut off.

    Arguments:
        planned: The job and its directory.
        force: Put aside the directory of the run; shards are never written over.

    Raises:
        RunBusyError: Another process is at work on it.
        ShardError: Another set is in the way.
        StoppedError: A signal came; the shards that are complete are kept.
    """
    job = planned.job
    assert isinstance(job, Simulation)
    if force and planned.run.path.exists():
        with planned.run.claim():
            put_aside(planned.run)
    directory = planned.create()
    if directory.status().state == "done" and not planned.gone:
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(directory.claim())
        directory.check()
        stack.enter_context(logging_to(directory))
        reasons = ((ShardError, "data"), (OSError, "environment"))
        stack.enter_context(attempt(directory, epochs=1, reasons=reasons))
        interrupt = stack.enter_context(signals())
        beat = heart(directory)
        torch.set_num_threads(1)  # batches fit a core's cache; two threads are slower
        started = time.perf_counter()

        def look() -> None:
            beat(0)
            interrupt.check()

        section = job.simulate
        on_gpu = {"device": "cuda"} if job.resources.gpus else {}
        report = simulate(
            section.kind, section.out, images=section.images, seed=job.seed,
            shard_size=section.shard_size, part=job.part, parts=job.parts, on_batch=look,
            **section.options, **on_gpu,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        complete = "the set is complete" if report.digest else "other parts are missing yet"
        rate = report.made / seconds
        metrics: Metrics = {
            "job": job.name,
            "run": directory.path.name,
            "made": report.made,
            "data": {"digest": report.digest},
            "cost": {"simulate_seconds": seconds, "images_per_s": rate},
            "summary": f"{report.made} images, {rate:.0f}/s, {complete}",
            "versions": provenance.versions(),
            "commit": provenance.commit(),
        }
        write_metrics(directory, metrics)
        beat(1)
