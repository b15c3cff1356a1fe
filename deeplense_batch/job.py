"""A job: what one run does, checked strictly, and named by what changes its result.

Its identity is a hash over everything that changes the result, defaults included, and over the
data. `recipe` reads jobs from YAML.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from deeplense_batch import yaml_text

__all__ = [
    "SCHEMA",
    "AnyJob",
    "Augment",
    "Job",
    "JobError",
    "JudgeSection",
    "NotYetError",
    "OverrideError",
    "Resources",
    "Simulation",
    "TaskSection",
    "flat_fields",
    "nearest",
]

SCHEMA = 2  # rises when a field or its default changes; part of every identity


class JobError(ValueError):
    """A recipe, or an override of one, is not what was asked for."""

    exit_code = 3


class NotYetError(JobError):
    """A run needs another that has not trained yet.

    Arguments:
        message: One sentence.
        folder: Of that run or its job, as it was named.
    """

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder


class OverrideError(JobError):
    """A value given on the command line is the one that is wrong."""

    exit_code = 2


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TaskSection(_Section):
    """What is learnt."""

    name: str = "classification"
    options: dict[str, Any] = {}  # keyword arguments of the task


class ModelSection(_Section):
    """What learns."""

    name: str
    pretrained: bool = False
    adapt: Literal["sum", "mean"] = "sum"  # of pretrained colours, where there is one channel
    options: dict[str, Any] = {}  # keyword arguments of the model


class Augment(_Section):
    """Random changes of a training image, drawn anew for every epoch and sample."""

    flips: bool = False  # left for right, top for bottom, each or both; exact
    dihedral: bool = False  # one of the 8 symmetries of the square, flips among them; exact
    degrees: float = Field(0.0, ge=0, le=180)  # rotation within +- this angle
    translate: float = Field(0.0, ge=0, lt=1)  # shift within +- this share of the size
    scale: Annotated[tuple[float, float], BeforeValidator(_tuple)] = (1.0, 1.0)  # from, to
    blur: float = Field(0.0, ge=0)  # largest sigma of a Gaussian, pixels; drawn from 0 on
    noise: float = Field(0.0, ge=0)  # sd of white noise, of the normalised image

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale should rise from above 0")
        return self


class DataSection(_Section):
    """What is learnt from: slices of the splits of a folder of shards."""

    root: str
    train: str = "train"
    valid: str = "val[:50%]"
    test: str = "val[50%:]"
    crop: int | None = Field(None, ge=8)  # central pixels kept, before resizing
    size: int | None = Field(None, ge=8)  # pixels after resizing; none: as stored
    stretch: Literal["linear", "asinh", "log"] = "linear"
    augment: Augment = Augment()
    tta: bool = False  # scores of the mean over the 8 symmetries of the square


class TrainSection(_Section):
    """How it is learnt."""

    init: str | None = None  # weights to start from: a run, its job's folder, or a file
    epochs: int = Field(15, ge=1)
    batch_size: int = Field(64, ge=1)  # global: over all processes and micro-batches
    micro_batch: int | None = Field(None, ge=1)  # samples at once on a process; none: its share
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(3e-4, gt=0)
    head_lr: float | None = Field(None, gt=0)  # rate of the classifier, where it is another
    freeze: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = ()  # prefixes of parameters
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["constant", "cosine", "onecycle", "plateau"] = "plateau"
    warmup: float = Field(0.0, ge=0)  # epochs of linear warm-up
    patience: int | None = Field(None, ge=1)  # epochs without a rise that end the training
    clip: float | None = Field(None, gt=0)  # largest norm of the gradient
    mixup: float = Field(0.0, ge=0)  # alpha of its Beta distribution; 0 is off
    balance: Literal["none", "weights", "sampler"] = "none"  # of rare classes
    ema: float | None = Field(None, gt=0, lt=1)  # decay of averaged weights, which are then scored
    amp: Literal["off", "bf16", "fp16", "auto"] = "off"
    sync_bn: bool = False  # batch-norm statistics over all processes


class JudgeSection(_Section):
    """How the images of a run that generates are judged when it has trained (`judge`).

    Not part of the identity, since it changes nothing that is learnt.
    """

    classifier: str | None = None  # a run, or its job's folder, whose features are compared
    images: int | None = Field(None, ge=8)  # that are drawn; none: as many as the test slice has
    sampler: Literal["ddpm", "ddim", "dpmpp", "heun"] = "dpmpp"
    steps: int = Field(25, ge=1)  # of the sampler
    guidance: float = 1.0  # how closely conditions are followed; 1 is as trained
    useful: bool = False  # train the classifier anew on these images, and on as many originals


class Engine(_Section):
    """How it is computed; not part of the identity, since the result is meant to be the same."""

    resident: Literal["auto", "device", "host", "off"] = "auto"  # where the images are kept
    channels_last: bool = False
    compile: bool = False
    checkpoint_minutes: float = Field(10.0, gt=0)


class Resources(_Section):
    """What a run needs of a machine, or of several; not part of its identity."""

    gpus: int = Field(1, ge=0, le=64)  # over all nodes, a process each
    processes: int | None = Field(None, ge=1, le=64)  # on CPUs; none: one
    nodes: int = Field(1, ge=1)  # that SLURM shares the processes among
    cpus: int = Field(1, ge=1)  # of each process
    memory_gb: float = Field(8.0, gt=0)  # of each node
    hours: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _shared_out(self) -> Self:
        if self.gpus and self.processes not in (None, self.gpus):
            raise ValueError(f"processes should be left out, {self.gpus} GPUs are a process each")
        if self.tasks % self.nodes:
            raise ValueError(f"{self.tasks} processes do not share out over {self.nodes} nodes")
        return self

    @property
    def tasks(self) -> int:
        """Processes of the run, over all nodes."""
        return self.gpus or self.processes or 1


class _Named(_Section):
    """What every run has."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=100)
    seed: int = Field(0, ge=0, lt=2**32)

    def to_yaml(self) -> str:
        """Write the resolved job, defaults included, as a recipe that `recipe.load_jobs` reads."""
        return yaml_text.dump(self.model_dump(mode="json"))


