"""All verbs: here those that carry out one run, compare all, and look at the machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from deeplense_batch.cli import words
from deeplense_batch.cli.cluster_commands import ClusterCommands
from deeplense_batch.cli.data_commands import Plan
from deeplense_batch.core.job import Job, Simulation
from deeplense_batch.core.recipe import load_jobs

__all__ = ["Commands", "Plan"]


class Commands(ClusterCommands):
    """Batch jobs for strong-lensing deep learning.

    simulate or pack images into shards, run one job, submit many, watch them with status, and
    collect the comparison. VERB --help describes a verb.
    """

    def run(
        self,
        job: str,
        *,
        out: str = "",
        device: str = "",
        processes: int | str = 0,
        force: bool | str = False,
        slurm: bool | str = False,
        **overrides: bool | str,
    ) -> Plan:
        """Carry out one run, start to end; go on with it if it was cut off.

        Args:
            job: A recipe that is one run, or a run directory.
            out: Folder of the run directories, by default runs.
            device: cpu or cuda, in place of what the job asks for.
            processes: Processes on this machine; 0 is one for each GPU the job asks for.
            force: Put aside what is there and start over.
            slurm: This is one of the processes that srun started for the run.
            overrides: Fields of the job, such as --train.lr=1e-3.
        """
        started = words.flag("slurm", slurm)
        again, fields = words.flag("force", force), words.overrides(self.run, overrides)
        on = words.choice("device", device, ("cpu", "cuda")) if device else None
        count = words.integer("processes", processes)
        directory = Path(job).is_dir()
        if directory and (fields or out):
            raise words.UsageError(f"{job}: is a run directory; its job and place are fixed")
        jobs = [] if directory else load_jobs(job, fields)
        if (on or count) and jobs and isinstance(jobs[0], Simulation):
            raise words.UsageError(f"{job}: simulates, by one process; no --device, --processes")
        if len(jobs) > 1:
            raise words.UsageError(f"{job}: holds {len(jobs)} runs; submit --grid takes them all")

        def act() -> int:
            from deeplense_batch.cluster.slurm_queue import ranks
            from deeplense_batch.core.processes import is_main
            from deeplense_batch.runs.launch import execute
            from deeplense_batch.runs.plan import plan, reopen

            if started:
                os.environ.update(ranks(os.environ))
            planned = reopen(job) if directory else plan(jobs, words.runs_folder(out))[0]
            code = execute(planned, device=on, processes=count or None, force=again)
            if code == 0 and is_main():
                metrics = planned.run.read_json("metrics.json")
                scores = metrics.get("test", {}).get("scores", {}).items()
                shown = ", ".join(f"{k} {v:.4f}" for k, v in scores if v is not None)
                said = f"test {shown}" if shown else metrics["summary"]
                print(f"{planned.run.path}: done; {said}")
            return code

        return Plan(act)

    def collect(
        self,
        runs: str = "",
        *,
        out: str = "report",
        import_: str = "",
        predictions: str = "",
        classes: str = "",
        bench: str = "",
    ) -> Plan:
        """Compare runs: tables, figures and a report; exit 5 while runs are missing.

        Args:
            runs: Folder, by default runs; none, where results of other programs are named.
            out: Folder of the report.
            import_: Folder of published results, results_MODEL.json (typed --import).
            predictions: NAME=FOLDER with all_labels.npy and all_preds.npy; may be repeated.
            classes: Names of their classes, as no,sphere,vort.
            bench: File of bench --out, for training hours on one device.
        """
        where = words.folder("--out", out)
        named = words.pairs("predictions", predictions)
        names = [name.strip() for name in classes.split(",")] if classes else []
        if names and not named:
            raise words.UsageError("--classes: names those of --predictions, which are not given")
        root = None if (import_ or named) and not runs else words.runs_folder(runs)

        def act() -> int:
            from deeplense_batch.report.collect import collect

            report = collect(
                root,
                where,
                published=import_ or None,
                predictions={name: Path(folder) for name, folder in named.items()},
                classes=names,
                bench=bench or None,
            )
            print(report.summary)
            return 0 if report.complete else 5

        return Plan(act, where)

    def redraw(self, report: str, *, format: str = "png") -> Plan:
        """Draw the figures of a report again, from the numbers in its figures.json.

        Args:
            report: Folder of a report.
            format: png, svg or pdf; several with commas.
        """
        formats = [one.strip() for one in format.split(",")]

        def act() -> int:
            from deeplense_batch.report.plots.pictures import redraw

            print(*redraw(words.folder("REPORT", report), formats), sep="\n")
            return 0

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
            jobs: Recipes, by default jobs/demo.yaml.
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
        found = [job for path in jobs or ["jobs/demo.yaml"] for job in load_jobs(path, fields)]
        loaded = [job for job in found if isinstance(job, Job)]
        if len(loaded) < len(found):
            raise words.UsageError("bench: measures trainings, and one of the recipes simulates")

        def act() -> int:
            from deeplense_batch.runs.bench import bench

            return _show(bench(loaded, device=on, **counts), out)

        return Plan(act)

    def doctor(self, runs: str = "", *, data: str = "") -> Plan:
        """Look at what this machine can do; exit 4 where something is unfit.

        Args:
            runs: Folder of the run directories, by default runs.
            data: A folder of shards to open.
        """

        def act() -> int:
            from deeplense_batch.runs.preflight import examine

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


def _show(report: Any, out: str) -> int:
    """Print what was measured, and write it as JSON where that is asked."""
    print(report)
    if out:
        Path(out).write_text(json.dumps(report.as_json(), indent=1) + "\n")
    return 0
