"""An evaluation: a finished run scored on labelled images, or its drawn images measured.

It writes what a training writes: `metrics.json`, `outputs.npz` and figures; of a run that
generates also ``samples/``, the images drawn, and ``judged.npz``, the arrays behind the figures.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deeplense_batch.core import provenance
from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import DrawSection, Evaluation
from deeplense_batch.core.machine import cores
from deeplense_batch.core.processes import Interrupt
from deeplense_batch.core.recipe import flat_fields
from deeplense_batch.core.result import (
    Cost,
    Metrics,
    Tested,
    note_scored,
    read_scores,
    write_metrics,
)
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.digest import verify
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.shards import ShardError, Split, open_split
from deeplense_batch.inference.generation.features import Critic
from deeplense_batch.inference.generation.measure import (
    GENERATED,
    HELD_OUT,
    TRAINING,
    Judgement,
    measure,
)
from deeplense_batch.inference.generation.sample import sample
from deeplense_batch.inference.generation.samplers import too_few
from deeplense_batch.inference.images.suitable import check_bands
from deeplense_batch.inference.trained import Trained, open_trained
from deeplense_batch.report import catalogue
from deeplense_batch.runs.attempts import device_hours
from deeplense_batch.runs.lifecycle import attempted, heart
from deeplense_batch.runs.planning.earlier import find_classifier
from deeplense_batch.runs.planning.plan import PlannedRun
from deeplense_batch.runs.scoring import data_notes, score_outputs, seen_notes, summary_of
from deeplense_batch.tasks.task import Scores
from deeplense_batch.training.evaluation import evaluate
from deeplense_batch.training.setup import check_samples

__all__ = ["draw_and_measure", "evaluate_run", "open_critic"]

_SHARD = 128  # images of a file; the processes of a run share the files
_SAMPLES = "samples"

_log = logging.getLogger(__name__)


def evaluate_run(planned: PlannedRun, *, device: str | None = None, force: bool = False) -> Scores:
    """Carry out an evaluation; go on with it if it was cut off; return at once if it is done.

    Arguments:
        planned: The job and its directory (`plan.plan`, `plan.reopen`).
        device: ``cpu`` or ``cuda``, in place of what the job asks for.
        force: Put the run directory aside and start over.

    Returns:
        Scores; empty on the other processes of an evaluation that several carry out.

    Raises:
        RunBusyError: Another process is at work on it.
        JobError: The run is not finished, or cannot be evaluated so.
        ShardError: The images are not those that its network takes, or damaged, or too few.
        DeviceError, OSError: The machine lacks what the job needs.
        StoppedError: A signal came; what is complete is kept.
    """
    job = planned.job
    assert isinstance(job, Evaluation)
    directory = planned.create(force=force)
    if directory.status().state == "done":
        return read_scores(directory)
    gpus = job.resources.gpus
    with attempted(directory, gpus=gpus, device=device, epochs=1) as (world, interrupt):
        return _Evaluation(job, planned.digest, directory, world, interrupt).carry_out()


class _Evaluation:
    """One attempt at an evaluation, on one process of it."""

    def __init__(
        self, job: Evaluation, digest: str, directory: RunDir, world: World, interrupt: Interrupt
    ) -> None:
        self.job, self.section, self.digest = job, job.evaluate, digest
        self.directory, self.world, self.interrupt = directory, world, interrupt
        self.started = time.perf_counter()
        self.trained = open_trained(self.section.run)

    def carry_out(self) -> Scores:
        """The scores; none on every process but the first."""
        if self.world.device.type == "cpu":
            torch.set_num_threads(min(self.job.resources.cpus, cores()))
        split = self._open()
        generates = self.trained.job.task.name == "generation"
        judged: dict[str, Any] | None = None
        if generates:
            judgement = self._measure(split)
            if judgement is None:
                return {}
            judgement.write(self.directory, self._title)
            judged, tested = judgement.numbers, self._tested_images(judgement, split)
        else:
            outcome = self._score(split)
            if outcome is None:
                return {}
            tested = outcome
        tested["notes"] += self._notes(split)
        self._write(split, tested, judged)
        return dict(tested["scores"])

    @property
    def _title(self) -> str:
        return f"{self.directory.name}, {self.section.data.slice}"

    def _open(self) -> Split:
        """The labelled images, verified.

        Raises:
            ShardError: They are damaged, or not what the network takes.
        """
        root, slice_ = self.section.data.root, self.section.data.slice
        assert root is not None and slice_ is not None  # `plan` has filled them in
        split = self.trained.as_seen(open_split(root, slice_))
        if not self.trained.fits(shape := split.info.shape):
            came, takes = (" x ".join(map(str, one)) for one in (shape, self.trained.shape))
            raise ShardError(
                f"{root}: has images of {came} (channels x height x width); {self.section.run} "
                f"takes {takes}"
            )
        check_bands(root, split.info.bands, self.trained.bands, self.section.run)
        if len(split) < self.world.size:
            raise ShardError(
                f"{root}: {slice_} has {counted(len(split), 'image')}, less than one for each of "
                f"{self.world.size} processes"
            )
        verify(split.info.as_stored)
        return replace(split, info=split.info.numbered_as(self.trained.classes))

    def _score(self, split: Split) -> Tested | None:
        """Scores of the network on the images; None on every process but the first.

        Raises:
            ShardError: The images lack labels, or the truth that the task needs.
        """
        trained, task, device = self.trained, self.trained.task, self.world.device
        truths = task.spec.truth_keys
        loader = Loader(split, transform=trained.transform, device=device, truths=truths)
        check_samples(task, loader, f"{self.section.data.root}: {self.section.data.slice}")
        if task.spec.fixed_geometry and loader.truth:
            self._check_scale(split.info.pixel_scale)
        model, tta = trained.model.to(device), trained.job.data.tta
        outputs = evaluate(task, model, loader, self.world, tta=tta)
        if outputs is None:
            return None
        catalogue.keep(self.directory.path, split)
        root = split.info.files[0].parent
        return score_outputs(
            self.directory, task, outputs, root=root, digest=self.digest, title=self._title,
            tta=tta,
        )  # fmt: skip

    def _check_scale(self, scale: float) -> None:
        """Make sure that a pixel is as wide, arcsec, as where the network has learnt lengths.

        Raises:
            ShardError: It is not, so that what it gives would be compared in another unit.
        """
        learnt = self.trained.pixel_scale
        if math.isfinite(learnt) and not math.isclose(scale, learnt, rel_tol=1e-6):
            came = f"{scale:g} arcsec" if math.isfinite(scale) else "unknown width"
            raise ShardError(
                f"{self.section.data.root}: has pixels of {came}; {self.section.run}, which "
                f"measures lenses in pixels, takes those of {learnt:g} arcsec"
            )

    def _measure(self, held_out: Split) -> Judgement | None:
        """Draw images by the run and measure them; None on every process but the first."""
        critic = open_critic(self.section, self.trained, self.world.device)
        return draw_and_measure(
            self.trained, self.section, critic, held_out, self.directory.path, seed=self.job.seed,
            device=self.world.device, interrupt=self.interrupt, beat=heart(self.directory),
            rank=self.world.rank, ranks=self.world.size,
        )  # fmt: skip

    def _tested_images(self, judgement: Judgement, held_out: Split) -> Tested:
        counts = np.bincount(
            held_out.targets()[held_out.targets() >= 0], minlength=len(held_out.info.classes)
        )
        return {
            "scores": judgement.scores,
            "notes": judgement.notes,
            "tta": False,
            "scored": int(judgement.numbers["images"]),
            "class_counts": dict(zip(held_out.info.classes, counts.tolist(), strict=True)),
        }

    def _notes(self, split: Split) -> list[str]:
        """What a reader of the scores should know of the images."""
        root = self.section.data.root
        assert root is not None
        return data_notes(root) + seen_notes(self.trained.run, split, self.digest)

    def _write(self, split: Split, tested: Tested, judged: dict[str, Any] | None) -> None:
        """Write `metrics.json`: that of the training, with what this evaluation measured."""
        trained, directory, job = self.trained, self.directory, self.job
        before = trained.metrics
        seconds = time.perf_counter() - self.started
        monitor, scores = before["valid"]["monitor"], dict(tested["scores"])
        metrics: Metrics = {
            "job": job.name,
            "run": directory.path.name,
            "model": trained.job.model.name,
            "seed": trained.job.seed,
            "identity": job.identity(self.digest),
            "learns": before.get("learns"),
            "data": {
                "digest": self.digest,
                "classes": list(trained.classes),
                "test": str(self.section.data.slice),
                "samples": {"test": len(split)},
            },
            "valid": before["valid"],
            "test": tested,
            "cost": self._cost(seconds),
            "device": before["device"],
            "evaluated": self._evaluated(),
            "summary": summary_of("test", monitor, scores, seconds, "evaluation"),
            "versions": provenance.versions(),
            "commit": provenance.commit(),
        }
        if judged is not None:
            metrics["judged"] = judged
        write_metrics(directory, metrics)
        recipe = trained.job.model_copy(update={"seed": 0}).identity(trained.digest)
        note_scored(directory, self.digest, str(self.section.data.slice), recipe)
        _log.info("%s", metrics["summary"])

    def _cost(self, seconds: float) -> Cost:
        """What the training cost, and this evaluation."""
        before = self.trained.metrics["cost"]
        return {
            "epochs": before["epochs"],
            "attempts": self.directory.status().attempt,
            "train_seconds": before["train_seconds"],
            "images_per_s": before["images_per_s"],
            "test_seconds": seconds,
            "parameters": sum(p.numel() for p in self.trained.model.parameters()),
            "device_hours": device_hours(self.directory, self.started, self.world.size),
            "gflops": before["gflops"],
        }

    def _evaluated(self) -> dict[str, Any]:
        """The run that is evaluated."""
        trained = self.trained
        return {
            "run": str(trained.run.path),
            "identity": trained.metrics["identity"],
            "weights": trained.weights,
            "task": trained.job.task.name,
            "data_digest": trained.digest,
            "device": self.world.describe(),
            "recipe": dict(flat_fields(trained.job.model_dump(mode="json"))),
        }


def open_critic(section: DrawSection, of: Trained, device: torch.device) -> Critic | None:
    """The classifier that judges the images of a run; None unless the recipe names one.

    Raises:
        JobError: It is not there, or is no classifier.
    """
    if section.classifier is None:
        return None
    run = find_classifier(Path(section.classifier), "evaluate.classifier")
    return Critic(open_trained(run), of, device)


def draw_and_measure(
    trained: Trained,
    section: DrawSection,
    critic: Critic | None,
    held_out: Split,
    folder: Path,
    *,
    seed: int,
    device: torch.device,
    interrupt: Interrupt,
    beat: Callable[[int], None],
    rank: int = 0,
    ranks: int = 1,
) -> Judgement | None:
    """Draw images into a folder and measure them; go on where that was cut off.

    Arguments:
        trained: The generator, with its best weights.
        section: How many to draw, and how.
        critic: The classifier in whose features the images are compared, if any.
        held_out: Real images that it has not learnt from.
        folder: Gets ``samples``.
        seed: Of all noise.
        device: Draws and measures them.
        interrupt: Ends the work, to go on later.
        beat: Called often, with the number of finished epochs.
        rank, ranks: This process among those that draw; the first one measures.

    Returns:
        The measurements; None on every process but the first.

    Raises:
        TrainedError, ShardError: The run is no generator, its data are gone or too few.
        StoppedError: The interrupt was set; what is complete is kept.
    """

    def on_batch() -> None:
        beat(0)
        interrupt.check()

    samples = folder / _SAMPLES
    count = section.images or len(held_out)
    parts = min(ranks, -(-count // _SHARD))
    draw_part = partial(
        sample, trained, samples, images=count, sampler=section.sampler, steps=section.steps,
        guidance=section.guidance, seed=seed, device=device, shard_size=_SHARD, on_batch=on_batch,
    )  # fmt: skip
    if rank < parts:
        draw_part(part=rank, parts=parts)
    if ranks > 1:  # then what the others have not drawn yet, so that none has to wait
        draw_part(part=0, parts=1)
    if rank:
        return None
    _log.info("measuring the images")
    judgement = measure(trained, critic, _loaders(trained, samples, held_out, device), on_batch)
    if warning := too_few(section.sampler, section.steps):
        judgement.notes.append(warning)
    judgement.numbers.update(section.model_dump(include={"sampler", "steps", "guidance"}))
    return judgement


def _loaders(
    trained: Trained, samples: Path, held_out: Split, device: torch.device
) -> dict[str, Loader | Mixture]:
    """Loaders of the drawn, the held out and the training images, in the frame of the network."""
    frame = replace(trained.transform, mean=(), sd=())
    loaders: dict[str, Loader | Mixture] = {
        GENERATED: Loader(
            open_split(samples, "train"), transform=replace(frame, crop=None, size=None),
            device=device,
        ),
        HELD_OUT: Loader(held_out, transform=frame, device=device),
        TRAINING: trained.training_images(frame, device),
    }  # fmt: skip
    return loaders
