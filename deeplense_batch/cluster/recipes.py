"""The recipes that a command line names: their runs, and what those in jobs/ still need."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplense_batch.core.job import (
    AnyJob,
    Job,
    JobError,
    NotYetError,
    OverrideError,
    Simulation,
)
from deeplense_batch.core.recipe import load_jobs, parse_value
from deeplense_batch.core.sections.dotted import flat_fields, joined
from deeplense_batch.core.sections.fold_names import as_given

if TYPE_CHECKING:
    from deeplense_batch.runs.planning.plan import PlannedRun

__all__ = ["Recipes", "one_of_several", "plan_run", "runs_folder"]

_TRIED = 100  # runs of a grid that is a list, for one that flags can tell from the others


def runs_folder(named: Path | None) -> Path:
    """The folder of the runs: ``DEEPLENSE_RUNS``, or runs, where none was named."""
    return named or Path(os.environ.get("DEEPLENSE_RUNS") or "runs")


def plan_run(named: Path, fields: Mapping[str, Any], out: Path | None) -> PlannedRun:
    """Plan the one run that was named.

    Arguments:
        named: A recipe that is one run, or a run directory.
        fields: Of a recipe, given as flags.
        out: Folder of the run directories, where one was named.

    Raises:
        OverrideError: It is several runs; or `fields` or `out` came with a run directory.
        JobError, ModelError, WeightsError, ShardError: As `plan` and `reopen`.
    """
    from deeplense_batch.runs.planning.plan import plan, reopen

    if named.is_dir():
        if fields or out:
            raise OverrideError(f"{named}: is a run directory; its job and place are fixed")
        return reopen(named)
    jobs = load_jobs(named, fields)
    if any(job != jobs[0] for job in jobs):
        raise OverrideError(
            f"{named}: holds {len(jobs)} runs; add {one_of_several(named, jobs, fields)} to take "
            f"one, or type 'submit --grid {named}' for all"
        )
    planned, *others = plan(jobs, runs_folder(out))
    if others:
        raise OverrideError(
            f"{named}: evaluates {len(others) + 1} runs; add --evaluate.run=RUN to take one, or "
            f"type 'submit {named}' for all"
        )
    return planned


def one_of_several(path: Path, jobs: Sequence[AnyJob], given: Mapping[str, Any]) -> str:
    """The flags that take one of a recipe's runs: the fields in which they differ."""
    flat = [joined(as_given(dict(flat_fields(job.model_dump(mode="json"))))) for job in jobs]
    for job, fields in zip(jobs[:_TRIED], flat, strict=False):  # the first, but for odd grids
        own = {n: v for n, v in fields.items() if any(other.get(n) != v for other in flat)}
        for flags in (own, _whole_options(own, job)):
            with suppress(JobError):
                if all(one == job for one in load_jobs(path, {**given, **flags})):
                    each = (f"--{name}={_typed(value)}" for name, value in flags.items())
                    return " ".join(map(shlex.quote, each))
    return "a flag for each field of its grid, such as --seed=0,"


def _whole_options(fields: Mapping[str, Any], job: AnyJob) -> dict[str, Any]:
    """Fields of a job with its options as a whole, for recipes of several networks."""
    if not isinstance(job, Job):
        return dict(fields)
    options = {"model.options": job.model.options, "task.options": job.task.options}
    whole: dict[str, Any] = {}
    for name, value in fields.items():
        section = next((o for o in options if name.startswith(f"{o}.")), None)
        whole |= {name: value} if section is None else {section: options[section]}
    return whole


def _typed(value: Any) -> str:
    """A value as it is typed behind a flag."""
    plain = isinstance(value, str) and parse_value(value) == value
    return value if plain else json.dumps(value)


@dataclass(frozen=True)
class _Need:
    """What recipes lack here; nothing else is said where `verb` is none that brings it."""

    what: str
    verb: str = ""
    recipe: str = ""  # that the verb takes; by default those that lack it

    def brought(self, lacking: Sequence[Path]) -> str:
        """The command that brings it."""
        return f"{self.verb} {self.recipe or ' '.join(map(str, lacking))}"


