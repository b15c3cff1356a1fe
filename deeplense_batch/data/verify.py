"""Whether shards still hold what was packed: a flipped bit is another data set."""

from __future__ import annotations

from deeplense_batch.data.facts import file_digest
from deeplense_batch.data.shards import ShardError, SplitInfo

__all__ = ["verify"]


def verify(split: SplitInfo) -> None:
    """Compute the digest of every file of a split anew; reads them whole.

    Raises:
        ShardError: A file is not what was packed.
    """
    for path, packed in zip(split.files, split.digests, strict=True):
        found = file_digest(path)
        if found != packed:
            raise ShardError(
                f"{path}: is damaged or was changed after it was packed (content {found[:12]}, "
                f"packed as {packed[:12]}); pack it anew"
            )
