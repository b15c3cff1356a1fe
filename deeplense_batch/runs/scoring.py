"""The outputs of a network on labelled images, as scores, `outputs.npz` and figures of a run.

With them go notes on what a reader of scores should know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from deeplense_batch.core.job import Job
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.result import Tested, read_metrics
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.core.scoring import by_detectability
from deeplense_batch.core.scoring.figures import save as save_figure
from deeplense_batch.data.digest import sha256
from deeplense_batch.data.formats.counted import counted_of
from deeplense_batch.data.shards import ShardError, Split, data_digest, open_split
from deeplense_batch.report.columns import score_name
from deeplense_batch.simulation.truth.known import known_delta_chi2
from deeplense_batch.tasks.task import Arrays, Task

__all__ = [
    "data_notes",
    "keep_outputs",
    "mixture_notes",
    "score_outputs",
    "seen_notes",
    "summary_of",
]

_AT_ONCE = 1024  # images that are read together


def score_outputs(
    directory: RunDir,
    task: Task,
    outputs: Arrays,
    *,
    root: Path | str,
    digest: str,
    title: str,
    tta: bool,
) -> Tested:
    """Score outputs, keep them, and draw them.

    Arguments:
        directory: Of the run; gets ``outputs.npz`` and ``figures/``.
        task: What the network has learnt.
        outputs: Of `training.evaluation.evaluate`, (N, ...) by name.
        root: Folder of the images, where their truth may lie (`simulation.truth.known`).
        digest: Of the set of images.
        title: Of the figures.
        tta: Whether they are means over the symmetries of the square.
    """
    scores, notes = task.score(outputs)
    keep_outputs(directory, "outputs.npz", task, outputs)
    by_delta_chi2, more_notes = _by_delta_chi2(task, outputs, root, digest)
    history = directory.read_lines("history.jsonl")
    figures = dict(task.draw(outputs, history))
    if by_delta_chi2 is not None:
        figures["auc_by_delta_chi2"] = by_detectability.draw(by_delta_chi2)
    for name, figure in figures.items():
        if name == "history" and not history:
            continue  # an evaluation trains nothing
        figure.suptitle(title, fontsize=7, color="0.4")
        save_figure(figure, directory.figures / f"{name}.png")
    labelled = outputs["targets"][outputs["targets"] >= 0]
    counts = np.bincount(labelled, minlength=len(task.classes)).tolist()
    tested: Tested = {
        "scores": scores,
        "notes": notes + more_notes,
        "tta": tta,
        "scored": task.num_scored(outputs),
        "class_counts": dict(zip(task.classes, counts, strict=True)),
    }
    if by_delta_chi2 is not None:
        tested["by_delta_chi2"] = by_delta_chi2
    return tested


def keep_outputs(directory: RunDir, name: str, task: Task, outputs: Arrays) -> None:
    """Write outputs into a file of a run, with the names of the classes; it is replaced whole.

    So are those of the numbers that are predicted, where they are several, as ``quantities``.
    """
    temporary = directory.path / f".{name}.tmp.npz"
    arrays: dict[str, Any] = {"classes": np.asarray(task.classes), **outputs}
    if task.spec.quantities:
        arrays["quantities"] = np.asarray(task.spec.quantities)
    np.savez_compressed(temporary, **arrays)
    temporary.replace(directory.path / name)


def summary_of(
    use: str, monitor: str, scores: Mapping[str, float | None], seconds: float, spent_on: str
) -> str:
    """The result in a line: ``validation AUC 0.9876, 1.2 min of training``.

    Whoever watches a grid picks among its runs; that is what the validation slice is for.

    Arguments:
        use: Of the slice that was scored: ``validation`` or ``test``.
        monitor: Name of the score that picks weights.
        scores: On that slice.
        seconds: That the work took.
        spent_on: What it was.
    """
    score = scores.get(monitor)
    shown = [] if score is None else [f"{use} {score_name(monitor)} {score:.4f}"]
    return ", ".join([*shown, f"{seconds / 60:.1f} min of {spent_on}"])


def _by_delta_chi2(
    task: Task, outputs: Arrays, root: Path | str, digest: str
) -> tuple[dict[str, Any] | None, list[str]]:
    """Scores by how visible substructure is, where that is known, and notes."""
    if not task.spec.classifies:
        return None, []
    known, notes = known_delta_chi2(root, digest, outputs["ids"].tolist())
    if known is None:
        return None, notes
    targets = outputs["targets"]
    if unknown := by_detectability.unknown_classes(targets, len(task.classes), known):
        names = ", ".join(task.classes[k] for k in unknown)
        notes = [*notes, f"no scores by delta chi^2, which is known of no image of class {names}"]
    return by_detectability.score(targets, outputs["logits"], known), notes


def data_notes(root: Path | str, called: str = "data") -> list[str]:
    """What packing found wrong with the data, which a reader of scores should know.

    Arguments:
        root: Folder of the shards.
        called: How a sentence begins.
    """
    path = Path(root) / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        warnings = [str(warning) for warning in manifest.get("warnings", [])]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError, TypeError):
        warnings = [f"{path.name} cannot be read, so that what packing warned of is not known"]
    return [f"{called}: {warning}" for warning in warnings]


def seen_notes(run: RunDir, split: Split, digest: str, who: str = "network") -> list[str]:
    """Say how many of the images that weights are scored on they have learnt from.

    Slices of the same data are compared by place, those of other data by the content of every
    image. What the weights started from (`train.init`) counts too.

    Arguments:
        run: A training, which left the weights.
        split: The images.
        digest: Of the data that they belong to.
        who: What a sentence calls that training's network.
    """
    notes: list[str] = []
    images = _Images(split.as_stored, digest)
    for job, known in _origins(run):
        valid = _Learnt(job.data.root, job.data.valid, known, "was picked by", "validation")
        for learnt in (*_trained_on(job, known), *_adapted_to(job), valid):
            notes += filter(None, [_seen_note(learnt, images, who)])
    return notes


def mixture_notes(job: Job, valid: Split, test: Split, digest: str) -> list[str]:
    """Say how many images a training on several sets has twice, packed otherwise.

    Those of ``valid`` and ``test`` that lie in other sets than their own, and those that two sets
    have. One of the sets is that which a network is adapted to. Where the packed content is the
    same, a plan has refused them.

    Arguments:
        job: The training.
        valid: Its validation images.
        test: Its test images.
        digest: Of the data that both belong to.
    """
    target = _adapted_to(job)
    if not job.data.others and not target:
        return []
    validation = "validation images"
    harm = "which flatters the validation scores, by which weights are picked"
    scored = [
        _Images(test.as_stored, digest),
        _Images(valid.as_stored, digest, validation, harm),
    ]
    sets = [*_trained_on(job, digest), *target]
    others = [learnt for learnt in sets if learnt.digest != digest]
    notes = [_seen_note(learnt, images) for images in scored for learnt in others]
    notes += [_twice_note(*pair) for pair in combinations(sets[: len(job.data.roots)], 2)]
    return [*filter(None, notes)]


@dataclass(frozen=True)
class _Images:
    """A slice as its shards have it; the content of its images is read once, if at all."""

    split: Split
    digest: str  # of its data; empty where unknown
    called: str = "images"
    harm: str = "which flatters it"  # where a network has learnt from some of them

    def shared_with(self, other: _Images) -> int:
        """How many of them are images of the other slice too.

        Raises:
            ShardError, OSError: It cannot be known, since one of them is not there any more.
        """
        own, info = self.split.info, other.split.info
        if self.digest and self.digest == other.digest:
            same = own.name == info.name
            return len(np.intersect1d(self.split.places, other.split.places)) if same else 0
        for images in (self, other):
            images.check()
        if own.shape != info.shape:
            return 0
        known = set(other.contents)
        return sum(content in known for content in self.contents)

    def check(self) -> None:
        """Make sure that its folder holds the data that it is a slice of.

        Raises:
            ShardError, OSError: It does not.
        """
        root = self.split.info.files[0].parent
        if self.digest and data_digest(root) != self.digest:
            raise ShardError(f"{root}: holds other data now")

    @cached_property
    def contents(self) -> list[bytes]:
        """A digest of every image, the same however it is stored."""
        parts = range(0, len(self.split), _AT_ONCE)
        return [
            sha256(np.ascontiguousarray(image, np.float32))
            for first in parts
            for image in self.split.part(first, first + _AT_ONCE).images()
        ]


@dataclass(frozen=True)
class _Learnt:
    """A slice that a network has learnt from."""

    root: str
    slice_: str
    digest: str  # of its data; empty where unknown
    done: str  # what the network did with it
    use: str

    @cached_property
    def images(self) -> _Images:
        """Its images.

        Raises:
            ShardError, OSError: They are not there any more.
        """
        return _Images(open_split(self.root, self.slice_), self.digest)


def _trained_on(job: Job, known: str) -> list[_Learnt]:
    """What a job trains on: several sets, or a slice of the data of which a digest is known.

    After them those of its curriculum. Images that were simulated for it are in no set.
    """
    roots, first = (
        [(each.root, each.train, each.digest or "") for each in sets]
        for sets in (job.data.roots, job.data.curriculum)
    )
    own = [(job.data.root, job.data.train, known)] if job.data.simulate is None else []
    return [_Learnt(*of_set, "was trained on", "training") for of_set in [*(roots or own), *first]]


def _adapted_to(job: Job) -> list[_Learnt]:
    """The images without labels that a job is adapted to, as the only one of a list."""
    if (adaptation := job.task.adaptation) is None:
        return []
    to = adaptation.to
    return [_Learnt(to.root, to.slice, to.digest or "", "was adapted to", "unlabelled")]


def _seen_note(learnt: _Learnt, images: _Images, who: str = "network") -> str | None:
    """A sentence, where a network has learnt from some of the images, or where it is not known."""
    root, slice_, done, use = learnt.root, learnt.slice_, learnt.done, learnt.use
    try:
        count = images.shared_with(learnt.images)
    except (ShardError, OSError):
        return (
            f"whether these {images.called} are among those that the {who} {done} (slice "
            f"{slice_} of {root}, its {use} data) is not known: they are not there any more"
        )
    if not count:
        return None
    where = "" if learnt.digest == images.digest else f" of {root}"
    return (
        f"the {who} {done} {count} of these {len(images.split)} {images.called} (slice "
        f"{slice_}{where}, its {use} data), {images.harm}"
    )


def _twice_note(one: _Learnt, other: _Learnt) -> str | None:
    """A sentence, where two sets have some of the same images, or where it is not known."""
    first, second = (f"slice {learnt.slice_} of {learnt.root}" for learnt in (one, other))
    try:
        count, total = other.images.shared_with(one.images), len(other.images.split)
    except (ShardError, OSError):
        return (
            f"whether images of {second} are also in {first} is not known: they are not there any "
            "more"
        )
    if not count:
        return None
    of_all = counted_of(count, total, "image", "is", "are")
    return f"of {second}, {of_all} in {first} too, so that an epoch draws them for both"


def _origins(run: RunDir) -> Iterator[tuple[Job, str]]:
    """A training and the digest of its data, then the one that it started from, and so on."""
    visited: set[Path] = set()
    while run.path not in visited and (run.path / "job.yaml").is_file():
        visited.add(run.path)
        (job,) = load_jobs(run.path / "job.yaml")
        if not isinstance(job, Job):
            return
        yield job, str(read_metrics(run)["data"]["digest"]) if run.status().state == "done" else ""
        if job.train.init is None:
            return
        run = RunDir(Path(job.train.init))
