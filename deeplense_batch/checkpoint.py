"""Every tensor on disk: written whole or not at all, loaded without running code.

A file is written under a temporary name, synced, and renamed; the checkpoint before it is kept as
``checkpoint.prev.pt``, so that one cut short or damaged costs an interval and not the run.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import torch

__all__ = ["CHECKPOINT", "PREVIOUS", "load", "load_checkpoint", "save", "save_checkpoint"]

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.prev.pt"

_log = logging.getLogger(__name__)


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
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch covers it up
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from None
    if previous is not None and path.exists():
        path.replace(previous)
    temporary.replace(path)
    _sync_folder(path.parent)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, onto the CPU; no code in it is run."""
    return torch.load(path, map_location="cpu", weights_only=True)


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
        except Exception as error:  # a damaged file may raise anything
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that: it is cut short
                raise
            reason = str(error).split("\n")[0][:200]
            _log.warning("%s cannot be read (%s: %s)", folder / name, type(error).__name__, reason)
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
