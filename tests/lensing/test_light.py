"""Surface brightness of galaxies: the Sersic profile."""

from __future__ import annotations

import math

import pytest
from made_arrays import number
from scipy.integrate import quad

from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.light import sersic, sersic_b, sersic_flux


class TestLight:
    @pytest.mark.parametrize(("n", "tolerance"), [(1.0, 1e-5), (2.0, 1e-4)])
    def test_flux_is_the_integral_whatever_the_axis_ratio(self, n, tolerance):
        radius = 0.25
        for q in (1.0, 0.6):
            x, y = fine_grid(2400, 0.006, 1)  # 14.4 arcsec wide
            brightness = sersic(
                x,
                y,
                centre_x=number(0.0),
                centre_y=number(0.0),
                intensity=2.0,
                radius=number(radius),
                n=number(n),
                q=number(q),
                phi=number(0.4),
            )
            total = brightness.sum().item() * 0.006**2
            flux = sersic_flux(2.0, number(radius), number(n)).item()
            assert total == pytest.approx(flux, rel=tolerance)

    @pytest.mark.parametrize("n", (0.5, 1.0, 1.5, 4.0))
    def test_half_of_the_light_lies_within_the_radius(self, n):
        b = sersic_b(number(n)).item()

        def ring(t: float) -> float:
            return t * math.exp(-b * t ** (1 / n))

        inside, whole = quad(ring, 0, 1)[0], quad(ring, 0, 60 * n**2, limit=200)[0]
        assert inside / whole == pytest.approx(0.5, abs=3e-4)
