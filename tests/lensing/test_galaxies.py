"""Surface brightness of galaxies and their parts: discs, arms, rings, tails and clumps."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.galaxies import (
    clump,
    edge_on,
    exponential,
    ring,
    soft_sersic,
    spiral_arms,
    tail,
)


@pytest.mark.parametrize(
    ("profile", "options", "tolerance"),
    [
        (soft_sersic, {"radius": 0.4, "n": 1.0, "q": 0.6, "phi": 0.4, "core": 0.0}, 1e-4),
        (soft_sersic, {"radius": 0.3, "n": 2.5, "q": 0.7, "phi": 0.4, "core": 0.01}, 0.02),
        (exponential, {"length": 0.5, "q": 0.4, "phi": 0.9}, 2e-3),
        (
            spiral_arms,
            {"length": 0.5, "q": 0.4, "phi": 1.0, "arms": 3, "pitch": 0.3, "phase": 0.2},
            5e-3,
        ),
        (edge_on, {"length": 0.5, "height": 0.1, "phi": 0.5}, 2e-3),
        (ring, {"radius": 1.2, "width": 0.2, "q": 0.5, "phi": 0.5}, 1e-4),
        (ring, {"radius": 0.3, "width": 0.3, "q": 0.8, "phi": 0.5}, 1e-3),
        (tail, {"radius": 1.2, "width": 0.2, "phi": 2.0, "opening": 0.9}, 0.01),
        (clump, {"sigma": 0.1}, 1e-6),
    ],
)
def test_a_profile_has_a_total_of_one(profile, options, tolerance):
    step = 0.025
    x, y = fine_grid(480, step, 1)
    light = profile(x, y, centre=(0.013, -0.21), **options)
    assert (light >= 0).all() and torch.isfinite(light).all()
    assert float(light.sum()) * step**2 == pytest.approx(1, abs=tolerance)
