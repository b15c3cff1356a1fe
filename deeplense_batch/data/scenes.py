"""Draw the scenes of a preset and trace their rays.

A scene is a handful of named numbers, drawn from one stream of random numbers per image: first all
that has nothing to do with the class, then the substructure, last the noise. A batch of scenes
becomes images without noise by the lens equation,

    beta = theta - alpha_lens - alpha_shear - alpha_substructure    image = A source(beta) A^T

with A the camera's matrix. ``theta_e`` of a scene is the Einstein radius of lens and substructure
together; `lens_radius` says what is left for the lens alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.data.laws import Law
from deeplense_batch.data.presets import CLASSES, PhotonCamera, Preset, ReadoutCamera
from deeplense_batch.lensing.camera import (
    camera_matrix,
    fine_grid,
    kernel_matrix,
    photon_counts,
    readout_counts,
)
from deeplense_batch.lensing.cosmology import (
    angular_distances,
    einstein_radius_squared,
    luminosity_distances_by_mistake,
)
from deeplense_batch.lensing.light import sersic
from deeplense_batch.lensing.profiles import (
    line_mass,
    line_share_inside,
    point_masses,
    points_on_line,
    shear,
    sie,
    sis,
)

__all__ = ["Scene", "as_batch", "deflection", "draw_scene", "lens_radius", "observe", "render"]

# One scene by name, each float64; lengths in arcsec, directions in rad, masses in solar masses.
#   z_l, z_s ()    theta_e ()    lens (2,) q phi    shear (2,) g1 g2
#   source (6,) x y radius n q phi    halos (N, 3) mass x y    vortex (5,) mass x y angle length
#   substructure_fraction ()    and, of a camera that reads out, snr () and exposure ()
Scene = dict[str, NDArray[np.float64]]
Scenes = dict[str, Tensor]  # the same with a first axis B


def draw_scene(preset: Preset, target: int, random: np.random.Generator) -> Scene:
    """Draw one scene.

    Arguments:
        preset: The laws.
        target: Number of the class in `CLASSES`.
        random: The stream of this image; noise is drawn from what is left of it.

    Returns:
        The scene; without halos or a vortex their masses are zero.
    """

    def one(law: Law) -> float:
        return float(law.draw(random, 1)[0])

    lens, source, camera = preset.lens, preset.source, preset.camera
    z_l, z_s = one(preset.z_l), one(preset.z_s)
    theta_e = _mass_radius(preset, z_l, z_s) if lens.theta_e is None else one(lens.theta_e)
    ellipse = one(lens.q), one(lens.phi)
    modulus, twice = one(lens.shear), 2 * one(lens.shear_angle)
    galaxy = [*source.place.draw(random, 1)[0]]
    galaxy += [one(source.radius), one(source.n), one(source.q), one(source.phi)]
    numbers: dict[str, object] = {
        "z_l": z_l,
        "z_s": z_s,
        "theta_e": theta_e,
        "lens": ellipse,
        "shear": (modulus * np.cos(twice), modulus * np.sin(twice)),
        "source": galaxy,
    }
    if isinstance(camera, ReadoutCamera):
        numbers |= {"snr": one(camera.snr), "exposure": one(camera.exposure)}
    halos, vortex = _draw_substructure(preset, CLASSES[target], random)
    numbers |= {
        "halos": halos,
        "vortex": vortex,
        "substructure_fraction": (halos[:, 0].sum() + vortex[0]) / lens.mass,
    }
    return {name: np.asarray(value, np.float64) for name, value in numbers.items()}


def as_batch(scenes: Sequence[Scene]) -> Scenes:
    """Scenes of one preset as a batch of float64 tensors."""
    return {name: torch.from_numpy(np.stack([s[name] for s in scenes])) for name in scenes[0]}


def render(preset: Preset, scenes: Scenes, size: int) -> Tensor:
    """Images without noise and sky.

    Arguments:
        preset: What the scenes were drawn from.
        scenes: A batch of B.
        size: Pixels along a side.

    Returns:
        Brightness, (B, size, size) float32, in the unit of the source's intensity.
    """
    x, y = (v.float() for v in fine_grid(size, preset.pixel_scale, preset.supersampling))
    alpha_x, alpha_y = deflection(preset, scenes, x, y)
    centre_x, centre_y, radius, n, q, phi = (
        v[:, None, None] for v in scenes["source"].float().unbind(1)
    )
    sky = sersic(
        x - alpha_x,
        y - alpha_y,
        centre_x=centre_x,
        centre_y=centre_y,
        intensity=preset.source.intensity,
        radius=radius,
        n=n,
        q=q,
        phi=phi,
    )
    matrix = _blur(preset, size).float()
    return matrix @ sky @ matrix.T


def deflection(preset: Preset, scenes: Scenes, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection by everything in a scene.

    Arguments:
        preset: What the scenes were drawn from.
        scenes: A batch of B.
        x: Columns, (1, 1, W) float, arcsec.
        y: Rows, (1, H, 1) float, arcsec.

    Returns:
        alpha_x, alpha_y: (B, H, W) of the type of `x`, arcsec.
    """

    def field(values: Tensor) -> Tensor:
        return values.to(x.dtype)[:, None, None]

    radius, (q, phi) = field(lens_radius(preset, scenes)), scenes["lens"].unbind(1)
    round_ = bool((q == 1).all())
    lens = sis(x, y, radius) if round_ else sie(x, y, radius, field(q), field(phi))
    g1, g2 = scenes["shear"].unbind(1)
    alpha = [a + b for a, b in zip(lens, shear(x, y, field(g1), field(g2)), strict=True)]

    halos, vortex = _squared_radii(preset, scenes)
    rows = torch.nonzero(halos.sum(1))[:, 0]
    if len(rows):
        _, cx, cy = scenes["halos"][rows].to(x.dtype).unbind(2)
        points = point_masses(x, y, cx, cy, halos[rows].to(x.dtype))
        for total, part in zip(alpha, points, strict=True):
            total[rows] += part
    rows = torch.nonzero(vortex)[:, 0]
    if len(rows):
        line = _vortex(preset.vort.points, x, y, scenes["vortex"][rows], vortex[rows])
        for total, part in zip(alpha, line, strict=True):
            total[rows] += part
    return alpha[0], alpha[1]


