"""The earlier runs that a job names: what a training starts from, and what an evaluation is of."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from deeplense_batch.core.job import (
    AnyJob,
    EvaluatedData,
    Evaluation,
    Job,
    JobError,
    NotYetError,
)
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import RunDir, RunDirError, find_runs
from deeplense_batch.data.shards import ShardError, data_digest, read_splits
from deeplense_batch.inference.ensembles.members import (
    Member,
    by_recipe,
    check_members,
    trainings_in,
)
from deeplense_batch.models import MODELS
from deeplense_batch.runs.planning.making_images import masks
from deeplense_batch.runs.planning.validate import Memo
from deeplense_batch.tasks import MAKING_IMAGES

__all__ = ["find_classifier", "with_earlier"]

_log = logging.getLogger(__name__)


def with_earlier(job: AnyJob, memo: Memo) -> list[AnyJob]:
    """The job with a run directory in place of each folder of a job that it names.

    Arguments:
        job: The job.
        memo: Remembers the earlier runs that other jobs of the plan have asked for.

    Returns:
        The job; an evaluation of a job's folder is one for each run in it.

    Raises:
        NotYetError: A run that it names does not exist, or has not finished.
        JobError: Several runs fit, or the run cannot be used for this.
    """
    if isinstance(job, Evaluation):
        return [*_evaluations(job)]
    return [_with_init(job, memo)]


def find_classifier(folder: Path, field: str) -> Path:
    """The run directory of a classifier that judges.

    Only one judges, since features of two networks do not compare.

    Arguments:
        folder: Its run directory, or the folder of its job.
        field: Of the recipe, that names it: begins the sentence of an error.

    Raises:
        NotYetError: There is none, or it is not done.
        JobError: There are several, or it tells no classes apart.
    """
    runs = find_runs(folder)
    if len(runs) > 1:
        raise JobError(f"{field}: {folder} has {len(runs)} runs; name one, which judges all alike")
    try:
        done = bool(runs) and runs[0].status().state == "done"
    except RunDirError as error:
        raise JobError(f"{field}: {error}") from None
    if not done:
        raise NotYetError(
            f"{field}: {folder}: no finished run there; expected that of a classifier", folder
        )
    (job,) = load_jobs(runs[0].path / "job.yaml")
    if not isinstance(job, Job) or job.task.name in (*MAKING_IMAGES, "masked", "regression"):
        raise JobError(
            f"{field}: {runs[0].path} tells no classes apart; expected a run of a classifier"
        )
    return runs[0].path


def _with_init(job: AnyJob, memo: Memo) -> AnyJob:
    """The job with the run it starts from, where a job's folder was named: its counterpart.

    Raises:
        NotYetError: There is none, or it has no weights yet.
        JobError: There are several.
    """
    if not isinstance(job, Job) or job.train.init is None:
        return job
    path = Path(job.train.init)
    if path.is_dir() and not (path / "job.yaml").exists():
        own = job.model_copy(update={"train": job.train.model_copy(update={"init": None})})
        start = own.run_name("").rpartition("-")[0] + "-"
        beginnings = memo.once(("beginnings", path), partial(_by_beginning, path))
        runs = beginnings.get(start, []) or _autoencoders(job, path, beginnings)
        if len(runs) > 1:
            alike = runs[0].name.rpartition("-")[0]
            raise JobError(
                f"{job.name}: train.init: {path} has {len(runs)} runs {alike}-...; name one"
            )
        path = runs[0] if runs else path / f"{start}..."
    if not (path / "best.pt" if path.is_dir() else path).is_file():
        raise NotYetError(
            f"{job.name}: train.init: {path}: no weights there; expected a run that has trained, "
            "or a .pt, .pth, .ckpt or .safetensors file",
            Path(job.train.init),
        )
    _check_encoder(job, path, memo)
    train = job.train.model_copy(update={"init": str(path.absolute())})
    return job.model_copy(update={"train": train})


def _autoencoders(job: Job, folder: Path, runs: Mapping[str, list[Path]]) -> list[Path]:
    """Runs of the same seed that have trained the encoder of a job in a masked autoencoder.

    Arguments:
        job: Of the network that starts from it.
        folder: Of another job.
        runs: In it, by the beginnings of their names.

    Raises:
        JobError: They have trained another encoder.
    """
    found: dict[str | None, list[Path]] = {}
    for name, row in MODELS.items():
        for path in runs.get(f"{name}-s{job.seed}-", []) if row.masks else ():
            found.setdefault(_masked_encoder(path), []).append(path)
    fitting = found.get(_encoder(job), [])
    if found and not fitting:
        raise _other_encoder(job, folder, " and ".join(map(str, found)))
    return fitting


def _check_encoder(job: Job, init: Path, memo: Memo) -> None:
    """Make sure that a network that starts from a masked autoencoder has its encoder.

    Arguments:
        job: Of the network.
        init: A run directory, or a file of weights.
        memo: Remembers what other jobs of the plan have asked for.

    Raises:
        JobError: It has another, or none.
    """
    run = init.parent if init.name == "best.pt" else init
    trained = memo.once(("masked encoder", run), partial(_masked_encoder, run))
    if trained is not None and trained != _encoder(job):
        raise _other_encoder(job, init, trained)


def _other_encoder(job: Job, place: Path, trained: str) -> JobError:
    """That a network cannot start from masked autoencoders of other encoders."""
    expected, got = "that as model.name", job.model.name
    if job.task.name == "restoration":
        able = " or ".join(name for name, row in MODELS.items() if row.restores and row.backbones)
        expected = f"model.name {able} with that as model.options.encoder"
        got += f" with {own}" if (own := _encoder(job)) else ""
    return JobError(
        f"{job.name}: train.init: {place} has trained the encoder {trained}; expected "
        f"{expected}, got {got}"
    )


def _masked_encoder(run: Path) -> str | None:
    """The encoder of the masked autoencoder of a run directory; None of other runs and files."""
    if not (run / "job.yaml").is_file():
        return None
    with contextlib.suppress(JobError):
        (trained,) = load_jobs(run / "job.yaml")
        if isinstance(trained, Job) and masks(trained):
            row = MODELS[trained.model.name]
            return str(trained.model.options.get("encoder", row.backbones["encoder"]))
    return None


def _encoder(job: Job) -> str | None:
    """The Vision Transformer that the network of a job is, or restores images with."""
    row = MODELS.get(job.model.name)
    if row is None or not row.restores:
        return job.model.name
    found = job.model.options.get("encoder", row.backbones.get("encoder"))
    return None if found is None else str(found)


def _by_beginning(folder: Path) -> dict[str, list[Path]]:
    """What lies in a folder, by the beginnings of its names that end in a dash."""
    paths: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        for dash in re.finditer("-", path.name):
            paths.setdefault(path.name[: dash.end()], []).append(path)
    return paths


def _evaluations(job: Evaluation) -> Iterator[Evaluation]:
    """One evaluation for each run, or ensemble, of a job, with all it leaves open filled in.

    Raises:
        NotYetError: A run is not there, or not done.
        JobError: It has no network, or runs are no ensemble.
    """
    section = job.evaluate
    update: dict[str, object] = {}
    if section.classifier is not None:
        field = f"{job.name}: evaluate.classifier"
        update["classifier"] = str(find_classifier(Path(section.classifier), field).absolute())
    found: list[Member] = []
    for place in map(Path, section.runs):
        try:
            runs = trainings_in(place)
        except JobError as error:
            raise JobError(f"{job.name}: evaluate.run: {error}") from None
        if not runs:
            raise NotYetError(
                f"{job.name}: evaluate.run: {place}: no run there; one has to be done", place
            )
        found += [_finished(job, run) for run in runs]
    for members in _ensembles(job, found) if section.ensemble else [[one] for one in found]:
        paths = [str(member.path.absolute()) for member in members]
        update["run"] = tuple(paths) if section.ensemble else paths[0]
        update["data"] = _evaluated_data(job, members)
        update["tta"] = _tta_asked(section.tta, members)
        yield job.model_copy(update={"evaluate": section.model_copy(update=update)})


def _tta_asked(given: bool | None, members: Sequence[Member]) -> bool | None:
    """None where what is asked for is what all do without: one evaluation has one identity."""
    own = {None if m.job.task.name in MAKING_IMAGES else m.job.data.tta for m in members}
    return None if own == {given} else given


def _ensembles(job: Evaluation, members: Sequence[Member]) -> Iterator[Sequence[Member]]:
    """The ensembles that a job means: of a list one, of a folder one for each recipe in it.

    Raises:
        JobError: A run is alone, or members have learnt different things.
    """
    place = f"{job.name}: evaluate.run"
    members = sorted(members, key=lambda member: member.path.name)
    groups = by_recipe(members) if isinstance(job.evaluate.run, str) else [members]
    several = [group for group in groups if len(group) > 1]
    for group in several or groups:
        check_members(group, place)
        yield group
    for group in groups if several else ():
        if len(group) == 1:
            _log.warning("%s: left out %s, which no other run differs from in its seed alone",
                         place, group[0].path)  # fmt: skip


def _finished(job: Evaluation, run: RunDir) -> Member:
    """A run that is evaluated."""
    try:
        state = run.status().state
    except RunDirError as error:
        raise JobError(f"{job.name}: evaluate.run: {error}") from None
    if state != "done":
        raise NotYetError(f"{job.name}: evaluate.run: {run.path} is {state}, not done", run.path)
    (trained,) = load_jobs(run.path / "job.yaml")
    if not isinstance(trained, Job):
        raise JobError(
            f"{job.name}: evaluate.run: {run.path} has no network; expected a run that has trained"
        )
    return Member.read(run, trained)


def _evaluated_data(job: Evaluation, members: Sequence[Member]) -> EvaluatedData:
    """Root and slice, where a recipe leaves them open.

    Raises:
        JobError: It is open which, or members of an ensemble have other data of their own.
    """
    first, *others = (_data_of(job, member) for member in members)
    digests = {member.digest for member in members} if job.evaluate.data.root is None else ()
    if len(digests) > 1 or any(other.slice != first.slice for other in others):
        ends = zip(members, (first, *others), strict=True)
        listed = ", ".join(f"{member.path.name} on {d.slice} of {d.root}" for member, d in ends)
        raise JobError(
            f"{job.name}: evaluate.data: the members were tested on different images, {listed}; "
            "name data and slice"
        )
    return first


def _data_of(job: Evaluation, member: Member) -> EvaluatedData:
    """Root and slice of one run."""
    given, own = job.evaluate.data, member.job.data
    root = own.root if given.root is None else str(Path(given.root).absolute())
    if given.slice is not None:
        return EvaluatedData(root=root, slice=given.slice)
    splits = [*read_splits(root)]
    if given.root is None or data_digest(root) == _digest_of(member.job):
        return EvaluatedData(root=root, slice=own.test)
    if "test" not in splits and len(splits) > 1:
        raise JobError(
            f"{job.name}: evaluate.data.slice: {root} has {', '.join(splits)}; name a slice"
        )
    return EvaluatedData(root=root, slice="test" if "test" in splits else splits[0])


def _digest_of(trained: Job) -> str | None:
    try:
        return data_digest(trained.data.root)
    except ShardError:  # the data of the training are gone
        return None
