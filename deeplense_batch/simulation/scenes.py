"""Draw the scenes of a preset and trace their rays.

A scene is a handful of named numbers, drawn from one stream of random numbers per image: first all
that is independent of the class, then the substructure, last the noise. A batch of scenes
becomes images without noise by the lens equation,

    beta = theta - alpha_lens - alpha_shear - alpha_substructure    image = A source(beta) A^T

with A the camera's matrix. ``theta_e`` of a scene is the Einstein radius of lens and substructure
together; `lens_radius` says what is left for the lens alone.

Images are the same on every machine. Libraries round their last digit in their own way, by
processor, thread and version, so no result may depend on it:

- numbers of a scene are rounded to float32 before they are used and stored;
- fields are float64, but for the sums over many masses, which are float32 by operations that IEEE
  754 rounds in one way only. Counts drawn from them differ where the last digit of a float64
  decides: by estimate, in one of 1e12 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.data.shards import ShardError
from deeplense_batch.lensing.camera import (
    blurred,
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
    pseudo_jaffe,
    pseudo_jaffe_slope,
    shear,
    sie,
    sis,
    tidal_radii,
)
from deeplense_batch.simulation.distributions import draw_one, rounded
from deeplense_batch.simulation.presets import CLASSES, PhotonCamera, Preset, ReadoutCamera

__all__ = [
    "Scene",
    "Scenes",
    "as_batch",
    "deflection",
    "draw_scene",
    "lens_deflection",
    "lens_radius",
    "observe",
    "render",
    "source_light",
    "squared_radii",
    "without_substructure",
]

# One scene by name, each float64 that float32 can hold; lengths in arcsec, directions in rad,
# masses in solar masses.
#   z_l, z_s ()    theta_e ()    lens (4,) x y q phi    shear (2,) g1 g2
#   source (6,) x y radius n q phi    halos (N, 3) mass x y    vortex (5,) mass x y angle length
#   substructure_fraction ()    and, of a camera that reads out, snr () and exposure ()
# Halos that are not there have no mass.
Scene = dict[str, NDArray[np.float64]]
Scenes = dict[str, Tensor]  # the same with a first axis B

_LEAST_LENS = 0.8  # of the Einstein radius, left to a lens that pays for its substructure
_TRIES = 100
_EXACT = torch.float32  # of sums over masses, by operations that are the same on every machine
_RING = 1024  # points on the circle over which the deflection of wide halos is averaged


def draw_scene(preset: Preset, target: int, random: Generator) -> Scene:
    """Draw one scene.

    Arguments:
        preset: The distributions.
        target: Number of the class in `CLASSES`.
        random: The stream of this image; noise is drawn from what is left of it.

    Returns:
        The scene; without halos or a vortex their masses are zero.
    """
    numbers = _draw_smooth(preset, random)
    theta_e = numbers["theta_e"]
    share = None if preset.fraction is None else draw_one(preset.fraction, random)
    scene = {name: rounded(value) for name, value in numbers.items()}
    for _ in range(_TRIES):
        drawn = _draw_substructure(preset, CLASSES[target], theta_e, share, random)
        scene |= {name: rounded(value) for name, value in drawn.items()}
        if _leaves_a_lens(preset, scene):
            return scene
    raise ShardError(
        f"preset {preset.name}: substructure took more than {1 - _LEAST_LENS:.0%} of the "
        f"Einstein radius in {_TRIES} draws; lower its masses"
    )


def as_batch(scenes: Sequence[Scene]) -> Scenes:
    """Scenes of one preset as a batch of float64 tensors."""
    return {name: torch.from_numpy(np.stack([s[name] for s in scenes])) for name in scenes[0]}


def without_substructure(scenes: Scenes) -> Scenes:
    """The same scenes with all mass in the smooth lens."""
    vortex = scenes["vortex"].clone()
    vortex[:, 0] = 0.0
    bare = {"halos": torch.zeros_like(scenes["halos"]), "vortex": vortex}
    return scenes | bare | {"substructure_fraction": torch.zeros_like(scenes["theta_e"])}


def render(
    preset: Preset, scenes: Scenes, size: int, *, device: torch.device | str = "cpu"
) -> Tensor:
    """Images without noise and sky.

    Arguments:
        preset: What the scenes were drawn from.
        scenes: A batch of B.
        size: Pixels along a side.
        device: Where fields are computed; the numbers of a scene stay on the CPU.

    Returns:
        Brightness, (B, size, size) float64 on `device`, in the unit of the source's intensity.
    """
    grid = fine_grid(size, preset.pixel_scale, preset.supersampling)
    x, y = (v.to(device) for v in grid)
    alpha_x, alpha_y = deflection(preset, scenes, x, y)
    sky = source_light(preset, scenes, x - alpha_x, y - alpha_y)
    return blurred(sky, _blur(preset, size))


def source_light(preset: Preset, scenes: Scenes, x: Tensor, y: Tensor) -> Tensor:
    """Brightness of the sources at positions of the source plane, (B, H, W) of the type of `x`."""
    names = ("centre_x", "centre_y", "radius", "n", "q", "phi")
    numbers = scenes["source"].to(x)[..., None, None].unbind(1)
    galaxy = dict(zip(names, numbers, strict=True))
    return sersic(x, y, intensity=preset.source.intensity, **galaxy)


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
    alpha = lens_deflection(preset, scenes, x, y)
    halos, vortex = squared_radii(preset, scenes)
    rows, used = torch.nonzero(halos.sum(1))[:, 0], halos.sum(0) > 0
    if len(rows):
        cx, cy = scenes["halos"][rows][:, used, 1:].to(x).unbind(2)
        masses, theta_e = halos[rows][:, used].to(x), scenes["theta_e"][rows, None]
        _add_to_rows(alpha, rows, _halo_deflection(preset, x, y, cx, cy, masses, theta_e))
    rows = torch.nonzero(vortex)[:, 0]
    if len(rows):
        line = _vortex(preset.vort.points, x, y, scenes["vortex"][rows], vortex[rows])
        _add_to_rows(alpha, rows, line)
    return alpha


def lens_deflection(preset: Preset, scenes: Scenes, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection by the smooth lens and the shear alone; the rest as `deflection`."""
    radius = _field(lens_radius(preset, scenes), x)
    middle_x, middle_y, q, phi = scenes["lens"].unbind(1)
    u, v = x - _field(middle_x, x), y - _field(middle_y, x)
    round_ = bool((q == 1).all())
    lens = sis(u, v, radius) if round_ else sie(u, v, radius, _field(q, x), _field(phi, x))
    g1, g2 = scenes["shear"].unbind(1)
    sheared = shear(x, y, _field(g1, x), _field(g2, x))
    return lens[0] + sheared[0], lens[1] + sheared[1]


