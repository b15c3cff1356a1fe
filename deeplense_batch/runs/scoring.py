"""The outputs of a network on labelled images, as scores, `outputs.npz` and figures of a run.

With them go notes on what a reader of scores should know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from deeplense_batch.data.shards import ShardError, Split, data_digest, open_split
from deeplense_batch.report.columns import score_name
from deeplense_batch.simulation.truth.known import known_delta_chi2
from deeplense_batch.tasks.task import Arrays, Task

__all__ = ["data_notes", "keep_outputs", "score_outputs", "seen_notes", "summary_of"]

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
    """Write outputs into a file of a run, with the names of the classes; it is replaced whole."""
    temporary = directory.path / f".{name}.tmp.npz"
    arrays: dict[str, Any] = {"classes": np.asarray(task.classes), **outputs}
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


def data_notes(root: Path | str) -> list[str]:
    """What packing found wrong with the data, which a reader of scores should know."""
    path = Path(root) / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        warnings = [str(warning) for warning in manifest.get("warnings", [])]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError, TypeError):
        warnings = [f"{path.name} cannot be read, so that what packing warned of is not known"]
    return [f"data: {warning}" for warning in warnings]


def seen_notes(run: RunDir, split: Split, digest: str) -> list[str]:
    """Say how many of the images that weights are scored on they have learnt from.

    Slices of the same data are compared by place, those of other data by the content of every
    image. What the weights started from (`train.init`) counts too.

    Arguments:
        run: A training, which left the weights.
        split: The images.
        digest: Of the data that they belong to.
    """
    notes = []
    for job, known in _origins(run):
        for slice_, done, use in (
            (job.data.train, "was trained on", "training"),
            (job.data.valid, "was picked by", "validation"),
        ):
            try:
                count = _shared(open_split(job.data.root, slice_), known, split, digest)
            except (ShardError, OSError):
                notes.append(f"whether these images are among those that the network {done} "
                             f"(slice {slice_} of {job.data.root}, its {use} data) is not known: "
                             "they are not there any more")  # fmt: skip
                continue
            if count:
                where = "" if known == digest else f" of {job.data.root}"
                notes.append(f"the network {done} {count} of these {len(split)} images (slice "
                             f"{slice_}{where}, its {use} data), which flatters it")  # fmt: skip
    return notes


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


def _shared(learnt: Split, known: str, split: Split, digest: str) -> int:
    """How many images of a slice are among those of another, which is of the data `known`."""
    if known == digest:
        if learnt.info.name != split.info.name:
            return 0
        return max(0, min(learnt.stop, split.stop) - max(learnt.start, split.start))
    if known and data_digest(learnt.info.files[0].parent) != known:
        raise ShardError(f"{learnt.info.files[0].parent}: holds other data now")
    if learnt.info.shape != split.info.shape:
        return 0
    seen = set(_contents(learnt))
    return sum(content in seen for content in _contents(split))


def _contents(split: Split) -> Iterator[bytes]:
    """A digest of every image, the same however it is stored."""
    for first in range(split.start, split.stop, _AT_ONCE):
        piece = replace(split, start=first, stop=min(first + _AT_ONCE, split.stop))
        for image in piece.images():
            yield sha256(np.ascontiguousarray(image, np.float32))
