"""Every tensor on disk: written whole or not at all, loaded without running code.

A file is written under a temporary name, synced, and renamed; the checkpoint before it is kept as
``checkpoint.prev.pt``, so that one cut short or damaged costs an interval and not the run.
"""

from __future__ import annotations

import errno
import logging
import zipfile
from pathlib import Path
from typing import Any

import torch

from deeplense_batch.core import files

__all__ = [
    "CHECKPOINT",
    "PREVIOUS",
    "CheckpointError",
    "load",
    "load_checkpoint",
    "save",
    "save_checkpoint",
]

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.prev.pt"

_log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A file of tensors is damaged, or none that this program wrote."""

    exit_code = 3


def save(path: Path, state: dict[str, Any], *, previous: Path | None = None) -> None:
    """Write tensors, numbers, text and containers of them.

    Arguments:
        path: File to make or replace.
        state: What to write.
        previous: Where to keep the file that is replaced.

    Raises:
        OSError: It could not be written, such as to a full disk; what was there is still there.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            files.sync(file.fileno())
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch covers it up
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from None
    if previous is not None and path.exists():
        path.replace(previous)
    temporary.replace(path)
    files.sync_folder(path.parent)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, onto the CPU; no code in it is run.

    Raises:
        OSError: It is not there, or the disk does not answer.
        CheckpointError: It is damaged, or holds something else.
    """
    if fault := files.no_file(path):
        raise CheckpointError(f"{path}: {fault}")
    try:
        if zipfile.is_zipfile(path):  # torch writes checksums, and does not look at them
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise zipfile.BadZipFile(damaged)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        # Of a file that is cut short the last step says EINVAL.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise CheckpointError(
            f"{path}: is damaged or cut short ({type(error).__name__})"
        ) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds no state that this program wrote")
    return state


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write the newest state and keep the one before."""
    save(folder / CHECKPOINT, state, previous=folder / PREVIOUS)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the newest state that can be read; None where there is none.

    Raises:
        OSError: The disk does not answer; what it holds may be whole.
    """
    for name in (CHECKPOINT, PREVIOUS):
        try:
            return load(folder / name)
        except FileNotFoundError:
            continue
        except CheckpointError as error:
            _log.warning("%s", error)
    return None
