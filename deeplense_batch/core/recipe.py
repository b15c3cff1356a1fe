"""Recipes: YAML files that become jobs, by a grid, by seeds and by values of the command line.

A recipe holds the sections of `job.Job`, and may hold ``grid`` and ``seeds``. ``grid`` is a
mapping of dotted fields to lists (their product), or a list of such mappings (their union).
Without them a recipe is one run. A recipe with a section ``simulate`` holds the fields of
`job.Simulation`; it is as many runs as it has ``parts``. One with a section ``evaluate`` holds
those of `job.Evaluation`.

`yaml_text` says what is a number, a truth value or text.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from deeplense_batch.core import yaml_text
from deeplense_batch.core.job import (
    AnyJob,
    EvaluateSection,
    Evaluation,
    Job,
    JobError,
    OverrideError,
    Simulation,
    nearest,
)

__all__ = ["evaluation_of", "first_fault", "load_jobs", "parse_value", "run_path"]

_MOST_BYTES = 1_000_000
_MOST_RUNS = 100_000

_KINDS: dict[str, type[AnyJob]] = {"simulate": Simulation, "evaluate": Evaluation}  # else Job
_INTERNAL = re.compile(r"function-|\[key\]$")  # parts of a field's path that pydantic adds
_PAIR = "a list of two numbers"
_EXPECTED = {  # by the type of pydantic's error
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_long": _PAIR,  # of the lists of other lengths none is bounded
    "finite_number": "a finite number",
}

Section = TypeVar("Section", bound=BaseModel)


def load_jobs(path: Path | str, overrides: Mapping[str, Any] | None = None) -> list[AnyJob]:
    """Read a recipe and expand its grid and seeds.

    Arguments:
        path: YAML file.
        overrides: Values by dotted field, such as ``{"train.lr": 1e-3}``. An override of a field
            of the grid replaces that axis; ``grid.train.lr`` sets an axis.

    Raises:
        JobError: The file, one of its fields, or an override (`OverrideError`) is wrong; the
            message gives file, field, what came and what is allowed.
    """
    path = Path(path)
    raw = _read(path)
    raw.setdefault("name", path.stem)
    grid = _grid(path, raw, overrides or {})
    runs = sum(math.prod(map(len, axes.values())) for axes in grid)
    if runs > _MOST_RUNS:
        raise JobError(f"{path}: grid: {runs:,} runs; a recipe is at most {_MOST_RUNS:,}")
    kind = next((kind for section, kind in _KINDS.items() if section in raw), Job)
    jobs: list[AnyJob] = []
    for point in _points(grid):
        fields = json.loads(json.dumps(raw))
        for field, value in point.items():
            _set(fields, field, value, f"{path}: grid.{field}")
        job = _validate(kind, fields, str(path), set(overrides or {}))
        jobs += _parts(path, job, fields) if isinstance(job, Simulation) else [job]
    return jobs


def _grid(
    path: Path, raw: dict[str, Any], overrides: Mapping[str, Any]
) -> list[dict[str, list[Any]]]:
    """Take ``grid`` and ``seeds`` out of a recipe and put the overrides into both.

    Returns:
        Axes, values by dotted field, whose products are the runs; seeds are one of them.
    """
    grid = _axes(path, raw.pop("grid", {}))
    seeds = raw.pop("seeds", None)
    for field, given in (("seed", "seed" in raw), ("grid.seed", any("seed" in g for g in grid))):
        if seeds is not None and given:
            raise JobError(f"{path}: {field} and seeds are both given; expected one of them")
    for field, value in overrides.items():
        if field == "grid":
            raise OverrideError(
                "--grid: takes every run of a recipe, with submit and sbatch; one axis of it is "
                "given as --grid.train.lr=[1e-3,1e-4]"
            )
        if field == "seeds":
            _check_list("--seeds", value)
            seeds = value
            continue
        if field.startswith("grid."):
            _check_list(f"--{field}", value)
            grid = [axes | {field.removeprefix("grid."): value} for axes in grid]
            seeds = None if field == "grid.seed" else seeds
            continue
        if field == "seed":
            seeds = None
        for axes in grid:
            axes.pop(field, None)
        _set(raw, field, value, f"--{field}")
    if seeds is None:
        return grid
    _check_list(f"{path}: seeds", seeds)
    return [axes | {"seed": seeds} for axes in grid]


def _parts(path: Path, simulation: Simulation, fields: Mapping[str, Any]) -> list[Simulation]:
    """The runs of a simulation, one a part, or the one part that its fields name."""
    if simulation.parts > _MOST_RUNS:
        raise JobError(f"{path}: parts: {simulation.parts:,}; at most {_MOST_RUNS:,}")
    if "part" in fields:
        return [simulation]
    return [simulation.model_copy(update={"part": i}) for i in range(simulation.parts)]


def evaluation_of(
    runs: Sequence[Path],
    data: Path | None,
    slice_: str,
    *,
    seed: int,
    processes: int = 1,
    **others: Any,
) -> Evaluation:
    """The job that evaluates runs, without a recipe.

    Arguments:
        runs: Run directories, or folders of jobs for every run in them.
        data: Folder of shards, by default those of the run.
        slice_: Of the data; empty for the default.
        seed: Of all noise of the sampler.
        processes: That share the images.
        others: Fields of `job.EvaluateSection`; those that are None have their defaults.

    Raises:
        OverrideError: A field is wrong.
    """
    fields = {name: value for name, value in others.items() if value is not None}
    named = [str(run) for run in runs]
    fields |= {"run": named if len(named) > 1 else named[0]}
    fields |= {"data": {"root": data and str(data), "slice": slice_ or None}}
    section = _validate(EvaluateSection, fields, "", set(fields))
    folders = ((run.parent if (run / "job.yaml").exists() else run).absolute() for run in runs)
    names = "_".join(dict.fromkeys(folder.name for folder in folders))
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"evaluated_{names}")[:100]
    fields = {"name": name, "seed": seed, "evaluate": section}
    fields["resources"] = {"gpus": 0, "processes": processes if processes > 1 else None}
    return _validate(Evaluation, fields, "", {"seed", "resources.processes"})


def run_path(folder: Path, job: AnyJob, data_digest: str) -> Path:
    """Find the run directory of a job, which may not exist yet.

    Of a detection it may be one of an earlier version, whose name depends on its purity.

    Arguments:
        folder: Holds the runs of the job.
        job: The job.
        data_digest: Of its data.
    """
    path = folder / job.run_name(data_digest)
    if not isinstance(job, Job) or job.task.name != "detection" or path.exists():
        return path
    for run in sorted(folder.glob(f"{path.name.rpartition('-')[0]}-*")):
        with contextlib.suppress(JobError):  # of a damaged run
            (other,) = load_jobs(run / "job.yaml")
            assert isinstance(other, Job)
            names = (other.run_name(data_digest), other.run_name(data_digest, earlier=True))
            if names == (path.name, run.name):
                return run
    return path


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


def _axes(path: Path, grid: Any) -> list[dict[str, list[Any]]]:
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
    model: type[Section], raw: dict[str, Any], where: str, overridden: set[str]
) -> Section:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        field, sentence = first_fault(error, model)
        typed = any(_is_within(name, field) or _is_within(field, name) for name in overridden)
        kind = OverrideError if typed else JobError
        raise kind(f"{f'--{field}' if typed else f'{where}: {field}'}: {sentence}") from None


def _is_within(field: str, outer: str) -> bool:
    return f"{field}.".startswith(f"{outer}.")


def first_fault(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """Say what is wrong with the first of the fields that pydantic has refused.

    Arguments:
        error: What it raised.
        model: The model whose fields they are.

    Returns:
        The dotted field, and what came and what is allowed.
    """
    first, *others = error.errors()
    if first["type"] == "missing":  # perhaps by a wrong name, which is then unknown beside it
        unknown = (e for e in others if e["type"] == "extra_forbidden")
        first = next((e for e in unknown if e["loc"][:-1] == first["loc"][:-1]), first)
    path = [str(part) for part in first["loc"] if not _INTERNAL.match(str(part))]
    if first["type"] == "missing" and isinstance(first["loc"][-1], int):  # a number of a pair
        return ".".join(path[:-1]), f"expected {_PAIR}, got {_shown(first['input'])}"
    return ".".join(path), _sentence(model, path, first)


def _sentence(model: type[BaseModel], path: Sequence[str], fault: Any) -> str:
    kind, came = fault["type"], _shown(fault["input"])
    if kind == "extra_forbidden":
        return f"unknown; {nearest(path[-1], _fields(model, path[:-1]))}"
    if kind == "missing":
        return "missing"
    if kind == "literal_error":
        allowed = [text.strip("'") for text in re.findall(r"'[^']*'", fault["ctx"]["expected"])]
        return f"got {came}; {nearest(str(fault['input']), allowed)}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {came}"
    if kind == "string_pattern_mismatch":
        return f"got {came}; allowed are letters, digits, '_', '.' and '-', a letter first"
    message = fault["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return f"{message}, got {came}"


def _fields(model: Any, path: Sequence[str]) -> list[str]:
    """The fields of a section; a recipe has two more than the job that it becomes."""
    section = model
    for part in path:
        if part.isdigit():  # the place of a section in a list of them
            continue
        annotation = section.model_fields[part].annotation
        section = next(iter(get_args(annotation)), annotation)  # of `X | None` or a list of X: X
    fields = [*section.model_fields]
    return fields + ["grid", "seeds"] * (section in get_args(AnyJob))


def _shown(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)  # as it was written
    return text if len(text) <= 60 else f"{text[:57]}..."
