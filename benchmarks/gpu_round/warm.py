"""Import once what every part imports, and wake the GPU: the first time, a disk takes its time.

Prints what the machine is as the last line, for the head of the results file.
"""

from __future__ import annotations

import argparse
import importlib
import json

import torch

from benchmarks.machine import machine_facts

_IMPORTED = (
    "captum.attr", "diffusers", "matplotlib.pyplot", "pandas", "pyarrow.parquet",
    "sklearn.metrics", "submitit", "timm", "torchvision.transforms.v2",
    "deeplense_batch.cli.verbs", "deeplense_batch.runs.training_run",
    "deeplense_batch.simulation.substructure", "torch.profiler", "torch._dynamo",
)  # fmt: skip


def main() -> None:
    """Import, compute a little, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        print(json.dumps(None))
        return
    for name in () if asked.small else _IMPORTED:
        importlib.import_module(name)
    images = torch.ones(8, 8, 64, 64, device=asked.device)
    torch.nn.functional.conv2d(images, images[:, :, :3, :3]).sum().item()
    print(json.dumps(machine_facts(asked.device, small=asked.small)))


if __name__ == "__main__":
    main()
