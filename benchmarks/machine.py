"""What everything else was measured on: the device, the processor, versions, the date."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import torch

from deeplense_batch.core import provenance
from deeplense_batch.core.distributed import processor
from deeplense_batch.core.machine import cores

__all__ = ["machine_facts"]


def machine_facts(device: str, **more: object) -> dict[str, Any]:
    """Tell what a document says of its machine.

    Arguments:
        device: ``cpu`` or ``cuda``.
        more: What else there is to say, such as what ran beside.
    """
    card = torch.cuda.get_device_name(0) if device == "cuda" else None
    return {
        "kind": "machine",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": card or f"{processor()}, {cores()} cores",
        "card": card,
        "processor": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "tf32_override": os.environ.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    } | more
