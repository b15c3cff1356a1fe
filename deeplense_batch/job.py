"""Jobs: a YAML recipe, checked strictly, expanded into runs, and named by what changes a result.

A recipe holds the sections of `Job`, and may hold ``grid`` and ``seeds``, which `load_jobs`
expands. ``grid`` is a mapping of dotted fields to lists (their product), or a list of such
mappings (their union). A job without them is one run; its identity is a hash over everything that
changes its result, defaults included, and over the data.

Numbers, truth values and text are those of YAML 1.2: ``3e-5`` is a number and ``no`` is text.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

__all__ = [
    "SCHEMA",
    "Augment",
    "Job",
    "JobError",
    "OverrideError",
    "flat_fields",
    "load_jobs",
    "nearest",
    "parse_value",
]

SCHEMA = 1  # rises when the meaning of a field changes; part of every identity


class JobError(ValueError):
    """A recipe, or an override of one, is not what was asked for."""


class OverrideError(JobError):
    """A value given on the command line is the one that is wrong."""


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


class Engine(_Section):
    """How it is computed; not part of the identity, since the result is meant to be the same."""

    resident: Literal["auto", "device", "host", "off"] = "auto"  # where the images are kept
    channels_last: bool = False
    compile: bool = False
    checkpoint_minutes: float = Field(10.0, gt=0)


class Resources(_Section):
    """What a run needs of a machine; not part of its identity."""

    gpus: int = Field(1, ge=0, le=64)  # a process each
    cpus: int = Field(1, ge=1)
    memory_gb: float = Field(8.0, gt=0)
    hours: float = Field(1.0, gt=0)


class Job(_Section):
    """One run: a recipe with nothing left open.

    `run_name` and `identity` need the digest of the data (`data.shards.data_digest`).
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=100)
    task: TaskSection = TaskSection()
    model: ModelSection
    data: DataSection
    train: TrainSection = TrainSection()
    engine: Engine = Engine()
    resources: Resources = Resources()
    seed: int = Field(0, ge=0, lt=2**32)

    def identity(self, data_digest: str) -> str:
        """Hash what changes the result of the run: 10 hex digits.

        The name, engine, resources and the place of the data do not count; the data's content
        does.
        """
        fields = self.model_dump(mode="json", exclude={"name", "engine", "resources"})
        del fields["data"]["root"]
        content = {"schema": SCHEMA, "data_digest": data_digest} | fields
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def run_name(self, data_digest: str) -> str:
        """Name the folder of the run; a letter first, so that no shell takes it for a number."""
        model = re.sub(r"[^A-Za-z0-9_.]+", "_", self.model.name).strip("_.") or "model"
        return f"{model}-s{self.seed}-{self.identity(data_digest)}"

    def to_yaml(self) -> str:
        """Write the resolved job, defaults included, as a recipe that `load_jobs` reads."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_jobs(path: Path | str, overrides: Mapping[str, Any] | None = None) -> list[Job]:
    """Read a recipe and expand its grid and seeds.

    Arguments:
        path: YAML file.
        overrides: Values by dotted field, such as ``{"train.lr": 1e-3}``. An override of a field
            of the grid takes the place of that axis; ``grid.train.lr`` sets an axis.

    Raises:
        JobError: The file, one of its fields, or an override (`OverrideError`) is wrong; the
            message gives file, field, what came and what is allowed.
    """
    path = Path(path)
    raw = _read(path)
    raw.setdefault("name", path.stem)
    grid = _axes(path, raw.pop("grid", {}))
    seeds = raw.pop("seeds", None)
    if seeds is not None and "seed" in raw:
        raise JobError(f"{path}: seed and seeds are both given; one of them is meant")
    for field, value in (overrides or {}).items():
        if field == "seeds":
            _check_list("--seeds", value)
            seeds = value
            continue
        if field.startswith("grid."):
            _check_list(f"--{field}", value)
            grid = [axes | {field.removeprefix("grid."): value} for axes in grid]
            continue
        if field == "seed":
            seeds = None
        for axes in grid:
            axes.pop(field, None)
        _set(raw, field, value, f"--{field}")
    if seeds is not None:
        _check_list(f"{path}: seeds", seeds)
        grid = [axes | {"seed": seeds} for axes in grid]
    jobs = []
    for point in _points(grid):
        resolved = json.loads(json.dumps(raw))
        for field, value in point.items():
            _set(resolved, field, value, f"{path}: grid.{field}")
        jobs.append(_validate(resolved, str(path), set(overrides or {})))
    return jobs


def parse_value(text: str) -> Any:
    """Read one value as a recipe would: ``3e-5`` is a number, ``[0, 1]`` a list, ``no`` text."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError:
        return text


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


