"""A network trained on the real Common Test I, to tell whether simulated images pass for real.

A ResNet-32 for small images whose weights others published under MIT; see the README beside them
in `$DEEPLENSE_REAL_DATA`. Its outputs are in the order no, vort, sphere.

References:
    github.com/harish-jhr/GravLensNet (weights).
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from deeplense_batch.models import build

OUTPUTS = ("no", "vort", "sphere")
_NAMES = {"conv0": "stem", "bn0": "norm", "linear": "head"}


def renamed(name: str) -> str:
    """The name that a weight of theirs has in our network."""
    if match := re.fullmatch(r"block(\d)\.(\d)\.features\.(conv|bn)_(\d)\.(\w+)", name):
        stage, number, kind, place, what = match.groups()
        block = (int(stage) - 1) * 5 + int(number)
        return f"blocks.{block}.{'conv' if kind == 'conv' else 'norm'}{place}.{what}"
    first, _, rest = name.partition(".")
    return f"{_NAMES[first]}.{rest}"


@torch.no_grad()
def judge(real: Path, images: Tensor, classes: tuple[str, ...]) -> Tensor:
    """Class probabilities, (N, K), of images (N, 1, H, W) float32 in [0, 1]."""
    network = build("resnet32", channels=1, classes=len(OUTPUTS), size=images.shape[-1]).eval()
    weights = torch.load(real / "judge" / "Train_2.pth", map_location="cpu")
    network.load_state_dict({renamed(name): value for name, value in weights.items()})
    outputs = torch.cat([network(part) for part in images.split(8)]).softmax(1)
    return outputs[:, [OUTPUTS.index(name) for name in classes]]
