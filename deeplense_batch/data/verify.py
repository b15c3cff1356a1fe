"""Whether shards still hold what was packed: a flipped bit is another data set."""

from __future__ import annotations

import numpy as np

from deeplense_batch.data.content import Content
from deeplense_batch.data.facts import form_of, read_again
from deeplense_batch.data.shard_file import describe_file
from deeplense_batch.data.shards import ShardError, SplitInfo

__all__ = ["verify"]


def verify(split: SplitInfo) -> None:
    """Compute the digests of a split and of its files anew, and count its classes; reads it whole.

    Raises:
        ShardError: A file is not what was packed, or does not say what it holds.
    """
    whole: Content | None = None
    counts = np.zeros(len(split.classes), np.int64)
    for path, packed in zip(split.files, split.digests, strict=True):
        form = form_of(describe_file(path))
        own, whole = Content(form), whole or Content(form)
        for arrays, digests in read_again(path):
            own.add(arrays, digests)
            whole.add(arrays, digests)
            labels = arrays["targets"][arrays["targets"] >= 0]
            found = np.bincount(labels, minlength=len(counts))
            if len(found) > len(counts):
                raise ShardError(f"{path}: has class {len(found) - 1} of {len(counts)} classes")
            counts += found
        if (digest := own.hexdigest()) != packed:
            raise ShardError(
                f"{path}: is damaged or was changed after it was packed (content {digest[:12]}, "
                f"packed as {packed[:12]}); pack it anew"
            )
    root = split.files[0].parent
    if whole is None or whole.hexdigest() != split.content:
        raise ShardError(f"{root}: split {split.name} has not the digest that it names")
    if counts.tolist() != list(split.class_counts):
        raise ShardError(
            f"{root}: split {split.name} has {counts.tolist()} samples of its classes, and names "
            f"{list(split.class_counts)}"
        )
