"""What a person types: ``python -m deeplense_batch VERB ...``.

Fire reads the words into a `_Plan`; nothing happens before it has consumed them all, so a misspelt
flag costs nothing. Values reach the verb as text and are read here, by the rules of a recipe.
Heavy imports happen inside a verb, so that ``--help`` answers at once.

Exit codes: 0 done; 1 error in the program; 2 usage; 3 job, shards or run directory invalid, and
nothing was run; 4 the machine is unfit (no GPU, no weights); 5 runs are missing or failed, output
was written; 6 diverged; 7 out of memory; 85 cut short with the state saved, run it again.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fire

import deeplense_batch

__all__ = ["main"]


# By the name of the error or of one it derives from: to import them all would load torch.
_CODES = {
    "UsageError": 2,
    "OverrideError": 2,
    "JobError": 3,
    "ShardError": 3,
    "ModelError": 3,
    "CollectError": 3,
    "RunBusyError": 3,
    "FileExistsError": 3,
    "FileNotFoundError": 3,
    "NotADirectoryError": 3,
    "PermissionError": 3,
    "DeviceError": 4,
    "PrecisionError": 4,
    "WeightsError": 4,
    "DivergedError": 6,
    "OutOfMemoryError": 7,
    "StoppedError": 85,
}


class UsageError(ValueError):
    """The words typed are not a command."""


class _Plan:
    """A command that was understood. Empty to Fire, so that a word left over matches nothing."""

    __slots__ = ("_act",)

    def __init__(self, act: Callable[[], int]) -> None:
        self._act = act

    def __dir__(self) -> list[str]:
        return []


class Commands:
    """Batch jobs for strong-lensing deep learning.

    simulate or pack images into shards, run one job, submit many, watch them with status, and
    collect the comparison. VERB --help describes a verb.
    """

    def simulate(
        self,
        kind: str,
        out: str,
        *,
        preset: str = "common_test_1",
        images: int | str = 600,
        seed: int | str = 0,
        shard_size: int | str = 2048,
    ) -> _Plan:
        """Make lens images by ray tracing, as shards.

        Args:
            kind: What to make: substructure (classes no, sphere, vort).
            out: Folder of the shards, made here.
            preset: common_test_1, like the real set, or benchmark.
            images: Images in the whole set, the classes in equal parts.
            seed: The same seed gives the same images.
            shard_size: Images in a file.
        """
        counts = {
            name: _integer(name, text)
            for name, text in (("images", images), ("seed", seed), ("shard_size", shard_size))
        }
        where = _folder("OUT", out)

        def act() -> int:
            import torch

            from deeplense_batch.data.simulate import simulate

            torch.set_num_threads(1)  # batches fit a core's cache; two threads are slower
            print(simulate(kind, where, preset=preset, **counts))
            return 0

        return _Plan(act)

    def pack(
        self,
        source: str,
        out: str,
        *,
        shard_size: int | str = 2048,
        seed: int | str = 0,
        compression: str = "none",
        dtype: str = "exact",
        pixel_scale: str = "none",
        allow_pickle: bool | str = False,
        skip_bad: bool | str = False,
    ) -> _Plan:
        """Pack images, in any of the usual layouts, into shards; a zip is read in place.

        Args:
            source: Folder, zip or npz.
            out: Folder of the shards, made here.
            shard_size: Images in a file.
            seed: Seed of the order, and of the split where the source has none.
            compression: none; gzip or lzf for an archive, slower to read.
            dtype: exact keeps every bit; float32 or float16 may round.
            pixel_scale: Arcsec per pixel, where known.
            allow_pickle: Load object arrays, which can run code: only for files you trust.
            skip_bad: Leave bad files out and list them, instead of stopping.
        """
        options: dict[str, Any] = {
            "shard_size": _integer("shard_size", shard_size),
            "seed": _integer("seed", seed),
            "compression": _choice("compression", compression, ("none", "gzip", "lzf")),
            "dtype": _choice("dtype", dtype, ("exact", "float16", "float32", "float64")),
            "pixel_scale": None if pixel_scale == "none" else _number("pixel_scale", pixel_scale),
            "allow_pickle": _flag("allow_pickle", allow_pickle),
            "skip_bad": _flag("skip_bad", skip_bad),
        }
        read, write = _folder("SOURCE", source), _folder("OUT", out)
        if options["compression"] == "none":
            options["compression"] = None

        def act() -> int:
            from deeplense_batch.data.pack import pack

            print(pack(read, write, **options))
            return 0

        return _Plan(act)

    def run(
        self,
        job: str,
        *,
        out: str = "",
        device: str = "",
        processes: int | str = 0,
        force: bool | str = False,
        **overrides: bool | str,
    ) -> _Plan:
        """Carry out one run, start to end; go on with it if it was cut off.

        Args:
            job: A recipe that is one run, or a run directory.
            out: Folder of the run directories, by default runs.
            device: cpu or cuda, in place of what the job asks for.
            processes: Processes on this machine; 0 is one for each GPU the job asks for.
            force: Put aside what is there and start over.
            overrides: Fields of the job, such as --train.lr=1e-3.
        """
        from deeplense_batch.job import load_jobs

        again, fields = _flag("force", force), _overrides("run", overrides)
        on = _choice("device", device, ("cpu", "cuda")) if device else None
        count = _integer("processes", processes)
        directory = Path(job).is_dir()
        if directory and (fields or out):
            raise UsageError(f"{job}: is a run directory; its job and place are fixed")
        jobs = [] if directory else load_jobs(job, fields)
        if len(jobs) > 1:
            raise UsageError(f"{job}: holds {len(jobs)} runs; submit --grid takes them all")

        def act() -> int:
            from deeplense_batch.launch import carry_out
            from deeplense_batch.plan import plan, reopen

            planned = reopen(job) if directory else plan(jobs, _runs(out))[0]
            code = carry_out(planned, device=on, processes=count or None, force=again)
            if code == 0 and os.environ.get("RANK", "0") == "0":
                scores = planned.run.read_json("metrics.json")["test"]["scores"]
                shown = ", ".join(f"{k} {v:.4f}" for k, v in scores.items() if v is not None)
                print(f"{planned.run.path}: done; test {shown}")
            return code

        return _Plan(act)

    def submit(
        self,
        *jobs: str,
        grid: bool | str = False,
        cluster: str = "local",
        out: str = "",
        parallel: int | str = 0,
        device: str = "",
        retry: bool | str = False,
        force: bool | str = False,
        dry_run: bool | str = False,
        yes: bool | str = False,
        **overrides: bool | str,
    ) -> _Plan:
        """Carry out every run of jobs that is not done yet; a second time, nothing.

        Args:
            jobs: Recipes; none with --grid means every recipe in jobs/ whose data are here.
            grid: Take every run of a recipe's grid and seeds; without it, a recipe is one run.
            cluster: local, processes on this machine, or debug, this process.
            out: Folder of the run directories, by default runs.
            parallel: Runs at a time; 0 fits the machine.
            device: cpu or cuda, in place of what the jobs ask for.
            retry: Try failed runs again.
            force: Put aside what is there and start over.
            dry_run: Show what would be done, and stop.
            yes: Do not ask before all of jobs/ is submitted from a terminal.
            overrides: Fields of the jobs, such as --train.epochs=3.
        """
        from deeplense_batch.job import load_jobs
        from deeplense_batch.submit import check_cluster

        expand, paths = _grid(jobs, grid)
        flags = {
            name: _flag(name, text)
            for name, text in (("retry", retry), ("force", force), ("dry_run", dry_run))
        }
        everything = not jobs and not isinstance(grid, str)
        ask = everything and not _flag("yes", yes)
        fields = _overrides("submit", overrides)
        slots = _integer("parallel", parallel) or None
        on = _choice("device", device, ("cpu", "cuda")) if device else None
        check_cluster(cluster)
        loaded = {path: load_jobs(path, fields) for path in paths}
        for path, found in loaded.items():
            if len(found) > 1 and not expand:
                raise UsageError(f"{path}: holds {len(found)} runs; --grid submits them all")

        def act() -> int:
            from deeplense_batch.data.shards import ShardError
            from deeplense_batch.plan import plan
            from deeplense_batch.submit import Submission, submit

            folder = _runs(out)
            planned, left_out = [], ""
            for path, found in loaded.items():
                try:
                    planned += plan(found, folder)
                except ShardError as error:
                    if not everything:
                        raise
                    left_out = f"left out {path}: {error}"
                    print(left_out)
            if not planned:
                raise ShardError(f"no recipe in jobs/ has its data here; {left_out}")
            submission = Submission.of(planned, retry=flags["retry"], force=flags["force"])
            print(submission)
            if flags["dry_run"] or (ask and submission.todo and not _agreed()):
                return 0
            submit(submission, folder, cluster=cluster, parallel=slots, device=on)
            return 0 if submission.complete else 5

        return _Plan(act)

    def status(self, runs: str = "", *, check: bool | str = False) -> _Plan:
        """Show the state of every run below a folder.

        Args:
            runs: Folder, by default runs.
            check: Exit 5 unless every run is done.
        """
        checked = _flag("check", check)

        def act() -> int:
            from deeplense_batch import collect

            print(collect.status(_runs(runs)))
            return 5 if checked and collect.incomplete(_runs(runs)) else 0

        return _Plan(act)

    def collect(self, runs: str = "", *, out: str = "report") -> _Plan:
        """Compare runs: tables, figures and a report; exit 5 while runs are missing.

        Args:
            runs: Folder, by default runs.
            out: Folder of the report.
        """
        where = _folder("--out", out)

        def act() -> int:
            from deeplense_batch.collect import collect

            report = collect(_runs(runs), where)
            print(report.summary)
            return 0 if report.complete else 5

        return _Plan(act)

    def bench(
        self,
        *jobs: str,
        steps: int | str = 5,
        repeats: int | str = 5,
        device: str = "",
        out: str = "",
        **overrides: bool | str,
    ) -> _Plan:
        """Measure the models of recipes and the data plane on this device, as ratios.

        Args:
            jobs: Recipes, by default jobs/demo.yaml.
            steps: Training steps of one measurement.
            repeats: Measurements of each number; medians are told.
            device: cpu or cuda, in place of what the jobs ask for.
            out: A JSON file for the numbers.
            overrides: Fields of the jobs, such as --data.size=224.
        """
        from deeplense_batch.job import load_jobs

        fields = _overrides("bench", overrides)
        counts = {"steps": _integer("steps", steps), "repeats": _integer("repeats", repeats)}
        if not all(counts.values()):
            raise UsageError("--steps and --repeats: should be 1 or more")
        on = _choice("device", device, ("cpu", "cuda")) if device else None
        loaded = [job for path in jobs or ["jobs/demo.yaml"] for job in load_jobs(path, fields)]

        def act() -> int:
            import json

            from deeplense_batch.bench import bench

            report = bench(loaded, device=on, **counts)
            print(report)
            if out:
                Path(out).write_text(json.dumps(report.as_json(), indent=1) + "\n")
            return 0

        return _Plan(act)

    def doctor(self, runs: str = "", *, data: str = "") -> _Plan:
        """Look at what this machine can do; exit 4 where something is unfit.

        Args:
            runs: Folder of the run directories, by default runs.
            data: A folder of shards to open.
        """

        def act() -> int:
            from deeplense_batch.doctor import examine

            findings = examine(_runs(runs), Path(data) if data else None)
            print(*findings, sep="\n")
            return 0 if all(finding.fit for finding in findings) else 4

        return _Plan(act)

    def models(self) -> _Plan:
        """List the models; any other name that timm knows works too."""

        def act() -> int:
            from deeplense_batch.models import MODELS

            width = max(map(len, MODELS))
            for name, row in MODELS.items():
                print(f"{name:<{width}}  {row.parameters_m:7.3f} M  {row.about}")
            return 0

        return _Plan(act)


def main(argv: list[str] | None = None) -> None:
    """Read the words, then act; ends the process with an exit code."""
    typed = sys.argv[1:] if argv is None else argv
    if typed == ["--version"]:
        print(deeplense_batch.__version__)
        sys.exit(0)
    _log_to_stderr()
    try:
        plan = fire.Fire(
            Commands(), command=_words(typed), name="deeplense-batch", serialize=_nothing
        )
        if not isinstance(plan, _Plan):
            sys.exit(2)
        code = plan._act()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        known = [_CODES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _CODES]
        if not known:
            raise
        place = isinstance(error, OSError) and error.filename
        print(f"{place}: {error.strerror}" if place else error, file=sys.stderr)  # type: ignore[attr-defined]
        code = known[0]
    sys.exit(code)


def _words(typed: list[str]) -> list[str]:
    """Write the words so that Fire reads them as meant.

    Values are quoted, so that a run named 12e45678 is no number; a bare flag gets its value, so
    that it does not eat the next word; and help is asked for in Fire's own way, since a verb that
    takes any flag would swallow ``--help``.
    """
    verb = [word for word in typed[:1] if not word.startswith("-")]
    if not typed or {"-h", "--help"} & set(typed):
        return [*verb, "--", "--help"]
    words = list(verb)
    known = _flags(verb[0]) if verb and hasattr(Commands, verb[0]) else {}
    for word in typed[len(verb) :]:
        flag, equals, value = word.partition("=")
        if not re.match(r"-+[A-Za-z]", word):
            words.append(repr(word))
        elif equals:
            words.append(f"{_checked(verb, flag, known)}={value!r}")
        else:
            bare = known.get(_checked(verb, flag, known).lstrip("-")) is False
            words.append(f"{word}=True" if bare else word)
    return words


def _flags(verb: str) -> dict[str, Any]:
    """The flags of a verb with their defaults; ``overrides`` among them if it takes any field."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(getattr(Commands, verb)).parameters.items()
        if name not in ("self", "jobs", "grid")
    }


