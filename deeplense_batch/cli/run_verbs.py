"""The verbs that carry out one run, compare all, and look at the machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from deeplense_batch.cli.done import done
from deeplense_batch.cli.values import Device, Positive, UsageError
from deeplense_batch.cluster.recipes import plan_run, runs_folder
from deeplense_batch.core.job import Job, Simulation
from deeplense_batch.core.recipe import load_jobs

__all__ = ["bench", "collect", "doctor", "models", "redraw", "run"]


def run(
    job: Path,  # A recipe that is one run, or a run directory.
    *,
    out: Path | None = None,  # Folder of the run directories, by default runs.
    device: Device | None = None,  # cpu or cuda, in place of what the job asks for.
    # Processes on this machine; 0: one for each GPU the job asks for, or its resources.processes.
    processes: int = 0,
    force: bool = False,  # Put aside what is there and start over.
    slurm: bool = False,  # This is one of the processes that srun started for the run.
    **fields: Any,  # Fields of the job, such as --train.lr=1e-3.
) -> int:
    """Carry out one run, start to end; go on with it if it was cut off.

    Example: run jobs/baseline_resnet18.yaml --seed=0 --device cpu
    """
    from deeplense_batch.cluster.slurm_queue import ranks
    from deeplense_batch.core.processes import is_main, world_size
    from deeplense_batch.runs.launch import execute

    if slurm:
        os.environ.update(ranks(os.environ))
    planned = plan_run(job, fields, out)
    if (device or processes) and isinstance(planned.job, Simulation) and not job.is_dir():
        raise UsageError(f"{job}: simulates, by one process; no --device, --processes")
    code = execute(planned, device=device, processes=processes or None, force=force)
    # Of several that --processes started, who started them tells.
    if code == 0 and is_main() and not (processes and world_size() > 1):
        print(done(planned))
    return code


def collect(
    # Folder, by default runs; none, where results of other programs are named.
    runs: Path | None = None,
    *,
    out: Path = Path("report"),  # Folder of the report.
    import_: Path | None = None,  # Folder of published results, results_MODEL.json.
    # FOLDER has all_labels.npy and all_preds.npy; may be given again.
    predictions: dict[str, Path] | None = None,
    classes: tuple[str, ...] = (),  # Names of their classes, as no,sphere,vort.
    bench: Path | None = None,  # File of bench --out, for training hours on one device.
    # Bands that are red, green and blue where images are shown, such as i,r,g; by default the
    # three of the longest waves, where bands have names.
    rgb: tuple[str, ...] = (),
    # Quantities of the test images, such as theta_e, to show the scores by, in bins of equally
    # many images or between edges: theta_e=0.5:1:2,mag
    by: tuple[str, ...] = (),
) -> int:
    """Compare runs: tables, figures and a report; exit 5 while runs are missing.

    Example: collect demo/runs --out demo/report
    """
    if classes and not predictions:
        raise UsageError("--classes: names those of --predictions, which are not given")
    from deeplense_batch.report.collect import collect

    root = None if (import_ or predictions) and not runs else runs_folder(runs)
    report = collect(
        root, out, import_=import_, predictions=predictions, classes=classes, bench=bench,
        rgb=rgb, by=by,
    )  # fmt: skip
    print(report.summary)
    return 0 if report.complete else 5


def redraw(
    report: Path,  # Folder of a report.
    *,
    format_: tuple[str, ...] = ("png",),  # png, svg or pdf; several with commas.
) -> None:
    """Draw the figures of a report again, from the numbers in its figures.json.

    Example: redraw report --format pdf,svg
    """
    from deeplense_batch.report.plots.pictures import redraw

    print(*redraw(report, format_), sep="\n")


def bench(
    *jobs: Path,  # Recipes, by default jobs/demo.yaml.
    steps: Positive | None = None,  # Of one measurement; by default 5, and 100 on a GPU.
    repeats: Positive = 5,  # Measurements of each number; medians are shown.
    device: Device | None = None,  # cpu or cuda, in place of what the jobs ask for.
    out: Path | None = None,  # A JSON file for the numbers.
    **fields: Any,  # Fields of the jobs, such as --data.size=224.
) -> None:
    """Measure the models of recipes and the data plane on this device, as ratios.

    Example: bench jobs/demo.yaml --repeats 3 --out bench.json
    """
    found = [job for path in jobs or [Path("jobs/demo.yaml")] for job in load_jobs(path, fields)]
    loaded = [job for job in found if isinstance(job, Job)]
    if len(loaded) < len(found):
        raise UsageError("bench: measures trainings, and a recipe given simulates")
    from deeplense_batch.runs.bench import bench

    report = bench(loaded, steps=steps, repeats=repeats, device=device)
    print(report)
    if out:
        out.write_text(json.dumps(report.as_json(), indent=1) + "\n")


def doctor(
    runs: Path | None = None,  # Folder of the run directories, by default runs.
    *,
    data: Path | None = None,  # A folder of shards to open.
) -> int:
    """Look at what this machine can do; exit 4 where something is unfit.

    Example: doctor --data data/common_test_1
    """
    from deeplense_batch.runs.preflight import examine

    findings = examine(runs_folder(runs), data)
    print(*findings, sep="\n")
    return 0 if all(finding.fit for finding in findings) else 4


def models() -> None:
    """List the models; any other name that timm knows works too.

    Example: models
    """
    from deeplense_batch.models import MODELS

    width = max(map(len, MODELS))
    for name, row in MODELS.items():
        print(f"{name:<{width}}  {row.parameters_m:7.3f} M  {row.about}")
