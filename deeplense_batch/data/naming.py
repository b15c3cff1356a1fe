"""Shards get their final names one by one: who is killed meanwhile leaves half of a set.

While they are named, and until ``manifest.json`` is written, ``.naming.json`` beside them holds
their names. A set that has it and no manifest is not complete: no reader takes it for one, the
next packing starts it over, and a simulation goes on with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from deeplense_batch import files
from deeplense_batch.data.header import ShardError

__all__ = ["done_with", "half_named", "naming", "refuse_half_named"]

_MARK = ".naming.json"
_STARTED = time.time_ns()  # of this process, against numbers of processes that are used again


@contextlib.contextmanager
def naming(root: Path, names: Sequence[str]) -> Iterator[None]:
    """Give shards of a folder their names, and write the manifest; then the set is complete.

    Arguments:
        root: The folder, which this process owns.
        names: Of all shards.
    """
    (root / "manifest.json").unlink(missing_ok=True)  # of a set that is no longer there
    files.replace(root / _MARK, json.dumps({"shards": list(names), "by": _me()}))
    yield
    done_with(root)


def done_with(root: Path) -> None:
    """Say that a set is complete; its manifest does so already."""
    (root / _MARK).unlink(missing_ok=True)


def half_named(root: Path) -> list[str] | None:
    """Names that a process which was killed, or is at work, gives shards; None where none does."""
    mark = root / _MARK
    if not mark.is_file() or (root / "manifest.json").exists():
        return None
    try:
        content = json.loads(mark.read_text(encoding="utf-8"))
        return None if content["by"] == _me() else [str(name) for name in content["shards"]]
    except (ValueError, KeyError, TypeError):
        raise ShardError(f"{mark}: is damaged; remove it, and shards without a manifest") from None


def refuse_half_named(root: Path) -> None:
    """Refuse a set of which some shards may not be there yet.

    Raises:
        ShardError: It is one.
    """
    if half_named(root) is not None:
        raise ShardError(
            f"{root}: these shards are not complete: who made them was killed, or is not done; "
            "pack or simulate them again"
        )


def _me() -> str:
    return f"{socket.gethostname()} {os.getpid()} {_STARTED}"
