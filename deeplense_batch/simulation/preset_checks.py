"""Make sure that every scene of a preset can be made, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator

from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.distributions import Distribution, Normal, PowerLaw, Uniform
from deeplense_batch.simulation.halos import least_mean_count, most_halos
from deeplense_batch.simulation.presets import Halos, Lens, PhotonCamera, Preset

__all__ = ["cautions", "check_preset"]

_PSF_REACH = 4.0  # sigmas from the middle to the edge that a frame holds at least
_MOST_HALOS = 20_000  # in one image
_FEW_HALOS = 5.0  # on average: one scene in 150 has none
_MUCH = 0.3  # f_sub above which scenes are drawn again, as half of it is taken from the lens
_MOST_SDS = 10.0  # that a normal number is ever off
# Least and greatest number of truncated NFW halos. A scatter beyond would draw some whose scale
# radius is so small that the table of their profile ends before the image does.
_OF_TNFW = {"truncation": (0.01, 1e4), "scatter": (1e-6, 0.5)}


def check_preset(preset: Preset, size: int) -> None:
    """Make sure that every scene of a preset can be made.

    Raises:
        ShardError: A source before its lens, substructure that leaves no lens, a number outside
            its range, or a frame of `size` pixels too small for the blur.
    """
    where = f"preset {preset.name}"
    _check_redshifts(preset, where)
    for name, value in _positive_numbers(preset):
        if not 0 < value < math.inf:
            raise ShardError(f"{where}: {name}: should be above 0, got {value:g}")
    _check_masses(preset, where)
    _check_halos(preset, where)
    for name, distribution, least, most in _bounded(preset):
        low, high = distribution.range
        if not (low <= high and least <= low and high <= most):
            raise ShardError(
                f"{where}: {name}: {low:g} to {high:g}; should rise within {least:g} to {most:g}"
            )
    _check_blur(preset, size, where)


def cautions(preset: Preset) -> list[str]:
    """What a preset, after `check_preset`, does to the halos that are asked for: in sentences."""
    if preset.fraction is None:
        return []
    found, where = [], f"preset {preset.name}: fraction"
    most = preset.fraction.range[1]
    if most > _MUCH and preset.budget == "compensated":
        found.append(
            f"{where}: up to {most:g}: scenes are drawn again where substructure leaves the lens "
            "less than 80 % of its Einstein radius, a fifth of them at 0.4, so that above "
            f"{_MUCH} halos are lighter, or further out, than their law"
        )
    fewest = least_mean_count(preset)
    if most > 0 and fewest < _FEW_HALOS:
        found.append(
            f"{where}: an image of sphere may have no halo: their mean number is as low as "
            f"{fewest:.2g}; a lower sphere.mass.low or a larger fraction has more"
        )
    return found


def _check_redshifts(preset: Preset, where: str) -> None:
    nearest_source, farthest_lens = preset.z_s.range[0], preset.z_l.range[1]
    if preset.z_l.range[0] <= 0 or nearest_source <= farthest_lens:
        raise ShardError(
            f"{where}: z_s from {nearest_source:g} and z_l up to {farthest_lens:g}: "
            "a source should lie behind its lens, and a lens before us"
        )


def _check_masses(preset: Preset, where: str) -> None:
    """Refuse substructure as heavy as the lens that it is taken from."""
    sphere, fraction = preset.sphere, preset.fraction
    shares = {"vort": preset.vort.mass.range[1] / preset.lens.mass}
    if fraction is not None:
        shares |= {"fraction": fraction.range[1]}
    elif sphere.count is not None:
        shares |= {"sphere": sphere.count.range[1] * sphere.mass.range[1] / preset.lens.mass}
    for name, share in shares.items():
        if share >= 1 and preset.budget != "added":
            raise ShardError(
                f"{where}: {name}: up to {share:.3g} of the lens in substructure leaves no lens; "
                "it should stay below 1"
            )


def _check_halos(preset: Preset, where: str) -> None:
    """Refuse halos whose number is not said, or said twice, or whose profile is not whole."""
    sphere, fraction = preset.sphere, preset.fraction
    if (sphere.count is None) == (fraction is None):
        raise ShardError(
            f"{where}: fraction and sphere.count both say how many halos there are: one of them "
            "should be null, and the other not"
        )
    _check_profile(sphere, where)
    if fraction is None:
        return
    radius = getattr(sphere.place, "radius", None)
    if not isinstance(radius, PowerLaw) or (radius.exponent, radius.low) != (1.0, 0.0):
        raise ShardError(
            f"{where}: sphere.place: halos drawn by a fraction of the mass lie uniformly in a "
            "circle: {place: Polar, radius: {law: PowerLaw, exponent: 1, low: 0, high: ...}}"
        )
    if not isinstance(sphere.mass, PowerLaw) or sphere.mass.low <= 0:
        raise ShardError(
            f"{where}: sphere.mass: halos drawn by a fraction of the mass have the masses of a "
            "PowerLaw with a low above 0"
        )
    low, high = fraction.range
    if 0 <= low <= high < 1 and most_halos(preset) > _MOST_HALOS:
        raise ShardError(
            f"{where}: fraction: up to {high:g} of the mass in halos would be up to "
            f"{most_halos(preset)} of them, expected {_MOST_HALOS} at most; raise sphere.mass.low"
        )


def _check_profile(sphere: Halos, where: str) -> None:
    """Refuse numbers of truncated NFW halos where there are none, and none where there are."""
    if sphere.profile == "tnfw" and sphere.truncation is None:
        raise ShardError(
            f"{where}: sphere.truncation: profile tnfw needs r_t / r_s, a number such as 6; "
            "got null"
        )
    for name, (least, most) in _OF_TNFW.items():
        value = getattr(sphere, name)
        if sphere.profile == "tnfw" and value is not None and not least <= value <= most:
            raise ShardError(
                f"{where}: sphere.{name}: should be within {least:g} to {most:g}, got {value:g}"
            )
    given = [name for name in _OF_TNFW if getattr(sphere, name) is not None]
    if given and sphere.profile != "tnfw":
        values = " and ".join(f"sphere.{name} = {getattr(sphere, name):g}" for name in given)
        nulls = ", ".join(f"sphere.{name}=null" for name in given)
        raise ShardError(
            f"{where}: {values}: profile {sphere.profile} has no such number, only tnfw has; "
            f"set it to null: {nulls}"
        )


def _check_blur(preset: Preset, size: int, where: str) -> None:
    kernel = getattr(preset.camera, "kernel_size", None)
    if kernel and (kernel % 2 == 0 or kernel > size):
        raise ShardError(
            f"{where}: camera.kernel_size: {kernel} should be odd, and fit {size} pixels"
        )
    reach = preset.camera.psf_sigma * _PSF_REACH
    if not 0 < reach <= size * preset.pixel_scale / 2:
        raise ShardError(
            f"{where}: camera.psf_sigma: {preset.camera.psf_sigma:g} arcsec does not fit a frame "
            f"of {size} pixels of {preset.pixel_scale:g} arcsec"
        )


def _positive_numbers(preset: Preset) -> Iterator[tuple[str, float]]:
    """Fields that are single numbers, not distributions."""
    camera = preset.camera
    yield "lens.mass", preset.lens.mass
    yield "source.intensity", preset.source.intensity
    yield "pixel_scale", preset.pixel_scale
    yield "camera.psf_sigma", camera.psf_sigma
    if isinstance(camera, PhotonCamera):
        yield "camera.sky", camera.sky
    else:
        yield "camera.peak", camera.peak
        yield "camera.counts_per_sky_sd", camera.counts_per_sky_sd


def _bounded(preset: Preset) -> Iterator[tuple[str, Distribution, float, float]]:
    """Distributions, and the least and the greatest value that they may give."""
    tiny = 1e-6
    yield "lens.q", preset.lens.q, 0.05, 1.0
    yield "lens.shear", preset.lens.shear, 0.0, 1.0 - tiny
    yield "source.q", preset.source.q, 0.01, 1.0
    yield "source.n", preset.source.n, 0.37, 10.0
    yield "source.radius", preset.source.radius, tiny, math.inf
    if preset.sphere.count is not None:
        yield "sphere.count", preset.sphere.count, 1.0, 10_000.0
    yield "sphere.mass", preset.sphere.mass, 0.0, math.inf
    yield "vort.mass", preset.vort.mass, 0.0, math.inf
    yield "vort.length", preset.vort.length, tiny, math.inf
    yield from _bounded_tides(preset.lens, tiny)
    if preset.lens.theta_e is not None:
        yield "lens.theta_e", preset.lens.theta_e, tiny, math.inf
    if preset.fraction is not None:
        yield "fraction", preset.fraction, 0.0, 1.0
    if not isinstance(preset.camera, PhotonCamera):
        most = 2**15 / preset.camera.counts_per_sky_sd  # 16 bits, and room for the noise
        yield "camera.snr", preset.camera.snr, tiny, most
        yield "camera.exposure", preset.camera.exposure, tiny, math.inf


def _bounded_tides(lens: Lens, tiny: float) -> Iterator[tuple[str, Distribution, float, float]]:
    """As `_bounded`: with all shears, the line of sight leaves an image the right way round."""
    most = 1.0 - tiny - lens.shear.range[1]
    if lens.los_shear is not None:
        yield "lens.los_shear", lens.los_shear, 0.0, most
        most -= lens.los_shear.range[1]
    kappa = lens.los_convergence
    if isinstance(kappa, Normal):
        reach = _MOST_SDS * kappa.sd
        kappa = Uniform(kappa.mean - reach, kappa.mean + reach)
    if kappa is not None:
        yield "lens.los_convergence", kappa, -1.0, most
