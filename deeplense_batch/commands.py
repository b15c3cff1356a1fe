"""The verbs: what each takes and what it calls.

A verb reads its words and gives a `Plan`; nothing happens before Fire has consumed every word, so
a misspelt flag costs nothing. Heavy imports happen inside a plan, so that ``--help`` answers at
once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeplense_batch import words
from deeplense_batch.job import Job, Simulation
from deeplense_batch.recipe import load_jobs

__all__ = ["Commands", "Plan"]


class Plan:
    """A command that was understood. Empty to Fire, so that a word left over matches nothing."""

    __slots__ = ("act",)

    def __init__(self, act: Callable[[], int]) -> None:
        self.act = act

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
        preset: str = "",
        images: int | str = 600,
        seed: int | str = 0,
        size: str = "",
        shard_size: int | str = 2048,
        part: int | str = 0,
        parts: int | str = 1,
        set: str = "",
    ) -> Plan:
        """Make lens images by ray tracing, as shards; go on with them if it was cut off.

        Args:
            kind: What to make: substructure (classes no, sphere, vort), lens_finding (lenses
                among galaxies, three bands), diffusion (unlabelled lenses) or super_resolution
                (pairs of 150 and 75 pixels).
            out: Folder of the shards, made here.
            preset: common_test_1, like the real set and the default of substructure; benchmark,
                parity, varied (the default of the last two), physical or null.
            images: Images in the whole set; of substructure, the classes in equal parts.
            seed: The same seed gives the same images.
            size: Pixels along a side, by default 150; a lens_finding set has 64.
            shard_size: Images in a file.
            part: Which part of the files to make, from 0; the last to end completes the set.
            parts: Into how many parts they are divided.
            set: A field of the preset, FIELD=VALUE; may be given again. VALUE is a number, [low,
                high], or {law: Normal, mean: 0, sd: 0.5}.
        """
        counts: dict[str, Any] = {
            name: words.integer(name, text)
            for name, text in (
                ("images", images),
                ("seed", seed),
                ("shard_size", shard_size),
                ("part", part),
                ("parts", parts),
            )
        }
        options: dict[str, Any] = {"changes": words.settings("set", set)} if set else {}
        options |= {"preset": preset} if preset else {}
        options |= {"size": words.integer("size", size)} if size else {}
        where = words.folder("OUT", out)

        def act() -> int:
            import torch

            from deeplense_batch.data.simulate import simulate

            torch.set_num_threads(1)  # batches fit a core's cache; two threads are slower
            print(simulate(kind, where, **counts, **options))
            return 0

        return Plan(act)

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
    ) -> Plan:
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
            "shard_size": words.integer("shard_size", shard_size),
            "seed": words.integer("seed", seed),
            "compression": words.choice("compression", compression, ("none", "gzip", "lzf")),
            "dtype": words.choice("dtype", dtype, ("exact", "float16", "float32", "float64")),
            "pixel_scale": None
            if pixel_scale == "none"
            else words.number("pixel_scale", pixel_scale),
            "allow_pickle": words.flag("allow_pickle", allow_pickle),
            "skip_bad": words.flag("skip_bad", skip_bad),
        }
        read, write = words.folder("SOURCE", source), words.folder("OUT", out)
        if options["compression"] == "none":
            options["compression"] = None

        def act() -> int:
            from deeplense_batch.data.pack import pack

            print(pack(read, write, **options))
            return 0

        return Plan(act)

    def unpack(self, data: str, out: str) -> Plan:
        """Write shards as .npy files again, in the public layout, for other programs.

        Args:
            data: Folder of shards.
            out: Folder that is made, or a .zip.
        """
        read, write = words.folder("DATA", data), words.folder("OUT", out)

        def act() -> int:
            from deeplense_batch.data.unpack import unpack

            print(f"{write}: {unpack(read, write)} images")
            return 0

        return Plan(act)

    def truth(self, data: str, out: str, *, slice: str = "val[:100]") -> Plan:
        """Write the truth behind simulated images: deflection, potential, source, detectability.

        Args:
            data: Folder of simulated shards.
            out: HDF5 file that is made, a group for each image.
            slice: Of which images.
        """
        read, write = words.folder("DATA", data), words.folder("OUT", out)

        def act() -> int:
            from deeplense_batch.data.truth import write_truth

            print(write_truth(read, slice, write))
            return 0

        return Plan(act)

    def run(
        self,
        job: str,
        *,
        out: str = "",
        device: str = "",
        processes: int | str = 0,
        force: bool | str = False,
        **overrides: bool | str,
    ) -> Plan:
        """Carry out one run, start to end; go on with it if it was cut off.

        Args:
            job: A recipe that is one run, or a run directory.
            out: Folder of the run directories, by default runs.
            device: cpu or cuda, in place of what the job asks for.
            processes: Processes on this machine; 0 is one for each GPU the job asks for.
            force: Put aside what is there and start over.
            overrides: Fields of the job, such as --train.lr=1e-3.
        """
        again, fields = words.flag("force", force), words.overrides(self.run, overrides)
        on = words.choice("device", device, ("cpu", "cuda")) if device else None
        count = words.integer("processes", processes)
        directory = Path(job).is_dir()
        if directory and (fields or out):
            raise words.UsageError(f"{job}: is a run directory; its job and place are fixed")
        jobs = [] if directory else load_jobs(job, fields)
        if len(jobs) > 1:
            raise words.UsageError(f"{job}: holds {len(jobs)} runs; submit --grid takes them all")

        def act() -> int:
            from deeplense_batch.launch import carry_out
            from deeplense_batch.plan import plan, reopen

            planned = reopen(job) if directory else plan(jobs, words.runs_folder(out))[0]
            code = carry_out(planned, device=on, processes=count or None, force=again)
            if code == 0 and os.environ.get("RANK", "0") == "0":
                metrics = planned.run.read_json("metrics.json")
                scores = metrics.get("test", {}).get("scores", {}).items()
                shown = ", ".join(f"{k} {v:.4f}" for k, v in scores if v is not None)
                said = f"test {shown}" if shown else metrics["summary"]
                print(f"{planned.run.path}: done; {said}")
            return code

        return Plan(act)

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
    ) -> Plan:
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
        from deeplense_batch.submit import check_cluster

        expand, paths = words.recipes(jobs, grid)
        flags = {
            name: words.flag(name, text)
            for name, text in (("retry", retry), ("force", force), ("dry_run", dry_run))
        }
        everything = not jobs and not isinstance(grid, str)
        ask = everything and not words.flag("yes", yes)
        fields = words.overrides(self.submit, overrides)
        slots = words.integer("parallel", parallel) or None
        on = words.choice("device", device, ("cpu", "cuda")) if device else None
        check_cluster(cluster)
        loaded = {path: load_jobs(path, fields) for path in paths}
        if everything:  # data are made only where that is asked for
            loaded = {p: f for p, f in loaded.items() if not isinstance(f[0], Simulation)}
        for path, found in loaded.items():
            if len(found) > getattr(found[0], "parts", 1) and not expand:
                raise words.UsageError(f"{path}: holds {len(found)} runs; --grid submits them all")

        def act() -> int:
            from deeplense_batch.data.shards import ShardError
            from deeplense_batch.plan import plan
            from deeplense_batch.submit import Submission, submit

            folder = words.runs_folder(out)
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

        return Plan(act)

    def status(self, runs: str = "", *, check: bool | str = False) -> Plan:
        """Show the state of every run below a folder.

        Args:
            runs: Folder, by default runs.
            check: Exit 5 unless every run is done.
        """
        checked = words.flag("check", check)

        def act() -> int:
            from deeplense_batch import collect

            print(collect.status(words.runs_folder(runs)))
            return 5 if checked and collect.incomplete(words.runs_folder(runs)) else 0

        return Plan(act)

    def collect(self, runs: str = "", *, out: str = "report") -> Plan:
        """Compare runs: tables, figures and a report; exit 5 while runs are missing.

        Args:
            runs: Folder, by default runs.
            out: Folder of the report.
        """
        where = words.folder("--out", out)

        def act() -> int:
            from deeplense_batch.collect import collect

            report = collect(words.runs_folder(runs), where)
            print(report.summary)
            return 0 if report.complete else 5

        return Plan(act)

    def bench(
        self,
        *jobs: str,
        steps: int | str = 5,
        repeats: int | str = 5,
        device: str = "",
        out: str = "",
        **overrides: bool | str,
    ) -> Plan:
        """Measure the models of recipes and the data plane on this device, as ratios.

        Args:
            jobs: Recipes, by default jobs/demo.yaml; or the word simulate, for the simulator.
            steps: Training steps of one measurement.
            repeats: Measurements of each number; medians are told.
            device: cpu or cuda, in place of what the jobs ask for.
            out: A JSON file for the numbers.
            overrides: Fields of the jobs, such as --data.size=224.
        """
        fields = words.overrides(self.bench, overrides)
        counts = {
            "steps": words.integer("steps", steps),
            "repeats": words.integer("repeats", repeats),
        }
        if not all(counts.values()):
            raise words.UsageError("--steps and --repeats: should be 1 or more")
        on = words.choice("device", device, ("cpu", "cuda")) if device else None
        if jobs == ("simulate",):
            return Plan(lambda: _bench_simulation(counts["repeats"], out))
        found = [job for path in jobs or ["jobs/demo.yaml"] for job in load_jobs(path, fields)]
        loaded = [job for job in found if isinstance(job, Job)]
        if not loaded:
            raise words.UsageError("bench: none of these recipes trains a model")

        def act() -> int:
            from deeplense_batch.bench import bench

            return _show(bench(loaded, device=on, **counts), out)

        return Plan(act)

    def doctor(self, runs: str = "", *, data: str = "") -> Plan:
        """Look at what this machine can do; exit 4 where something is unfit.

        Args:
            runs: Folder of the run directories, by default runs.
            data: A folder of shards to open.
        """

        def act() -> int:
            from deeplense_batch.doctor import examine

            findings = examine(words.runs_folder(runs), Path(data) if data else None)
            print(*findings, sep="\n")
            return 0 if all(finding.fit for finding in findings) else 4

        return Plan(act)

    def models(self) -> Plan:
        """List the models; any other name that timm knows works too."""

        def act() -> int:
            from deeplense_batch.models import MODELS

            width = max(map(len, MODELS))
            for name, row in MODELS.items():
                print(f"{name:<{width}}  {row.parameters_m:7.3f} M  {row.about}")
            return 0

        return Plan(act)


def _bench_simulation(repeats: int, out: str) -> int:
    from deeplense_batch.bench_simulation import bench_simulation

    return _show(bench_simulation(repeats=repeats), out)


def _show(report: Any, out: str) -> int:
    """Print what was measured, and write it as JSON where that is asked."""
    print(report)
    if out:
        Path(out).write_text(json.dumps(report.as_json(), indent=1) + "\n")
    return 0


def _agreed() -> bool:
    """Ask on a terminal; a script has said what it wants."""
    if not sys.stdin.isatty():
        return True
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
