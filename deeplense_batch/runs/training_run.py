"""A training, start to end: own its directory, set up, train, test, write the result."""

from __future__ import annotations

import logging
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from deeplense_batch.core import provenance
from deeplense_batch.core.distributed import World
from deeplense_batch.core.machine import cores
from deeplense_batch.core.processes import Interrupt
from deeplense_batch.core.result import (
    Cost,
    DataUsed,
    Metrics,
    Tested,
    Validated,
    note_scored,
    read_scores,
    write_metrics,
)
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.pairs.registration import write_registrations
from deeplense_batch.data.shards import Split
from deeplense_batch.inference.images.suitable import about_other_bands
from deeplense_batch.models import checkpoint
from deeplense_batch.report import catalogue
from deeplense_batch.runs.attempts import device_hours
from deeplense_batch.runs.lifecycle import attempted, heart
from deeplense_batch.runs.planning.plan import PlannedRun
from deeplense_batch.runs.preflight import check_room, preflight
from deeplense_batch.runs.scoring import (
    data_notes,
    keep_outputs,
    mixture_notes,
    score_outputs,
    seen_notes,
    summary_of,
)
from deeplense_batch.tasks.task import Arrays, Scores, Task
from deeplense_batch.training.evaluation import evaluate
from deeplense_batch.training.precision import choose_kernels
from deeplense_batch.training.resolved import of_pieces, resolved
from deeplense_batch.training.setup import Setup, set_up
from deeplense_batch.training.trainer import BEST, Trainer

__all__ = ["run"]

_log = logging.getLogger(__name__)


def run(planned: PlannedRun, *, device: str | None = None, force: bool = False) -> Scores:
    """Carry out a run; go on with it if it was cut off; return at once if it is done.

    Arguments:
        planned: The job and its directory (`plan.plan`, `plan.reopen`).
        device: ``cpu`` or ``cuda``, in place of what the job asks for.
        force: Put the run directory aside and start over.

    Returns:
        Scores on the test slice; empty on the other processes of a run that several carry out.

    Raises:
        RunBusyError: Another process is at work on it.
        RunDirError, CheckpointError: A file that it needs to go on is damaged.
        DeviceError, UnfitError, WeightsError, OSError: The machine lacks what the job needs.
        ShardError, ModelError, ValueError: Data, model and task do not fit together.
        DivergedError: The loss is not finite.
        StoppedError: A signal came; the state is saved.
    """
    directory = planned.create(force=force)
    if directory.status().state == "done":
        return read_scores(directory)
    gpus, epochs = planned.training.resources.gpus, planned.job.epochs
    with attempted(directory, gpus=gpus, device=device, epochs=epochs) as (world, interrupt):
        return _Training(planned, directory, world, interrupt).carry_out()


