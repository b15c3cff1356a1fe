"""Train a network on simulated images alone and show it the real ones: do we simulate the same?

A network trained on the real set reads our images (tests/simulation/test_simulate.py); this is the
other and harder way. A residual network of 0.56 M parameters sees `common_test_1` without noise,
cut to 108 pixels, with new Poisson noise and reflections every epoch. It learns nothing for ten
epochs of plain training, so that it first sees substructure four and two times as heavy.

    DEEPLENSE_REAL_DATA=<folder> python -m research.read_real [--images 7200] [--epochs 17]

A quarter of an hour on one core. No number of the training is chosen by the real images, and what
is printed last, after the last epoch, is the result.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import accuracy_score, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from deeplense_batch.simulation.overrides import with_overrides
from deeplense_batch.simulation.presets import CLASSES, PRESETS, PhotonCamera, Preset
from deeplense_batch.simulation.rays import render
from deeplense_batch.simulation.scenes import as_batch, draw_scene
from deeplense_batch.simulation.substructure import Substructure

CUT = slice(21, 129)
BATCH = 32


class Block(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels, width, 1, 2, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.features(x) + self.shortcut(x))


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, 2, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Block(16, 24), Block(24, 48), Block(48, 96), Block(96, 160),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(160, len(CLASSES)),
    ).to(memory_format=torch.channels_last)  # fmt: skip


def stretched(images: Tensor) -> Tensor:
    """Values from 0 to 1, (N, 1, H, W), cut and with their faint parts lifted."""
    return torch.log1p(50 * images[..., CUT, CUT]) / 1.6 - 0.8


def heavier(preset: Preset, times: float) -> Preset:
    """The preset with heavier substructure."""
    mass = {"law": "PowerLaw", "exponent": -0.9, "low": times * 1e6, "high": times * 1e10}
    low, high = preset.vort.mass.range
    return with_overrides(preset, {"sphere.mass": mass, "vort.mass": [times * low, times * high]})


def expected(preset: Preset, images: int) -> tuple[Tensor, Tensor]:
    """Mean counts without sky, (N, 150, 150) float16, and classes, (N,)."""
    counts, targets = [], torch.arange(images) % len(CLASSES)
    for first in range(0, images, 4):
        scenes = [
            draw_scene(preset, i % len(CLASSES), np.random.default_rng([1, 0, i]))
            for i in range(first, min(first + 4, images))
        ]
        counts.append(render(preset, as_batch(scenes), 150).half())
    return torch.cat(counts), targets


def observed(counts: Tensor, sky: float, generator: torch.Generator) -> Tensor:
    """New noise: images as in the public set, (B, 1, 150, 150), with 0 for the least count."""
    seen = torch.poisson(counts.float() + sky, generator=generator)[:, None]
    seen = seen - seen.amin((1, 2, 3), keepdim=True)
    return seen / seen.amax((1, 2, 3), keepdim=True)


def scores(net: nn.Module, images: Tensor) -> np.ndarray:
    """Probabilities, (N, 3) float64."""
    net.eval()
    with torch.no_grad():
        probabilities = torch.cat([net(part).softmax(1) for part in images.split(50)]).double()
    net.train()
    return (probabilities / probabilities.sum(1, keepdim=True)).numpy()


def summary(targets: np.ndarray, probabilities: np.ndarray) -> str:
    right = probabilities.argmax(1) == targets
    auc = roc_auc_score(targets, probabilities, multi_class="ovr")
    accuracy = accuracy_score(targets, probabilities.argmax(1))
    return f"{right.sum()} of {len(right)} right ({accuracy:.3f}), macro AUC {auc:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=7200, help="simulated, all classes together")
    parser.add_argument("--epochs", type=int, default=17, help="after ten of heavier ones")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = os.environ.get("DEEPLENSE_REAL_DATA")
    if not folder:
        raise SystemExit("DEEPLENSE_REAL_DATA is unset: there are no real images to show")
    files = [sorted(Path(folder, "common_test_1", name).glob("*.npy")) for name in CLASSES]
    real = stretched(torch.from_numpy(np.stack([np.load(f) for fs in files for f in fs])).float())
    real_targets = np.repeat(np.arange(len(CLASSES)), [len(fs) for fs in files])

    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    preset = PRESETS["common_test_1"]
    camera = preset.camera
    assert isinstance(camera, PhotonCamera)
    few = max(arguments.images // 2, BATCH)
    sets = [expected(heavier(preset, times), few) for times in (4.0, 2.0)]
    sets.append(expected(preset, arguments.images))
    indices = range(300)
    made = Substructure("common_test_1").make("val", indices, seed=2)
    assert made.scale is not None
    held = stretched(torch.from_numpy(made.images / made.scale[:, :, None, None]).float())
    held_targets = np.array(indices) % len(CLASSES)

    net = network()
    parameters = sum(p.numel() for p in net.parameters())
    print(f"{arguments.images} simulated images, {parameters} parameters, seed {arguments.seed}")
    plan = [0] * 6 + [1] * 4 + [2] * arguments.epochs
    steps = sum(len(sets[k][0]) // BATCH for k in plan)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, total_steps=steps, pct_start=0.15
    )
    for epoch, number in enumerate(plan, start=1):
        counts, targets = sets[number]
        order = torch.randperm(len(counts), generator=generator)
        for batch in order[: len(counts) // BATCH * BATCH].split(BATCH):
            images = stretched(observed(counts[batch], camera.sky, generator))
            axes = [a for a in (2, 3) if torch.rand(1, generator=generator) < 0.5]
            loss = functional.cross_entropy(net(images.flip(axes)), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(
            f"epoch {epoch} of {len(plan)}: simulated {summary(held_targets, scores(net, held))}; "
            f"real {summary(real_targets, scores(net, real))}",
            flush=True,
        )


if __name__ == "__main__":
    main()
