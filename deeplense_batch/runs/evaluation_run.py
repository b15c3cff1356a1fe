"""Draw images with a run that generates, and judge them: when it has trained, or afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from deeplense_batch.core.distributed import device_of
from deeplense_batch.core.job import JudgeSection
from deeplense_batch.core.processes import Interrupt
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.loader import Loader
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.inference.generation.features import Critic
from deeplense_batch.inference.generation.measure import (
    GENERATED,
    HELD_OUT,
    TRAINING,
    Judgement,
    measure,
)
from deeplense_batch.inference.generation.sample import draw
from deeplense_batch.inference.generation.usefulness import usefulness
from deeplense_batch.inference.trained import Trained, TrainedError, open_trained
from deeplense_batch.runs.plan import find_classifier
from deeplense_batch.tasks.generation import Generation

__all__ = ["draw_and_judge", "judge", "open_critic"]

_SHARD = 128  # images of a file; the processes of a run share the files
_SAMPLES = "samples"
_FILE = "judged.json"

_log = logging.getLogger(__name__)


def judge(
    run: Path | str,
    out: Path | str,
    section: JudgeSection,
    *,
    seed: int = 0,
    device: str | None = None,
    interrupt: Interrupt,
) -> str:
    """Judge a finished run, into a folder; go on with it if it was cut off.

    Arguments:
        run: Run directory of a finished run.
        out: Folder that gets the images as shards, ``judged.json``, ``judged.npz`` and figures.
        section: How, and by which classifier; without one, what needs none is told.
        seed: Of all noise.
        device: ``cpu`` or ``cuda``; by default a GPU where there is one.
        interrupt: Ends it, to go on later.

    Returns:
        What was found, in words.

    Raises:
        JobError: A run is not finished, or not what is asked of it.
        ShardError: The run's data are gone, or `out` holds something else.
        DeviceError: A GPU was asked for and there is none.
        StoppedError: The interrupt was set.
    """
    place = device_of(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    trained = open_trained(run)
    critic = open_critic(section, trained, place)
    by_class = isinstance(trained.task, Generation) and "class" in trained.task.conditions
    if section.useful and (critic is None or not by_class):
        raise TrainedError(
            f"judge: useful: needs a classifier, and images drawn by class; {run} is told "
            f"{'classes' if by_class else 'none'}"
        )
    folder = RunDir(out)
    asked = section.model_dump(exclude={"classifier"}) | {"seed": seed}
    asked |= {"run": trained.metrics["identity"], "weights": trained.weights}
    asked["classifier"] = None if critic is None else critic.trained.weights
    if (folder.path / _FILE).exists():
        if folder.read_json(_FILE)["asked"] != asked:
            raise ShardError(f"{out}: holds another judgement; name another folder")
        return f"{folder.path / _FILE}: already there"
    if folder.path.exists() and not folder.path.is_dir():
        raise ShardError(f"{out}: is a file; a judgement needs a folder")
    begun = (folder.path / _SAMPLES).is_dir()
    claims = {"claim", "claim.lock"}  # of one that was killed, or is just beginning
    others = folder.path.exists() and any(p.name not in claims for p in folder.path.iterdir())
    if others and not begun:
        raise ShardError(f"{out}: holds something else; name another folder")
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.claim():
        found = draw_and_judge(
            trained, section, critic, folder.path, seed=seed, device=place, interrupt=interrupt,
            beat=lambda _: None,
        )  # fmt: skip
        assert found is not None
        found.write(folder, trained.run.name)
        content = {"asked": asked, "numbers": found.numbers, "notes": found.notes}
        folder.write_json(_FILE, content)
    return f"{found}\n{folder.path / _FILE}"


def open_critic(section: JudgeSection, of: Trained, device: torch.device) -> Critic | None:
    """The classifier that judges the images of a run; None where none is named.

    Raises:
        JobError: There is none, or it cannot.
    """
    if section.classifier is None:
        return None
    run = find_classifier(Path(section.classifier), "judge.classifier")
    critic = Critic(open_trained(run), of, device)
    if section.useful and critic.trained.task.spec.needs_truth:
        raise TrainedError(
            f"judge.useful: {run}: task {critic.trained.job.task.name} learns from truth, which "
            "generated images lack"
        )
    return critic


def draw_and_judge(
    trained: Trained,
    section: JudgeSection,
    critic: Critic | None,
    folder: Path,
    *,
    seed: int,
    device: torch.device,
    interrupt: Interrupt,
    beat: Callable[[int], None],
    rank: int = 0,
    ranks: int = 1,
) -> Judgement | None:
    """Draw images into a folder and judge them; go on where that was cut off.

    Arguments:
        trained: The generator, with its best weights.
        section: How.
        critic: The classifier that judges.
        folder: Gets ``samples``, and ``useful`` where that is asked for.
        seed: Of all noise.
        device: Where.
        interrupt: Ends it, to go on later.
        beat: Told the finished epochs, often.
        rank, ranks: This process among those that draw; the first one judges.

    Returns:
        What was found; None on every process but the first.

    Raises:
        TrainedError, ShardError: The run is no generator, its data are gone or too few.
        StoppedError: The interrupt was set; what is complete is kept.
    """
    epochs = trained.job.epochs

    def each() -> None:
        beat(epochs)
        interrupt.check()

    test = trained.slice("test")
    count = section.images or len(test)
    parts = min(ranks, -(-count // _SHARD))
    # Each process draws its part, and then what the others lack, so that none has to wait.
    for part in ([(rank, parts)] if rank < parts else []) + [(0, 1)] * (ranks > 1):
        draw(
            trained, folder / _SAMPLES, images=count, sampler=section.sampler,
            steps=section.steps, guidance=section.guidance, seed=seed, device=device,
            shard_size=_SHARD, part=part[0], parts=part[1], each=each,
        )  # fmt: skip
    if rank:
        return None
    frame = replace(trained.transform, mean=(), sd=())
    splits = {GENERATED: open_split(folder / _SAMPLES, "train"), HELD_OUT: test}
    splits[TRAINING] = trained.slice("train")
    loaders = {
        name: Loader(
            split, transform=replace(frame, crop=None, size=None) if name == GENERATED else frame,
            device=device,
        )
        for name, split in splits.items()
    }  # fmt: skip
    _log.info("judging the images")
    found = measure(trained, critic, loaders, each)
    found.numbers.update(section.model_dump(include={"sampler", "steps", "guidance"}))
    if section.useful and critic is not None:
        valid = Loader(trained.slice("valid"), transform=frame, device=device)
        named = {"generated": loaders[GENERATED], "original": loaders[TRAINING]}
        named |= {"valid": valid, "test": loaders[HELD_OUT]}
        aucs, notes = usefulness(
            critic, named, folder / "useful" / critic.trained.weights,
            device=device, interrupt=interrupt, beat=lambda _: beat(epochs),
        )  # fmt: skip
        found.numbers["useful_auc"] = aucs
        found.notes.extend(notes)
    return found