class _Training:
    """One attempt at a training, on one process of it."""

    def __init__(
        self, planned: PlannedRun, directory: RunDir, world: World, interrupt: Interrupt
    ) -> None:
        self.planned, self.directory, self.world = planned, directory, world
        self.job, self.interrupt = planned.training, interrupt
        self.started = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def carry_out(self) -> Scores:
        """Scores on the test slice; none on every process but the first."""
        preflight(self.directory.path, self.job, self.world)
        deterministic = self.job.engine.deterministic
        with choose_kernels(self.world.device, deterministic=deterministic):
            return self._carried_out()

    def _carried_out(self) -> Scores:
        setup = self.set_up()
        energy = provenance.Energy(self.world.device.index)
        trainer = self.train(setup)
        outputs = self.test(setup)
        joules = self.world.all_gather(energy.joules())
        if outputs is None:
            return {}
        return self.write(setup, trainer, outputs, joules)

    def set_up(self) -> Setup:
        """Put together what is trained."""
        if self.world.device.type == "cpu":  # the number of threads rounds sums differently
            torch.set_num_threads(min(self.job.resources.cpus, cores()))
        setup = set_up(self.job, self.world)
        if self.world.main:
            check_room(self.directory.path, setup.model, averaged=self.job.train.ema is not None)
            if setup.registered:
                path = self.directory.path / "registration.csv"
                write_registrations(path, setup.registered)
        if self._unlike(setup):
            _log.warning("%s", self._unlike(setup))
        self.seconds["load"] = time.perf_counter() - self.started
        return setup

    def _unlike(self, setup: Setup) -> str:
        """What the weights that it starts from have learnt instead of these bands, in words."""
        init = self.job.train.init
        return about_other_bands(Path(init), setup.info.bands) if init else ""

    def train(self, setup: Setup) -> Trainer:
        """Train to the end, from the newest checkpoint if there is one."""
        trainer = Trainer(
            self.job, self.directory, self.world, setup.task, setup.model, setup.train,
            setup.valid, self.interrupt, heart(self.directory),
            curriculum=setup.curriculum, unlabelled=setup.unlabelled,
        )  # fmt: skip
        count = setup.samples
        _log.info(
            "%s on %s: %d train, %d valid, %d test images", self.directory.name,
            self.world.describe()["name"], count["train"], count["valid"], count["test"],
        )  # fmt: skip
        trainer.resume()
        trainer.fit()
        self.seconds |= trainer.seconds
        return trainer

    def test(self, setup: Setup) -> Arrays | None:
        """Outputs of the best weights on the test slice; None on every process but the first."""
        started = time.perf_counter()
        task, model, tta = setup.task, setup.model, self.job.data.tta
        best = checkpoint.load(self.directory.path / BEST) if self.world.main else None
        model.load_state_dict(self.world.broadcast(best and best["model"]))
        if task.spec.predicts:
            validated = evaluate(task, model, setup.valid, self.world, tta=tta)
            if best is not None and validated is not None:
                keep_outputs(self.directory, "validated.npz", task, validated)
                self._calibrate(task, best, validated)
        outputs = evaluate(task, model, setup.test, self.world, tta=tta, thorough=True)
        self.seconds["test"] = time.perf_counter() - started
        return outputs

    def _calibrate(self, task: Task, best: dict[str, Any], validated: Arrays) -> None:
        """Fit what the validation slice is for, and keep it beside the best weights."""
        if task.spec.calibrates:
            task.calibrate(validated)
            checkpoint.save(self.directory.path / BEST, best | {"task": task.state_dict()})

    def write(
        self, setup: Setup, trainer: Trainer, outputs: Arrays, joules: list[float | None]
    ) -> Scores:
        """Write outputs, figures and, last, `metrics.json`."""
        title = f"{self.directory.name}, {self.job.data.test}"
        catalogue.keep(self.directory.path, setup.test.split)
        tested = score_outputs(
            self.directory, setup.task, outputs, root=self.job.data.root,
            digest=self.planned.digest, title=title, tta=self.job.data.tta,
        )  # fmt: skip
        tested["notes"] += self._notes(setup, trainer)
        scores = dict(tested["scores"])
        write_metrics(self.directory, self._metrics(setup, trainer, tested, joules))
        recipe = self.job.model_copy(update={"seed": 0}).identity(self.planned.digest)
        note_scored(self.directory, self.planned.digest, self.job.data.test, recipe)
        if self.job.judge is not None:
            _log.warning(
                "judge: a training does not measure its images any more: 'evaluate %s' does, or a "
                "recipe with evaluate", self.directory.path,
            )  # fmt: skip
        monitor = setup.task.spec.monitor
        shown = scores.get(monitor)
        _log.info("test %s %s", monitor, "undefined" if shown is None else f"{shown:.4f}")
        return scores

    def _notes(self, setup: Setup, trainer: Trainer) -> list[str]:
        """What a reader of the scores should know of the data and of the training."""
        notes = data_notes(self.job.data.root)
        adaptation = self.job.task.adaptation
        others = {each.root: each.digest for each in self.job.data.others}
        others |= {adaptation.to.root: adaptation.to.digest} if adaptation else {}
        for root, digest in others.items():
            if digest != self.planned.digest:
                notes += data_notes(root, f"data of {Path(root).name}")
        valid, test = setup.valid.split, setup.test.split
        notes += mixture_notes(self.job, valid, test, self.planned.digest)
        if (init := self.job.train.init) is not None:
            notes += _start_notes(Path(init), test, self.planned.digest)
            notes += filter(None, [self._unlike(setup)])
        notes += setup.notes
        if pieces := of_pieces(self.job, self.world, trainer.stepper):
            _log.warning("%s", pieces)
            notes.append(pieces)
        return notes + ([trainer.choice] if trainer.choice else [])

    def _metrics(
        self, setup: Setup, trainer: Trainer, tested: Tested, joules: list[float | None]
    ) -> Metrics:
        job, task, directory, stepper = self.job, setup.task, self.directory, trainer.stepper
        lines = directory.read_lines("attempts.jsonl")
        attempts = [line["devices"] for line in lines if line["event"] == "start"]
        validated = self._validated(trainer)
        return {
            "job": job.name,
            "run": directory.path.name,
            "model": job.model.name,
            "seed": job.seed,
            "identity": job.identity(self.planned.digest),
            "learns": task.spec.target_name,
            "data": {
                "digest": self.planned.digest,
                "classes": list(task.classes),
                **self._trained_on(setup),
                "valid": job.data.valid,
                "test": job.data.test,
                "samples": setup.samples,
            },
            "valid": validated,
            "test": tested,
            "cost": self._cost(setup, joules),
            "engine": job.engine.model_dump()
            | {"amp": stepper.precision.name, "micro_batch": stepper.micro_batch},
            "resolved": resolved(job, self.world, stepper, attempts),
            "device": self.world.describe(),
            "summary": summary_of(
                "validation",
                task.spec.monitor,
                validated["scores"],
                self.seconds["train"],
                "training",
            ),
            "versions": provenance.versions(),
            "commit": provenance.commit(),
        }

    def _trained_on(self, setup: Setup) -> DataUsed:
        """The slice that was trained on, or the several sets."""
        used: DataUsed = {}
        if setup.curriculum:
            used["curriculum"] = [
                {
                    "name": Path(each.root).name,
                    "train": each.train,
                    "epochs": each.epochs,
                    "digest": each.digest,
                    "samples": len(images),
                }
                for each, images in zip(self.job.data.curriculum, setup.curriculum, strict=True)
            ]
        if self.job.data.simulate is not None:
            used["simulate"] = self.job.data.simulate.model_dump(mode="json")
        if not isinstance(setup.train, Mixture):
            return used | {"train": self.job.data.train}
        sets = [
            {
                "name": Path(each.root).name,
                "train": each.train,
                "weight": each.weight,
                "digest": each.digest,
                "samples": samples,
            }
            for each, samples in zip(self.job.data.roots, setup.train.sizes, strict=True)
        ]
        return used | {"roots": sets}

    def _validated(self, trainer: Trainer) -> Validated:
        monitor = trainer.task.spec.monitor
        history = self.directory.read_lines("history.jsonl")
        return {
            "monitor": monitor,
            "chosen_by": "loss" if trainer.by_loss else monitor,
            "epoch": trainer.best_epoch,
            "scores": history[trainer.best_epoch - 1]["valid"],
        }

    def _cost(self, setup: Setup, joules: list[float | None]) -> Cost:
        history = self.directory.read_lines("history.jsonl")
        attempts = self.directory.status().attempt
        cuda = self.world.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else provenance.host_memory_gb()
        measured = [value for value in joules if value is not None]
        # What earlier attempts drew is not known.
        whole = attempts == 1 and len(measured) == len(joules)
        return {
            "epochs": len(history),
            "attempts": attempts,
            "load_seconds": self.seconds["load"],
            "train_seconds": self.seconds["train"],
            "evaluate_seconds": self.seconds["evaluate"],
            "checkpoint_seconds": self.seconds["checkpoint"],
            "test_seconds": self.seconds["test"],
            "images_per_s": statistics.median(line["images_per_s"] for line in history),
            "peak_memory_gb": peak,
            "parameters": sum(p.numel() for p in setup.model.parameters()),
            "device_hours": device_hours(self.directory, self.started, self.world.size),
            "gflops": setup.gflops,
            "joules": sum(measured) if whole else None,
        }


def _start_notes(init: Path, split: Split, digest: str) -> list[str]:
    """What the weights that a training starts from may have seen of the test images."""
    folder = init if init.is_dir() else init.parent
    if (folder / "job.yaml").is_file():
        return seen_notes(RunDir(folder), split, digest)
    return [f"it starts from {init.name}; which images these weights have seen is not known"]
