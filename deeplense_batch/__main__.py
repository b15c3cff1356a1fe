"""What a person types: ``python -m deeplense_batch VERB ...``.

Exit codes: 0 done; 1 error in the program; 2 usage; 3 job, shards or run directory invalid, and
nothing was run; 4 the machine is unfit (no GPU, no weights, no space); 5 runs are missing or
failed, output was written; 6 diverged; 7 out of memory; 85 cut short with the state saved, run it
again; 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import deeplense_batch
from deeplense_batch.cli.parse import Verb
from deeplense_batch.cli.verbs import read
from deeplense_batch.core.machine import keep_freed_memory, prepare_environment

__all__ = ["main"]


# Of a path that was named; any other fault of the system is one of the machine.
_WRONG_PATH = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def main(argv: list[str] | None = None) -> None:
    """Read the words, then act; ends the process with an exit code."""
    typed = sys.argv[1:] if argv is None else argv
    if typed == ["--version"]:
        print(deeplense_batch.__version__)
        sys.exit(0)
    _log_to_stderr()
    keep_freed_memory()
    verb: Verb | None = None
    try:
        prepare_environment()
        verb = read(typed)
        code = verb.act()
    except KeyboardInterrupt:
        code = 130
        _end_connected(code)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        _write_no_more(sys.stdout)
        code = 0
    except Exception as error:
        code = _exit_code(error)
        if code != 1:
            _complain(_sentence(error, verb))
        _end_connected(code, error if code == 1 else None)
        if code == 1:
            raise
    sys.exit(code)


def _end_connected(code: int, bug: Exception | None = None) -> None:
    """End at once if this is one of several processes that are connected."""
    if "torch.distributed" in sys.modules:
        from deeplense_batch.core.distributed import end_connected

        end_connected(code, bug)


def _exit_code(error: Exception) -> int:
    """The exit code of an error: our own classes carry theirs, as `exit_code`; 1 is a bug."""
    if isinstance(error, _WRONG_PATH):
        return 3
    if isinstance(error, OSError):
        return 4
    if isinstance(error, ImportError):  # of a library, whose path it has, or of a wrong import
        return 1 if error.path is None else 4
    torch = sys.modules.get("torch")  # not loaded, it has raised nothing
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return 7
    return int(getattr(error, "exit_code", 1))


def _sentence(error: Exception, verb: Verb | None) -> str:
    """What went wrong, in words that name the file or setting."""
    if isinstance(error, MemoryError):
        return f"out of memory{f' ({error})' if str(error) else ''}"
    if isinstance(error, ImportError):
        return f"{error.path}: cannot be loaded ({error}); is there memory for it?"
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    subject = error.filename or _subject(error, verb)
    return f"{subject}: {error.strerror}" if subject else str(error)


def _subject(error: OSError, verb: Verb | None) -> object:
    """What an error without a file's name is about."""
    try:
        Path.cwd()
    except OSError:
        return "the current folder was removed"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    try:
        print(flush=True)  # what could not be written is no longer held
    except (OSError, ValueError):
        _write_no_more(sys.stdout)
        return "standard output"
    return verb.writes if verb else None


def _complain(text: str) -> None:
    """Write to standard error, if anything can be written there."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _write_no_more(sys.stderr)


def _write_no_more(stream: TextIO) -> None:
    """Let go what a stream still holds: Python would try to write it when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _log_to_stderr() -> None:
    if logging.getLogger("deeplense_batch").handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.setLevel(logging.INFO)
    logger = logging.getLogger("deeplense_batch")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == "__main__":
    main()
