"""An evaluation: a finished run scored on labelled images, or its drawn images measured.

It writes what a training writes: `metrics.json`, `outputs.npz` and figures; of a run that
generates also ``samples/``, the images drawn, and ``judged.npz``, the arrays behind the figures.
One that draws images of inputs is scored as a restoration, the mean of what it draws of each.
An ensemble of runs is scored as one: the mean of what its members say (`inference.ensembles`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deeplense_batch.core import provenance
from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Evaluation
from deeplense_batch.core.machine import cores
from deeplense_batch.core.processes import Interrupt
from deeplense_batch.core.result import (
    Cost,
    Metrics,
    Tested,
    note_scored,
    read_scores,
    write_metrics,
)
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.shards import Split
from deeplense_batch.inference.ensembles.ensemble import Ensemble, open_ensemble
from deeplense_batch.inference.ensembles.members import Member
from deeplense_batch.inference.generation.measure import Judgement
from deeplense_batch.inference.restoring.surviving import seen_in
from deeplense_batch.inference.trained import Trained, open_trained
from deeplense_batch.report import catalogue
from deeplense_batch.runs.attempts import device_hours
from deeplense_batch.runs.evaluating.drawn_images import draw_and_measure, open_critic, seen_by
from deeplense_batch.runs.evaluating.drawn_restorations import (
    about_samples,
    as_restoration,
    restores_by_samples,
    sampled,
)
from deeplense_batch.runs.evaluating.labelled_images import answers_of, open_labelled
from deeplense_batch.runs.evaluating.subject import ensemble_subject, run_subject
from deeplense_batch.runs.lifecycle import attempted, heart
from deeplense_batch.runs.planning.earlier import find_classifier
from deeplense_batch.runs.planning.plan import PlannedRun
from deeplense_batch.runs.scoring import data_notes, score_outputs, seen_notes, summary_of
from deeplense_batch.tasks.detection import Detection
from deeplense_batch.tasks.task import Arrays, Scores

__all__ = ["evaluate_run"]

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
        self.ensemble: Ensemble | None = None
        if self.section.ensemble:
            self.ensemble = open_ensemble([Member.at(Path(run)) for run in self.section.runs])
        self.networks = self.ensemble.members if self.ensemble else self._one()

    def _one(self) -> tuple[Trained, ...]:
        (run,) = self.section.runs  # `plan` has made an evaluation of each
        return (open_trained(run),)

    def carry_out(self) -> Scores:
        """The scores; none on every process but the first."""
        if self.world.device.type == "cpu":
            torch.set_num_threads(min(self.job.resources.cpus, cores()))
        root, slice_ = self._place
        split = open_labelled(root, slice_, self.networks, self.world)
        judged: dict[str, Any] | None = None
        if self.networks[0].job.task.name == "generation" and not self._samples:
            judgement = self._measure(seen_by(self.networks[0], split))
            if judgement is None:
                return {}
            judgement.write(self.directory, self._title)
            judged, tested = judgement.numbers, self._tested_images(judgement, split)
        else:
            scored = (self._sampled(split),) if self._samples else self.networks
            outcome = self._score(split, scored)
            if outcome is None:
                return {}
            tested = outcome
        tested["notes"] += self._notes(split)
        self._write(split, tested, judged)
        return dict(tested["scores"])

    @property
    def _place(self) -> tuple[str, str]:
        """Root and slice of the labelled images, which `plan` has filled in."""
        root, slice_ = self.section.data.root, self.section.data.slice
        assert root is not None and slice_ is not None
        return root, slice_

    @property
    def _title(self) -> str:
        return f"{self.directory.name}, {self.section.data.slice}"

    @property
    def _samples(self) -> bool:
        """Whether images are restored as the mean of samples."""
        return restores_by_samples(self.networks[0])

    def _sampled(self, split: Split) -> Trained:
        """The run, with the samples that it draws in place of its network."""
        (network,) = self.networks
        return sampled(
            network, self.section, seen_by(network, split), self.directory.path,
            seed=self.job.seed, world=self.world, interrupt=self.interrupt,
            beat=heart(self.directory),
        )  # fmt: skip

    def _score(self, split: Split, networks: Sequence[Trained]) -> Tested | None:
        """Scores on the images; None on every process but the first.

        Arguments:
            split: The images.
            networks: One, or the members of an ensemble.

        Raises:
            ShardError: The images lack labels, or the truth that the task needs.
        """
        tta, slice_ = self.section.tta, self._place[1]
        answers: list[Arrays] = []
        notes: list[str] = []
        for network in networks:
            outputs, doubts = answers_of(network, split, slice_, self.world, tta=tta)
            notes += [doubt for doubt in doubts if doubt not in notes]
            if outputs is not None:
                answers.append(outputs)
        if not answers:
            return None
        task, outputs = networks[0].task, answers[0]
        if self.ensemble:
            task, outputs = self.ensemble.task, self.ensemble.mean(answers)
        if self.section.classifier is not None:  # of restored images: a plan has seen that
            outputs = {**outputs, **self._seen(split, *networks)}
        catalogue.keep(self.directory.path, split)
        tested = score_outputs(
            self.directory, task, outputs, root=split.info.files[0].parent, digest=self.digest,
            title=self._title, tta=self._tta,
        )  # fmt: skip
        if isinstance(task, Detection) and self.digest not in self._learnt_digests:
            notes += task.carried_notes(outputs)
        tested["notes"] += notes
        return tested

    def _seen(self, split: Split, network: Trained) -> Arrays:
        """What the classifier sees in restored images, and in those that they are held against."""
        classifier = find_classifier(Path(str(self.section.classifier)), "evaluate.classifier")
        seen = network.as_seen(split)
        return seen_in(network, open_trained(classifier), seen, self.world.device)

    @property
    def _learnt_digests(self) -> set[str]:
        return {network.digest for network in self.networks}

    @property
    def _tta(self) -> bool:
        """Whether outputs are means over the symmetries, those of every member."""
        given = self.section.tta
        return all(n.job.data.tta for n in self.networks) if given is None else given

    def _measure(self, held_out: Split) -> Judgement | None:
        """Draw images by the run and measure them; None on every process but the first."""
        (network,) = self.networks
        critic = open_critic(self.section, network, self.world.device)
        return draw_and_measure(
            network, self.section, critic, held_out, self.directory.path, seed=self.job.seed,
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
        notes = data_notes(self._place[0])
        seen = [
            (network.run, seen_notes(network.run, seen_by(network, split), self.digest))
            for network in self.networks
        ]
        if self.section.classifier is not None:
            judge = RunDir(find_classifier(Path(self.section.classifier), "evaluate.classifier"))
            seen.append((judge, seen_notes(judge, split, self.digest, who="classifier")))
        for run, own in seen:
            for note in own:
                _log.warning("%s: %s", run.name, note)
            notes += own
        if self._samples:
            notes += about_samples(self.section)
        if self.ensemble and self.ensemble.why_not:
            notes.append(f"ensemble: not calibrated as a whole: {self.ensemble.why_not}")
        return [*dict.fromkeys(notes)]

    def _write(self, split: Split, tested: Tested, judged: dict[str, Any] | None) -> None:
        """Write `metrics.json`: that of the training, with what this evaluation measured."""
        directory, job, slice_ = self.directory, self.job, self._place[1]
        identity = job.identity(self.digest)
        subject = (
            ensemble_subject(self.ensemble, identity)
            if self.ensemble
            else run_subject(self.networks[0])
        )
        if self._samples:
            subject = as_restoration(subject, self.section, job.seed)
        seconds = time.perf_counter() - self.started
        scores = dict(tested["scores"])
        cost: Cost = {
            **subject.cost,
            "attempts": directory.status().attempt,
            "test_seconds": seconds,
            "device_hours": device_hours(directory, self.started, self.world.size),
        }
        metrics: Metrics = {
            "job": job.name,
            "run": directory.path.name,
            "model": subject.model,
            "seed": subject.seed,
            "identity": identity,
            "learns": subject.learns,
            "data": {
                "digest": self.digest,
                "classes": subject.classes,
                "test": slice_,
                "samples": {"test": len(split)},
            },
            "valid": subject.valid,
            "test": tested,
            "cost": cost,
            "device": subject.device,
            "evaluated": subject.evaluated | {"device": self.world.describe()},
            "summary": summary_of("test", subject.valid["monitor"], scores, seconds, "evaluation"),
            "versions": provenance.versions(),
            "commit": provenance.commit(),
        }
        if judged is not None:
            metrics["judged"] = judged
        write_metrics(directory, metrics)
        note_scored(directory, self.digest, slice_, subject.recipe)
        _log.info("%s", metrics["summary"])
