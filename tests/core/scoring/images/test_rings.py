"""The radius of a ring in an image."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.core.scoring.images.rings import einstein_radii
from deeplense_batch.data.shards import open_split
from deeplense_batch.simulation.simulate import simulate


@pytest.mark.parametrize("galaxy", [0.0, 3.0])
def test_the_radius_of_a_ring_is_found_to_a_pixel(galaxy):
    y, x = np.mgrid[:64, :64] - 31.5
    r = np.hypot(x, y)
    radii = np.linspace(8, 24, 33)
    images = np.exp(-((r - radii[:, None, None]) ** 2) / 6) + galaxy * np.exp(-r / 2)
    images = images + np.random.default_rng(0).normal(0, 0.1, images.shape)
    found = einstein_radii(images.astype(np.float32))
    assert np.abs(found - radii).max() < 1
    falls = einstein_radii(np.exp(-r / 4)[None].astype(np.float32))
    assert np.isnan(falls).all()


def test_it_is_that_of_simulated_lenses_on_the_axis(tmp_path):
    """To a pixel, where source and lens are on the axis and nearly round."""
    simulate(
        "substructure", tmp_path / "set", preset="varied", images=60,
        set_={
            "source.place.x": 0.0, "source.place.y": 0.0, "lens.q": 0.95, "lens.shear": 0.0,
        },
    )  # fmt: skip
    split = open_split(tmp_path / "set", "train")
    found = einstein_radii(split.images()[:, 0].astype(np.float32))
    errors = found - split.truth("theta_e") / split.info.pixel_scale
    assert np.median(np.abs(errors)) < 1