def _checked(verb: list[str], flag: str, known: dict[str, Any]) -> str:
    from deeplense_batch.job import nearest

    name = flag.lstrip("-").replace("-", "_")
    open_ended = "overrides" in known or not known
    if open_ended or name in known or any(k.startswith(name) for k in known if len(name) == 1):
        return flag
    raise UsageError(
        f"{flag}: no such flag of {verb[0]}; {nearest(flag, [f'--{k}' for k in known])}"
    )


def _nothing(_: object) -> None:
    """Fire prints what this gives for what a verb returned."""


def _log_to_stderr() -> None:
    if logging.getLogger("deeplense_batch").handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.setLevel(logging.INFO)
    logger = logging.getLogger("deeplense_batch")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _folder(name: str, value: str) -> Path:
    if not value:
        raise UsageError(f"{name}: a folder is needed, got ''; an unset variable?")
    return Path(value)


def _runs(folder: str) -> Path:
    return Path(folder or os.environ.get("DEEPLENSE_RUNS", "runs"))


def _grid(jobs: tuple[str, ...], grid: bool | str) -> tuple[bool, list[str]]:
    """Whether to expand, and which recipes: Fire gives ``--grid a.yaml`` as the flag's value."""
    recipe = isinstance(grid, str) and grid.lower() not in ("true", "false")
    expand = recipe or _flag("grid", grid)
    paths = [str(grid), *jobs] if recipe else list(jobs)
    if not paths and expand:
        paths = [str(path) for path in sorted(Path("jobs").glob("*.yaml"))]
        if not paths:
            raise UsageError("submit --grid: there are no recipes here, jobs/*.yaml; name some")
    if not paths:
        raise UsageError("submit: which job? name recipes, or --grid for all in jobs/")
    return expand, paths


