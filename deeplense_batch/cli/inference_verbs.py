"""The verbs of finished runs: predict, sample, judge, export, explain; and fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from deeplense_batch.cli.values import Device, Ending, Positive, UsageError
from deeplense_batch.job import Job, JudgeSection
from deeplense_batch.recipe import load_jobs, read_section

__all__ = ["explain", "export", "fetch", "judge", "predict", "sample"]

Table = Annotated[Path, Ending((".parquet", ".csv"))]
Picture = Annotated[Path, Ending((".png",))]


def predict(
    run: Path,
    data: Path,
    *,
    out: Table,
    slice_: str = "",
    device: Device | None = None,
    part: int = 0,
    parts: int = 1,
    batch_size: Positive = 256,
    top: int = 0,
    of: str = "",
) -> int:
    """Predict on any number of images, a row for each; go on with it if it was cut off.

    Example: predict runs/demo/test_resnet-s0-7b1b43a8c2 images/ --out found.parquet --top 50

    Arguments:
        run: Run directory of a finished run.
        data: Folder of shards, or images in any layout that pack reads.
        out: The table that is made, .parquet or .csv.
        slice_: Of shards, such as val[:100]; by default all splits.
        device: cpu or cuda; by default a GPU where there is one.
        part: Which part of the work to do, from 0; the last to end completes the table.
        parts: Into how many parts it is divided.
        batch_size: Images at once.
        top: Draw so many images of the highest scores, beside the table as .png.
        of: The class of those scores; by default lenses, or the last class.
    """
    if part >= parts:
        raise UsageError(f"--part: {part} of {parts} parts; they count from 0")
    if of and not top:
        raise UsageError("--of: names the class of a sheet; --top N asks for one")
    from deeplense_batch.attempts import signals
    from deeplense_batch.predict import predict

    with signals() as interrupt:
        report = predict(
            run, data, out, slice_=slice_, device=device, part=part, parts=parts,
            batch_size=batch_size, top=top, of=of, each=interrupt.check,
        )  # fmt: skip
    print(report)
    return 0


def sample(
    run: Path,
    *,
    out: Path,
    images: int = 64,
    class_: str = "",
    sampler: str = "dpmpp",
    steps: int = 25,
    guidance: float = 1.0,
    seed: int = 0,
    device: Device | None = None,
    part: int = 0,
    parts: int = 1,
) -> int:
    """Draw images with a run of the task generation, as shards; go on if it was cut off.

    Example: sample runs/diffusion_grid/unet-s0-0123456789 --images 1000 --out data/drawn

    Arguments:
        run: Run directory of a finished run.
        out: Folder of the shards.
        images: How many.
        class_: Of this class alone; by default all classes equally.
        sampler: ddpm, ddim, dpmpp or heun.
        steps: Of the sampler.
        guidance: How closely the class is followed; 1 is as trained.
        seed: Of all noise.
        device: cpu or cuda; by default a GPU where there is one.
        part: Which part of the files to make, from 0; the last to end completes the set.
        parts: Into how many parts they are divided; 1 is one for each process of torchrun.
    """
    from deeplense_batch.attempts import signals
    from deeplense_batch.processes import rank, world_size
    from deeplense_batch.sample import sample

    if parts == 1:
        part, parts = rank(), world_size()
    with signals() as interrupt:
        report = sample(
            run, out, images=images, class_=class_, sampler=sampler, steps=steps,
            guidance=guidance, seed=seed, device=device, part=part, parts=parts,
            each=interrupt.check,
        )  # fmt: skip
    print(report)
    return 0


def judge(
    run: Path,
    *,
    out: Path,
    classifier: str | None = None,
    images: int | None = None,
    sampler: str = "dpmpp",
    steps: int = 25,
    guidance: float = 1.0,
    seed: int = 0,
    device: Device | None = None,
    useful: bool = False,
) -> int:
    """Draw images with a run of the task generation and judge them by real ones.

    It goes on if it was cut off. Runs whose job has a section judge have done this already.

    Example: judge runs/diffusion_grid/unet-s0-0123456789 --classifier runs/judge --out judged/

    Arguments:
        run: Run directory of a finished run; its data have to be there.
        out: Folder of the images, the numbers and the figures.
        classifier: A finished run of a classifier, whose features are compared, or its job's
            folder; by default only what can be measured without a classifier is.
        images: How many; by default as many as the test slice has.
        sampler: ddpm, ddim, dpmpp or heun.
        steps: Of the sampler.
        guidance: How closely the class is followed; 1 is as trained.
        seed: Of all noise.
        device: cpu or cuda; by default a GPU where there is one.
        useful: Also train the classifier anew, on these images and on as many originals.
    """
    asked = {"classifier": classifier, "images": images or None, "sampler": sampler}
    section = read_section(
        JudgeSection, asked | {"steps": steps, "guidance": guidance, "useful": useful}
    )
    from deeplense_batch.attempts import signals
    from deeplense_batch.judging.judge import judge

    with signals() as interrupt:
        print(judge(run, out, section, seed=seed, device=device, interrupt=interrupt))
    return 0


def export(
    run: Path,
    out: Path,
    *,
    format_: Literal["safetensors", "json", "onnx", "all"] = "all",
    schema: Literal["described", "bare"] = "described",
) -> int:
    """Write the network of a run for other programs, with a card that says how to use it.

    Example: export runs/demo/test_resnet-s0-7b1b43a8c2 model/

    Arguments:
        run: Run directory of a finished run.
        out: Folder that is made.
        format_: safetensors, json, onnx, or all of them; onnx needs the extra export.
        schema: Of the JSON: described (data, shape and dtype), or bare lists.
    """
    from deeplense_batch.export import export

    for path in export(run, out, format_=format_, schema=schema):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    return 0


def explain(
    run: Path,
    *,
    out: Picture,
    ids: tuple[str, ...] = (),
    slice_: str = "",
    of: str = "",
    data: str = "",
    device: Device = "cpu",
) -> int:
    """Draw where in some images a network looks, for each class.

    Example: explain runs/demo/test_resnet-s0-7b1b43a8c2 --slice "val[:12]" --out looks.png

    Arguments:
        run: Run directory of a finished run.
        out: The picture that is made, .png.
        ids: Names of samples, with commas between.
        slice_: Or a slice of the data, such as val[:12].
        of: One class, instead of all.
        data: Folder of shards, by default that of the run.
        device: Where the network runs.
    """
    if bool(ids) == bool(slice_):
        raise UsageError("explain: which images? --ids A,B,C or --slice 'val[:12]'")
    from deeplense_batch.explain import explain

    explain(run, out, ids=ids, slice_=slice_, of=of, data=data, device=device)
    print(out)
    return 0


def fetch(*jobs: Path) -> int:
    """Bring published weights that jobs start or judge from to a folder; needs a network.

    Runs never do: they read $DEEPLENSE_WEIGHTS, or weights.

    Example: fetch jobs/model_comparison.yaml

    Arguments:
        jobs: Recipes; those without model.pretrained: true or a section judge need none.
    """
    from deeplense_batch.models import INCEPTION, published
    from deeplense_batch.models.weights import fetch as fetched

    found = [job for path in jobs for job in load_jobs(path, {}) if isinstance(job, Job)]
    asked = [job.model for job in found if job.model.pretrained]
    names = {name for model in asked for name in published(model.name, model.options)}
    names |= {INCEPTION for job in found if job.judge is not None}
    if not names:
        raise UsageError("fetch: no job given has model.pretrained: true, or is judged")
    for name in sorted(names):
        path = fetched(name)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0
