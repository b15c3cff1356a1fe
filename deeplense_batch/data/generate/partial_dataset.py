"""The shards of a set while it is made, in pieces (`core.pieces`).

::

    <root>/.parts/
      plan.json               what the set will be; another plan is refused
      train-00003.h5          a shard that is complete, a split of its own
      train-00004.<process>/  one in work; left by a process that was killed, it is made anew

To join the shards is to write the attributes of the whole split into each, and to give them their
final names; that may be broken off and done again as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplense_batch.core.files import is_gone, link, sweep
from deeplense_batch.core.pieces import Pieces, remove_pieces
from deeplense_batch.data.digest import describe_split
from deeplense_batch.data.shard_file import done_with, naming, writing
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.writer import ShardWriter, make_folder, refuse_packing, refuse_shards

__all__ = ["PartialDataset", "Shard", "clear"]

Shard = tuple[str, int]  # its split and its number


class PartialDataset(Pieces[Shard]):
    """The shards of a set that is not complete.

    Arguments:
        root: Folder of the set; made if missing.
        plan: What the set will be, as JSON. Another plan than that of the folder is refused.
        shards: All shards of all splits, each split from number 0 on.
        finish: Called when all shards have their final names; writes the manifest.

    Raises:
        ShardError: Another set is in this folder, or was begun there, or it cannot be written to.
    """

    def __init__(
        self,
        root: Path,
        *,
        plan: Mapping[str, Any],
        shards: Sequence[Shard],
        finish: Callable[[], None],
    ) -> None:
        super().__init__(root / ".parts", shards)
        self.root = root
        self.simulation = json.dumps(plan)
        self._finish = finish
        self._counts = Counter(split for split, _ in shards)
        if not (self.folder / "plan.json").exists():
            refuse_shards(root)
        make_folder(root)
        begun = self.begin(lambda: plan)
        try:
            refuse_packing(root)
        except ShardError:
            if begun:
                shutil.rmtree(self.folder)
            raise
        self._sweep()
        if not begun and self.plan() != plan:
            raise ShardError(
                f"{root}: another simulation was begun here and is not complete; go on with "
                f"that one, name another folder, or remove {self.folder}"
            )

    def _sweep(self) -> None:
        """Remove the shards that killed processes of this host had in work."""
        for left in self.folder.glob(f"*.{socket.gethostname()}.*"):
            pid = left.name.rpartition(".")[2]
            if left.is_dir() and pid.isdecimal() and is_gone(int(pid)):
                shutil.rmtree(left, ignore_errors=True)

    @contextlib.contextmanager
    def writing(self, shard: Shard, **options: Any) -> Iterator[ShardWriter]:
        """Write one shard; it counts when the block has ended without an error.

        Arguments:
            shard: Its split and number.
            options: Of the `ShardWriter`.
        """
        split, number = shard
        folder = self.folder / f"{split}-{number:05d}.{socket.gethostname()}.{os.getpid()}"
        try:
            with ShardWriter(folder, split=split, simulation=self.simulation, **options) as writer:
                yield writer
                writer.publish()
            (written,) = folder.glob("*.h5")
            # Where another process was faster, its shard stays: it may have been joined by now.
            link(written, self.folder / f"{split}-{number:05d}.h5")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def path_of(self, piece: Shard) -> Path:
        """The file of a shard, under its final name where it has it already."""
        split, number = piece
        final = self._final_path(piece)
        return final if final.exists() else self.folder / f"{split}-{number:05d}.h5"

    def clear(self) -> None:
        """Remove what is of no use any more when the set is complete."""
        clear(self.root)

    def _join(self, on_batch: Callable[[], None]) -> None:
        paths = {shard: self.path_of(shard) for shard in self.pieces}
        for split in self._counts:
            of_split = [path for (name, _), path in paths.items() if name == split]
            describe_split(of_split, simulation=self.simulation, on_batch=on_batch)
        sweep(self.root)
        final_paths = {path: self._final_path(shard) for shard, path in paths.items()}
        with naming(self.root, [final.name for final in final_paths.values()]):
            for path, final in final_paths.items():
                path.replace(final)
            with writing(self.root / "manifest.json"):
                self._finish()

    def _final_path(self, shard: Shard) -> Path:
        split, number = shard
        return self.root / f"{split}-{number:05d}-of-{self._counts[split]:05d}.h5"


def clear(root: Path) -> None:
    """Remove what is of no use any more when a set is complete."""
    done_with(root)
    remove_pieces(root / ".parts")