def _overrides(verb: str, given: Mapping[str, bool | str]) -> dict[str, Any]:
    """Read ``--section.field=value``; any other flag is a misspelt one."""
    from deeplense_batch.job import Job, nearest, parse_value

    fields = {"grid", "seeds", *Job.model_fields}
    for name in given:
        if name.partition(".")[0] not in fields:
            known = [p for p in inspect.signature(getattr(Commands, verb)).parameters]
            known = [f"--{p}" for p in [*known, *fields] if p not in ("self", "overrides", "jobs")]
            raise UsageError(f"--{name}: no such flag of {verb}; {nearest(f'--{name}', known)}")
    return {name: parse_value(str(text)) for name, text in given.items()}


def _flag(name: str, value: bool | str) -> bool:
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise UsageError(f"--{name}: is a flag, true or false, got '{value}'")


def _integer(name: str, value: int | str) -> int:
    if str(value).isdecimal():
        return int(value)
    raise UsageError(f"--{name}: expected a whole number, 0 or more, got '{value}'")


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--{name}: expected a number, got '{text}'") from None


def _choice(name: str, text: str, allowed: tuple[str, ...]) -> str:
    if text in allowed:
        return text
    raise UsageError(f"--{name}: got '{text}'; allowed: {', '.join(allowed)}")


def _agreed() -> bool:
    """Ask on a terminal; a script has said what it wants."""
    if not sys.stdin.isatty():
        return True
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")


if __name__ == "__main__":
    main()
