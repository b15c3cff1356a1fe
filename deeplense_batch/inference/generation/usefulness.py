"""Whether generated images teach: a classifier trained on them, beside one on as many originals.

Both are trained from scratch by the recipe of the classifier that judges, on images as the
generator sees them, and tested on the same held-out originals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job
from deeplense_batch.core.processes import Interrupt
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.loader import Loader, Transform
from deeplense_batch.data.shards import NAME, Split, open_split
from deeplense_batch.data.writer import ShardWriter
from deeplense_batch.inference.generation.features import Critic
from deeplense_batch.models import checkpoint
from deeplense_batch.training.setup import model_of, task_of
from deeplense_batch.training.trainer import BEST, DivergedError, Trainer, evaluate

__all__ = ["usefulness"]


def usefulness(
    critic: Critic,
    loaders: Mapping[str, Loader],
    folder: Path,
    *,
    device: torch.device,
    interrupt: Interrupt,
    beat: Callable[[int], None],
) -> tuple[dict[str, float | None], list[str]]:
    """Train twice and test twice; go on where that was cut off.

    Arguments:
        critic: Its classifier's job is the recipe.
        loaders: Of values as packed, as the generator sees them: ``generated``, ``original`` (as
            many or more), ``valid`` and ``test``.
        folder: Gets shards of them, and what the two trainings leave.
        device: Where.
        interrupt: Ends a training, to go on later.
        beat: Told the finished epochs, often.

    Returns:
        The macro AUC on the test images after training on the ``generated`` and on ``real`` ones,
        None where one diverged, and then a note.

    Raises:
        StoppedError: The interrupt was set; the state is saved.
    """
    data = folder / "data"
    count = min(len(loaders["generated"]), len(loaders["original"]))
    for name, loader in loaders.items():
        _write(data, name, loader, count if name in ("generated", "original") else len(loader))
    aucs: dict[str, float | None] = {}
    notes = []
    for use, name in (("generated", "generated"), ("original", "real")):
        try:
            aucs[name] = _tested(_job(critic, data, use), folder / use, device, interrupt, beat)
        except DivergedError as error:
            aucs[name] = None
            notes.append(f"useful_auc: trained on {name} images, {error}")
    return aucs, notes


def _write(root: Path, split: str, loader: Loader, count: int) -> None:
    """Write the first images of a loader as a split of one file, unless it is there."""
    if root.is_dir() and any(
        match["split"] == split for path in root.iterdir() if (match := NAME.match(path.name))
    ):
        return
    info, ids = loader.split.info, loader.ids
    size = loader.transform.size or loader.transform.crop
    channels, height, width = info.shape
    float32 = np.dtype(np.float32)
    with ShardWriter(
        root, split=split, shape=(channels, size or height, size or width), stored=float32,
        dtype=float32, classes=info.classes, source=info.source, seed=info.seed, shard_size=count,
    ) as writer:  # fmt: skip
        parts = np.array_split(np.arange(count), -(-count // 256))
        for (images, targets, _), places in zip(loader.batches(parts), parts, strict=True):
            writer.append(
                images.cpu().numpy(), targets=targets.cpu().numpy(), ids=ids[places].tolist()
            )
        writer.publish()


def _job(critic: Critic, data: Path, use: str) -> Job:
    """The recipe of the classifier for images as the generator sees them."""
    job = critic.trained.job
    slices = {"root": str(data), "train": use, "valid": "valid", "test": "test"}
    frame = {"crop": critic.kept, "size": critic.trained.input_shape[1]}
    return job.model_copy(
        update={
            "data": job.data.model_copy(update=slices | frame),
            "train": job.train.model_copy(update={"init": None}),
        }
    )


def _tested(
    job: Job, folder: Path, device: torch.device, interrupt: Interrupt, beat: Callable[[int], None]
) -> float | None:
    """Train in a folder, and give the AUC on the test images."""
    folder.mkdir(parents=True, exist_ok=True)
    slices: dict[str, Split] = {
        use: open_split(job.data.root, getattr(job.data, use))
        for use in ("train", "valid", "test")
    }
    info = slices["train"].info
    plain = Transform(job.data.crop, job.data.size, job.data.stretch)
    train = Loader(slices["train"], transform=plain, device=device)
    train.transform = train.measured()
    valid, test = (
        Loader(slices[use], transform=train.transform, device=device) for use in ("valid", "test")
    )
    task = task_of(job, info)
    task.fit_statistics(train.targets.cpu().numpy(), {})
    torch.manual_seed(job.seed)
    model = model_of(job, info, task, pretrained=False).to(device)
    world = World(0, 1, device)
    trainer = Trainer(job, RunDir(folder), world, task, model, train, valid, interrupt, beat)
    trainer.resume()
    trainer.fit()
    model.load_state_dict(checkpoint.load(folder / BEST)["model"])
    outputs = evaluate(task, model, test, world, tta=job.data.tta)
    assert outputs is not None
    return task.score(outputs)[0].get("auc")