@dataclass
class Recipes:
    """The runs of the recipes that were named, or of all in jobs/ that train or evaluate.

    Arguments:
        jobs: By recipe.
        all_of_jobs: None was named; those that lack something are left out.
        makers: What a recipe in jobs/ makes, a folder, and how it is named to `submit`.
    """

    jobs: dict[Path, list[AnyJob]]
    all_of_jobs: bool = False
    makers: dict[Path, str] = field(default_factory=dict)
    _lacking: dict[_Need, list[Path]] = field(default_factory=dict)
    _wrong: list[str] = field(default_factory=list)  # sentences on recipes that lack nothing

    @classmethod
    def load(
        cls, verb: str, paths: Sequence[Path], fields: Mapping[str, Any], *, grid: bool
    ) -> Recipes:
        """Read recipes; with `grid` and no paths, those in jobs/ that train or evaluate.

        Raises:
            OverrideError: There are none, or one holds several runs and `grid` is not given.
            JobError: One is wrong.
        """
        if not paths and not grid:
            raise OverrideError(f"{verb}: which job? name recipes, or --grid for all in jobs/")
        if not paths:
            return cls._all_of_jobs(verb, fields)
        found = {path: load_jobs(path, fields) for path in paths}
        for path, jobs in found.items():
            differ = any(job != jobs[0] for job in jobs)  # lists of a grid may have one in common
            if not grid and differ and len(jobs) > getattr(jobs[0], "parts", 1):
                raise OverrideError(
                    f"{path}: holds {len(jobs)} runs; add --grid to take them all, or "
                    f"{one_of_several(path, jobs, fields)} to take one"
                )
        return cls(found)

    @classmethod
    def _all_of_jobs(cls, verb: str, fields: Mapping[str, Any]) -> Recipes:
        found = {path: load_jobs(path) for path in sorted(Path("jobs").glob("*.yaml"))}
        if not found:
            raise OverrideError(
                f"{verb} --grid: there are no recipes here, jobs/*.yaml; name some"
            )
        makers, trained = {}, []
        for path, (job, *others) in found.items():
            if isinstance(job, Simulation):
                makers[Path(job.simulate.out)] = str(path)
            else:
                makers[Path("runs", job.name)] = f"--grid {path}" if others else str(path)
                trained.append(path)
        jobs = {path: load_jobs(path, fields) if fields else found[path] for path in trained}
        return cls(jobs, all_of_jobs=True, makers=makers)

    def planned(self, folder: Path) -> list[PlannedRun]:
        """Plan the runs; of all in jobs/, those whose recipes lack nothing.

        Raises:
            JobError, ModelError, WeightsError, ShardError: As `plan`, for recipes that were named.
        """
        from deeplense_batch.data.shards import ShardError
        from deeplense_batch.models.weights import WeightsError
        from deeplense_batch.runs.planning.plan import plan

        if not self.all_of_jobs:  # at once: recipes may have a run or a set in common
            return plan([job for jobs in self.jobs.values() for job in jobs], folder)
        planned: list[PlannedRun] = []
        for path, jobs in self.jobs.items():
            try:
                planned += plan(jobs, folder)
            except (NotYetError, ShardError, WeightsError) as error:
                weights = isinstance(error, WeightsError)
                need = _Need("published weights", "fetch") if weights else self._need(jobs, error)
                if need:
                    self._lacking.setdefault(need, []).append(path)
                else:
                    self._wrong.append(f"left out {path}: {error}")
        return planned

    def _need(self, jobs: Sequence[AnyJob], error: Exception) -> _Need | None:
        """The run or data that a recipe waits for; None where it waits for none."""
        trainings = [job for job in jobs if isinstance(job, Job)]
        roots = [[j.data.root, *(each.root for each in j.data.others)] for j in trainings]
        roots.append([a.to.root for j in trainings if (a := j.task.adaptation) is not None])
        folders = [Path(root) for some in roots for root in some]
        absent = [folder for folder in folders if not folder.exists()]
        if isinstance(error, NotYetError):
            absent = [error.folder]
        if not absent:
            return None
        recipe = self.makers.get(absent[0], "")
        return _Need(str(absent[0]), "submit" if recipe else "", recipe)

    def left_out(self) -> list[str]:
        """What was left out of jobs/: a line for what several lack, and one for all the rest."""
        lines, single, unknown = [], [], []
        for need, paths in self._by_count():
            names = ", ".join(path.stem for path in paths)
            if need.verb and len(paths) > 1:
                brought = need.brought(paths)
                lines.append(f"left out, lacking {need.what}, which '{brought}' brings: {names}")
            elif need.verb:
                single.append(f"{names} ('{need.brought(paths)}' brings {need.what})")
            else:
                unknown.append(f"{need.what} ({names})")
        if single:
            lines.append(f"left out, each lacking one thing: {'; '.join(single)}")
        if unknown:
            lines.append(
                "left out, lacking what 'pack', 'simulate' or another job makes (see the top of "
                f"each recipe): {'; '.join(unknown)}"
            )
        return lines + self._wrong

    def _by_count(self) -> list[tuple[_Need, list[Path]]]:
        return sorted(self._lacking.items(), key=lambda item: -len(item[1]))

    def tell_none(self) -> int:
        """Say that nothing can be run here, and what brings most; gives the exit code."""
        known = [(need, paths) for need, paths in self._by_count() if need.verb]
        best = ""
        if known:
            need, paths = known[0]
            best = (f"; '{need.brought(paths)}' brings {need.what}, which {len(paths)} of "
                    f"{len(self.jobs)} lack")  # fmt: skip
        print(f"no recipe in jobs/ has what it needs here{best}", file=sys.stderr, flush=True)
        print(*self.left_out(), sep="\n")
        return 3