class Job(_Named):
    """One training: a recipe with nothing left open.

    `run_name` and `identity` need the digest of the data (`data.shards.data_digest`).
    """

    task: TaskSection = TaskSection()
    model: ModelSection
    data: DataSection
    train: TrainSection = TrainSection()
    judge: JudgeSection | None = None
    engine: Engine = Engine()
    resources: Resources = Resources()

    @property
    def label(self) -> str:
        """What tells it from the other runs of its job, with the seed."""
        return self.model.name

    @property
    def epochs(self) -> int:
        """Epochs that the run lasts at most."""
        return self.train.epochs

    def identity(self, data_digest: str) -> str:
        """Hash what changes the result of the run: 10 hex digits.

        The name, judge, engine, resources and the place of the data do not count; the data's
        content does, and the name of the run, or the content of the file, that it starts from.

        Raises:
            JobError: What it starts from is gone.
        """
        fields = self.model_dump(mode="json", exclude={"name", "judge", "engine", "resources"})
        del fields["data"]["root"]
        if self.train.init is not None:
            fields["train"]["init"] = _named(Path(self.train.init))
        return _hash({"data_digest": data_digest} | fields)

    def run_name(self, data_digest: str) -> str:
        """Name the folder of the run; a letter first, so that no shell takes it for a number."""
        model = re.sub(r"[^A-Za-z0-9_.]+", "_", self.model.name).strip("_.") or "model"
        return f"{model}-s{self.seed}-{self.identity(data_digest)}"


def _null(value: Any) -> Any:
    """The preset `null`, which YAML reads as nothing."""
    return "null" if value is None else value


class SimulateSection(_Section):
    """A set of images that is made."""

    kind: str = "substructure"
    out: str  # folder of the shards
    preset: Annotated[str, BeforeValidator(_null)] = ""  # by default that of the kind
    images: int = Field(600, ge=1)
    size: int | None = Field(None, ge=1)  # none: that of the kind
    shard_size: int = Field(2048, ge=1)
    set: dict[str, Any] = {}  # fields of the preset, by dotted name

    @property
    def options(self) -> dict[str, Any]:
        """What the kind is given."""
        given = {"preset": self.preset or None, "size": self.size, "set_": self.set or None}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def label(self) -> str:
        """What is made, in a word or two."""
        return f"{self.kind} {self.preset}" if self.preset else self.kind


class Simulation(_Named):
    """One part of a simulation, as a run; whoever makes the last part completes the set."""

    simulate: SimulateSection
    part: int = Field(0, ge=0)
    parts: int = Field(1, ge=1)
    resources: Resources = Resources(gpus=0)

    @property
    def label(self) -> str:
        """What tells it from other simulations."""
        return self.simulate.label

    @property
    def epochs(self) -> int:
        """A simulation is done in one go."""
        return 1

    def run_name(self, data_digest: str) -> str:
        """Name the folder of the run; the place of the set counts, and no data do."""
        fields = self.model_dump(mode="json", exclude={"name", "resources"})
        name = self.simulate.preset or self.simulate.kind
        return f"{name}-p{self.part}-s{self.seed}-{_hash(fields)}"


AnyJob = Job | Simulation


def _hash(content: Mapping[str, Any]) -> str:
    text = json.dumps({"schema": SCHEMA} | dict(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _named(weights: Path) -> str:
    """What weights are, wherever they lie."""
    if weights.is_dir():
        return weights.name
    try:
        known = weights.stat()
        return _digest(weights, known.st_ino, known.st_size, known.st_mtime_ns)
    except OSError as error:
        raise JobError(f"train.init: {weights}: {error.strerror}") from error


@functools.lru_cache(maxsize=64)
def _digest(weights: Path, *unchanged: int) -> str:
    """Of a file, which every run of a grid may start from: read once while it is unchanged."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flat_fields(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a resolved job by its dotted name, in order."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from flat_fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say which of the allowed names was meant, or list them: the end of an error's sentence."""
    names = {allowed_name.lower(): allowed_name for allowed_name in sorted(allowed)}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    if close:
        return f"did you mean '{names[close[0]]}'?"
    return f"allowed: {', '.join([*names.values()][:24])}{', ...' if len(names) > 24 else ''}"
