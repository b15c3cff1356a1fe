"""Whether what is known of some images of a slice is known of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path

from deeplense_batch.data.shards import ShardError, Split, open_shard

__all__ = ["check_truth_files"]


def check_truth_files(
    keys: Collection[str], slices: Mapping[str, Split], sets: Sequence[Split]
) -> None:
    """Make sure that what is known of some images that are read together is known of all.

    Arguments:
        keys: Truth that the task reads.
        slices: Each is read as a whole.
        sets: Read together.

    Raises:
        ShardError: A truth that the task reads is in some files of a slice, or of the sets that
            are trained on together, and not in others.
    """
    for key, together in product(keys, [*([split] for split in slices.values()), sets]):
        paths = [path for split in together for path, *_ in split.parts()]
        has = {path: _has_truth(path, key) for path in paths}
        if len(set(has.values())) > 1:
            lacking, other = ([*has.values()].index(there) for there in (False, True))
            raise ShardError(
                f"{paths[lacking]}: has no truth/{key}, which {paths[other]} has and "
                "the task reads; leave one of them out, or set task.options.truth: false for a "
                "task that has it"
            )


def _has_truth(path: Path, key: str) -> bool:
    with open_shard(path) as file:
        return f"truth/{key}" in file