def lens_radius(preset: Preset, scenes: Scenes) -> Tensor:
    """Einstein radius that substructure leaves to the smooth lens, (B,) float64, arcsec."""
    theta_e = scenes["theta_e"]
    if preset.budget == "shared":
        return theta_e * torch.sqrt(1 - scenes["substructure_fraction"])
    halos, vortex = _squared_radii(preset, scenes)
    _, x, y = scenes["halos"].unbind(2)
    _, *line = scenes["vortex"].unbind(1)
    inside = torch.where(torch.hypot(x, y) < theta_e[:, None], halos, 0.0).sum(1)
    share = torch.where(vortex > 0, line_share_inside(theta_e, *line), 0.0)
    return theta_e - (inside + vortex * share) / theta_e


def observe(
    preset: Preset, scene: Scene, image: NDArray[np.float32], random: np.random.Generator
) -> tuple[NDArray[np.uint16], float]:
    """Add noise, and write the image as the public set does: from 0 to its maximum.

    Arguments:
        preset: What the scene was drawn from.
        scene: The scene of the image.
        image: Brightness without noise, (H, W) float32.
        random: The stream of this image, after `draw_scene`.

    Returns:
        Counts above the smallest, (H, W) uint16, and the largest of them, which is value 1.
    """
    camera = preset.camera
    if isinstance(camera, PhotonCamera):
        counts = photon_counts(image, camera.sky, random)
    else:
        counts = readout_counts(
            image * (camera.peak / image.max()),
            exposure=float(scene["exposure"]),
            sky_sd=camera.peak / float(scene["snr"]),
            counts_per_sky_sd=camera.counts_per_sky_sd,
            random=random,
        )
    counts -= counts.min()
    most = int(counts.max())
    assert 0 < most <= np.iinfo(np.uint16).max
    return counts.astype(np.uint16), float(most)


def _blur(preset: Preset, size: int) -> Tensor:
    """The matrix A of the camera, (size, size supersampling) float64."""
    camera, grid = preset.camera, (size, preset.pixel_scale, preset.supersampling)
    if isinstance(camera, PhotonCamera) and camera.kernel_size:
        return kernel_matrix(*grid, camera.psf_sigma, camera.kernel_size)
    return camera_matrix(*grid, camera.psf_sigma)


def _vortex(
    points: int | None, x: Tensor, y: Tensor, vortices: Tensor, squared: Tensor
) -> tuple[Tensor, Tensor]:
    """Deflection by B vortices, (B, 5), of squared Einstein radii (B,), both float64."""
    _, cx, cy, angle, length = vortices.to(x.dtype).unbind(1)
    squared = squared.to(x.dtype)
    if points is None:
        return line_mass(x, y, *(v[:, None, None] for v in (cx, cy, angle, length, squared)))
    places = points_on_line(cx, cy, angle, length, points)
    return point_masses(x, y, *places, (squared / points)[:, None].expand(-1, points))


def _draw_substructure(
    preset: Preset, name: str, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    halos, vortex = np.zeros((preset.sphere.count, 3)), np.zeros(5)
    if name == "sphere":
        halos[:, 0] = preset.sphere.mass.draw(random, len(halos))
        halos[:, 1:] = preset.sphere.place.draw(random, len(halos))
    elif name == "vort":
        line = preset.vort
        vortex[0] = line.mass.draw(random, 1)[0]
        vortex[1:3] = line.centre.draw(random, 1)[0]
        vortex[3:] = line.angle.draw(random, 1)[0], line.length.draw(random, 1)[0]
    return halos, vortex


def _mass_radius(preset: Preset, z_l: float, z_s: float) -> float:
    """Einstein radius of the whole mass of the lens as a point, arcsec."""
    redshifts = torch.tensor([z_l, z_s], dtype=torch.float64)
    return float(_per_solar_mass(preset, *redshifts) * preset.lens.mass) ** 0.5


def _squared_radii(preset: Preset, scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Squared Einstein radii of halos, (B, N), and of vortices, (B,), float64, arcsec^2."""
    per_mass = _per_solar_mass(preset, scenes["z_l"], scenes["z_s"])
    return scenes["halos"][..., 0] * per_mass[:, None], scenes["vortex"][:, 0] * per_mass


def _per_solar_mass(preset: Preset, z_l: Tensor, z_s: Tensor) -> Tensor:
    slip = preset.distances == "luminosity by mistake"
    distances = luminosity_distances_by_mistake if slip else angular_distances
    return einstein_radius_squared(1.0, distances(z_l, z_s))
