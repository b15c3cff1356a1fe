"""A network trained on the real Common Test I, to tell whether simulated images pass for real.

A ResNet-32 for small images (three stages of five blocks, 16, 32 and 64 channels, shortcuts by
subsampling and zero channels) whose weights others published under MIT; see the README beside
them in `$DEEPLENSE_REAL_DATA`. Its outputs are in the order no, vort, sphere.

References:
    He et al. 2016, arXiv:1512.03385, section 4.2; github.com/harish-jhr/GravLensNet (weights).
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

OUTPUTS = ("no", "vort", "sphere")


class Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.grow = stride, width - channels
        self.features = nn.Sequential(
            OrderedDict(
                conv_1=nn.Conv2d(channels, width, 3, stride, 1, bias=False),
                bn_1=nn.BatchNorm2d(width),
                relu=nn.ReLU(),
                conv_2=nn.Conv2d(width, width, 3, 1, 1, bias=False),
                bn_2=nn.BatchNorm2d(width),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        half = self.grow // 2
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, half, half))
        return functional.relu(self.features(x) + shortcut)


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn0 = nn.BatchNorm2d(16)
        self.block1 = stage(16, 16)
        self.block2 = stage(16, 32)
        self.block3 = stage(32, 64)
        self.linear = nn.Linear(64, len(OUTPUTS))

    def forward(self, images: Tensor) -> Tensor:
        x = functional.relu(self.bn0(self.conv0(images)))
        x = self.block3(self.block2(self.block1(x)))
        return self.linear(x.mean((2, 3)))


def stage(channels: int, width: int) -> nn.Sequential:
    first = Block(channels, width, stride=1 if channels == width else 2)
    return nn.Sequential(first, *(Block(width, width, stride=1) for _ in range(4)))


@torch.no_grad()
def judge(real: Path, images: Tensor, classes: tuple[str, ...]) -> Tensor:
    """Class probabilities, (N, K), of images (N, 1, H, W) float32 in [0, 1]."""
    network = Judge().eval()
    network.load_state_dict(torch.load(real / "judge" / "Train_2.pth", map_location="cpu"))
    outputs = torch.cat([network(part) for part in images.split(8)]).softmax(1)
    return outputs[:, [OUTPUTS.index(name) for name in classes]]
