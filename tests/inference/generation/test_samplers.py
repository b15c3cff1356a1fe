"""Samplers: the variance that they keep; and two kinds of images, drawn as often as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_job

from deeplense_batch.data.shards import open_split
from deeplense_batch.data.writer import ShardWriter
from deeplense_batch.inference.generation.sample import sample
from deeplense_batch.inference.generation.samplers import (
    SAMPLERS,
    denoise,
    too_few,
    variance_kept,
)
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run


def drawn_variance(sampler: str, steps: int) -> float:
    """Of 40,000 normal numbers of variance 1, drawn by a network that restores them perfectly."""
    random = torch.Generator().manual_seed(1)
    noise = torch.randn(1, 1, 200, 200, generator=random)

    def restore(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return x / (1 + sigma**2)

    drawn = denoise(restore, noise, sampler=sampler, steps=steps, generators=[random])
    return float(drawn.var())


class TestVariance:
    @pytest.mark.parametrize("steps", (10, 50))
    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_is_that_of_drawn_images(self, sampler, steps):
        assert drawn_variance(sampler, steps) == pytest.approx(
            variance_kept(sampler, steps), rel=0.02
        )

    @pytest.mark.parametrize(
        ("sampler", "kept"),
        [
            ("ddpm", {25: 0.67, 100: 0.90, 250: 0.959, 500: 0.979, 1000: 0.990}),
            ("ddim", {25: 0.81, 100: 0.951, 250: 0.980}),
            ("dpmpp", {10: 1.29, 25: 1.044, 50: 1.010}),
            ("heun", {10: 1.35, 25: 1.040, 50: 1.009}),
        ],
    )
    def test_is_as_stated(self, sampler, kept):
        for steps, share in kept.items():
            assert variance_kept(sampler, steps) == pytest.approx(share, abs=0.006)

    def test_every_step_costs_less_than_the_ones_before(self):
        kept = [variance_kept("ddpm", steps) for steps in (20, 40, 80, 160, 320)]
        assert kept == sorted(kept) and kept[-1] < 1

    @pytest.mark.parametrize(
        ("sampler", "few", "enough"),
        [("ddpm", 523, 524), ("ddim", 247, 248), ("dpmpp", 23, 25), ("heun", 20, 25)],
    )
    def test_too_few_steps_are_warned_of(self, sampler, few, enough):
        warning = too_few(sampler, few)
        assert warning is not None and f"{sampler} with {few} steps draws images of" in warning
        assert "take more steps, or dpmpp or heun with 50" in warning
        assert too_few(sampler, enough) is None


SIZE = 64
KINDS = ("left", "right")


def image(kind: int, random: np.random.Generator) -> np.ndarray:
    """A blob on the left, or a ring on the right, near a place; (1, 64, 64) float32."""
    x0, y0 = (20, 44)[kind] + 2 * random.normal(), 32 + 2 * random.normal()
    y, x = np.mgrid[:SIZE, :SIZE]
    r = np.hypot(x - x0, y - y0)
    light = np.exp(-((r - 9) ** 2) / 8) if kind else np.exp(-(r**2) / 50)
    return (light + 0.02 * random.normal(size=light.shape))[None].astype(np.float32)


def light(images: np.ndarray) -> np.ndarray:
    """Share of the light that is on the right, (N,)."""
    halves = np.clip(images[:, 0], 0.1, None) - 0.1
    left, right = (halves[..., half].sum((1, 2)) for half in (slice(32), slice(32, None)))
    return right / (left + right)


def write(root, split: str, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    kinds = (np.arange(count) % 10 < 7).astype(int)
    with ShardWriter(
        root, split=split, shape=(1, SIZE, SIZE), stored=np.dtype(np.float32),
        dtype=np.dtype(np.float32), classes=KINDS, source="tests", seed=0, shard_size=count,
    ) as writer:  # fmt: skip
        images = np.stack([image(kind, random) for kind in kinds])
        writer.append(images, targets=kinds, ids=[f"{split}/{i}" for i in range(count)])
        writer.publish()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_both_modes_are_drawn_as_often_as_they_are(tmp_path):
    """By the one loop and `sample`, told no class; of 600 images within 5 points."""
    write(tmp_path / "data", "train", 640, seed=0)
    write(tmp_path / "data", "val", 40, seed=1)
    truth = light(open_split(tmp_path / "data", "train").images())
    assert [(truth > 0.7).mean(), (truth < 0.15).mean()] == pytest.approx([0.7, 0.3])
    # The modes part where the noise is some 50 times the image: a schedule that trains there.
    job = make_job(
        tmp_path / "data",
        task={"name": "generation", "options": {"schedule": "linear", "prediction": "v"}},
        model={"name": "unet", "options": {
            "width": 8, "multiples": [1, 1, 2, 2, 4], "blocks": 1, "attention": 1}},
        data={"augment": {}},
        train={"epochs": 20, "batch_size": 16, "optimizer": "adam", "lr": 3e-3, "clip": 1.0,
               "schedule": "cosine", "warmup": 1.0, "ema": 0.99, "weight_decay": 0.0},
    )  # fmt: skip
    (item,) = plan([job], tmp_path / "runs")
    run(item, device="cpu")
    sample(item.run.path, tmp_path / "drawn", images=600, steps=12, device="cpu")
    found = light(open_split(tmp_path / "drawn", "train").images())
    pure = (found > 0.7) | (found < 0.15)
    assert pure.mean() > 0.85
    assert (found > 0.5).mean() == pytest.approx(0.7, abs=0.05)
