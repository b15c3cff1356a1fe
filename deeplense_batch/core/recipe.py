"""Recipes: YAML files that become jobs, by a grid, by seeds and by values of the command line.

A recipe holds the sections of `job.Job`, and may hold ``grid`` and ``seeds``. ``grid`` is a
mapping of dotted fields to lists (their product), or a list of such mappings (their union).
Without them a recipe is one run. A recipe with a section ``simulate`` holds the fields of
`job.Simulation`; it is as many runs as it has ``parts``. One with a section ``evaluate`` holds
those of `job.Evaluation`.

How numbers, truth values and text are told apart says `yaml_text`.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from deeplense_batch.core import yaml_text
from deeplense_batch.core.job import (
    AnyJob,
    Evaluation,
    Job,
    JobError,
    OverrideError,
    Simulation,
    nearest,
)

__all__ = ["load_jobs", "parse_value", "read_section"]

_MOST_BYTES = 1_000_000
_MOST_RUNS = 100_000

_KINDS: dict[str, type[AnyJob]] = {"simulate": Simulation, "evaluate": Evaluation}  # else Job

Section = TypeVar("Section", bound=BaseModel)


def load_jobs(path: Path | str, overrides: Mapping[str, Any] | None = None) -> list[AnyJob]:
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
    points = sum(math.prod(map(len, axes.values())) for axes in grid)
    if points > _MOST_RUNS:
        raise JobError(f"{path}: grid: {points:,} runs; a recipe is at most {_MOST_RUNS:,}")
    kind = next((kind for section, kind in _KINDS.items() if section in raw), Job)
    jobs: list[AnyJob] = []
    for point in _points(grid):
        resolved = json.loads(json.dumps(raw))
        for field, value in point.items():
            _set(resolved, field, value, f"{path}: grid.{field}")
        job = _validate(kind, resolved, str(path), set(overrides or {}))
        if isinstance(job, Simulation) and job.parts > _MOST_RUNS:
            raise JobError(f"{path}: parts: {job.parts:,}; at most {_MOST_RUNS:,}")
        parts = job.parts if isinstance(job, Simulation) and "part" not in resolved else 1
        jobs += [job.model_copy(update={"part": i}) for i in range(parts)] if parts > 1 else [job]
    return jobs


def read_section(kind: type[Section], values: Mapping[str, Any]) -> Section:
    """Read a section of a job whose fields were given as flags.

    Raises:
        OverrideError: One of them is wrong.
    """
    return _validate(kind, dict(values), "", set(values))


def parse_value(text: str) -> Any:
    """Read one value as a recipe would: ``3e-5`` is a number, ``[0, 1]`` a list, ``no`` text.

    Raises:
        OverrideError: It holds what no text does.
    """
    try:
        return yaml_text.load(text)
    except yaml_text.YamlError as error:
        if any(not (c.isprintable() or c in "\n\t ") for c in text):
            raise OverrideError(f"{text[:40]!r}: {error}") from None
        return text


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise JobError(f"{path}: is no file; expected a recipe, or the folder of a run")
        if path.stat().st_size > _MOST_BYTES:
            raise JobError(
                f"{path}: has {path.stat().st_size / 1e6:.1f} MB; a recipe has at most "
                f"{_MOST_BYTES / 1e6:.0f}"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, JobError):
            raise
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        shown = path if str(path).isprintable() else repr(str(path))
        raise JobError(f"{shown}: cannot be read ({reason})") from error
    try:
        raw = yaml_text.load(text)
    except yaml_text.YamlError as error:
        line = f", line {error.line}" if error.line else ""
        raise JobError(f"{path}{line}: not valid YAML ({error})") from error
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
        if raw.get(section) is None:
            raw[section] = {}
        raw = raw[section]
        if not isinstance(raw, dict):
            kind = OverrideError if where.startswith("--") else JobError
            raise kind(f"{where}: '{section}' is a value, not a section")
    raw[last] = list(value) if isinstance(value, tuple) else value


def _validate(
    kind_of_job: type[Section], raw: dict[str, Any], where: str, overridden: set[str]
) -> Section:
    try:
        return kind_of_job.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        typed = any(f"{name}.".startswith(f"{field}.") for name in overridden)
        place = f"--{field}" if typed else f"{where}: {field}"
        kind = OverrideError if typed else JobError
        raise kind(f"{place}: {_sentence(kind_of_job, first)}") from None


def _sentence(job: Any, error: Any) -> str:
    """Say what came and what is allowed, for one error of pydantic."""
    kind, came, context = error["type"], _shown(error["input"]), error.get("ctx", {})
    if kind == "extra_forbidden":
        *section, name = error["loc"]
        return f"unknown; {nearest(str(name), _fields(job, section))}"
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


def _fields(job: Any, section: Iterable[Any]) -> list[str]:
    model = job
    for part in section:
        annotation = model.model_fields[part].annotation
        model = next(iter(get_args(annotation)), annotation)  # of `JudgeSection | None` the first
    return [*model.model_fields, *(("grid", "seeds") if model is job else ())]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
