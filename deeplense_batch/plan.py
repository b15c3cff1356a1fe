"""From recipes to run directories: everything that can be checked before anything runs.

Nothing here loads torch, but for a model name outside the table: `submit` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deeplense_batch.data.shards import ShardError, Split, data_digest, open_split
from deeplense_batch.job import (
    AnyJob,
    Augment,
    Job,
    JobError,
    NotYetError,
    Resources,
    Simulation,
    TaskSection,
    nearest,
)
from deeplense_batch.models import MODELS, build, check_name, published
from deeplense_batch.models.weights import weights_file
from deeplense_batch.recipe import load_jobs
from deeplense_batch.rundir import RunBusyError, RunDir, Status, find_runs, now
from deeplense_batch.tasks import TASKS, build_task

if TYPE_CHECKING:
    from deeplense_batch.tasks.task import Task

__all__ = [
    "Planned",
    "data_notes",
    "find_classifier",
    "open_slices",
    "plan",
    "put_aside",
    "reopen",
]


@dataclass(frozen=True)
class Planned:
    """A job and the run directory its identity gives; the directory may not exist yet."""

    job: AnyJob
    run: RunDir
    digest: str  # of the data; of none for a simulation

    @property
    def training(self) -> Job:
        """The job of a run that trains."""
        assert isinstance(self.job, Job)
        return self.job

    @property
    def gone(self) -> bool:
        """Whether what the run made is no longer there, though its directory is."""
        if not isinstance(self.job, Simulation):
            return False
        out = Path(self.job.simulate.out)
        return not any((out / name).exists() for name in ("manifest.json", ".parts/plan.json"))

    @property
    def unfinished(self) -> bool:
        """Whether what several runs make together is not complete, though this one is done."""
        if not isinstance(self.job, Simulation):
            return False
        return not Path(self.job.simulate.out, "manifest.json").exists()

    def make(self) -> RunDir:
        """Make the run directory with its job, or find it made."""
        return RunDir.create(self.run.path, self.job.to_yaml())

    def take(self, element: str | None = None, *, seen: str | None = None) -> Status | None:
        """Have the run wait for this process, or for an element of an array of SLURM.

        Arguments:
            element: Of an array.
            seen: The element that it was last seen in, and that is known to have ended.

        Returns:
            What it was before; None, and nothing is changed, where it is somebody else's by now.
        """
        try:
            with self.run.claim():
                found = self.run.status()
                held = found.state in ("queued", "running")
                if held and (found.element is None or found.element != seen):
                    return None
                if found.state == "done" and not self.gone:
                    return None
                queued = replace(found, state="queued", reason=None, message=None)
                self.run.write_status(replace(queued, element=element, epochs=self.job.epochs))
                return found
        except RunBusyError:
            return None


def plan(jobs: Iterable[AnyJob], out: Path | str) -> list[Planned]:
    """Check jobs and find their run directories, ``out/<job>/<model>-s<seed>-<hash>``.

    Two jobs of one identity are one run.

    Raises:
        JobError: A task, or the same samples used twice.
        ModelError: A model.
        WeightsError: Pretrained weights that were not fetched.
        ShardError: Data, or a slice of them.
    """
    planned: dict[Path, Planned] = {}
    digests: dict[str, str] = {}
    sets: dict[str, Simulation] = {}
    # Checked by the names that were given, so that errors tell those.
    for given in map(_with_judge, map(_with_init, jobs)):
        if isinstance(given, Simulation):
            digest = _check_simulation(given)
        else:
            digest = _check_training(given, digests)
        job = _anchored(given)
        path = Path(out) / job.name / job.run_name(digest)
        if isinstance(job, Simulation):
            whole = job.model_copy(update={"part": 0, "name": "", "resources": Resources()})
            if sets.setdefault(job.simulate.out, whole) != whole:
                raise JobError(
                    f"{job.name}: two different sets in {job.simulate.out}; name a folder for each"
                )
        planned.setdefault(path, Planned(job, RunDir(path), digest))
    return list(planned.values())


def _check_training(job: Job, digests: dict[str, str]) -> str:
    """Check a job that trains; `digests` holds those of the data already seen."""
    if job.task.name not in TASKS:
        raise JobError(
            f"{job.name}: task.name: unknown '{job.task.name}'; {nearest(job.task.name, TASKS)}"
        )
    check_name(job.model.name)
    denoises = job.model.name in MODELS and MODELS[job.model.name].denoises
    if denoises and job.task.name != "generation":
        raise JobError(
            f"{job.name}: model.name: {job.model.name} takes noise from images, which task.name "
            f"generation learns, not {job.task.name}"
        )
    if not denoises and job.task.name == "generation":
        able = ", ".join(name for name, row in MODELS.items() if row.denoises)
        raise JobError(
            f"{job.name}: model.name: {job.model.name} gives no images, which task.name "
            f"generation learns; these do: {able}"
        )
    if job.task.name == "generation" and job.train.ema is None:
        raise JobError(
            f"{job.name}: train.ema: images are drawn with averaged weights; expected a decay "
            "below 1, such as 0.999"
        )
    if job.model.pretrained and job.train.init is None:
        for name in published(job.model.name, job.model.options):
            weights_file(name)
    if job.judge is not None:
        _check_judged(job)
    task = _check_options(job)
    try:
        if job.data.root not in digests:
            digests[job.data.root] = data_digest(job.data.root)
        slices = open_slices(job)
        if not slices["train"].info.classes and (task is None or task.needs_labels):
            raise ShardError(f"{job.data.root}: the images have no labels to learn")
        if task is not None and task.fixed_pixels:
            _check_fixed(job, set(task.reads) & set(slices["train"].truths()))
    except ShardError as error:
        raise ShardError(f"{job.name}: {error}") from error
    return digests[job.data.root]


def _check_simulation(job: Simulation) -> str:
    from deeplense_batch.data.simulate import check  # loads torch

    if job.part >= job.parts:
        raise JobError(f"{job.name}: part: {job.part} of {job.parts} parts; they count from 0")
    section = job.simulate
    try:
        check(section.kind, images=section.images, **section.options)
    except ShardError as error:
        raise JobError(f"{job.name}: {error}") from error
    return ""


def open_slices(job: Job) -> dict[str, Split]:
    """Open the slices ``train``, ``valid`` and ``test`` of a job.

    Raises:
        ShardError: The data or a slice are not there, or the crop is larger than the images.
        JobError: Two slices share samples.
    """
    slices = {use: open_split(job.data.root, getattr(job.data, use)) for use in _USES}
    for i, one in enumerate(_USES):
        for other in _USES[i + 1 :]:
            a, b = slices[one], slices[other]
            same = a.info.name == b.info.name
            if same and max(a.start, b.start) < min(a.stop, b.stop):
                raise JobError(
                    f"{job.name}: data.{one} '{getattr(job.data, one)}' and data.{other} "
                    f"'{getattr(job.data, other)}' share samples; no image may be in two of them"
                )
    shape = slices["train"].info.shape
    for split in slices.values():
        if split.info.shape != shape or split.info.classes != slices["train"].info.classes:
            raise ShardError(
                f"{job.data.root}: splits {slices['train'].info.name} and {split.info.name} "
                "differ in shape or classes"
            )
    if job.data.crop is not None and job.data.crop > min(shape[1:]):
        raise ShardError(
            f"{job.data.root}: data.crop asks for {job.data.crop} pixels, "
            f"the images have {shape[1]} x {shape[2]}"
        )
    return slices


def data_notes(root: Path | str) -> list[str]:
    """What packing found wrong with the data, which a reader of scores should know."""
    try:
        manifest = json.loads((Path(root) / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [f"data: {warning}" for warning in manifest.get("warnings", [])]


def reopen(path: Path | str) -> Planned:
    """Find the job of a run directory and make sure that they belong together.

    Where the data cannot be read the digest is empty, and the run will say so: it may be that this
    node lacks what the one that planned the run had.

    Raises:
        JobError: There is no job, or its identity is not the directory's name: the job was
            edited, or the data have changed.
    """
    run = RunDir(Path(path).absolute())
    if not (run.path / "job.yaml").is_file():
        raise JobError(f"{path}: is no run directory, it has no job.yaml")
    (job,) = load_jobs(run.path / "job.yaml")
    digest = ""
    if isinstance(job, Job):
        try:
            digest = data_digest(job.data.root)
        except ShardError:
            return Planned(job, run, digest)
    if run.path.name != job.run_name(digest):
        data = f" and the data in {job.data.root}" if isinstance(job, Job) else ""
        raise JobError(
            f"{path}: its job.yaml{data} give the run {job.run_name(digest)}; "
            "one of them was changed after it was made"
        )
    return Planned(job, run, digest)


def put_aside(run: RunDir) -> Path:
    """Move a run directory out of the way, to start over; nothing is deleted."""
    aside = run.path.parent / ".old" / f"{run.path.name}-{now().replace(':', '')}"
    aside.parent.mkdir(exist_ok=True)
    run.path.rename(aside)
    (aside / "claim").unlink(missing_ok=True)
    return aside


def _check_options(job: Job) -> Task | None:
    """Try the options of task and model, which only they can judge, where there are any.

    That loads torch; jobs of the plain task without options of the model are checked without it.
    """
    task = None
    try:
        if job.task != TaskSection():
            task = build_task(job.task.name, classes=("a", "b"), **job.task.options)
    except (ValueError, TypeError) as error:
        raise JobError(f"{job.name}: {error}") from error
    if job.model.options:
        import torch

        with torch.device("meta"):
            size = job.data.size or job.data.crop or 224
            build(job.model.name, channels=1, classes=2, size=size, **job.model.options)
    return task


def _check_fixed(job: Job, truth: set[str]) -> None:
    """Make sure that images stay where their truth is, for a task that needs that."""
    augment, still = job.data.augment, Augment()
    moving = [f"data.augment.{name}" for name in _MOVING
              if getattr(augment, name) != getattr(still, name)]  # fmt: skip
    moving += ["data.tta"] * job.data.tta + ["train.mixup"] * bool(job.train.mixup)
    if truth and moving:
        raise JobError(
            f"{job.name}: {moving[0]}: task {job.task.name} compares images with the truth of "
            f"their pixels (truth/{min(truth)}), which this would move; switch it off, or "
            "task.options.truth"
        )


def _with_init(job: AnyJob) -> AnyJob:
    """The job with the run it starts from, where a job's folder was named: its counterpart.

    Raises:
        NotYetError: There is none, or it has no weights yet.
        JobError: There are several.
    """
    if not isinstance(job, Job) or job.train.init is None:
        return job
    place = Path(job.train.init)
    if place.is_dir() and not (place / "job.yaml").exists():
        start = job.run_name("").rpartition("-")[0] + "-"
        runs = [path for path in sorted(place.iterdir()) if path.name.startswith(start)]
        if len(runs) > 1:
            raise JobError(
                f"{job.name}: train.init: {place} has {len(runs)} runs {start}...; name one"
            )
        place = runs[0] if runs else place / f"{start}..."
    if not (place / "best.pt" if place.is_dir() else place).is_file():
        raise NotYetError(
            f"{job.name}: train.init: {place}: no weights there; expected a run that has trained, "
            "or a .pt or .safetensors file"
        )
    train = job.train.model_copy(update={"init": str(place.absolute())})
    return job.model_copy(update={"train": train})


def _with_judge(job: AnyJob) -> AnyJob:
    """The job with the run of the classifier that judges, where its job's folder was named."""
    if not isinstance(job, Job) or job.judge is None or job.judge.classifier is None:
        return job
    run = find_classifier(Path(job.judge.classifier), f"{job.name}: judge.classifier")
    section = job.judge.model_copy(update={"classifier": str(run.absolute())})
    return job.model_copy(update={"judge": section})


