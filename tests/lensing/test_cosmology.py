"""From redshifts and solar masses to angles, in a flat universe of matter and a constant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_arrays import numbers

from deeplense_batch.lensing.cosmology import (
    angular_distances,
    critical_density,
    einstein_radius_of_dispersion,
    einstein_radius_squared,
    luminosity_distances_by_mistake,
)


class TestCosmology:
    z = numbers(0.5), numbers(1.0)

    def distances(self, function=angular_distances):
        return function(torch.stack(self.z[0]), torch.stack(self.z[1]))

    def test_values_of_the_specification(self):
        lens, source, between = (d.item() for d in self.distances())
        assert (lens, source, between) == pytest.approx((1259.08, 1651.91, 707.60), abs=5e-3)
        assert einstein_radius_squared(1e12, self.distances()).item() ** 0.5 == pytest.approx(
            1.6645, abs=5e-5
        )

    def test_against_astropy(self):
        cosmology = pytest.importorskip("astropy.cosmology")
        flat = cosmology.FlatLambdaCDM(H0=70, Om0=0.3)
        z_l, z_s = torch.tensor([[0.2, 0.5, 0.6, 1.0], [0.8, 1.0, 1.2, 3.0]]).double()
        ours = angular_distances(z_l, z_s)
        theirs = (
            flat.angular_diameter_distance(z_l.numpy()),
            flat.angular_diameter_distance(z_s.numpy()),
            (flat.comoving_distance(z_s.numpy()) - flat.comoving_distance(z_l.numpy()))
            / (1 + z_s.numpy()),
        )
        for our, their in zip(ours, theirs, strict=True):
            assert our.numpy() == pytest.approx(np.asarray(their), rel=1e-6)

    def test_critical_density(self):
        """2.775e11 h^2 solar masses / Mpc^3 today, and H^2 of z = 0.5."""
        now, then = critical_density(torch.tensor([0.0, 0.5], dtype=torch.float64)).tolist()
        assert now == pytest.approx(2.7754e11 * 0.7**2, rel=1e-4)
        assert then / now == pytest.approx(0.3 * 1.5**3 + 0.7)

    def test_the_luminosity_slip_shrinks_radii(self):
        slipped = einstein_radius_squared(1e12, self.distances(luminosity_distances_by_mistake))
        right = einstein_radius_squared(1e12, self.distances())
        assert slipped.item() ** 0.5 == pytest.approx(1.281, abs=1e-3)
        assert (slipped / right).item() == pytest.approx(0.593, abs=5e-4)

    @pytest.mark.parametrize(
        ("sigma_v", "theta_e"), [(200, 0.49415), (220, 0.59792), (250, 0.77210), (280, 0.96853)]
    )
    def test_einstein_radius_of_a_dispersion(self, sigma_v, theta_e):
        ours = einstein_radius_of_dispersion(sigma_v, self.distances()).item()
        assert ours == pytest.approx(theta_e, rel=1e-5)
