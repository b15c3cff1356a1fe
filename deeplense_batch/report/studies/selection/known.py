"""What is known of the test images of runs: the columns that a comparison may be studied by.

A run keeps catalogue and truth of its test images. Of one made by an earlier version, which kept
no truth, they are read from its shards, where these are still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.shards import ShardError, data_digest, open_split
from deeplense_batch.report.catalogue import DamagedCatalogueError, Known, kept, known_of
from deeplense_batch.report.predictions import PredictionsError, read_predictions
from deeplense_batch.report.run_table import CollectError, Row

__all__ = ["known_columns"]


def known_columns(runs: Iterable[Row], ids: NDArray[np.str_], wanted: Sequence[str]) -> Known:
    """What is known of test images: of the first run that knows all that is wanted.

    Arguments:
        runs: Of one comparison, tested on the same images.
        ids: Names of the images, (N,).
        wanted: Names of columns.

    Returns:
        Columns in the order of `ids`; those of the run that knows the most of what is wanted.

    Raises:
        CollectError: No run knows anything of the images; it says which lacks it, and why.
    """
    best: Known | None = None
    faults: list[str] = []
    for run in runs:
        known, fault = _of_run(run, ids)
        faults += [f"{run['run']}: {fault}"] if fault else []
        if known is None:
            continue
        if best is None or _found(known, wanted) > _found(best, wanted):
            best = known
        if _found(best, wanted) == len(wanted):
            return best
    if best is None or (not best.columns and faults):
        raise CollectError(faults[0])
    return best


def _found(known: Known, wanted: Sequence[str]) -> int:
    return sum(name in known.columns or name in known.lacking for name in wanted)


def _of_run(run: Row, ids: NDArray[np.str_]) -> tuple[Known | None, str]:
    """What one run knows, in the order of `ids`; and why its truth is not known, if it is not."""
    try:
        own, known, complete = _joined(
            [Path(member["run"]) for member in run.get("members") or [run]]
        )
    except (PredictionsError, DamagedCatalogueError) as error:
        return None, f"what it knows of its test images cannot be read: {error}"
    fault = ""
    if not complete:
        try:
            known = _of_shards(run, own)
        except (ShardError, OSError) as error:
            fault = (
                "has kept no truth of its test images, as earlier versions did not, and it cannot "
                f"be read from its data: {error}"
            )
    return _ordered(known, own, ids, fault)


def _joined(folders: Sequence[Path]) -> tuple[NDArray[np.str_], Known, bool]:
    """What run directories know, one or those of all folds: ids, (N,), and what they kept.

    A column that one of several lacks is left out; `kept` says what is true of all of them.
    """
    ids = [read_predictions(folder).ids for folder in folders]
    parts = [kept(folder, own) for folder, own in zip(folders, ids, strict=True)]
    shared = [name for name in parts[0][0].columns if all(name in k.columns for k, _ in parts)]
    columns = {name: np.concatenate([k.columns[name] for k, _ in parts]) for name in shared}
    lacking = {name: file for known, _ in parts for name, file in known.lacking.items()}
    return np.concatenate(ids), Known(columns, lacking), all(complete for _, complete in parts)


def _ordered(
    known: Known, own: NDArray[np.str_], ids: NDArray[np.str_], fault: str
) -> tuple[Known | None, str]:
    place = {name: row for row, name in enumerate(own.tolist())}
    if not all(name in place for name in ids.tolist()):
        return None, "its test images are not those of the others"
    rows = [place[name] for name in ids.tolist()]
    columns = {name: values[rows] for name, values in known.columns.items()}
    return Known(columns, known.lacking), fault


def _of_shards(run: Row, ids: NDArray[np.str_]) -> Known:
    """What the shards of a run know of its test images, (N,) in the order of its outputs.

    Raises:
        ShardError, OSError: They are gone, or hold other data.
    """
    if not run["data_root"]:
        raise ShardError("results of other programs name no images")
    root = Path(run["data_root"])
    if data_digest(root) != run["data_digest"]:
        raise ShardError(f"{root} holds other data now")
    split = open_split(root, run["test"])
    if split.ids() != ids.tolist():
        raise ShardError(f"slice {run['test']} of {root} holds other images")
    return known_of(split)