def _field(values: Tensor, like: Tensor) -> Tensor:
    """Numbers of a batch, (B,), to go with fields of (B, H, W)."""
    return values.to(like)[:, None, None]


def lens_radius(preset: Preset, scenes: Scenes) -> Tensor:
    """Einstein radius that substructure leaves to the smooth lens, (B,) float64, arcsec."""
    theta_e = scenes["theta_e"]
    if preset.budget == "shared":
        return theta_e * torch.sqrt(1 - scenes["substructure_fraction"])
    if preset.budget == "added":
        return theta_e
    halos, vortex = squared_radii(preset, scenes)
    centre = scenes["lens"][:, :2]
    x, y = (scenes["halos"][..., 1:] - centre[:, None]).unbind(2)
    _, line_x, line_y, angle, length = scenes["vortex"].unbind(1)
    share = line_share_inside(theta_e, line_x - centre[:, 0], line_y - centre[:, 1], angle, length)
    line = torch.where(vortex > 0, vortex * share, 0.0) / theta_e
    return theta_e - line - _mean_deflection(preset, x, y, halos, theta_e)


def _mean_deflection(preset: Preset, x: Tensor, y: Tensor, halos: Tensor, ring: Tensor) -> Tensor:
    """Mean radial deflection of halos over a circle, (B,) float64, arcsec.

    Arguments:
        preset: Whose profile they have.
        x, y: Their positions from the middle of the circle, (B, N) float64, arcsec.
        halos: Their squared Einstein radii, (B, N) float64, arcsec^2.
        ring: Radius of the circle, (B,) float64, arcsec.
    """
    if preset.sphere.profile == "point":  # Gauss's law
        return torch.where(torch.hypot(x, y) < ring[:, None], halos, 0.0).sum(1) / ring
    turn = (torch.arange(_RING, dtype=torch.float64) + 0.5) * (2 * torch.pi / _RING)
    cos, sin = torch.cos(turn), torch.sin(turn)
    total = torch.zeros_like(ring)
    for row in torch.nonzero(halos.sum(1))[:, 0]:
        used = halos[row] > 0
        dx = ring[row] * cos - x[row, used, None]
        dy = ring[row] * sin - y[row, used, None]
        b, cut = tidal_radii(halos[row, used, None], ring[row])
        slope = pseudo_jaffe_slope(torch.hypot(dx, dy), b, cut)
        total[row] = (slope * (dx * cos + dy * sin)).sum()
    return total / _RING


def _add_to_rows(
    totals: tuple[Tensor, Tensor], rows: Tensor, fields: tuple[Tensor, Tensor]
) -> None:
    """Add fields of some scenes of a batch to those of all."""
    for total, field in zip(totals, fields, strict=True):
        total.index_add_(0, rows.to(total.device), field.to(total))


def _halo_deflection(
    preset: Preset, x: Tensor, y: Tensor, cx: Tensor, cy: Tensor, masses: Tensor, theta_e: Tensor
) -> tuple[Tensor, Tensor]:
    if preset.sphere.profile == "point":
        return point_masses(x, y, cx, cy, masses, _EXACT)
    b, cut = tidal_radii(masses, theta_e.to(x))
    return pseudo_jaffe(x, y, cx, cy, b, cut, _EXACT)


def observe(
    preset: Preset,
    scene: Scene,
    image: NDArray[np.float64],
    random: Generator,
    *,
    binned: int = 1,
) -> tuple[NDArray[np.uint16], float]:
    """Add noise, and write the image as the public set does: from 0 to its maximum.

    Arguments:
        preset: What the scene was drawn from.
        scene: The scene of the image.
        image: Brightness without noise, (H, W) float64.
        random: The stream of this image, after `draw_scene`.
        binned: Pixels that the detector reads as one, along a side; the signal adds up, and so do
            the sky and its variance.

    Returns:
        Counts above the smallest, (H / binned, W / binned) uint16, and the largest of them, which
        is value 1.

    Raises:
        ShardError: The counts are none, or more than 16 bits hold.
    """
    counts = _exposed(preset, scene, image, random, binned)
    counts -= counts.min()
    most = int(counts.max())
    if not 0 < most <= np.iinfo(np.uint16).max:
        raise ShardError(
            f"preset {preset.name}: an image has counts from 0 to {most}; there should be some, "
            f"and no more than {np.iinfo(np.uint16).max}: change the source or the camera"
        )
    return counts.astype(np.uint16), float(most)


def _exposed(
    preset: Preset, scene: Scene, image: NDArray[np.float64], random: Generator, binned: int
) -> NDArray[np.int64]:
    """Counts of an exposure, noise included; arguments as of `observe`."""
    camera, size = preset.camera, len(image) // binned
    signal = image.reshape(size, binned, size, binned).sum((1, 3))
    if isinstance(camera, PhotonCamera):
        return photon_counts(signal, camera.sky * binned**2, random)
    return readout_counts(
        signal * (camera.peak / image.max()),
        exposure=float(scene["exposure"]),
        sky_sd=binned * camera.peak / float(scene["snr"]),
        counts_per_sky_sd=camera.counts_per_sky_sd,
        random=random,
    )


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
    _, cx, cy, angle, length = vortices.to(x).unbind(1)
    squared = squared.to(x)
    if points is None:
        return line_mass(x, y, *(v[:, None, None] for v in (cx, cy, angle, length, squared)))
    positions = points_on_line(cx, cy, angle, length, points)
    masses = (squared / points)[:, None].expand(-1, points)
    return point_masses(x, y, *positions, masses, _EXACT)


def _draw_smooth(preset: Preset, random: Generator) -> dict[str, Any]:
    """Draw all numbers of a scene but those of its substructure."""
    draw = partial(draw_one, random=random)
    lens, source, camera = preset.lens, preset.source, preset.camera
    z_l, z_s = draw(preset.z_l), draw(preset.z_s)
    theta_e = _mass_radius(preset, z_l, z_s) if lens.theta_e is None else draw(lens.theta_e)
    ellipse = [*lens.centre.draw(random, 1)[0], draw(lens.q), draw(lens.phi)]
    modulus, twice = draw(lens.shear), 2 * draw(lens.shear_angle)
    galaxy = [*source.place.draw(random, 1)[0]]
    galaxy += [draw(source.radius), draw(source.n), draw(source.q), draw(source.phi)]
    numbers: dict[str, Any] = {"z_l": z_l, "z_s": z_s, "theta_e": theta_e, "lens": ellipse}
    numbers["shear"] = modulus * np.cos(twice), modulus * np.sin(twice)
    numbers["source"] = galaxy
    if isinstance(camera, ReadoutCamera):
        numbers |= {"snr": draw(camera.snr), "exposure": draw(camera.exposure)}
    return numbers


def _draw_substructure(
    preset: Preset, name: str, theta_e: float, share: float | None, random: Generator
) -> Scene:
    most = int(preset.sphere.count.range[1])
    halos, vortex = np.zeros((most, 3)), np.zeros(5)
    if name == "sphere":
        sphere = preset.sphere
        count = int(draw_one(sphere.count, random))
        halos[:count, 0] = sphere.mass.draw(random, count)
        unit = theta_e if sphere.unit == "theta_e" else 1.0
        halos[:count, 1:] = unit * sphere.place.draw(random, count)
    elif name == "vort":
        line = preset.vort
        vortex[0] = draw_one(line.mass, random)
        vortex[1:3] = line.centre.draw(random, 1)[0]
        vortex[3:] = draw_one(line.angle, random), draw_one(line.length, random)
    total = halos[:, 0].sum() + vortex[0]
    if share is not None and total:
        for masses in (halos[:, 0], vortex[:1]):
            masses *= share * preset.lens.mass / total
    fraction = (halos[:, 0].sum() + vortex[0]) / preset.lens.mass
    return {"halos": halos, "vortex": vortex, "substructure_fraction": np.asarray(fraction)}


def _leaves_a_lens(preset: Preset, scene: Scene) -> bool:
    """Whether enough lens mass remains where that of substructure is taken from it."""
    if preset.budget != "compensated" or not scene["substructure_fraction"]:
        return True
    return bool(lens_radius(preset, as_batch([scene])) >= _LEAST_LENS * scene["theta_e"])


def _mass_radius(preset: Preset, z_l: float, z_s: float) -> float:
    """Einstein radius of the whole mass of the lens as a point, arcsec."""
    redshifts = torch.tensor([z_l, z_s], dtype=torch.float64)
    return float(_per_solar_mass(preset, *redshifts) * preset.lens.mass) ** 0.5


def squared_radii(preset: Preset, scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Squared Einstein radii of halos, (B, N), and of vortices, (B,), float64, arcsec^2."""
    per_mass = _per_solar_mass(preset, scenes["z_l"], scenes["z_s"])
    return scenes["halos"][..., 0] * per_mass[:, None], scenes["vortex"][:, 0] * per_mass


def _per_solar_mass(preset: Preset, z_l: Tensor, z_s: Tensor) -> Tensor:
    mistaken = preset.distances == "luminosity by mistake"
    distances = luminosity_distances_by_mistake if mistaken else angular_distances
    return einstein_radius_squared(1.0, distances(z_l, z_s))
