"""Training time on one reference device, so that runs of several devices can be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from deeplense_batch.rows import CollectError, Row

__all__ = ["add_reference_hours"]


def add_reference_hours(rows: Sequence[Row], bench: Path | str) -> str:
    """Fill in ``reference_hours``: images seen over the images/s that `bench` measured.

    Arguments:
        rows: Runs; those of models that were not measured stay without.
        bench: What ``bench --out`` wrote.

    Returns:
        A sentence that names the device.

    Raises:
        CollectError: The file is missing, or no result of `bench`.
    """
    try:
        content = json.loads(Path(bench).read_text(encoding="utf-8"))
        rates = {str(m["model"]): float(m["images_per_s"]) for m in content["models"]}
        device = f"{content['device']['name']} x{int(content['device']['count'])}"
    except OSError as error:
        raise CollectError(f"--bench: {bench}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise CollectError(f"--bench: {bench}: is not what 'bench --out' wrote") from None
    known = 0
    for row in rows:
        if row["state"] == "done" and row.get("train_samples") and rates.get(row["model"]):
            seen = row["train_samples"] * row["epochs"]
            row["reference_hours"] = seen / rates[row["model"]] / 3600
            known += 1
    return (
        f"Reference hours are those of {device.removesuffix(' x1')}: images seen over its "
        f"images/s ({known} of {len(rows)} runs)"
    )
