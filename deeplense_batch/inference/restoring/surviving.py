"""What of the substructure survives: what a fixed classifier sees in restored images.

The classifier has learnt from other images and stays as it is. It is asked for the true image, for
the restored one and for the interpolated one, each in the units of the set.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from deeplense_batch.data.augment import central_crop
from deeplense_batch.data.batches.paired import paired_loader
from deeplense_batch.data.shards import ShardError, Split
from deeplense_batch.inference.images.suitable import wrong_shape
from deeplense_batch.inference.trained import Logits, Trained
from deeplense_batch.tasks.restoration import Restoration
from deeplense_batch.tasks.task import Arrays
from deeplense_batch.training.evaluation import batches_of
from deeplense_batch.training.precision import scored_in

__all__ = ["seen_in"]


def seen_in(restorer: Trained, classifier: Trained, split: Split, device: torch.device) -> Arrays:
    """Logits of a classifier on what a run restores, and on what that is held against.

    Arguments:
        restorer: A run that restores images.
        classifier: A run that tells classes apart.
        split: Pairs, as `Trained.as_seen` by the restorer.
        device: Where both are.

    Returns:
        ``seen_<of>``, (N, K), of ``truth``, ``clean`` where there is such, ``restored`` and
        ``fitted``, in the order of the slice; and ``seen_targets``, (N,) class numbers of the
        classifier, -1 where it does not know the class.

    Raises:
        ShardError: The classifier does not take such images.
    """
    task = restorer.task
    assert isinstance(task, Restoration)
    root, frame = split.info.files[0].parent, task.frame
    shape = (frame.channels, frame.size, frame.size)
    if not classifier.fits(shape):
        crop = classifier.job.data.crop
        raise ShardError(
            f"{root}: {wrong_shape(shape, classifier.shape, crop, taker=classifier.run.path)}"
        )
    loader = paired_loader(
        split, transform=restorer.transform, device=device, registers=restorer.job.data.register
    )
    model = restorer.model.to(device)
    network = Logits(classifier.model.to(device)).eval()
    parts: dict[str, list[Tensor]] = {}
    with torch.inference_mode(), scored_in(None):
        for batch in batches_of(loader, list(loader.in_order(rank=0, world=1))):
            for name, images in task.versions(model, batch).items():
                cropped = central_crop(images, classifier.job.data.crop)
                logits = network(classifier.transform(cropped))
                parts.setdefault(f"seen_{name}", []).append(logits.float().cpu())
    known = split.info.as_stored.renamed(classifier.job.data.classes)
    numbers = known.numbered_as(classifier.classes)
    targets = np.asarray(Split(numbers, split.start, split.stop, split.picked).targets())
    return {name: torch.cat(v).numpy() for name, v in parts.items()} | {"seen_targets": targets}
