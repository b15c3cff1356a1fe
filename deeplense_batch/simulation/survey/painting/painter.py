"""One galaxy of a set of shards, with the arc of a lensed source painted on it or as it was.

The galaxy is the lens: the centre, axis ratio and direction of its mass are those of its light, in
the reddest band, but for the survey's scatter. What the catalogue knows of it (`canvas`) is taken
from there, and the rest is drawn from the laws of the survey, until the Einstein radius is one of
the survey; of four draws it is the one nearest in brightness.

A source is drawn until its arc is seen in front of this galaxy and its measured noise. Where none
of `Visible.tries` is, in front of a bright star say, sources are a magnitude brighter, and so on.
The arc is blurred, its photons add their noise, and both are rounded to a 64th of the noise of the
sky: where that leaves zero, pixels are the galaxy's to the last bit.

Images whose bands are scaled from 0 to 1 have no flux. It is then such that the galaxy has the
magnitude of the catalogue, or else that the sky is as noisy as that of the survey; and a band that
an arc has made brighter than 1 is scaled from 0 to 1 again, as its survey would have done.

Truth of an image, float64, as in `scenes` where the names are the same; B is the number of bands:

    place (2,)              x y of the galaxy
    light (2,)              q phi of its light, without the blur
    galaxy_counts (B,)      of the galaxy, within four sds of its core
    sky_level, sky_sd (B,)  of the image as it was, in its unit
    unit (B,)               counts in the unit of the image
    scale (B, 2)            of the image as it was, at 0 and at 1 of the new one
    seeing (B,), psf (B, 3) of the arc, and psf_kernel () where measured ones are given

and zero for a non-lens, of which nothing more is drawn, what is zero for it in `scenes`, and

    z_l, sigma_v ()
    brightened ()           magnitudes by which sources had to be brighter
    stamp ()                number of the real galaxy that is the source, from 1; 0 if simulated
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from deeplense_batch.data.encoding import Array
from deeplense_batch.simulation.distributions import Fixed, rounded
from deeplense_batch.simulation.survey.arcs import Arc, DrawsSource, FaintError, draw_arc, framed
from deeplense_batch.simulation.survey.colours import WAVELENGTHS
from deeplense_batch.simulation.survey.noise import (
    GRAINS,
    Conditions,
    draw_conditions,
    electrons_in_count,
    noise,
)
from deeplense_batch.simulation.survey.objects import RedGalaxy, draw_red_galaxy
from deeplense_batch.simulation.survey.painting.measured_light import (
    CentralLight,
    Sky,
    central_light,
    flux_within,
    sky_of,
)
from deeplense_batch.simulation.survey.scenes import arc_truth, no_arc
from deeplense_batch.simulation.survey.settings import Survey

__all__ = ["SEARCH", "Painter", "light_of_galaxy", "reddest"]

SEARCH = 2.0  # arcsec from the middle within which the galaxy is
_FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian over its sd
_BRIGHTEST = 12  # magnitudes
_DRAWN = 4  # galaxies, of which one is chosen

Truth = dict[str, NDArray[np.float64]]
Known = Mapping[str, float]  # of one galaxy, by the names of `canvas.Galaxies.known`


class _Measured(NamedTuple):
    """What an image shows of its galaxy."""

    sky: Sky
    light: CentralLight
    conditions: Conditions
    red: RedGalaxy
    unit: NDArray[np.float64]  # counts in the unit of the image, (B,)
    counts: NDArray[np.float64]  # of the galaxy, (B,)


@dataclass(frozen=True)
class Painter:
    """Paints arcs.

    Arguments:
        survey: Laws, bands and pixels; its frame is the part of an image in which arcs can be.
        draw: Draws sources.
        is_scaled: Whether each band of the images is scaled from 0 to 1.
        usual_sd: Noise of the sky, (B,), in the unit of the images, for images whose border has
            none.
        dtype: Of new images.
    """

    survey: Survey
    draw: DrawsSource
    is_scaled: bool
    usual_sd: NDArray[np.float64]
    dtype: np.dtype

    def make(
        self, image: Array, known: Known, *, is_lens: bool, random: np.random.Generator
    ) -> tuple[Array, Truth]:
        """Make one image.

        Arguments:
            image: The galaxy, (B, H, W).
            known: What its catalogue says, NaN where nothing.
            is_lens: Whether it gets an arc.
            random: The stream of this image.

        Returns:
            The image, (B, H, W), and its truth by name.

        Raises:
            FaintError: No source could be seen in front of it.
        """
        values = image.astype(np.float64)
        measured = self._measure(values, known, random)
        conditions, light = measured.conditions, measured.light
        truth: dict[str, object] = {
            "place": np.array(light.centre) * self.survey.pixel_scale,
            "light": (measured.red.q, measured.red.phi),
            "galaxy_counts": measured.counts,
            "sky_level": measured.sky.level,
            "sky_sd": measured.sky.sd,
            "unit": measured.unit,
            "seeing": conditions.fwhm,
            "psf": conditions.shape,
        }
        if conditions.kernel is not None:
            truth["psf_kernel"] = conditions.kernel
        ends = np.tile([0.0, 1.0], (len(values), 1))
        if is_lens:
            arc, brightened = self._arc(values, measured, random)
            red = measured.red
            truth |= arc_truth(arc, red) | {"z_l": red.z, "sigma_v": red.sigma_v}
            truth |= {"brightened": brightened, "stamp": arc.source.stamp}
            painted, ends = self._painted(values, image, arc, measured, random)
        else:
            truth |= no_arc(self.survey) | dict.fromkeys(
                ("z_l", "sigma_v", "brightened", "stamp"), 0.0
            )
            painted = image.astype(self.dtype)
        truth["scale"] = ends
        return painted, {key: rounded(value) for key, value in truth.items()}

    def _measure(
        self, values: NDArray[np.float64], known: Known, random: np.random.Generator
    ) -> _Measured:
        """What an image shows, and what is drawn of atmosphere and galaxy."""
        survey = _with_known(self.survey, known)
        conditions = draw_conditions(survey, random)
        sky = self._sky(values)
        light = light_of_galaxy(values, sky, conditions.fwhm, survey)
        radius = float(np.clip(4 * light.sigma, 3.0, min(values.shape[1:]) / 2))
        flux = flux_within(values - sky.level[:, None, None], light.centre, radius)
        magnitudes = np.array([known[f"mag_{band}"] for band in survey.bands])
        unit = np.ones(len(values))
        if self.is_scaled:
            by_galaxy = survey.counts(magnitudes) / np.where(flux > 0, flux, math.nan)
            by_sky = conditions.sky_sd / sky.sd
            unit = rounded(np.where(np.isfinite(by_galaxy), by_galaxy, by_sky))
        red = _drawn_for(survey, known, flux * unit, random)
        q = known["q"] if known["q"] <= 1 else light.q
        phi = known["phi"] if math.isfinite(known["phi"]) else light.phi
        red = dataclasses.replace(red, q=q, phi=phi)
        return _Measured(sky, light, conditions, red, unit, flux * unit)

    def _sky(self, values: NDArray[np.float64]) -> Sky:
        """The sky of an image; where its border is constant, as noisy as it usually is."""
        sky = sky_of(values)
        return Sky(sky.level, np.where(sky.sd > 0, sky.sd, self.usual_sd))

    def _arc(
        self, values: NDArray[np.float64], measured: _Measured, random: np.random.Generator
    ) -> tuple[Arc, float]:
        """Draw an arc that is seen, and by how many magnitudes sources had to be brighter."""
        survey, band = self.survey, self.survey.seen_in
        sky, unit = measured.sky, measured.unit
        patch = self._patch(measured.light, values.shape[1:])
        # Its own noise would make some pixels dark enough for any arc.
        sigma = float(measured.conditions.fwhm[band]) / _FWHM / survey.pixel_scale
        galaxy = gaussian_filter(values[band] - sky.level[band], sigma, mode="nearest")
        front = np.zeros((survey.size, survey.size))
        front[patch.inner] = galaxy[patch.outer] * unit[band]
        centre = patch.place(measured.light, self.survey.pixel_scale)
        fewer = dataclasses.replace(survey.visible, tries=max(survey.visible.tries // 8, 1))
        for brighter in range(_BRIGHTEST + 1):
            try:
                arc = draw_arc(
                    survey, measured.red, centre, np.maximum(front, 0), measured.conditions.psf,
                    sky.sd * unit, random, self.draw, float(brighter),
                )  # fmt: skip
            except FaintError:
                survey = dataclasses.replace(survey, visible=fewer)
                continue
            return arc, float(brighter)
        raise FaintError(
            f"no source up to {_BRIGHTEST} magnitudes brighter than those of preset {survey.name} "
            "is seen in front of it"
        )

    def _painted(
        self,
        values: NDArray[np.float64],
        image: Array,
        arc: Arc,
        measured: _Measured,
        random: np.random.Generator,
    ) -> tuple[Array, NDArray[np.float64]]:
        """The image with the arc, and its values at 0 and at 1 of the new one, (B, 2)."""
        conditions, patch = measured.conditions, self._patch(measured.light, values.shape[1:])
        sky_sd = measured.sky.sd * measured.unit
        light = np.maximum(framed(arc.pixels, self.survey), 0)
        electrons = electrons_in_count(self.survey, sky_sd)
        nothing = np.zeros(len(sky_sd))
        photons = noise(light, nothing, conditions.correlation, electrons, random)
        grain = (sky_sd / GRAINS)[:, None, None]
        whole = np.where(np.rint(light / grain) > 0, np.rint((light + photons) / grain), 0)
        added = np.zeros_like(values)
        added[:, *patch.outer] = (whole * grain)[:, *patch.inner]
        sums = (values + added / measured.unit[:, None, None]).astype(self.dtype)
        painted = np.where(added == 0, image.astype(self.dtype), sums)
        ends = np.tile([0.0, 1.0], (len(values), 1))
        if self.is_scaled:
            for i, band in enumerate(painted):
                least, most = float(band.min()), float(band.max())
                if least < 0 or most > 1:
                    ends[i] = least, most
                    painted[i] = (band - band.min()) / (band.max() - band.min())
        return painted, ends

    def _patch(self, light: CentralLight, frame: tuple[int, ...]) -> _Patch:
        return _Patch.around(light.centre, frame, self.survey.size)


def light_of_galaxy(
    values: NDArray[np.float64], sky: Sky, fwhm: NDArray[np.float64], survey: Survey
) -> CentralLight:
    """The galaxy of an image, (B, H, W), in the reddest band, under seeing of `fwhm`, (B,)."""
    band, pixel = reddest(survey.bands), survey.pixel_scale
    search = min(max(SEARCH / pixel, 3.0), min(values.shape[1:]) / 4)
    sigma = max(float(fwhm[band]) / _FWHM / pixel, 0.5)
    return central_light(values[band] - sky.level[band], sigma, search)


class _Patch(NamedTuple):
    """The part of a frame that is rendered; it may be larger than the frame."""

    inner: tuple[slice, slice]  # rows and columns of the part that lie in the frame
    outer: tuple[slice, slice]  # the same pixels in the frame
    offset: tuple[float, float]  # x y of its middle from that of the frame, pixels

    @classmethod
    def around(cls, centre: tuple[float, float], frame: tuple[int, ...], size: int) -> _Patch:
        """The part of `size` pixels around a place, moved into the frame as far as it fits."""
        inner, outer, offset = [], [], []
        for at, side in zip(reversed(centre), frame, strict=True):
            room = side - size
            first = round(at + (side - size) / 2)
            first = min(max(first, 0), room) if room >= 0 else room // 2
            last = min(first + size, side)
            outer.append(slice(max(first, 0), last))
            inner.append(slice(max(first, 0) - first, last - first))
            offset.append(first + (size - side) / 2)
        return cls((inner[0], inner[1]), (outer[0], outer[1]), (offset[1], offset[0]))

    def place(self, light: CentralLight, pixel_scale: float) -> tuple[float, float]:
        """Where the galaxy is, from the middle of this part, arcsec."""
        (x, y), (of_x, of_y) = light.centre, self.offset
        return (x - of_x) * pixel_scale, (y - of_y) * pixel_scale


def _with_known(survey: Survey, known: Known) -> Survey:
    """The survey with fixed numbers in place of the laws of what is known of a galaxy."""
    galaxy, z, z_s = survey.galaxy, known["z"], known["z_s"]
    has_radius = known["theta_e"] > 0  # it follows
    fwhm = {b: Fixed(known[f"fwhm_{b}"]) for b in survey.bands if known[f"fwhm_{b}"] > 0}
    return dataclasses.replace(
        survey,
        galaxy=dataclasses.replace(
            galaxy,
            z=Fixed(z) if z > 0 else galaxy.z,
            behind=Fixed(z_s - z) if z_s > z > 0 else galaxy.behind,
            sigma_v=Fixed(known["sigma_v"])
            if known["sigma_v"] > 0 and not has_radius
            else galaxy.sigma_v,
            # Any, where it is known; of a dispersion that is drawn for it only the ratio counts.
            theta_e=(0.0, math.inf) if has_radius else galaxy.theta_e,
        ),
        camera=dataclasses.replace(survey.camera, fwhm=survey.camera.fwhm | fwhm),
    )


def _drawn_for(
    survey: Survey, known: Known, counts: NDArray[np.float64], random: np.random.Generator
) -> RedGalaxy:
    """Draw redshifts and mass of a galaxy of so many counts, (B,), where they are not known.

    Of a few that are drawn it is the one nearest in brightness, in the reddest band, so that
    brighter galaxies have more mass.
    """
    drawn = [draw_red_galaxy(survey, random) for _ in range(_DRAWN)]
    band = reddest(survey.bands)
    magnitude = survey.magnitudes(np.maximum(counts[band], 1e-30))
    red = min(drawn, key=lambda one: abs(float(one.magnitudes[band] - magnitude)))
    theta_e = known["theta_e"]
    if not theta_e > 0:
        return red
    sigma_v = red.sigma_v * math.sqrt(theta_e / red.theta_e)
    return dataclasses.replace(red, theta_e=theta_e, sigma_v=sigma_v)


def reddest(bands: Sequence[str]) -> int:
    """Number of the band of the longest waves."""
    return max(range(len(bands)), key=lambda i: WAVELENGTHS[bands[i]])
