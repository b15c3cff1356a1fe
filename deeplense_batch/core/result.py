"""`metrics.json`: the result of a run that is done, its schema, its one writer and its one reader.

Comments name who writes a section: T a training, E an evaluation, S a simulation; without a
letter, all do. Numbers that JSON does not know are null. Names of this file are promises:
`collect` and other programs read them.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from deeplense_batch.core.rundir import RunDir, RunDirError

__all__ = [
    "OF_A_BASELINE",
    "Cost",
    "DataUsed",
    "Metrics",
    "Tested",
    "Validated",
    "note_scored",
    "outcome",
    "read_metrics",
    "read_scores",
    "scored_recipes",
    "write_metrics",
]

# Scores of what restored images are held against, beside those of the network: psnr_bicubic.
OF_A_BASELINE = re.compile(r"_(nearest|bilinear|bicubic|fitted|noise_free)(_clean)?$")

_FILE = "metrics.json"
_SCHEMA = 1
_SCORED = ".scored"  # folder beside those of the jobs

_log = logging.getLogger(__name__)

Scores = Mapping[str, float | None]  # None where undefined, such as an AUC of one class


class DataUsed(TypedDict, total=False):
    """The data: what they are, and which slices."""

    digest: str | None  # 16 hex digits; null where a simulation is not complete
    classes: list[str]
    train: str  # slices, such as val[:50%]; T: this one, or `roots`
    valid: str
    test: str
    samples: dict[str, int]  # of each slice; of train over all `roots`
    # T, of a training on several sets: name of the folder, train, weight, digest, samples of each;
    # `digest` above is that of the data that it is tested on
    roots: list[dict[str, Any]]
    # T, of a curriculum: name of the folder, train, epochs, digest, samples of each set that was
    # trained on first; their images are not among `samples`
    curriculum: list[dict[str, Any]]
    # T, of new images in place of those of `train`, by which they are normalised: `data.simulate`
    # of the recipe; `samples` of train are those of an epoch
    simulate: dict[str, Any]


class Validated(TypedDict):
    """The best epoch."""

    monitor: str  # name of the score that picks it
    chosen_by: str  # that name, or ``loss`` where it was never defined
    epoch: int | None  # null of an ensemble
    scores: Scores  # none of an ensemble whose members have other validation slices


class Tested(TypedDict):
    """What the best weights are worth on the test slice."""

    scores: Scores
    notes: list[str]  # sentences that a reader of the scores should know
    tta: bool  # whether over the 8 symmetries of the square
    scored: int  # images that the scores are of
    class_counts: dict[str, int]
    # Where the set has truth beside it: AUC and recall by how visible substructure is
    # (`core.scoring.by_detectability.score`).
    by_delta_chi2: NotRequired[dict[str, Any]]


class Cost(TypedDict, total=False):
    """Seconds are wall time; of ``train``, ``evaluate`` and ``checkpoint`` over all attempts."""

    epochs: int
    attempts: int
    load_seconds: float
    train_seconds: float
    evaluate_seconds: float  # validation
    checkpoint_seconds: float  # that the training waited for copies and for the disk
    test_seconds: float
    simulate_seconds: float
    images_per_s: float  # of training, the median epoch: the first one compiles; or simulated
    peak_memory_gb: float  # of the GPU, images that are kept there included; or of this process
    parameters: int
    device_hours: float  # of every device over every attempt
    gflops: float | None  # of a forward pass of one image
    joules: float | None  # of the GPUs; null where not measured over the whole run


class Metrics(TypedDict, total=False):
    """The whole file."""

    schema: int
    job: str
    run: str
    model: str  # TE
    seed: int  # TE
    identity: str  # TE, of the run
    learns: str | None  # TE, what is regressed, where a task has a choice
    data: DataUsed
    valid: Validated  # TE; of an evaluation, that of the run that it evaluates
    test: Tested  # TE
    cost: Cost
    engine: dict[str, Any]  # T, as carried out
    resolved: dict[str, Any]  # T, what the recipe leaves open (`training.resolved`)
    device: dict[str, Any]  # TE, on which it was trained
    judged: dict[str, Any]  # E, of generated images: each measure, and that of real ones
    # E, the run that was scored: path, identity, weights, task, digest of its data, recipe; and
    # on which device. Of an ensemble `members`, path, identity and weights of each, and of their
    # recipes what they have in common.
    evaluated: dict[str, Any]
    made: int  # S, images
    summary: str  # a sentence for a terminal
    versions: dict[str, str]
    commit: str | None


def write_metrics(directory: RunDir, metrics: Metrics) -> None:
    """Write the result of a run, whole or not at all."""
    directory.write_json(_FILE, {"schema": _SCHEMA, **metrics})


def read_metrics(directory: RunDir) -> Metrics:
    """Read the result of a run that is done.

    Raises:
        RunDirError: It is missing, damaged, or of another schema.
    """
    try:
        content = directory.read_json(_FILE)
    except FileNotFoundError:
        fault = "is missing, though the run is said to be done"
        raise RunDirError(directory.path / _FILE, fault) from None
    if content.get("schema") != _SCHEMA:
        fault = f"has schema {content.get('schema')!r}, expected {_SCHEMA}"
        raise RunDirError(directory.path / _FILE, fault)
    return Metrics(**content)  # type: ignore[typeddict-item]  # of any keys, which a reader checks


def read_scores(directory: RunDir) -> dict[str, float | None]:
    """Scores on the test slice of a run that is done.

    Raises:
        RunDirError: As `read_metrics`; or it holds none.
    """
    try:
        return dict(read_metrics(directory)["test"]["scores"])
    except (KeyError, TypeError) as error:
        raise RunDirError(directory.path / _FILE, "holds no scores of a run") from error


def note_scored(directory: RunDir, digest: str, slice_: str, recipe: str) -> None:
    """Remember that a recipe was scored on a slice, whatever becomes of the run's directory.

    Arguments:
        directory: Of the run, in the folder of its job.
        digest: Of the data.
        slice_: Of them, such as ``val[:50%]``.
        recipe: Names the recipe, whatever its seed.
    """
    folder = _scored(directory.path.parent.parent, digest, slice_)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / recipe).exists():
            (folder / recipe).touch()
    except OSError as error:  # a result is worth more than a note of it
        _log.warning("%s: not noted that this slice was scored: %s", folder, error.strerror)


def scored_recipes(root: Path, digest: str, slice_: str) -> int:
    """How many recipes were ever scored on a slice, by runs below a folder or of its sister jobs.

    Arguments:
        root: Folder of jobs, or of one job.
        digest: Of the data.
        slice_: Of them.
    """
    recipes: set[str] = set()
    for folder in (root, root.absolute().parent):
        with contextlib.suppress(OSError):
            recipes |= {path.name for path in _scored(folder, digest, slice_).iterdir()}
    return len(recipes)


def _scored(folder: Path, digest: str, slice_: str) -> Path:
    return folder / _SCORED / digest / re.sub(r"[^\w%.-]", "_", slice_)


def outcome(metrics: Metrics) -> str:
    """The result in a line: every score that is defined, or what was done where there are none.

    A score of generated images has that of real ones in brackets. Of restored images those of the
    network are shown, and not those of interpolation.
    """
    scores = metrics["test"]["scores"] if "test" in metrics else {}
    shown = []
    for name, score in scores.items():
        if score is not None and not name.endswith("_real") and not OF_A_BASELINE.search(name):
            real = scores.get(f"{name}_real")
            shown.append(f"{name} {score:.4f}" + ("" if real is None else f" (real {real:.4f})"))
    if not shown:
        return metrics["summary"]
    tested = f"test {', '.join(shown)}"
    if "valid" not in metrics or "evaluated" in metrics:
        return tested
    name = metrics["valid"]["monitor"]
    score = metrics["valid"]["scores"].get(name)
    return tested if score is None else f"validation {name} {score:.4f}; {tested}"
