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
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deeplense_batch.data.facts import DamagedError, describe_split
from deeplense_batch.data.naming import done_with, naming
from deeplense_batch.data.shard_file import writing
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.writer import (
    ShardWriter,
    make_folder,
    refuse_packing,
    refuse_shards,
)
from deeplense_batch.files import is_gone
from deeplense_batch.rundir import RunBusyError, RunDir

__all__ = ["Parts", "clear"]

_WAIT_SECONDS = 0.2

_log = logging.getLogger(__name__)


def clear(root: Path) -> None:
    """Remove what is of no use any more when a set is complete."""
    done_with(root)
    (root / ".parts" / "plan.json").unlink(missing_ok=True)  # without it the rest is nothing
    shutil.rmtree(root / ".parts", ignore_errors=True)


class Parts:
    """The shards of a set in the making.

    Arguments:
        root: Folder of the set; made if missing.
        plan: What the set will be, as JSON. Who comes with another plan is refused.
        shards: How many shards each split will have.

    Raises:
        ShardError: Another set is in this folder, or was begun there, or it cannot be written to.
    """

    def __init__(self, root: Path, *, plan: Mapping[str, Any], shards: Mapping[str, int]) -> None:
        self.root = root
        self.shards = shards
        self.simulation = json.dumps(plan)
        self._folder = root / ".parts"
        self._run = RunDir(self._folder)
        if not (self._folder / "plan.json").exists():
            refuse_shards(root)
        make_folder(root)
        self._folder.mkdir(exist_ok=True)
        made = self._run.create_text("plan.json", json.dumps(plan, indent=1))
        try:
            refuse_packing(root)
        except ShardError:
            if made:
                shutil.rmtree(self._folder)
            raise
        self._sweep()
        if not made and self._run.read_json("plan.json") != plan:
            raise ShardError(
                f"{root}: another simulation was begun here and is not complete; go on with "
                f"that one, name another folder, or remove {self._folder}"
            )

    def _sweep(self) -> None:
        """Remove the shards that killed processes of this host had in work."""
        for left in self._folder.glob(f"*.{socket.gethostname()}.*"):
            pid = left.name.rpartition(".")[2]
            if left.is_dir() and pid.isdecimal() and is_gone(int(pid)):
                shutil.rmtree(left, ignore_errors=True)

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
            with ShardWriter(folder, split=split, simulation=self.simulation, **options) as writer:
                yield writer
                writer.publish()
            (made,) = folder.glob("*.h5")
            made.replace(self._part(split, shard))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def join(self, finish: Callable[[], None], each: Callable[[], None]) -> list[tuple[str, int]]:
        """Make the set of its shards, once all are complete; one process does, others wait.

        Arguments:
            finish: Called when all shards have their final names.
            each: Called now and then.

        Returns:
            Shards that were damaged meanwhile and are removed, to be made anew; none where the set
            is complete, or shards are missing that others make.
        """
        while not self.missing():
            try:
                with self._run.claim():
                    return self._join(finish, each)
            except RunBusyError:  # at work on it, or it looked before our last shard was there
                each()
                time.sleep(_WAIT_SECONDS)
            except FileNotFoundError:  # the other is through and has cleared the folder
                return []
        return []

    def _join(self, finish: Callable[[], None], each: Callable[[], None]) -> list[tuple[str, int]]:
        final: dict[Path, Path] = {}
        for split, count in self.shards.items():
            paths = {self._found(split, k): (split, k) for k in range(count)}
            try:
                describe_split(list(paths), simulation=self.simulation, each=each)
            except DamagedError as error:
                _log.warning("%s; it is made anew", error)
                error.path.unlink()
                return [paths[error.path]]
            final |= {path: self._final(*shard) for path, shard in paths.items()}
        RunDir(self.root).sweep()
        with naming(self.root, [path.name for path in final.values()]):
            for path, name in final.items():
                path.replace(name)
            with writing(self.root / "manifest.json"):
                finish()
        clear(self.root)
        return []

    def _part(self, split: str, shard: int) -> Path:
        return self._folder / f"{split}-{shard:05d}.h5"

    def _final(self, split: str, shard: int) -> Path:
        return self.root / f"{split}-{shard:05d}-of-{self.shards[split]:05d}.h5"

    def _found(self, split: str, shard: int) -> Path:
        """Where a shard is or will be."""
        final = self._final(split, shard)
        return final if final.exists() else self._part(split, shard)
