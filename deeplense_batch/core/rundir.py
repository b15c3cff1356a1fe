"""The run directory: everything about one run, readable without this code.

::

    runs/<job>/<model>-s<seed>-<hash>/
      job.yaml            the resolved job, itself runnable; written first
      status.json         state, reason, progress; small, replaced whole
      claim               the process that owns the run just now
      attempts.jsonl      a line when an attempt starts and one when it ends
      history.jsonl       a line per epoch
      checkpoint.pt       full state; checkpoint.prev.pt the one before
      best.pt             weights of the best epoch
      metrics.json        scores, cost, hardware, versions: with state "done", the result
      outputs.npz         ids, targets, logits of the test slice; validated.npz: of validation
      catalogue.parquet   columns of the data's catalogue for the same images, if it has one
      figures/*.png       confusion, roc, history; beside them log.txt

Stored states: ``planned``, ``queued``, ``running``, ``stopped`` (can go on), ``failed``, ``done``.
``lost`` is derived when read: the files say running, but the process is gone, or a run that was
begun has no state any more. Runs of a submit that is gone are ``planned``, unless SLURM has them.

JSON is written under a temporary name and renamed; numbers that JSON does not know (NaN, inf) are
null. One process owns a run, by a `claim` file that only one can create.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deeplense_batch.core import files
from deeplense_batch.core.processes import is_alive, this_process

__all__ = ["ELEMENT", "RunBusyError", "RunDir", "RunDirError", "Status", "find_runs", "now"]

ELEMENT = "DEEPLENSE_ELEMENT"  # which element of an array of SLURM a process carries out

_SCHEMA = 1
_FILES = (
    *("job.yaml", "status.json", "attempts.jsonl", "history.jsonl", "metrics.json", "log.txt"),
    *("checkpoint.pt", "checkpoint.prev.pt", "best.pt", "outputs.npz", "validated.npz"),
    "catalogue.parquet",
)
_BEAT_SECONDS = 30.0


class RunBusyError(RuntimeError):
    """Another living process owns the run."""

    exit_code = 3


class RunDirError(ValueError):
    """A file of a run directory is damaged, or not one that this program wrote."""

    exit_code = 3

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path}: {fault}")
        self.fault = fault


@dataclass(frozen=True)
class Status:
    """What `status.json` says."""

    state: str = "planned"  # planned, queued, running, stopped, failed, done; derived: lost
    reason: str | None = None  # failed: error, data, environment, diverged, oom; stopped: signal
    message: str | None = None  # one sentence
    host: str | None = None
    pid: int | None = None
    started: float | None = None  # when the process began, as the kernel counts, against reuse
    element: str | None = None  # of an array of SLURM that it waits or runs in: <array>_<index>
    attempt: int = 0
    epoch: int = 0
    epochs: int = 0
    updated: str | None = None  # UTC, ISO 8601
    schema: int = _SCHEMA


class RunDir:
    """One run directory. Nothing here loads torch."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def name(self) -> str:
        """``<job>/<run>``, as people write it."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def figures(self) -> Path:
        """Folder of the pictures."""
        return self.path / "figures"

    @property
    def there(self) -> bool:
        """Whether it holds a run; one that has lost its job is a run too."""
        return any(os.path.lexists(self.path / name) for name in ("job.yaml", "status.json"))

    @classmethod
    def create(cls, path: Path, job_yaml: str) -> RunDir:
        """Make the directory with its job, or find it made."""
        run = cls(path)
        path.mkdir(parents=True, exist_ok=True)
        if not run.there:
            run.create_text("job.yaml", job_yaml)
            # Created, not written: another that made the directory too may be at work already.
            run.create_text("status.json", _stamped(Status()))
        return run

    def status(self) -> Status:
        """Read the state; ``lost`` where the process that should be at work is gone.

        Raises:
            RunDirError: `status.json` is not what this program writes.
        """
        if not os.path.lexists(self.path / "status.json"):
            if not os.path.lexists(self.path / "attempts.jsonl"):
                return Status()
            return Status(state="lost", message="its status.json is missing")
        content = self.read_json("status.json")
        known = {field.name for field in fields(Status)}
        status = Status(**{key: value for key, value in content.items() if key in known})
        for name, allowed in _ALLOWED.items():
            if not allowed(content.get(name)):
                fault = f"has a wrong {name}, {content.get(name)!r:.60}"
                raise RunDirError(self.path / "status.json", fault)
        if status.state == "queued" and not status.element and not _alive(status):
            return replace(status, state="planned", message="the submit that queued it has ended")
        if status.state == "running" and not _alive(self._seen(status)):
            return replace(status, state="lost", message="its process ended without a word")
        return status

    def check(self) -> None:
        """Make sure that each path that a run reads or writes is a file, or free.

        Raises:
            RunDirError: One is a folder, a pipe or a link to nothing.
        """
        for name in _FILES:
            if fault := files.no_file(self.path / name):
                raise RunDirError(self.path / name, fault)
        if os.path.lexists(self.figures) and not self.figures.is_dir():
            raise RunDirError(self.figures, "is no folder")

    @property
    def held(self) -> bool:
        """Whether the process that wrote the state is alive, as far as this host can tell."""
        return _alive(self._seen(self.status()))

    def write_status(self, status: Status) -> None:
        """Replace the state and stamp it with this process and the time.

        The element of an array is that of this process, but that of a queued run is its own.
        """
        self.write_text("status.json", _stamped(status))

    @contextlib.contextmanager
    def claim(self, ended: str | None = None) -> Iterator[None]:
        """Own the run, and give signs of life; the claim of a dead process is taken over.

        Arguments:
            ended: Element of an array that SLURM does not hold any more: its process is dead.

        Raises:
            RunBusyError: A living process owns it.
            RunDirError: The claim cannot be read, or the state, which is asked where it is torn.
        """
        path = self.path / "claim"
        mine = json.dumps(this_process() | {"element": os.environ.get(ELEMENT)})
        while not files.create(path, mine) and not self._take_over(path, mine, ended):
            pass  # it was released meanwhile: whoever makes the next one has it
        over = threading.Event()
        threading.Thread(target=_beat, args=(path, mine, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            if _content(path) == mine:  # else it was taken for dead, and another owns the run
                path.unlink(missing_ok=True)

    def append(self, name: str, content: Mapping[str, Any]) -> None:
        """Add one line to a ``.jsonl`` file; a last line cut short is taken away first."""
        with (self.path / name).open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write((json.dumps(_plain(content)) + "\n").encode())
            file.flush()
            files.sync(file.fileno())

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """Read a ``.jsonl`` file; none is an empty one, and a last line cut short is left out.

        Raises:
            RunDirError: It cannot be read, or a line of it is no JSON object.
        """
        path = self.path / name
        if not os.path.lexists(path):
            return []
        lines = [_parsed(path, line) for line in _text(path).split("\n")[:-1]]
        if any(not isinstance(line, dict) for line in lines):
            raise RunDirError(path, "holds a line that is no JSON object")
        return lines

    def write_lines(self, name: str, lines: list[dict[str, Any]]) -> None:
        """Replace a ``.jsonl`` file."""
        self.write_text(name, "".join(json.dumps(_plain(line)) + "\n" for line in lines))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Replace a JSON file."""
        self.write_text(name, _json(content))

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file.

        Raises:
            FileNotFoundError: It is not there.
            RunDirError: It cannot be read, or is no JSON object.
        """
        path = self.path / name
        text = _text(path)
        content = _parsed(path, text)
        if not isinstance(content, dict):
            raise RunDirError(path, f"expected a JSON object, got {text!r:.60}")
        return content

    def write_text(self, name: str, text: str) -> None:
        """Replace a file, whole or not at all."""
        files.replace(self.path / name, text)

    def create_text(self, name: str, text: str) -> bool:
        """Make a file that must not exist; only one process can, and it is there as a whole."""
        return files.create(self.path / name, text)

    def sweep(self) -> None:
        """Remove half-written files of processes that were killed; for the owner only."""
        files.sweep(self.path, below=True)

    def _seen(self, status: Status) -> Status:
        """The status with the last sign of life of its process: the claim may be younger."""
        try:
            claimed = datetime.fromtimestamp((self.path / "claim").stat().st_mtime, UTC)
        except FileNotFoundError:
            return status
        seen = max(claimed.isoformat(timespec="seconds"), status.updated or "")
        return replace(status, updated=seen)

    def _take_over(self, path: Path, mine: str, ended: str | None) -> bool:
        """Replace a dead claim. The lock keeps a second taker from removing the first one's.

        Returns:
            Whether it was; one that is released by now is made as by the first, without the lock.
        """
        with files.exclusively(path.with_name(".claim.lock")):
            try:
                owner = self._owner(path, ended)
            except FileNotFoundError:
                return False
            if owner is not None:
                process = f"process {owner.pid} on {owner.host}"
                raise RunBusyError(f"{self.path}: {process} is at work on it")
            self.write_text("claim", mine)
        return True

    def _owner(self, path: Path, ended: str | None) -> Status | None:
        """The living process that a claim names; None where it is dead.

        One on another host is dead, however young its last sign of life, if SLURM does not hold
        its element any more, or has started it again as this process. A claim that lost its
        content, as with the power, names nobody: its owner is the process that wrote the state.

        Raises:
            FileNotFoundError: The claim is released.
        """
        text = _text(path, errors="replace")
        try:
            named = Status(**json.loads(text))
            with contextlib.suppress(RunDirError):  # a damaged state has no sign of life
                named = replace(named, updated=self.status().updated)
            over = named.element and named.element in (ended, os.environ.get(ELEMENT))
            over = over and named.host != socket.gethostname()
            return named if not over and _alive(self._seen(named)) else None
        except (TypeError, ValueError):
            status = self.status()
            return status if status.state == "running" else None


def find_runs(root: Path) -> list[RunDir]:
    """Every run directory below a folder (`<root>/<job>/<run>`, or fewer levels), by name.

    Folders whose name starts with a dot hold what was put aside, and are left out.
    """
    runs = []
    for depth in ("", "[!.]*/", "[!.]*/[!.]*/"):
        names = ("job.yaml", "status.json")  # either: a run that has lost its job is a run
        folders = {file.parent for name in names for file in root.glob(depth + name)}
        runs += [RunDir(path) for path in sorted(folders)]
    return runs


def now() -> str:
    """The time, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_time(value: Any) -> bool:
    try:
        return value is None or datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | None) and not isinstance(value, bool)


