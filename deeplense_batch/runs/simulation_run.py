"""One part of a simulation, start to end, as a run: its directory says how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from deeplense_batch.core import provenance
from deeplense_batch.core.job import Simulation
from deeplense_batch.core.result import Metrics, write_metrics
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.runs.lifecycle import attempted, heart
from deeplense_batch.runs.planning.plan import PlannedRun
from deeplense_batch.simulation.simulate import simulate

__all__ = ["simulate_part"]


def simulate_part(planned: PlannedRun, *, device: str | None = None, force: bool = False) -> None:
    """Make one part of a simulated set; go on with it if it was cut off.

    Arguments:
        planned: The job and its directory.
        device: ``cpu`` or ``cuda``, in place of what the job asks for.
        force: Put aside the directory of the run; shards are never written over.

    Raises:
        RunBusyError: Another process is at work on it.
        ShardError: Another set is in the way.
        DeviceError: A GPU was asked for and there is none.
        StoppedError: A signal came; the shards that are complete are kept.
    """
    job = planned.job
    assert isinstance(job, Simulation)
    directory = planned.create(force=force)
    if directory.status().state == "done" and not planned.gone:
        return
    gpus = job.resources.gpus
    with attempted(directory, gpus=gpus, device=device, epochs=1, again=planned.gone) as begun:
        world, interrupt = begun
        beat = heart(directory)
        torch.set_num_threads(1)  # batches fit a core's cache; two threads are slower

        def on_batch() -> None:
            beat(0)
            interrupt.check()

        write_metrics(directory, _simulate(job, directory, world.device.type, on_batch))
        beat(1)


def _simulate(
    job: Simulation, directory: RunDir, device: str, on_batch: Callable[[], None]
) -> Metrics:
    """Make the images; returns what ``metrics.json`` says of them."""
    started = time.perf_counter()
    section = job.simulate
    on_gpu = {} if device == "cpu" else {"device": device}
    report = simulate(
        section.kind, section.out, images=section.images, seed=job.seed,
        shard_size=section.shard_size, part=job.part, parts=job.parts, on_batch=on_batch,
        **section.options, **on_gpu,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    complete = "the set is complete" if report.digest else "other parts are missing yet"
    rate = report.made / seconds  # of this attempt, whatever earlier ones have made
    return {
        "job": job.name,
        "run": directory.path.name,
        "made": report.part,
        "data": {"digest": report.digest},
        "cost": {"simulate_seconds": seconds, "images_per_s": rate},
        "summary": f"{report.part} images, {rate:.0f}/s, {complete}",
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }
