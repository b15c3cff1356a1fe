"""What is drawn for an image: its scene, and the noise of its exposure.

A scene is a handful of named numbers, drawn from one stream of random numbers per image: first all
that is independent of the class, then the substructure, last the noise. `rays` makes the image in
between. ``theta_e`` of a scene is the Einstein radius of lens and substructure together;
`lens_radius` says what is left for the lens alone. Matter along the line of sight is in neither:
with its convergence kappa the ring is seen at theta_e / (1 - kappa).

Streams are numpy's and stay on the processor, whatever device traces the rays: they are what
fixes an image, to the last count. Libraries round the last digit in their own way, by processor,
thread and version, so numbers of a scene are rounded to float32 before they are used and stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.data.shards import ShardError
from deeplense_batch.lensing.camera import photon_counts, readout_counts
from deeplense_batch.lensing.profiles import line_share_inside
from deeplense_batch.simulation.distributions import draw_one, rounded
from deeplense_batch.simulation.halos import (
    draw_halos,
    mean_counts,
    mean_deflection,
    numbers_of_one,
    per_solar_mass,
    scales,
)
from deeplense_batch.simulation.presets import CLASSES, Lens, PhotonCamera, Preset, ReadoutCamera

__all__ = [
    "Scene",
    "Scenes",
    "as_batch",
    "draw_scene",
    "draw_scenes",
    "expected_counts",
    "exposed",
    "from_smallest",
    "halo_numbers",
    "lens_radius",
    "observe",
    "squared_radii",
    "with_room",
    "without_substructure",
]

# One scene by name, each float64 that float32 can hold; lengths in arcsec, directions in rad,
# masses in solar masses.
#   z_l, z_s ()    theta_e ()    lens (4,) x y q phi    shear (2,) g1 g2
#   source (6,) x y radius n q phi    vortex (5,) mass x y angle length
#   halos (N, 3) mass x y, or (N, 4) mass x y above
#   los (3,) kappa g1 g2, of a preset with matter along the line of sight
#   substructure_fraction ()    and, of a camera that reads out, snr () and exposure ()
# Halos that are not there have no mass. The fraction is f_sub where the number of halos is drawn
# from it, and otherwise the mass of substructure over that of the lens. Above is the log10 of a
# concentration over its median, of halos whose concentrations scatter.
Scene = dict[str, NDArray[np.float64]]
Scenes = dict[str, Tensor]  # the same with a first axis B


class _Abundance(NamedTuple):
    """Of the halos of a scene."""

    fraction: float  # f_sub
    mean: float  # number


_LEAST_LENS = 0.8  # of the Einstein radius, left to a lens that pays for its substructure
_TRIES = 100


def draw_scene(preset: Preset, target: int, random: Generator) -> Scene:
    """Draw one scene; arguments as of `draw_scenes`, for one image."""
    return draw_scenes(preset, [target], [random])[0]


def draw_scenes(
    preset: Preset, targets: Sequence[int], streams: Sequence[Generator]
) -> list[Scene]:
    """Draw scenes, each from its own stream; what needs tensors is computed for all at once.

    Arguments:
        preset: The distributions.
        targets: Number of each class in `CLASSES`.
        streams: Of the images; noise is drawn from what is left of them.

    Returns:
        The scenes; without halos or a vortex their masses are zero.

    Raises:
        ShardError: Substructure takes too much of a lens, however often it is drawn.
    """
    numbers = _draw_smooth(preset, streams)
    abundances = _draw_abundances(preset, numbers, streams)
    scenes = [{name: rounded(value) for name, value in own.items()} for own in numbers]
    undone = list(range(len(scenes)))
    for _ in range(_TRIES):
        for i in undone:
            name, theta_e = CLASSES[targets[i]], numbers[i]["theta_e"]
            drawn = _draw_substructure(preset, name, theta_e, abundances[i], streams[i])
            scenes[i] |= {name: rounded(value) for name, value in drawn.items()}
        undone = [i for i in undone if _takes_mass(preset, scenes[i])]
        if undone:
            enough = _leave_a_lens(preset, [scenes[i] for i in undone])
            undone = [i for i, one in zip(undone, enough, strict=True) if not one]
        if not undone:
            return scenes
    raise ShardError(
        f"preset {preset.name}: substructure took more than {1 - _LEAST_LENS:.0%} of the "
        f"Einstein radius in {_TRIES} draws; lower its masses"
    )


def as_batch(scenes: Sequence[Scene]) -> Scenes:
    """Scenes of one preset as a batch of float64 tensors."""
    most = max(len(scene["halos"]) for scene in scenes)
    padded = [scene | {"halos": with_room(scene["halos"], most)} for scene in scenes]
    return {name: torch.from_numpy(np.stack([s[name] for s in padded])) for name in padded[0]}


def with_room(halos: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Halos of a scene, (N, 3 or 4), with rows of zeros up to a number of them."""
    return np.pad(halos, ((0, most - len(halos)), (0, 0)))


def without_substructure(scenes: Scenes) -> Scenes:
    """The same scenes with all mass in the smooth lens."""
    vortex = scenes["vortex"].clone()
    vortex[:, 0] = 0.0
    bare = {"halos": torch.zeros_like(scenes["halos"]), "vortex": vortex}
    return scenes | bare | {"substructure_fraction": torch.zeros_like(scenes["theta_e"])}


def lens_radius(preset: Preset, scenes: Scenes) -> Tensor:
    """Einstein radius that substructure leaves to the smooth lens, (B,) float64, arcsec."""
    theta_e = scenes["theta_e"]
    if preset.budget == "shared":
        return theta_e * torch.sqrt(1 - scenes["substructure_fraction"])
    if preset.budget == "added":
        return theta_e
    _, vortex = squared_radii(preset, scenes)
    centre = scenes["lens"][:, :2]
    halos = halo_numbers(preset, scenes)
    halos[..., :2] -= centre[:, None]
    _, line_x, line_y, angle, length = scenes["vortex"].unbind(1)
    share = line_share_inside(theta_e, line_x - centre[:, 0], line_y - centre[:, 1], angle, length)
    line = torch.where(vortex > 0, vortex * share, 0.0) / theta_e
    return theta_e - line - mean_deflection(preset, halos, theta_e)


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
    return from_smallest(preset, exposed(preset, scene, image, random, binned))


def from_smallest(preset: Preset, counts: NDArray[np.int64]) -> tuple[NDArray[np.uint16], float]:
    """Counts above the smallest, (H, W) uint16, and the largest of them; counts are changed.

    Raises:
        ShardError: They are none, or more than 16 bits hold.
    """
    counts -= counts.min()
    most = int(counts.max())
    if not 0 < most <= np.iinfo(np.uint16).max:
        raise ShardError(
            f"preset {preset.name}: an image has counts from 0 to {most}; there should be some, "
            f"and no more than {np.iinfo(np.uint16).max}: change the source or the camera"
        )
    return counts.astype(np.uint16), float(most)


def expected_counts(
    preset: Preset, scene: Scene, image: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What `exposed` gives on average, (H, W) float64."""
    camera = preset.camera
    if isinstance(camera, PhotonCamera):
        return image + camera.sky
    # Both in units of the brightest pixel: the sd of the sky is 1 / snr of it.
    return image / image.max() * (camera.counts_per_sky_sd * float(scene["snr"]))


def exposed(
    preset: Preset,
    scene: Scene,
    image: NDArray[np.float64],
    random: Generator,
    binned: int = 1,
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


def _draw_smooth(preset: Preset, streams: Sequence[Generator]) -> list[dict[str, Any]]:
    """Draw all numbers of scenes but those of their substructure."""
    numbers = [_draw_numbers(preset, stream) for stream in streams]
    if preset.lens.theta_e is None:
        radii = _mass_radii(preset, *_redshifts(numbers))
        for own, radius in zip(numbers, radii, strict=True):
            own["theta_e"] = radius
    return numbers


def _draw_numbers(preset: Preset, random: Generator) -> dict[str, Any]:
    """What `_draw_smooth` draws for one scene; ``theta_e`` is NaN where its mass says it."""
    draw = partial(draw_one, random=random)
    lens, source, camera = preset.lens, preset.source, preset.camera
    numbers: dict[str, Any] = {"z_l": draw(preset.z_l), "z_s": draw(preset.z_s)}
    numbers["theta_e"] = math.nan if lens.theta_e is None else draw(lens.theta_e)
    numbers["lens"] = [*lens.centre.draw(random, 1)[0], draw(lens.q), draw(lens.phi)]
    modulus, twice = draw(lens.shear), 2 * draw(lens.shear_angle)
    numbers["shear"] = modulus * np.cos(twice), modulus * np.sin(twice)
    galaxy = [*source.place.draw(random, 1)[0]]
    galaxy += [draw(source.radius), draw(source.n), draw(source.q), draw(source.phi)]
    numbers["source"] = galaxy
    if isinstance(camera, ReadoutCamera):
        numbers |= {"snr": draw(camera.snr), "exposure": draw(camera.exposure)}
    return numbers | _draw_line_of_sight(lens, random)


def _draw_line_of_sight(lens: Lens, random: Generator) -> dict[str, Any]:
    """Convergence and shear of the matter along the line of sight, where the preset has it."""
    if lens.los_convergence is None and lens.los_shear is None:
        return {}
    kappa, modulus = (
        0.0 if law is None else draw_one(law, random)
        for law in (lens.los_convergence, lens.los_shear)
    )
    twice = random.uniform(0.0, 2 * math.pi)  # the angle of its direction
    return {"los": [kappa, modulus * np.cos(twice), modulus * np.sin(twice)]}


def _draw_abundances(
    preset: Preset, numbers: Sequence[dict[str, Any]], streams: Sequence[Generator]
) -> list[_Abundance | None]:
    """Draw f_sub of each scene; None where the preset says the number of halos itself."""
    if preset.fraction is None:
        return [None] * len(numbers)
    fractions = [draw_one(preset.fraction, stream) for stream in streams]
    means = mean_counts(
        preset, fractions, [own["theta_e"] for own in numbers], _redshifts(numbers)
    )
    return [*map(_Abundance, fractions, means)]


def _redshifts(numbers: Sequence[dict[str, Any]]) -> list[list[float]]:
    return [[own[z] for own in numbers] for z in ("z_l", "z_s")]


def _draw_substructure(
    preset: Preset, name: str, theta_e: float, abundance: _Abundance | None, random: Generator
) -> Scene:
    halos, vortex = np.zeros((0, numbers_of_one(preset))), np.zeros(5)
    if name == "sphere":
        mean = None if abundance is None else abundance.mean
        halos = draw_halos(preset, theta_e, mean, random)
    elif name == "vort":
        line = preset.vort
        vortex[0] = draw_one(line.mass, random)
        vortex[1:3] = line.centre.draw(random, 1)[0]
        vortex[3:] = draw_one(line.angle, random), draw_one(line.length, random)
    fraction = (halos[:, 0].sum() + vortex[0]) / preset.lens.mass
    if name == "sphere" and abundance is not None:
        fraction = abundance.fraction
    return {"halos": halos, "vortex": vortex, "substructure_fraction": np.asarray(fraction)}


def _takes_mass(preset: Preset, scene: Scene) -> bool:
    """Whether the mass of its substructure is taken from the lens, and might leave too little."""
    return preset.budget == "compensated" and bool(scene["substructure_fraction"])


def _leave_a_lens(preset: Preset, scenes: Sequence[Scene]) -> list[bool]:
    """Whether enough lens mass remains in each scene; mostly it does wherever the halos are."""
    batch = as_batch(scenes)
    halos, vortex = squared_radii(preset, batch)
    if (halos.sum(1) + vortex <= (1 - _LEAST_LENS) * batch["theta_e"] ** 2).all():
        return [True] * len(scenes)
    return (lens_radius(preset, batch) >= _LEAST_LENS * batch["theta_e"]).tolist()


def _mass_radii(preset: Preset, z_l: Sequence[float], z_s: Sequence[float]) -> list[float]:
    """Einstein radii of the whole mass of the lens as a point, arcsec."""
    redshifts = (torch.tensor(z, dtype=torch.float64) for z in (z_l, z_s))
    squares = per_solar_mass(preset, *redshifts) * preset.lens.mass
    return [square**0.5 for square in squares.tolist()]


def squared_radii(preset: Preset, scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Squared Einstein radii of halos, (B, N), and of vortices, (B,), float64, arcsec^2."""
    per_mass = per_solar_mass(preset, scenes["z_l"], scenes["z_s"])
    return scenes["halos"][..., 0] * per_mass[:, None], scenes["vortex"][:, 0] * per_mass


def halo_numbers(preset: Preset, scenes: Scenes) -> Tensor:
    """x, y, squared Einstein radius and scale of halos, (B, N, 4) float64, arcsec.

    N is the number of the scene that has most.
    """
    halos = scenes["halos"]
    halos = halos[:, : int((halos[..., 0] > 0).sum(1).max())]
    squared = squared_radii(preset, scenes | {"halos": halos})[0]
    size = scales(preset, halos, squared, scenes["z_l"], scenes["theta_e"])
    return torch.cat([halos[..., 1:3], squared[..., None], size[..., None]], 2)