_STORED = ("planned", "queued", "running", "stopped", "failed", "done")
_ALLOWED: dict[str, Callable[[Any], bool]] = {  # what the fields of `Status` may be in a file
    "state": lambda value: value in _STORED,
    **dict.fromkeys(("reason", "message", "host", "element"), lambda v: isinstance(v, str | None)),
    **dict.fromkeys(("pid", "started", "attempt", "epoch", "epochs"), _is_number),
    "updated": _is_time,
}


def _alive(status: Status) -> bool:
    return is_alive(status.host, status.pid, status.started, status.updated)


def _stamped(status: Status) -> str:
    element = status.element if status.state == "queued" else os.environ.get(ELEMENT)
    stamped = replace(status, updated=now(), element=element, **this_process())
    return _json(asdict(stamped))


def _beat(path: Path, mine: str, over: threading.Event) -> None:
    """Keep a claim young, also while its process reads data or waits, until it is another's."""
    while not over.wait(_BEAT_SECONDS):
        with contextlib.suppress(OSError):  # a disk that does not answer may answer again
            if _content(path) != mine:
                return
            try:
                os.utime(path)
            except OSError as error:
                if not files.unsupported(error):
                    raise
                files.replace(path, mine)  # a bucket knows when a file was written, and no more


def _content(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _text(path: Path, errors: str = "strict") -> str:
    """Text of a file that this program wrote."""
    try:
        if fault := files.no_file(path):
            raise RunDirError(path, fault)
        return path.read_text(encoding="utf-8", errors=errors)
    except UnicodeDecodeError:
        raise RunDirError(path, "is damaged (not UTF-8 text)") from None
    except PermissionError as error:
        raise RunDirError(path, f"cannot be read ({error.strerror})") from None


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        fault = f"is damaged or cut short ({error})" if text else "is empty"
        raise RunDirError(path, fault) from None


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(_plain(content), indent=1) + "\n"


def _plain(value: Any) -> Any:
    """The value with null in place of every number that JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
