"""The record of a submission: a folder ``<out>/.submit/<time>-<host>-<token>``.

It holds `runs.jsonl`, a line for each run, and `submission.json`: the command, when it was typed
and with which versions. Logs, and the scripts of a cluster, lie beside them.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplense_batch.core import provenance
from deeplense_batch.core.rundir import now

__all__ = ["open_record", "write_record"]


def open_record(out: Path) -> Path:
    """Make the folder of a new submission; no other submission has its name.

    Arguments:
        out: Folder of the run directories.
    """
    root = out / ".submit"
    root.mkdir(parents=True, exist_ok=True)
    started = f"{now().replace(':', '')}-{socket.gethostname()}-"
    folder = Path(tempfile.mkdtemp(prefix=started, dir=root))
    with contextlib.suppress(OSError):  # some file systems have no permissions
        folder.chmod(0o755)  # mkdtemp makes it private; colleagues are to read it
    return folder


def write_record(
    folder: Path, runs: Sequence[Mapping[str, str]], *, cluster: str, **details: Any
) -> None:
    """Write the list of runs and the command that submitted them.

    Arguments:
        folder: That `open_record` made.
        runs: For each run its directory (``run``), and what else is known of it.
        cluster: The executor's name.
        details: More to keep in `submission.json`.
    """
    (folder / "runs.jsonl").write_text("".join(f"{json.dumps(run)}\n" for run in runs))
    content = {
        "command": shlex.join(sys.argv),
        "time": now(),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "cluster": cluster,
    }
    text = json.dumps(content | details, indent=1)
    (folder / "submission.json").write_text(f"{text}\n")
