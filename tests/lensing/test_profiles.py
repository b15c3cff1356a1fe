"""The lensing functions against closed forms, against themselves, and against lenstronomy.

Tolerances are those of the physics specification; what was measured stands beside them.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from made_arrays import number, numbers

from deeplense_batch.lensing import profiles
from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.light import sersic
from deeplense_batch.lensing.profiles import (
    line_mass,
    line_share_inside,
    point_masses,
    pseudo_jaffe,
    shear,
    sie,
    sis,
    tidal_radii,
)

GRID = fine_grid(150, 0.05, 1)
AXIS_RATIOS = (0.5, 0.8, 0.95, 1.0)


def worst(ours, theirs) -> float:
    """Largest difference of our (1, H, W) components from theirs, (H W,)."""
    whole = [torch.broadcast_to(a, (1, 150, 150)).flatten().numpy() for a in ours]
    return max(float(np.abs(a - b).max()) for a, b in zip(whole, theirs, strict=True))


def flat_grid() -> tuple[np.ndarray, np.ndarray]:
    x, y = (torch.broadcast_to(v, (1, 150, 150)).flatten().numpy() for v in GRID)
    return x, y


class TestAgainstLenstronomy:
    @pytest.mark.parametrize("q", AXIS_RATIOS)
    @pytest.mark.parametrize("phi", (0.0, 0.7))
    def test_sie(self, q, phi):
        module = pytest.importorskip("lenstronomy.LensModel.Profiles.sie")
        e = (1 - q) / (1 + q)
        e1, e2 = e * math.cos(2 * phi), e * math.sin(2 * phi)
        theirs = module.SIE(NIE=False).derivatives(*flat_grid(), theta_E=1.2, e1=e1, e2=e2)
        assert worst(sie(*GRID, *numbers(1.2, q, phi)), theirs) < 1e-6  # 1.2e-8

    def test_sis(self):
        module = pytest.importorskip("lenstronomy.LensModel.Profiles.sis")
        theirs = module.SIS().derivatives(*flat_grid(), theta_E=1.2)
        assert worst(sis(*GRID, 1.2), theirs) < 1e-12

    def test_shear(self):
        module = pytest.importorskip("lenstronomy.LensModel.Profiles.shear")
        theirs = module.Shear().derivatives(*flat_grid(), gamma1=0.05, gamma2=-0.03)
        assert worst(shear(*GRID, 0.05, -0.03), theirs) < 1e-12

    def test_point_masses(self):
        module = pytest.importorskip("lenstronomy.LensModel.Profiles.point_mass")
        centres, radii = [(0.31, -0.52), (-1.013, 0.207)], (0.1, 0.2)
        parts = [
            module.PointMass().derivatives(*flat_grid(), radius, *centre)
            for centre, radius in zip(centres, radii, strict=True)
        ]
        cx, cy = torch.tensor([centres], dtype=torch.float64).unbind(2)
        squared = torch.tensor([radii], dtype=torch.float64) ** 2
        ours = point_masses(*GRID, cx, cy, squared)
        assert worst(ours, [sum(p) for p in zip(*parts, strict=True)]) < 1e-12


def test_sie_table_of_lenstronomy_1_13():
    """Stands in where lenstronomy is not installed: SIE, theta_e 1.2, q 0.8, phi 0.7."""
    points = torch.tensor([[0.3, 0.4], [-1.1, 0.2], [0.05, -2.0]], dtype=torch.float64)
    expected = torch.tensor(
        [
            [0.6603757215440554, 0.9496523638563213],
            [-1.170465523835233, 0.3001612322036883],
            [0.11533262609536887, -1.2041378998741659],
        ],
        dtype=torch.float64,
    )
    alpha = torch.stack(sie(*points.T, *numbers(1.2, 0.8, 0.7)), 1)
    assert torch.allclose(alpha, expected, atol=1e-6, rtol=0)


class TestLine:
    """A line of 1.3 arcsec and squared Einstein radius 0.0831 arcsec^2."""

    length, squared = 1.3, 0.0831

    def alpha(self, x, y, angle=0.4):
        return line_mass(x, y, *numbers(0.1, -0.2, angle, self.length, self.squared))

    @pytest.mark.parametrize(("count", "tolerance"), [(100, 5e-5), (1600, 3e-7)])
    def test_is_the_limit_of_point_masses(self, count, tolerance):
        along = (torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5
        cx = 0.1 + along * self.length * math.cos(0.4)
        cy = -0.2 + along * self.length * math.sin(0.4)
        equal = torch.full((1, count), self.squared / count, dtype=torch.float64)
        chain = point_masses(*GRID, cx[None], cy[None], equal)
        u = (GRID[0] - 0.1) * math.cos(0.4) + (GRID[1] + 0.2) * math.sin(0.4)
        v = (GRID[1] + 0.2) * math.cos(0.4) - (GRID[0] - 0.1) * math.sin(0.4)
        distance = torch.hypot((u.abs() - self.length / 2).clamp_min(0), v)
        difference = torch.stack([a - b for a, b in zip(self.alpha(*GRID), chain, strict=True)])
        assert difference[:, distance > 0.1].abs().max() < tolerance  # 3.7e-5, 1.5e-7

    def test_far_away_is_a_point_mass(self):
        turn = torch.arange(720, dtype=torch.float64) * (2 * math.pi / 720)
        x, y = 200 * torch.cos(turn), 200 * torch.sin(turn)
        ax, ay = self.alpha(x, y)
        flux = (ax * torch.cos(turn) + ay * torch.sin(turn)).mean() * 200  # / 2 pi
        assert flux.item() == pytest.approx(self.squared, rel=1e-10)

    def test_deflection_jumps_across_it(self):
        _, above = self.alpha(*numbers(0.1, -0.2 + 1e-9), angle=0.0)
        _, below = self.alpha(*numbers(0.1, -0.2 - 1e-9), angle=0.0)
        jump = 2 * math.pi * self.squared / self.length
        assert (above - below).item() == pytest.approx(jump, rel=1e-6)  # 1e-9

    @pytest.mark.parametrize("radius", (0.15, 0.6, 3.0))
    def test_share_inside_a_circle(self, radius):
        line = numbers(0.1, -0.2, 0.4, self.length)
        turn = (torch.arange(200_000, dtype=torch.float64) + 0.5) * (2 * math.pi / 200_000)
        ax, ay = self.alpha(radius * torch.cos(turn), radius * torch.sin(turn))
        mean = (ax * torch.cos(turn) + ay * torch.sin(turn)).mean().item() * radius / self.squared
        # The circle crosses the line, where the mean of a jump converges as 1 / samples.
        assert line_share_inside(number(radius), *line).item() == pytest.approx(mean, abs=1e-5)


class TestEquations:
    def test_images_of_an_isothermal_sphere(self):
        theta_e, beta = 1.2, 0.3
        for theta in (theta_e + beta, beta - theta_e):
            x = number(theta).requires_grad_()
            mapped = x - sis(x, number(0.0), theta_e)[0]
            assert mapped.item() == pytest.approx(beta, abs=1e-10)
            y = number(0.0).requires_grad_()
            across = y - sis(number(theta), y, theta_e)[1]
            area = torch.autograd.grad(mapped, x)[0] * torch.autograd.grad(across, y)[0]
            magnification = 1 + math.copysign(theta_e / beta, theta)
            assert 1 / area.item() == pytest.approx(magnification, rel=1e-8)

    def test_ellipsoid_convergence_and_magnification(self):
        x, y, jacobian = jacobians("sie")
        q, theta_e = 0.7, 1.2
        psi = torch.sqrt((q * x) ** 2 + y**2)
        kappa = theta_e * math.sqrt(q) / (2 * psi)
        half_divergence = (jacobian[:, 0, 0] + jacobian[:, 1, 1]) / 2
        assert torch.allclose(half_divergence, kappa, atol=1e-10, rtol=0)
        inverse = torch.linalg.det(torch.eye(2, dtype=torch.float64) - jacobian)
        assert torch.allclose(inverse, 1 - 2 * kappa, atol=1e-10, rtol=0)

    @pytest.mark.parametrize("name", ("sis", "sie", "shear", "points", "halos", "line"))
    def test_deflection_has_no_curl(self, name):
        _, _, jacobian = jacobians(name)
        assert (jacobian[:, 0, 1] - jacobian[:, 1, 0]).abs().max() < 1e-12

    def test_critical_curve_encloses_the_einstein_radius(self):
        step, q, theta_e = 0.0125, 0.7, 1.2
        x, y = fine_grid(320, step, 1)
        kappa = theta_e * math.sqrt(q) / (2 * torch.sqrt((q * x) ** 2 + y**2))
        radius = math.sqrt((1 - 2 * kappa < 0).sum().item() * step**2 / math.pi)
        assert radius == pytest.approx(theta_e, rel=5e-4)

    @pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
    def test_finite_at_singular_points(self, dtype):
        zero = torch.zeros(1, 1, 1, dtype=dtype)
        half, one = zero + 0.5, zero + 1
        fields = [
            *sis(zero, zero, one),
            *sie(zero, zero, one, half, zero),
            *point_masses(zero, zero, zero[0], zero[0], one[0]),
            *line_mass(zero, zero, zero, zero, zero, one, one),
            *line_mass(half, zero, zero, zero, zero, one, one),
        ]
        assert all(torch.isfinite(field).all() for field in fields)

    def test_lensing_keeps_surface_brightness(self):
        x, y = fine_grid(150, 0.05, 2)
        source = dict(
            zip(
                ("centre_x", "centre_y", "radius", "n", "q", "phi"),
                numbers(0.1, 0.05, 0.3, 1.2, 0.7, 0.3),
                strict=True,
            )
        )
        ax, ay = sis(x, y, 1.2)
        lensed = sersic(x - ax, y - ay, intensity=1.0, **source)
        peak = sersic(source["centre_x"], source["centre_y"], intensity=1.0, **source)
        assert lensed.max() <= peak

    @pytest.mark.parametrize(("supersampling", "tolerance"), [(2, 2e-3), (4, 5e-4)])
    def test_magnification_of_a_disc_behind_a_sphere(self, supersampling, tolerance):
        """Total magnification of a centred disc of radius R < theta_e: 4 theta_e / R."""
        x, y = fine_grid(150, 0.05, supersampling)
        ax, ay = sis(x, y, 1.2)
        area = (torch.hypot(x - ax, y - ay) < 0.3).sum().item() * (0.05 / supersampling) ** 2
        assert area / (math.pi * 0.3**2) == pytest.approx(16.0, rel=tolerance)


def jacobians(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """d alpha_i / d theta_j at 50 points, (50, 2, 2) float64, by automatic differentiation."""
    random = torch.Generator().manual_seed(3)
    x, y = (torch.rand(2, 50, dtype=torch.float64, generator=random) * 4 - 2).requires_grad_()
    points = [
        torch.tensor([v], dtype=torch.float64) for v in ([0.4, -1.0], [0.2, 0.1], [0.1, 0.2])
    ]
    if name in ("points", "halos"):
        many = {"points": point_masses, "halos": pseudo_jaffe}[name]
        scales = points if name == "points" else [*points, points[2] + 0.3]
        parts = [many(x[i].view(1, 1, 1), y[i].view(1, 1, 1), *scales) for i in range(len(x))]
        alpha = [torch.stack([part[i].flatten()[0] for part in parts]) for i in range(2)]
    else:
        alpha = {
            "sis": lambda: sis(x, y, 1.2),
            "sie": lambda: sie(x, y, *numbers(1.2, 0.7, 0.0)),
            "shear": lambda: shear(x, y, 0.05, 0.02),
            "line": lambda: line_mass(x, y, *numbers(0.1, 0.2, 0.4, 1.3, 0.08)),
        }[name]()
    rows = [torch.stack(torch.autograd.grad(a.sum(), (x, y), retain_graph=True), 1) for a in alpha]
    return x.detach(), y.detach(), torch.stack(rows, 1)


class TestHalos:
    """Singular pseudo-Jaffe halos, cut at the tidal radius."""

    def test_against_lenstronomy(self):
        jaffe = pytest.importorskip("lenstronomy.LensModel.Profiles.pseudo_jaffe")
        profile = jaffe.PseudoJaffe()
        x, y = flat_grid()
        b, cut = tidal_radii(number(0.1665**2), number(1.2))
        ours = pseudo_jaffe(*GRID, *(v.view(1, 1) for v in (*numbers(0.3, -0.4), b, cut)))
        core, far = 1e-8, cut.item()
        # lenstronomy writes alpha = sigma0 2 Ra Rs / (Rs - Ra) [...] with Ra the core.
        sigma0 = b.item() * (far - core) / (2 * core * far)
        theirs = profile.derivatives(x - 0.3, y + 0.4, sigma0, core, far)
        outside = np.hypot(x - 0.3, y + 0.4) > 0.02
        whole = [a.flatten().numpy() for a in ours]
        for a, c in zip(whole, theirs, strict=True):
            assert np.abs(a - c)[outside].max() < 1e-7  # 9e-9

    def test_mass_of_ten_to_the_ten(self):
        """b 0.0862 and r_t 0.322 arcsec in a lens of 1.2, by the specification."""
        b, cut = tidal_radii(number(0.1665**2), number(1.2))
        assert (b.item(), cut.item()) == pytest.approx((0.0862, 0.322), abs=5e-4)
        assert (b * cut).item() == pytest.approx(0.1665**2, rel=1e-12)

    def test_far_away_is_a_point_mass(self):
        b, cut = tidal_radii(number(0.1665**2), number(1.2))
        place = [v.view(1, 1) for v in numbers(0.0, 0.0)]
        far = number(500.0).view(1, 1, 1)
        ax, ay = pseudo_jaffe(far, far * 0, *place, b.view(1, 1), cut.view(1, 1))
        assert ax.item() * 500 == pytest.approx(0.1665**2, rel=1e-3)  # r_t / 2 r
        assert ay.item() == 0


@pytest.mark.parametrize("count", [1, 8, 25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("of", [point_masses, pseudo_jaffe])
def test_how_many_masses_are_computed_at_once_changes_no_bit(of, dtype, count, monkeypatch):
    """As on a GPU, where several are, so that there are fewer launches."""
    random = torch.Generator().manual_seed(count)
    x, y = fine_grid(40, 0.1, 1)
    masses = [torch.randn(3, count, generator=random).double() for _ in range(2)]
    more = 2 if of is point_masses else 3
    masses += [torch.rand(3, count, generator=random).double() for _ in range(more - 1)]
    one_by_one = of(x, y, *masses, dtype)
    monkeypatch.setattr(profiles, "_ONE_BY_ONE", ())
    together = of(x, y, *masses, dtype)
    for a, b in zip(one_by_one, together, strict=True):
        assert a.dtype == dtype and a.shape == (3, 40, 40) and torch.equal(a, b)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_roots_are_correctly_rounded(device):
    """Of torch's own one in six has a wrong last digit, or one in 170, by the processor."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    values = torch.arange(0x3F800000, 0x40800000, 7, dtype=torch.int32).view(torch.float32)
    found = profiles.root(values.to(device)).cpu().double()
    # The middles between a root and its neighbours, squared, lie on either side of the value.
    exact = values.double()
    for neighbour, side in ((0.0, 1), (4.0, -1)):
        other = torch.nextafter(found.float(), torch.tensor(neighbour)).double()
        middle = (found + other) / 2  # 25 bits, whose square float64 holds
        assert bool((side * (exact - middle * middle) > 0).all())
