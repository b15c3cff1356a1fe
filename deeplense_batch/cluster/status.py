"""The runs below a folder, for their user: state, progress, time left, cause and log.

States are read from the files of a run, and corrected by what SLURM's queue holds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from deeplense_batch.cluster.slurm_queue import correct_states, elements, scancel
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.report.columns import padded, state_counts, table_cells
from deeplense_batch.report.copies import one_of_each
from deeplense_batch.report.run_table import Row, read_rows, run_row

__all__ = ["cancel", "clean", "incomplete", "observe", "read_states", "status"]

_CHECKPOINTS = ("checkpoint.pt", "checkpoint.prev.pt")
_RECENT_EPOCHS = 5
_COLUMNS = ("job", "run", "state", "epoch", "left", "valid_auc", "updated", "reason")


def observe(root: Path | str) -> list[Row]:
    """Read every run below a folder, with the state it has by its files and the queue.

    Raises:
        CollectError: There are no runs.
    """
    rows = read_rows(root)
    correct_states(rows)
    return rows


def read_states(runs: Sequence[RunDir]) -> list[Row]:
    """Read runs of which some may have no directory yet: those are ``planned``."""
    rows = [run_row(run) if run.there else {"state": "planned"} for run in runs]
    correct_states(rows)
    return rows


def status(root: Path | str) -> str:
    """Show the state of every run below a folder: an aligned table, logs and a line of counts.

    Raises:
        CollectError: There are no runs.
    """
    originals, copies = one_of_each(observe(root))
    rows = [row | {"left": _left(row)} for row in originals]
    lines = ["  ".join(line).rstrip() for line in padded(table_cells(rows, _COLUMNS))]
    lines += [
        f"log of {Path(row['run']).name}: {log}"
        for row in rows
        if row["state"] in ("failed", "lost") and (log := _log_of(row, Path(root)))
    ]
    return "\n".join([*lines, *copies, state_counts(rows)])


def incomplete(root: Path | str) -> bool:
    """Whether any run below a folder is not done.

    Raises:
        CollectError: There are no runs.
    """
    return any(row["state"] != "done" for row in one_of_each(read_rows(root))[0])


def cancel(root: Path | str, states: Sequence[str], *, dry_run: bool = False) -> list[str]:
    """Cancel the SLURM jobs of runs; a run that trains saves its state first.

    Arguments:
        root: Folder of the runs.
        states: Cancel runs in one of these.
        dry_run: Cancel nothing.

    Returns:
        A line for each run that is, or would be, cancelled.

    Raises:
        CollectError: There are no runs.
        SlurmError: SLURM is not there, or refused.
    """
    rows = [row for row in observe(root) if row["state"] in states and row.get("element")]
    queue = elements(row["element"] for row in rows) if rows else {}
    found = {row["run"]: queue[row["element"]] for row in rows if row["element"] in queue}
    if not dry_run:
        # First those that wait: what ends before them would let them go on with the run.
        jobs = [job for several in found.values() for job in several]
        scancel([job.job_id for job in sorted(jobs, key=lambda job: job.state != "PENDING")])
    return [f"{', '.join(job.job_id for job in jobs)} {run}" for run, jobs in found.items()]


def clean(root: Path | str, *, older: float = 0.0, dry_run: bool = False) -> list[Path]:
    """Remove the checkpoints of finished runs, which only resuming needs. Results are kept.

    Arguments:
        root: Folder of the runs.
        older: Keep checkpoints written within so many days.
        dry_run: Remove nothing.

    Returns:
        The files that are, or would be, removed.

    Raises:
        CollectError: There are no runs.
    """
    before = time.time() - older * 86400
    done = [Path(row["run"]) for row in read_rows(root) if row["state"] == "done"]
    files = [run / name for run in done for name in _CHECKPOINTS if (run / name).exists()]
    old = [path for path in files if path.stat().st_mtime <= before]
    for path in () if dry_run else old:
        path.unlink()
    return old


def _left(row: Row) -> str | None:
    """Time that a run still takes at the speed of its last epochs; None where unknown."""
    if row["state"] != "running" or not row["planned_epochs"]:
        return None
    lines = RunDir(row["run"]).read_lines("history.jsonl")
    if not lines:
        return None
    seconds = median(sum(line["seconds"].values()) for line in lines[-_RECENT_EPOCHS:])
    minutes = round(seconds * (row["planned_epochs"] - len(lines)) / 60)
    return f"{minutes // 60}:{minutes % 60:02} h"


def _log_of(row: Row, root: Path) -> str | None:
    """The log of a run; that of its SLURM job, where the run ended before it wrote its own."""
    if row["log"]:
        return str(row["log"])
    array, _, index = (row.get("element") or "").rpartition("_")
    token, _, rest = array.partition("-")
    number = rest.partition("-")[0]
    logs = sorted(root.glob(f".submit/*-{token}/{number}/*_{index}_0_log.out")) if rest else []
    return str(logs[-1]) if logs else None