def find_classifier(place: Path, asked: str) -> Path:
    """The run directory of a classifier that judges.

    Only one judges, since features of two networks do not compare.

    Arguments:
        place: It, or its job's folder.
        asked: Where it was named.

    Raises:
        NotYetError: There is none, or it is not done.
        JobError: There are several, or it tells no classes apart.
    """
    runs = find_runs(place)
    if len(runs) > 1:
        raise JobError(f"{asked}: {place} has {len(runs)} runs; name one, which judges all alike")
    if not runs or runs[0].status().state != "done":
        raise NotYetError(
            f"{asked}: {place}: no finished run there; expected that of a classifier"
        )
    (job,) = load_jobs(runs[0].path / "job.yaml")
    if not isinstance(job, Job) or job.task.name in ("generation", "regression"):
        raise JobError(
            f"{asked}: {runs[0].path} tells no classes apart; expected a run of a classifier"
        )
    return runs[0].path


def _check_judged(job: Job) -> None:
    """Make sure that the images of a job can be judged.

    Raises:
        JobError: It generates none, or none that can be given back.
    """
    assert job.judge is not None
    if job.task.name != "generation":
        raise JobError(
            f"{job.name}: judge: task.name {job.task.name} makes no images to judge; only "
            "generation does"
        )
    if job.data.stretch != "linear":
        raise JobError(
            f"{job.name}: judge: images of data.stretch {job.data.stretch} cannot be given back "
            "to be judged; expected linear"
        )
    conditions = job.task.options.get("conditions", ())
    if job.judge.useful and (job.judge.classifier is None or "class" not in conditions):
        raise JobError(
            f"{job.name}: judge.useful: needs judge.classifier, whose recipe is trained on the "
            "images, and task.options.conditions: [class], which labels them"
        )


def _anchored(job: AnyJob) -> AnyJob:
    """The job with its data by absolute path: its run directory is read from anywhere."""
    if isinstance(job, Simulation):
        out = str(Path(job.simulate.out).absolute())
        return job.model_copy(update={"simulate": job.simulate.model_copy(update={"out": out})})
    root = str(Path(job.data.root).absolute())
    return job.model_copy(update={"data": job.data.model_copy(update={"root": root})})


_USES = ("train", "valid", "test")
_MOVING = ("flips", "dihedral", "degrees", "translate", "scale")  # of `Augment`
