"""A submission and its folder: what was handed over, frozen, and the handing over to SLURM."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import shlex
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplense_batch import arrays, record
from deeplense_batch.plan import Planned
from deeplense_batch.profile import load_profile
from deeplense_batch.rundir import now

__all__ = ["freeze", "hand_over", "open_folder", "write_scripts"]

_log = logging.getLogger(__name__)


def open_folder(out: Path) -> Path:
    """Make the folder of this submission."""
    root = out / ".submit"
    root.mkdir(parents=True, exist_ok=True)
    started = f"{now().replace(':', '')}-{socket.gethostname()}-"
    folder = Path(tempfile.mkdtemp(prefix=started, dir=root))
    with contextlib.suppress(OSError):  # of a file system without modes
        folder.chmod(0o755)  # a temporary folder is private, this one is for colleagues to read
    return folder


def freeze(folder: Path, runs: Sequence[Mapping[str, str]], **told: Any) -> None:
    """Freeze the list of runs and the command."""
    (folder / "runs.jsonl").write_text("".join(f"{json.dumps(run)}\n" for run in runs))
    content = {
        "command": shlex.join(sys.argv),
        "time": now(),
        "versions": record.versions(),
        "commit": record.commit(),
    }
    (folder / "submission.json").write_text(json.dumps(content | told, indent=1) + "\n")


def hand_over(
    todo: Sequence[tuple[Planned, str | None]],
    folder: Path,
    out: Path,
    *,
    parallel: int | None = None,
    device: str | None = None,
    chain: int = 0,
    report: Path | None = None,
) -> None:
    """Hand runs to SLURM; each says what it waits for before SLURM hears of it.

    Arguments:
        todo: Runs whose directories are made, each with the element that it was last seen in.
        folder: Of this submission.
        out: Folder of the run directories.
        parallel: Elements of an array at a time; by default as many as SLURM likes.
        device: ``cpu`` or ``cuda``, in place of what the jobs ask for.
        chain: Jobs that wait behind each array to go on with what it leaves.
        report: Folder of a report, which a job makes when all have ended.

    Raises:
        SlurmError: SLURM is not there, or refused.
    """
    profile = load_profile()
    token = folder.name.rpartition("-")[2]
    taken = [(item, item.take(f"{token}_", seen=seen)) for item, seen in todo]
    mine = [item for item, before in taken if before is not None]
    if not mine:
        _log.info("another submit has just handed them over")
        return
    groups = arrays.grouped(mine, token)
    scripts = [
        arrays.script(group, profile, folder / str(k), parallel=parallel, device=device)
        for k, group in enumerate(groups)
    ]
    frozen = []
    for group in groups:
        for index, item in enumerate(group.runs):
            item.run.write_status(replace(item.run.status(), element=group.element(index)))
            path = str(item.run.path.absolute())
            frozen.append({"run": path, "element": group.element(index)})
    ids: list[str] = []
    told = {"cluster": "slurm", "profile": profile.model_dump(mode="json")}
    freeze(folder, frozen, **told)
    for k, (group, script) in enumerate(zip(groups, scripts, strict=True)):
        (folder / str(k)).mkdir()
        linked = [script.hand_over()]
        for _ in range(chain):
            script.after(f"afternotok:{linked[-1]}")
            linked.append(script.hand_over())
        _log.info("job %s: %s", " then ".join(linked), group)
        ids += linked
    if report is not None:
        (folder / "collect").mkdir()
        last = arrays.collect_script(f"{token}-collect", profile, folder / "collect", out, report)
        last.after("afterany:" + ":".join(ids))
        ids.append(last.hand_over())
        _log.info("job %s: collect, when they have ended", ids[-1])
    freeze(folder, frozen, **told, jobs=ids)


def write_scripts(
    todo: Sequence[Planned],
    folder: Path,
    *,
    parallel: int | None = None,
    device: str | None = None,
) -> list[Path]:
    """Write scripts that carry out runs, for sbatch, and hand over none.

    Arguments:
        todo: Runs; their directories are made.
        folder: Of the scripts, and of their logs.
        parallel: Runs of an array at a time; by default as many as SLURM likes.
        device: ``cpu`` or ``cuda``, in place of what the jobs ask for.

    Returns:
        The scripts, one for each array.

    Raises:
        JobError: The profile of the site is wrong, or a run is none for it.
    """
    profile = load_profile()
    arrays.check(todo, profile)
    logs = folder.absolute() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for array in arrays.grouped(todo, secrets.token_hex(4)):
        for item in array.runs:
            item.make()
        script = arrays.script(array, profile, logs, parallel=parallel, device=device)
        path = folder / f"{array.runs[0].job.name}-{len(paths)}.sbatch"
        hint = f"# An {array}.\n# Edit it as you like, then: sbatch {shlex.quote(str(path))}\n"
        first, _, rest = str(script).partition("\n")
        path.write_text(f"{first}\n{hint}{rest}", encoding="utf-8")
        paths.append(path)
    return paths
