"""A job: what one run does, checked strictly, and named by what changes its result.

Its identity is a hash over everything that changes the result, defaults included, and over the
data. `recipe` reads jobs from YAML.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from deeplense_batch.core import files, yaml_text
from deeplense_batch.core.sections import Section
from deeplense_batch.core.sections.adapt import Adaptation
from deeplense_batch.core.sections.data import Augment, DataSection
from deeplense_batch.core.sections.evaluate import (
    DrawSection,
    EvaluatedData,
    EvaluateSection,
    ensemble_label,
    model_in,
)
from deeplense_batch.core.sections.train import TrainSection

__all__ = [
    "SCHEMA",
    "AnyJob",
    "Augment",
    "DrawSection",
    "EvaluateSection",
    "EvaluatedData",
    "Evaluation",
    "Job",
    "JobError",
    "NotYetError",
    "OverrideError",
    "Resources",
    "Simulation",
    "TaskSection",
    "nearest",
]

SCHEMA = 2  # rises when a default changes; part of every identity


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


class TaskSection(Section):
    """What is learnt."""

    # classification, detection, regression, physics_guided, generation, restoration or masked
    name: str = "classification"
    options: dict[str, Any] = Field({})  # options of the task, listed below

    @property
    def adaptation(self) -> Adaptation | None:
        """To which images a classification is adapted; None without.

        Raises:
            ValidationError: The option says something else (`Classification` says what).
        """
        given = self.options.get("adapt") if self.name == "classification" else None
        return None if given is None else Adaptation.model_validate(given)

    def identifying(self) -> dict[str, Any]:
        """The fields that change the result of a run, as JSON."""
        fields = self.model_dump(mode="json")
        with contextlib.suppress(ValidationError):  # of which `Classification` tells
            if (adaptation := self.adaptation) is not None:
                fields["options"]["adapt"] = adaptation.identifying()
            elif self.name == "classification":  # null is as in recipes without the option
                fields["options"].pop("adapt", None)
        return fields


class ModelSection(Section):
    """What learns."""

    # a name that `models` lists, any other that timm knows, or hf_hub:owner/name, a model of timm
    # on the Hugging Face hub that `fetch` has brought
    name: str
    pretrained: bool = False  # start from published weights, which `fetch` has brought
    # what one-channel images get of pretrained weights of the three colours
    adapt: Literal["sum", "mean"] = "sum"
    options: dict[str, Any] = Field({})  # keyword arguments of the model, such as drop_rate: 0.1


class Engine(Section):
    """How it is computed; not part of the identity, since the result is meant to be the same."""

    resident: Literal["auto", "device", "host", "off"] = "auto"  # images, or off: read from disk
    channels_last: bool = False  # memory layout of images and weights
    compile: bool = False  # torch.compile; trains without where that fails
    graph: Literal["auto", "off"] = "auto"  # CUDA graph of a step, where possible
    deterministic: bool = False  # the same bits on one kind of GPU; slower
    checkpoint_minutes: float = Field(10.0, gt=0)  # longest time between two checkpoints


class Resources(Section):
    """What a run needs of a machine, or of several; not part of its identity."""

    gpus: int = Field(1, ge=0, le=64)  # over all nodes, one process each; 0 trains on CPUs
    processes: int | None = Field(None, ge=1, le=64)  # processes without GPUs; null: one
    nodes: int = Field(1, ge=1)  # nodes that SLURM spreads the processes over
    cpus: int = Field(1, ge=1)  # cores of each process
    memory_gb: float = Field(8.0, gt=0)  # memory of each node
    hours: float = Field(1.0, gt=0)  # time limit on SLURM

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


class _Run(Section):
    """What every run has."""

    # of the job, and so of its folder in runs/; by default the name of the YAML file
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=100)
    seed: int = Field(0, ge=0, lt=2**32)  # decides every random choice of the run

    def to_yaml(self) -> str:
        """Write the resolved job, defaults included, as a recipe that `recipe.load_jobs` reads."""
        return yaml_text.dump(self.model_dump(mode="json"))


class Job(_Run):
    """One training: a recipe with nothing left open.

    `run_name` and `identity` need the digest of the data (`data.shards.data_digest`).
    """

    task: TaskSection = TaskSection()
    model: ModelSection
    data: DataSection
    train: TrainSection = TrainSection()
    judge: dict[str, Any] | None = None  # of old recipes, ignored: an evaluation does this now
    engine: Engine = Engine()
    resources: Resources = Resources()

    @property
    def label(self) -> str:
        """What distinguishes it from the other runs of its job, with the seed."""
        return self.model.name

    @property
    def epochs(self) -> int:
        """Epochs that the run lasts at most."""
        return self.train.epochs

    def identity(self, data_digest: str, *, earlier: bool = False) -> str:
        """Hash what changes the result of the run: 10 hex digits.

        The name, judge, engine, resources and the folder of the data do not count; the data's
        content does, and the name of the run, or the content of the file, that it starts from.
        Purity and prevalence of a detection do not, but did in `earlier` versions.

        Raises:
            JobError: What it starts from is gone.
        """
        fields = self.model_dump(mode="json", exclude={"name", "judge", "engine", "resources"})
        fields["data"], fields["train"] = self.data.identifying(), self.train.identifying()
        fields["task"] = self.task.identifying()
        if self.task.name == "detection" and not earlier:
            for option in ("purity", "prevalence"):  # others can be had of the same run
                fields["task"]["options"].pop(option, None)
        if self.train.init is not None:
            fields["train"]["init"] = _weights_name("train.init", Path(self.train.init))
        return _hash({"data_digest": data_digest} | fields)

    def run_name(self, data_digest: str, *, earlier: bool = False) -> str:
        """Name the folder of the run; a letter first, so that no shell takes it for a number."""
        model = re.sub(r"[^A-Za-z0-9_.]+", "_", self.model.name).strip("_.") or "model"
        return f"{model}-s{self.seed}-{self.identity(data_digest, earlier=earlier)}"


def _null(value: Any) -> Any:
    """The preset `null`, which YAML reads as nothing."""
    return "null" if value is None else value


class SimulateSection(Section):
    """A set of images that is made."""

    kind: str = "substructure"  # substructure, lens_finding, diffusion or super_resolution
    out: str  # folder of the shards
    preset: Annotated[str, BeforeValidator(_null)] = ""  # by default that of the kind
    images: int = Field(600, ge=1)  # images of the whole set
    size: int | None = Field(None, ge=1)  # pixels along a side; null: that of the kind
    shard_size: int = Field(2048, ge=1)  # images in a file
    set: dict[str, Any] = Field({})  # distributions of the preset to replace: sphere.count: 30
    # of lens_finding: real galaxies that are lensed, a folder, shards, an archive or a table
    sources: str = ""
    onto: str = ""  # of lens_finding: shards of galaxies that arcs are painted on
    # of substructure and diffusion: images with noise; or clean, expected counts, from which
    # data.augment.photon_noise draws new noise in every epoch
    keep: Literal["observed", "clean"] = "observed"

    @property
    def options(self) -> dict[str, Any]:
        """What the kind is given."""
        given = {"preset": self.preset or None, "size": self.size, "set_": self.set or None}
        given |= {"sources": self.sources or None, "onto": self.onto or None}
        given |= {"keep": None if self.keep == "observed" else self.keep}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def label(self) -> str:
        """What is made, in a word or two."""
        return f"{self.kind} {self.preset}" if self.preset else self.kind


class Simulation(_Run):
    """One part of a simulation, as a run; whoever makes the last part completes the set."""

    simulate: SimulateSection
    part: int = Field(0, ge=0)  # which part of the set to make; left out, a run for each part
    parts: int = Field(1, ge=1)  # parts that the set is divided into
    resources: Resources = Resources(gpus=0)

    @property
    def label(self) -> str:
        """What distinguishes it from other simulations."""
        return self.simulate.label

    @property
    def epochs(self) -> int:
        """One: a simulation has no epochs."""
        return 1

    def run_name(self, data_digest: str) -> str:
        """Name the folder of the run; the folder of the set counts; it has no data."""
        fields = self.model_dump(mode="json", exclude={"name", "resources"})
        for later, default in (("sources", ""), ("onto", ""), ("keep", "observed")):
            if fields["simulate"][later] == default:  # as in recipes that are older than the field
                del fields["simulate"][later]
        name = self.simulate.preset or self.simulate.kind
        return f"{name}-p{self.part}-s{self.seed}-{_hash(fields)}"


class Evaluation(_Run):
    """One evaluation of one finished run, or of an ensemble of several."""

    evaluate: EvaluateSection
    resources: Resources = Resources(gpus=0)

    @property
    def label(self) -> str:
        """What distinguishes it from the other runs of its job: the model and seed scored."""
        names = [Path(run).name for run in self.evaluate.runs]
        if self.evaluate.ensemble:
            return ensemble_label(map(model_in, names))
        return " + ".join(re.sub(r"-[0-9a-f]{10}$", "", name) for name in names)

    @property
    def epochs(self) -> int:
        """An evaluation is done in one go."""
        return 1

    def identity(self, data_digest: str) -> str:
        """Hash what changes the result: 10 hex digits.

        That is the run, or the runs in any order, by their own names, the data by their content,
        the slice, and how images are drawn; where runs and data lie does not count.

        Raises:
            JobError: The weights of a run that was renamed are gone.
        """
        fields = self.model_dump(mode="json", exclude={"name", "resources"})
        section = fields["evaluate"]
        names = [_weights_name("evaluate.run", Path(run)) for run in self.evaluate.runs]
        section["run"] = sorted(names) if self.evaluate.ensemble else names[0]
        for later, default in (("ensemble", False), ("tta", None), ("samples", 8)):
            if section[later] == default:  # as in recipes that are older than the field
                del section[later]
        if section["classifier"] is not None:
            section["classifier"] = _weights_name(
                "evaluate.classifier", Path(section["classifier"])
            )
        del section["data"]["root"]
        return _hash({"data_digest": data_digest} | fields)

    def run_name(self, data_digest: str) -> str:
        """Name the folder of the run."""
        label = self.label
        if self.evaluate.ensemble:
            label = re.sub(r"[^A-Za-z0-9_.-]+", "_", label)
        return f"{label}-{self.identity(data_digest)}"


AnyJob = Job | Simulation | Evaluation


def _hash(content: Mapping[str, Any]) -> str:
    text = json.dumps({"schema": SCHEMA} | dict(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _weights_name(field: str, weights: Path) -> str:
    """The name of a run, which ends in its hash; of a renamed one, or a file, its digest."""
    if re.search(r"-[0-9a-f]{10}$", weights.name) and not weights.is_file():
        return weights.name
    path = weights / "best.pt" if weights.is_dir() else weights
    try:
        known = path.stat()
        return files.digest(path, known.st_ino, known.st_size, known.st_mtime_ns)
    except OSError as error:
        raise JobError(f"{field}: {path}: {error.strerror}") from error


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say which of the allowed names was meant, or list them: the end of an error's sentence."""
    names = {allowed_name.lower(): allowed_name for allowed_name in sorted(allowed)}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    if close:
        return f"did you mean '{names[close[0]]}'?"
    return f"allowed: {', '.join([*names.values()][:24])}{', ...' if len(names) > 24 else ''}"