class _Loader(yaml.SafeLoader):
    """YAML with the scalars of version 1.2 and without doubled keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"key '{key}' twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
        r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise JobError(f"{path}: cannot be read ({reason})") from error
    try:
        raw = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise JobError(f"{path}{line}: not valid YAML ({problem})") from error
    if not isinstance(raw, dict):
        raise JobError(f"{path}: expected a mapping of sections, got {_shown(raw)}")
    return raw


def _axes(path: Path, grid: Any) -> list[dict[str, Any]]:
    union = grid if isinstance(grid, list) else [grid]
    for axes in union:
        if not isinstance(axes, dict):
            raise JobError(
                f"{path}: grid: expected a mapping of dotted fields to lists, got {_shown(axes)}"
            )
        for field, values in axes.items():
            _check_list(f"{path}: grid.{field}", values)
    return [dict(axes) for axes in union] or [{}]


def _check_list(where: str, values: Any) -> None:
    if not isinstance(values, list | tuple) or not values:
        kind = OverrideError if where.startswith("--") else JobError
        raise kind(f"{where}: expected a list of values, got {_shown(values)}")


def _points(union: Iterable[Mapping[str, Iterable[Any]]]) -> Iterable[dict[str, Any]]:
    for axes in union:
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True))


def _set(raw: dict[str, Any], field: str, value: Any, where: str) -> None:
    *sections, last = str(field).split(".")
    for section in sections:
        raw = raw.setdefault(section, {})
        if not isinstance(raw, dict):
            kind = OverrideError if where.startswith("--") else JobError
            raise kind(f"{where}: '{section}' is a value, not a section")
    raw[last] = list(value) if isinstance(value, tuple) else value


def _validate(raw: dict[str, Any], where: str, overridden: set[str]) -> Job:
    try:
        return Job.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        typed = any(f"{name}.".startswith(f"{field}.") for name in overridden)
        place = f"--{field}" if typed else f"{where}: {field}"
        kind = OverrideError if typed else JobError
        raise kind(f"{place}: {_sentence(first)}") from None


def _sentence(error: Any) -> str:
    """Say what came and what is allowed, for one error of pydantic."""
    kind, came, context = error["type"], _shown(error["input"]), error.get("ctx", {})
    if kind == "extra_forbidden":
        *section, name = error["loc"]
        return f"unknown; {nearest(str(name), _fields(section))}"
    if kind == "missing":
        return "missing"
    if kind == "literal_error":
        allowed = [text.strip("'") for text in re.findall(r"'[^']*'", context["expected"])]
        return f"got {came}; {nearest(str(error['input']), allowed)}"
    expected = {
        "float_type": "a number",
        "int_type": "a whole number",
        "bool_type": "true or false",
        "string_type": "text",
        "dict_type": "a mapping",
        "model_type": "a mapping",
        "tuple_type": "a list of two numbers",
        "finite_number": "a finite number",
    }.get(kind)
    if expected:
        return f"expected {expected}, got {came}"
    if kind == "string_pattern_mismatch":
        return f"got {came}; allowed are letters, digits, '_', '.' and '-', a letter first"
    said = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return f"{said}, got {came}"


def _fields(section: Iterable[Any]) -> list[str]:
    model: Any = Job
    for part in section:
        model = model.model_fields[part].annotation
    return [*model.model_fields, *(("grid", "seeds") if model is Job else ())]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
