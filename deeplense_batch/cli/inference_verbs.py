"""The verbs of finished runs: predict, evaluate, sample, export, explain; and fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from deeplense_batch.cli.done import done
from deeplense_batch.cli.reading import read_reading
from deeplense_batch.cli.values import Device, Limit, Positive, UsageError, several
from deeplense_batch.cluster.recipes import runs_folder
from deeplense_batch.core.job import Job
from deeplense_batch.core.recipe import evaluation_of, load_jobs
from deeplense_batch.runs.planning.making_images import takes_input

__all__ = ["evaluate", "explain", "export", "fetch", "predict", "sample"]

_TABLES = (".parquet", ".csv")
Picture = Annotated[Path, Limit(endings=(".png",))]
Amp = Literal["off", "bf16", "fp16", "auto"]


def predict(
    # Run directory of a finished run; or a job's folder, or several runs with commas between, for
    # the mean of their calibrated scores.
    run: Path,
    data: Path,  # Folder of shards, or images in any layout that pack reads.
    *,
    # The table that is made, .parquet or .csv; of a run that restores images the folder of these.
    out: Path,
    slice_: str = "",  # Of shards, such as val[:100]; by default all splits.
    # Of a run that restores images: shards, or npy or fits for a file of each image.
    files: Literal["shards", "npy", "fits"] = "shards",
    device: Device | None = None,  # cpu or cuda; by default a GPU where there is one.
    part: int = 0,  # Which part of the work to do, from 0; the last to end completes the table.
    parts: int = 1,  # Into how many parts it is divided.
    batch_size: Positive = 256,  # Images at once; fewer where memory runs out.
    amp: Amp = "off",  # off for float32; or bf16, fp16 or auto, faster on a GPU.
    top: int = 0,  # Draw so many images of the highest scores, beside the table as .png.
    of: str = "",  # The class of those scores; by default lenses, or the last class.
    # Bands that are red, green and blue on that sheet, such as i,r,g; by default the three of the
    # longest waves, where bands have names.
    rgb: tuple[str, ...] = (),
    # Of a detection: share of lenses among candidates; by default that of the run.
    purity: float | None = None,
    # Of a detection: share of lenses on the sky, for which candidates and calibrated scores hold;
    # by default that of the run for candidates, of its validation slice for calibrated scores.
    prevalence: float | None = None,
    # Of a posterior: so many draws of each image, as lists in columns <name>_draws of a .parquet.
    # Of a run that draws images of inputs: so many, of which it writes mean and sd; by default 8.
    samples: int = 0,
    # Columns of the catalogue, or of FITS headers, that the table gets after id: all, none, or
    # names with commas.
    columns: tuple[str, ...] = ("all",),
    # How files are read that are no shards: flags of pack with their values, such as
    # '{path: file_loc, bands: [g, r, i]}'.
    reading: str = "",
) -> None:
    """Predict on any number of images, a row for each; go on with it if it was cut off.

    A run of the task restoration writes restored images instead, as one process and in one go; one
    that draws images of inputs writes the folders mean and sd of several samples.

    Example: predict demo/runs/demo/test_resnet-s0-f890d82125 images/ --out found.parquet --top 50
    """
    _check_part(part, parts)
    if of and not top:
        raise UsageError("--of: names the class of a sheet; --top N asks for one")
    if rgb and not top:
        raise UsageError("--rgb: names the bands of a sheet; --top N asks for one")
    for flag, share in (("--purity", purity), ("--prevalence", prevalence)):
        if share is not None and not 0 < share < 1:
            raise UsageError(f"{flag}: expected a number between 0 and 1, got {share:g}")
    how = read_reading("--reading", reading) if reading else None
    from deeplense_batch.core.processes import signals

    if _restores(run):
        flags = {"--top": top, "--parts": parts > 1, "--purity": purity}
        flags |= {"--prevalence": prevalence, "--samples": bool(samples) and not _draws(run)}
        for flag in (flag for flag, value in flags.items() if value):
            raise UsageError(f"{flag}: is for runs that predict, and {run} restores images")
        from deeplense_batch.inference.restoring.restore import SAMPLES, restore

        with signals() as interrupt:
            print(
                restore(
                    run, data, out, slice_=slice_, form=files, device=device,
                    batch_size=batch_size, amp=amp, reading=how,
                    samples=samples or SAMPLES, on_batch=interrupt.check,
                )
            )  # fmt: skip
        return
    if out.suffix not in _TABLES:
        raise UsageError(f"--out: expected a name that ends in .parquet or .csv, got '{out}'")
    if files != "shards":
        raise UsageError(f"--files: is for runs that restore images, and {run} predicts a table")
    from deeplense_batch.inference.predict import predict

    with signals() as interrupt:
        report = predict(
            several(run), data, out, slice_=slice_, device=device, part=part, parts=parts,
            batch_size=batch_size, amp=amp, top=top, of=of, rgb=rgb, purity=purity,
            prevalence=prevalence, samples=samples, columns=columns, reading=how,
            on_batch=interrupt.check,
        )  # fmt: skip
    print(report)


def _restores(run: Path) -> bool:
    """Whether a run makes better images of images."""
    if not (run / "job.yaml").is_file():
        return False
    (job,) = load_jobs(run / "job.yaml")
    return isinstance(job, Job) and (job.task.name == "restoration" or takes_input(job))


def _draws(run: Path) -> bool:
    """Whether a run draws images of inputs."""
    (job,) = load_jobs(run / "job.yaml")
    return isinstance(job, Job) and takes_input(job)


def _check_part(part: int, parts: int) -> None:
    if part >= parts:
        raise UsageError(f"--part: {part} of {parts} parts; they count from 0")


def sample(
    run: Path,  # Run directory of a finished run.
    *,
    out: Path,  # Folder of the shards.
    images: int = 64,  # How many.
    class_: str = "",  # Of this class alone; by default all classes equally.
    sampler: str = "dpmpp",  # ddpm, ddim, dpmpp or heun.
    steps: int = 25,  # Of the sampler.
    guidance: float = 1.0,  # How closely the class is followed; 1 is as trained.
    seed: int = 0,  # Of all noise.
    amp: Amp = "off",  # off for float32; or bf16, fp16 or auto, faster on a GPU.
    device: Device | None = None,  # cpu or cuda; by default a GPU where there is one.
    part: int = 0,  # Which part of the files to make, from 0; the last to end completes the set.
    parts: int = 1,  # Into how many parts they are divided; 1 is one for each process of torchrun.
) -> None:
    """Draw images with a run of the task generation, as shards; go on if it was cut off.

    Example: sample runs/diffusion_grid/unet-s0-0123456789 --images 1000 --out data/drawn
    """
    _check_part(part, parts)
    from deeplense_batch.core.processes import rank, signals, world_size
    from deeplense_batch.inference.generation.sample import sample

    if parts == 1:
        part, parts = rank(), world_size()
    with signals() as interrupt:
        report = sample(
            run, out, images=images, class_=class_, sampler=sampler, steps=steps,
            guidance=guidance, seed=seed, amp=amp, device=device, part=part, parts=parts,
            on_batch=interrupt.check,
        )  # fmt: skip
    print(report)


def evaluate(
    # Run directory of a finished run, or its job's folder for every run in it; or several with
    # commas between.
    run: Path,
    data: Path | None = None,  # Folder of shards, by default those that the run was trained on.
    *,
    slice_: str = "",  # Of the data; by default the run's own test slice, test, or the only split.
    # The mean of the calibrated scores of several runs, as one: of a job's folder one ensemble for
    # each recipe in it, of runs with commas one of all.
    ensemble: bool = False,
    # Score the mean over the 8 symmetries of the square; by default as the run was trained.
    tta: bool | None = None,
    out: Path | None = None,  # Folder of the run directories, by default runs.
    # For generated images: a finished run of a classifier, or its job's folder, in whose features
    # they are compared with real ones.
    classifier: str | None = None,
    # For generated images: how many; by default as many as the slice has.
    images: int | None = None,
    # For generated images: ddpm, ddim, dpmpp or heun; by default dpmpp.
    sampler: str | None = None,
    steps: int | None = None,  # For generated images: of the sampler, by default 25.
    # For generated images: how closely the class is followed; 1 is as trained.
    guidance: float | None = None,
    # For images generated of inputs: how many of each, whose mean is scored; by default 8.
    samples: int | None = None,
    seed: int = 0,  # Of all noise of the sampler.
    device: Device | None = None,  # cpu or cuda; by default a GPU if this machine has one.
    processes: Positive = 1,  # Processes on this machine that share the images, a GPU each.
) -> int:
    """Score a finished run on labelled images, or measure the images that it generates.

    The result is a run directory of its own, which collect compares with others; an evaluation
    that is done is not done again. `judge RUN` is another word for `evaluate RUN`.

    Example: evaluate demo/runs/demo/test_resnet-s0-f890d82125 data/varied --slice val
    """
    job = evaluation_of(
        several(run), data, slice_, seed=seed, processes=processes,
        ensemble=ensemble or None, tta=tta,
        classifier=classifier, images=images, sampler=sampler, steps=steps, guidance=guidance,
        samples=samples,
    )  # fmt: skip
    from deeplense_batch.core.distributed import device_of
    from deeplense_batch.runs.launch import execute
    from deeplense_batch.runs.planning.plan import plan

    kind = device or device_of(None).type
    for planned in plan([job], runs_folder(out)):
        if code := execute(planned, device=kind):
            return code
        print(done(planned))
    return 0


def export(
    run: Path,  # Run directory of a finished run.
    out: Path,  # Folder that is made.
    *,
    # safetensors, json, onnx, or all of them; onnx needs the extra export.
    format_: Literal["safetensors", "json", "onnx", "all"] = "all",
    # Of the JSON: described (data, shape and dtype), or bare lists.
    schema: Literal["described", "bare"] = "described",
    # Let model.onnx take images as they are in the data, and stretch, normalise and resize them.
    prepares: bool = False,
) -> None:
    """Write the network of a run for other programs, with a card that says how to use it.

    Example: export demo/runs/demo/test_resnet-s0-f890d82125 model/
    """
    from deeplense_batch.inference.export import export

    for path in export(run, out, format_=format_, schema=schema, prepares=prepares):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def explain(
    run: Path,  # Run directory of a finished run.
    *,
    out: Picture,  # The picture that is made, .png.
    ids: tuple[str, ...] = (),  # Names of samples, with commas between.
    slice_: str = "",  # Or a slice of the data, such as val[:12].
    of: str = "",  # One class, instead of all.
    data: str = "",  # Folder of shards, by default that of the run.
    # Bands that are red, green and blue, such as i,r,g; by default the three of the longest waves,
    # where bands have names.
    rgb: tuple[str, ...] = (),
    device: Device = "cpu",  # Where the network runs.
) -> None:
    """Draw where in some images a network looks, for each class.

    Example: explain demo/runs/demo/test_resnet-s0-f890d82125 --slice "val[:12]" --out looks.png
    """
    if bool(ids) == bool(slice_):
        raise UsageError("explain: which images? --ids A,B,C or --slice 'val[:12]'")
    from deeplense_batch.inference.explain import explain

    explain(run, out, ids=ids, slice_=slice_, of=of, data=data, rgb=rgb, device=device)
    print(out)


def fetch(
    # Recipes, or models of timm on the Hugging Face hub, hf_hub:owner/name. Recipes without
    # model.pretrained: true, such a model or a section evaluate need none.
    *jobs: Path,
) -> None:
    """Download the published weights that jobs start from, or are measured with; needs a network.

    Runs never do: they read the folder that this fills, $DEEPLENSE_WEIGHTS or weights.

    Example: fetch jobs/model_comparison.yaml
    """
    from deeplense_batch.models.weights import fetch, is_hub_name
    from deeplense_batch.runs.planning.validate import published_weights

    names = {str(word) for word in jobs if is_hub_name(str(word))}
    for path in jobs:
        if str(path) not in names:
            names.update(name for job in load_jobs(path) for name in published_weights(job))
    if not names:
        raise UsageError("fetch: no job given has model.pretrained: true, or evaluates")
    for name in sorted(names):
        path = fetch(name)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
