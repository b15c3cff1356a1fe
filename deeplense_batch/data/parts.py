"""A set that is made shard by shard, by any number of processes, and joined when all are there.

::

    <root>/.parts/
      plan.json               what the set will be; another plan is refused
      train-00003.h5          a shard that is complete, a split of its own
      train-00004.<process>/  one in work; left by a process that was killed, it is made anew

Who finds all shards complete joins them: the attributes of the whole split are written into each,
and they get their final names. That may be broken off and done again as well.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.writer import ShardWriter, describe_split, make_folder
from deeplense_batch.rundir import RunBusyError, RunDir, Status

__all__ = ["Parts"]

_WAIT_SECONDS = 0.2


class Parts:
    """The shards of a set in the making.

    Arguments:
        root: Folder of the set; made if missing.
        plan: What the set will be, as JSON. Who comes with another plan is refused.
        shards: How many shards each split will have.

    Raises:
        ShardError: Another set was begun in this folder, or it cannot be written to.
    """

    def __init__(self, root: Path, *, plan: Mapping[str, Any], shards: Mapping[str, int]) -> None:
        self.root = root
        self.shards = shards
        self._folder = root / ".parts"
        make_folder(root)
        self._folder.mkdir(exist_ok=True)
        run = RunDir(self._folder)
        with contextlib.suppress(FileNotFoundError):
            if run.read_json("plan.json") != plan:
                raise ShardError(
                    f"{root}: another simulation was begun here and is not complete; go on with "
                    f"that one, name another folder, or remove {self._folder}"
                )
            return
        run.write_json("plan.json", plan)

    def missing(self) -> list[tuple[str, int]]:
        """Split and number of every shard that is not complete."""
        every = [(split, k) for split, count in self.shards.items() for k in range(count)]
        return [(split, k) for split, k in every if not self._found(split, k).exists()]

    @contextlib.contextmanager
    def writing(self, split: str, shard: int, **options: Any) -> Iterator[ShardWriter]:
        """Write one shard; it counts when the block has ended without an error.

        Arguments:
            split: Its split.
            shard: Its number.
            options: Of the `ShardWriter`.
        """
        folder = self._folder / f"{split}-{shard:05d}.{socket.gethostname()}.{os.getpid()}"
        try:
            with ShardWriter(folder, split=split, **options) as writer:
                yield writer
                writer.publish()
            (made,) = folder.glob("*.h5")
            made.replace(self._part(split, shard))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def join(self) -> bool:
        """Make the set of its shards, once all are complete.

        Returns:
            Whether this process has done it; not so while shards are missing, or where another
            process did it meanwhile.

        Raises:
            ShardError: A shard is damaged; it was removed, and is made anew next time.
        """
        run = RunDir(self._folder)
        while not self.missing():
            try:
                run.write_status(Status(state="running"))  # a sign of life, for other hosts
                with run.claim():
                    self._join()
                return True
            except RunBusyError:  # at work on it, or it looked before our last shard was there
                time.sleep(_WAIT_SECONDS)
            except FileNotFoundError:  # the other is through and has cleared the folder
                return False
        return False

    def _join(self) -> None:
        for split, count in self.shards.items():
            paths = [self._found(split, k) for k in range(count)]
            describe_split(paths)
            for k, path in enumerate(paths):
                path.replace(self._final(split, k))

    def clear(self) -> None:
        """Remove what is left of the making, once the set is complete."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _part(self, split: str, shard: int) -> Path:
        return self._folder / f"{split}-{shard:05d}.h5"

    def _final(self, split: str, shard: int) -> Path:
        return self.root / f"{split}-{shard:05d}-of-{self.shards[split]:05d}.h5"

    def _found(self, split: str, shard: int) -> Path:
        """Where a shard is or will be."""
        final = self._final(split, shard)
        return final if final.exists() else self._part(split, shard)
