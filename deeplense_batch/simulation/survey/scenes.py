"""One cutout of the survey: draw it, trace its rays, blur it, and add the noise.

An image and its truth come from one stream of random numbers: first atmosphere and sky, then the
elliptical that both classes share, the field, the object, and last the noise. Brightness and
colour of the galaxy in front therefore say nothing about the class: the elliptical of a lens is
kept whatever the source behind it is, and only a source that would not be seen is drawn again.

The sky of each band is the sum of lights times their flux, on a grid three times as fine as the
pixels and with a margin around the frame, blurred by the band's own Moffat. Images are as in the
public set: each band by itself from exactly 0 to exactly 1.

Truth of an image, float64, angles in arcsec, directions in rad, magnitudes AB, bands g, r, i:

    kind ()                 number in `KINDS`
    place (2,)              x y of the object
    galaxy (4,)             radius n q phi of the elliptical; a spiral, an edge-on disc and a star
    galaxy_magnitudes (3,)  have only its brightness, but for a scatter
    object_magnitudes (3,)  of all that belongs to the object, what is lensed included
    z_l, sigma_v ()         of the elliptical
    seeing (3,)             FWHM
    psf (3, 3)              beta q phi of each band
    depth (3,)              magnitude of a point of 5 sigma (`noise`)
    sky_sd (3,)             counts in a pixel
    noise_correlation ()    of pixels side by side
    neighbours ()           objects of the field in the frame
    scale (3, 2)            counts at 0 and at 1 of the image

and zero for a non-lens

    z_s, theta_e ()
    lens (2,)               q phi of the mass
    shear (2,)              g1 g2
    source (6,)             x y radius n q phi, x and y from the lens
    clumps (4, 4)           x y sigma share
    source_magnitudes (3,)  not lensed
    magnification ()        flux of what is lensed, in the frame and its margin, over that
    arc_snr, arc_contrast, arc_share ()     in g, as in `Visible`
    tries ()                sources drawn
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.profiles import shear, sie
from deeplense_batch.simulation.distributions import draw_one, rounded
from deeplense_batch.simulation.survey.noise import noise, sky_sd
from deeplense_batch.simulation.survey.nonlenses import draw_nonlens
from deeplense_batch.simulation.survey.objects import (
    Light,
    Position,
    RedGalaxy,
    SourceGalaxy,
    counts_of,
    draw_field,
    draw_red_galaxy,
    draw_source,
    light_of,
    magnitudes_of,
)
from deeplense_batch.simulation.survey.psf import (
    pixels_of,
    point_spectrum,
    psf_spectrum,
    sky_spectrum,
)
from deeplense_batch.simulation.survey.settings import (
    BANDS,
    CLASSES,
    FRACTIONS,
    KINDS,
    PIXEL_SCALE,
    SHAPE,
    SURVEY,
    Survey,
)

__all__ = ["make", "render"]

Truth = dict[str, NDArray[np.float64]]

_GRAINS = 64  # into which the noise of the sky is divided


class _Conditions(NamedTuple):
    """Atmosphere and sky of one image, (3,) float64 unless it says otherwise."""

    fwhm: NDArray[np.float64]
    shape: NDArray[np.float64]  # (3, 3): beta q phi of each band
    psf: Tensor  # its transform, as in `render`
    depth: NDArray[np.float64]
    correlation: float
    sky_sd: NDArray[np.float64]


class _Visibility(NamedTuple):
    """How well a lensed source is seen in g, as in `Visible`."""

    snr: float
    contrast: float
    share: float


def make(
    target: int, random: np.random.Generator, survey: Survey = SURVEY
) -> tuple[NDArray[np.float32], Truth]:
    """Make one image.

    Arguments:
        target: Number of the class in `CLASSES`.
        random: The stream of this image.
        survey: What is drawn from.

    Returns:
        The image, (3, 64, 64) float32, each band from 0 to 1, and its truth by name.

    Raises:
        RuntimeError: No source was visible in `Visible.tries` draws: the sources are too faint.
    """
    conditions = _draw_conditions(survey, random)
    psf = conditions.psf
    red = draw_red_galaxy(survey, random)
    x, y = survey.camera.jitter.draw(random, 2) * PIXEL_SCALE
    centre = float(x), float(y)
    field = draw_field(survey, random)
    if CLASSES[target] == "lenses":
        kind, lights = "lens", [light_of(survey, red, centre)]
        galaxy = render(lights, psf, survey)
        lensed, arc = _draw_arc(survey, red, centre, galaxy, psf, conditions.sky_sd, random)
        sky = galaxy + lensed + render(field, psf, survey)
    else:
        kind = str(random.choice(list(FRACTIONS), p=list(FRACTIONS.values())))
        lights, arc = draw_nonlens(kind, survey, red, centre, random), _no_arc(survey)
        sky = render([*lights, *field], psf, survey)
    counts = _framed(sky, survey)
    counts += noise(
        counts, conditions.sky_sd, conditions.correlation, survey.camera.electrons, random
    )
    image, scale = _public_form(counts, conditions.sky_sd)
    truth: dict[str, object] = {"kind": KINDS.index(kind), "place": centre}
    truth |= _galaxy_truth(red, lights, arc) | arc | _frame_truth(conditions, field)
    truth["scale"] = scale
    return image, {name: rounded(value) for name, value in truth.items()}


def render(lights: Sequence[Light], psf: Tensor, survey: Survey = SURVEY) -> Tensor:
    """Blur lights and integrate them over pixels.

    Arguments:
        lights: All light in the frame.
        psf: Transform of the point spread functions, (3, P, P // 2 + 1) complex128, where P is the
            frame with the margin on both sides.
        survey: For margin and supersampling.

    Returns:
        Counts without noise, (3, P, P) float64.
    """
    x, y = _grid(survey)
    sky = x.new_zeros(len(BANDS), y.shape[-2], x.shape[-1])
    points = torch.zeros_like(psf)
    for light in lights:
        flux = torch.from_numpy(light.flux)[:, None, None]
        if light.shape is None:
            points += flux * point_spectrum(*light.centre, psf.shape[-2], PIXEL_SCALE)
            continue
        columns, rows = (
            _window(v.flatten(), at, light.reach)
            for v, at in zip((x, y), light.centre, strict=True)
        )
        shape = light.shape(x[..., columns], y[..., rows, :])
        sky[:, rows, columns] += flux * shape
    return pixels_of((sky_spectrum(sky, survey.supersampling, PIXEL_SCALE) + points) * psf)


def _draw_conditions(survey: Survey, random: np.random.Generator) -> _Conditions:
    settings = survey.camera
    bands = len(BANDS)
    fwhm = np.array([draw_one(distribution, random) for distribution in settings.fwhm])
    beta = settings.beta.draw(random, bands)
    q = 1 - settings.flattening.draw(random, bands)
    phi = survey.angle.draw(random, bands)
    depth = np.array([draw_one(distribution, random) for distribution in settings.depth])
    correlation = draw_one(settings.correlation, random)
    size = SHAPE[-1] + 2 * survey.margin
    named = {"fwhm": fwhm, "beta": beta, "q": q, "phi": phi}
    moffats = {name: torch.from_numpy(values) for name, values in named.items()}
    psf = psf_spectrum(size, PIXEL_SCALE, **moffats)
    shape = np.stack([beta, q, phi], 1)
    sky = rounded(sky_sd(depth, psf, correlation))
    return _Conditions(fwhm, shape, psf, depth, correlation, sky)


def _draw_arc(
    survey: Survey,
    red: RedGalaxy,
    centre: Position,
    galaxy: Tensor,
    psf: Tensor,
    sky_sd: NDArray[np.float64],
    random: np.random.Generator,
) -> tuple[Tensor, Truth]:
    """Draw the mass of a lens and sources behind it, until one is visible.

    Arguments:
        survey: All settings.
        red: The lens.
        centre: Its position, arcsec.
        galaxy: Counts of its light, (3, P, P).
        psf: As in `render`.
        sky_sd: In each band, (3,), counts.
        random: The stream of this image.

    Returns:
        Counts of what is lensed, (3, P, P), and its part of the truth.
    """
    visible = survey.visible
    ellipse, g = _draw_mass(survey, red, random)
    beta_x, beta_y = _source_plane(survey, centre, red.theta_e, ellipse, g)
    front = _framed(galaxy, survey)[0]
    for tries in range(1, visible.tries + 1):
        source = draw_source(survey, red.theta_e, random)
        shape = source.brightness(beta_x, beta_y)
        magnification = float(shape.sum()) * (PIXEL_SCALE / survey.supersampling) ** 2
        if magnification <= visible.magnification:
            continue
        spectrum = sky_spectrum(shape, survey.supersampling, PIXEL_SCALE)
        flux = torch.from_numpy(counts_of(source.magnitudes))[:, None, None]
        pixels = pixels_of(spectrum * flux * psf)
        seen = _visibility(_framed(pixels, survey)[0], front, float(sky_sd[0]), survey)
        if _is_visible(seen, survey):
            truth = _arc_truth(source, red, ellipse, g)
            return pixels, truth | _seen_truth(seen, magnification, tries)
    raise RuntimeError(
        f"survey: none of {visible.tries} sources behind a lens of Einstein radius "
        f"{red.theta_e:.2f} arcsec was visible; the settings give too few bright sources"
    )


def _draw_mass(
    survey: Survey, red: RedGalaxy, random: np.random.Generator
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Draw axis ratio and direction of the mass of a lens, and the two components of its shear."""
    settings = survey.lens
    q = float(np.clip(red.q + draw_one(settings.q, random), *settings.q_bounds))
    phi = red.phi + draw_one(settings.phi, random)
    g1, g2 = settings.shear.draw(random, 2).tolist()
    return (q, phi), (g1, g2)


def _source_plane(
    survey: Survey,
    centre: Position,
    theta_e: float,
    ellipse: tuple[float, float],
    g: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Where the rays of the fine grid left the source, from the lens, (1, H, H), arcsec."""
    x, y = _grid(survey)
    x, y = x - centre[0], y - centre[1]
    q, phi = torch.tensor(ellipse, dtype=x.dtype).unbind()
    lens, tide = sie(x, y, theta_e, q, phi), shear(x, y, *g)
    return x - lens[0] - tide[0], y - lens[1] - tide[1]


def _visibility(
    arc: NDArray[np.float64], galaxy: NDArray[np.float64], sky_sd: float, survey: Survey
) -> _Visibility:
    """How well `arc` is seen against the sky and `galaxy`, (64, 64) counts each."""
    bright = arc[arc > sky_sd]
    snr = float(bright.sum()) / (sky_sd * math.sqrt(len(bright))) if len(bright) else 0.0
    clear = arc > survey.visible.contrast * sky_sd
    share = float((arc[clear] / (arc[clear] + galaxy[clear])).max()) if clear.any() else 0.0
    return _Visibility(snr, float(arc.max()) / sky_sd, share)


def _is_visible(seen: _Visibility, survey: Survey) -> bool:
    least = survey.visible
    return seen.snr > least.snr and seen.contrast > least.contrast and seen.share > least.share


def _galaxy_truth(red: RedGalaxy, lights: Sequence[Light], arc: Truth) -> dict[str, object]:
    """Truth of the elliptical, and of all that belongs to the object."""
    flux = np.sum([light.flux for light in lights], 0)
    flux += counts_of(arc["source_magnitudes"]) * arc["magnification"]
    return {
        "galaxy": (red.radius, red.n, red.q, red.phi),
        "galaxy_magnitudes": red.magnitudes,
        "object_magnitudes": magnitudes_of(flux),
        "z_l": red.z,
        "sigma_v": red.sigma_v,
    }


def _frame_truth(conditions: _Conditions, field: Sequence[Light]) -> dict[str, object]:
    """Truth of atmosphere, sky and field."""
    half = SHAPE[-1] / 2 * PIXEL_SCALE
    return {
        "seeing": conditions.fwhm,
        "psf": conditions.shape,
        "depth": conditions.depth,
        "sky_sd": conditions.sky_sd,
        "noise_correlation": conditions.correlation,
        "neighbours": sum(max(map(abs, light.centre)) < half for light in field),
    }


def _arc_truth(
    source: SourceGalaxy, red: RedGalaxy, ellipse: tuple[float, float], g: tuple[float, float]
) -> Truth:
    shape = (*source.centre, source.radius, source.n, source.q, source.phi)
    return {
        "z_s": np.asarray(red.z_s),
        "theta_e": np.asarray(red.theta_e),
        "source": np.array(shape),
        "clumps": source.clumps,
        "source_magnitudes": source.magnitudes,
        "lens": np.array(ellipse),
        "shear": np.array(g),
    }


def _seen_truth(seen: _Visibility, magnification: float, tries: int) -> Truth:
    return {
        "magnification": np.asarray(magnification),
        "arc_snr": np.asarray(seen.snr),
        "arc_contrast": np.asarray(seen.contrast),
        "arc_share": np.asarray(seen.share),
        "tries": np.asarray(float(tries)),
    }


def _public_form(
    counts: NDArray[np.float64], sky_sd: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Each band from 0 to 1, (3, 64, 64) float32, and the counts at 0 and at 1, (3, 2).

    Counts are rounded to a 64th of the noise of the sky first, which adds 2e-5 of its variance:
    the digits below depend on the machine.
    """
    grain = sky_sd / _GRAINS
    whole = np.rint(counts / grain[:, None, None])
    least, most = whole.min((1, 2)), whole.max((1, 2))
    image = (whole - least[:, None, None]) / (most - least)[:, None, None]
    return image.astype(np.float32), np.stack([least * grain, most * grain], 1)


def _framed(pixels: Tensor, survey: Survey) -> NDArray[np.float64]:
    """Without the margin, (3, 64, 64) float64."""
    kept = slice(survey.margin, -survey.margin)
    return pixels[..., kept, kept].numpy()


def _grid(survey: Survey) -> tuple[Tensor, Tensor]:
    size = SHAPE[-1] + 2 * survey.margin
    return fine_grid(size, PIXEL_SCALE, survey.supersampling)


def _window(axis: Tensor, centre: float, reach: float) -> slice:
    """Samples of one axis within reach of a position; none if it is too far outside."""
    first, last = torch.searchsorted(
        axis, axis.new_tensor([centre - reach, centre + reach])
    ).tolist()
    return slice(first, last)


def _no_arc(survey: Survey) -> Truth:
    """The part of the truth that only a lens has, as zeros."""
    shapes: dict[str, tuple[int, ...]] = {
        "z_s": (), "theta_e": (), "source": (6,), "clumps": (survey.source.most_clumps, 4),
        "source_magnitudes": (3,), "lens": (2,), "shear": (2,), "magnification": (),
        "arc_snr": (), "arc_contrast": (), "arc_share": (), "tries": (),
    }  # fmt: skip
    return {name: np.zeros(shape) for name, shape in shapes.items()}
