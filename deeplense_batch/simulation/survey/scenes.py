"""One cutout of the survey: draw it, trace its rays, blur it, and add the noise.

An image and all that is true of it come from one stream of random numbers: first atmosphere and
sky, then the elliptical that both classes share, the field, the object, and last the noise. So
brightness and colour of the galaxy in front tell nothing: the elliptical of a lens is kept
whatever the source behind it is, and only a source that would not be seen is drawn again.

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
from deeplense_batch.simulation.distributions import one, rounded
from deeplense_batch.simulation.survey.nonlenses import draw_nonlens
from deeplense_batch.simulation.survey.objects import (
    Light,
    Place,
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
    """Atmosphere and sky of one image, each (3,) float64 but for the correlation."""

    fwhm: NDArray[np.float64]
    beta: NDArray[np.float64]
    q: NDArray[np.float64]
    phi: NDArray[np.float64]
    sky_sd: NDArray[np.float64]
    correlation: float


class _Visibility(NamedTuple):
    """What there is to see of a lensed source in g, as in `Visible`."""

    snr: float
    contrast: float
    share: float


def make(
    target: int, random: np.random.Generator, laws: Survey = SURVEY
) -> tuple[NDArray[np.float32], Truth]:
    """Make one image.

    Arguments:
        target: Number of the class in `CLASSES`.
        random: The stream of this image.
        laws: What is drawn from.

    Returns:
        The image, (3, 64, 64) float32, each band from 0 to 1, and its truth by name.

    Raises:
        RuntimeError: No source was visible in `Visible.tries` draws: the laws leave too little.
    """
    conditions = _draw_conditions(laws, random)
    psf = _blur(laws, conditions)
    red = draw_red_galaxy(laws, random)
    x, y = laws.camera.jitter.draw(random, 2) * PIXEL_SCALE
    place = float(x), float(y)
    field = draw_field(laws, random)
    if CLASSES[target] == "lenses":
        kind, lights = "lens", [light_of(laws, red, place)]
        galaxy = render(lights, psf, laws)
        lensed, arc = _draw_arc(laws, red, place, galaxy, psf, conditions.sky_sd, random)
        sky = galaxy + lensed + render(field, psf, laws)
    else:
        kind = str(random.choice(list(FRACTIONS), p=list(FRACTIONS.values())))
        lights, arc = draw_nonlens(kind, laws, red, place, random), _no_arc(laws)
        sky = render([*lights, *field], psf, laws)
    counts = _framed(sky, laws)
    counts += _noise(counts, conditions, laws, random)
    image, scale = _public_form(counts, conditions.sky_sd)

    flux = np.sum([light.flux for light in lights], 0)
    flux += counts_of(arc["source_magnitudes"]) * arc["magnification"]
    half = SHAPE[-1] / 2 * PIXEL_SCALE
    truth: dict[str, object] = {
        "kind": KINDS.index(kind),
        "place": place,
        "galaxy": (red.radius, red.n, red.q, red.phi),
        "galaxy_magnitudes": red.magnitudes,
        "object_magnitudes": magnitudes_of(flux),
        "z_l": red.z,
        "sigma_v": red.sigma_v,
        **arc,
        "seeing": conditions.fwhm,
        "psf": np.stack([conditions.beta, conditions.q, conditions.phi], 1),
        "sky_sd": conditions.sky_sd,
        "noise_correlation": conditions.correlation,
        "neighbours": sum(max(map(abs, light.place)) < half for light in field),
        "scale": scale,
    }
    return image, {name: rounded(value) for name, value in truth.items()}


def render(lights: Sequence[Light], psf: Tensor, laws: Survey = SURVEY) -> Tensor:
    """Blur lights and integrate them over pixels.

    Arguments:
        lights: What stands in the frame.
        psf: Transform of the point spread functions, (3, P, P // 2 + 1) complex128, where P is the
            frame with the margin on both sides.
        laws: For margin and supersampling.

    Returns:
        Counts without noise, (3, P, P) float64.
    """
    x, y = _grid(laws)
    sky = x.new_zeros(len(BANDS), y.shape[-2], x.shape[-1])
    points = torch.zeros_like(psf)
    for light in lights:
        flux = torch.from_numpy(light.flux)[:, None, None]
        if light.shape is None:
            points += flux * point_spectrum(*light.place, psf.shape[-2], PIXEL_SCALE)
            continue
        columns, rows = (
            _window(v.flatten(), at, light.reach)
            for v, at in zip((x, y), light.place, strict=True)
        )
        shape = light.shape(x[..., columns], y[..., rows, :])
        sky[:, rows, columns] += flux * shape
    return pixels_of((sky_spectrum(sky, laws.supersampling, PIXEL_SCALE) + points) * psf)


def _draw_conditions(laws: Survey, random: np.random.Generator) -> _Conditions:
    law = laws.camera
    bands = len(BANDS)
    return _Conditions(
        fwhm=np.array([one(each, random) for each in law.fwhm]),
        beta=law.beta.draw(random, bands),
        q=1 - law.flattening.draw(random, bands),
        phi=laws.angle.draw(random, bands),
        sky_sd=rounded([one(each, random) for each in law.sky_sd]),
        correlation=one(law.correlation, random),
    )


def _blur(laws: Survey, conditions: _Conditions) -> Tensor:
    """Transform of the point spread functions, (3, P, P // 2 + 1) complex128."""
    fwhm, beta, q, phi = (torch.from_numpy(v) for v in conditions[:4])
    size = SHAPE[-1] + 2 * laws.margin
    return psf_spectrum(size, PIXEL_SCALE, fwhm=fwhm, beta=beta, q=q, phi=phi)


def _draw_arc(
    laws: Survey,
    red: RedGalaxy,
    place: Place,
    galaxy: Tensor,
    psf: Tensor,
    sky_sd: NDArray[np.float64],
    random: np.random.Generator,
) -> tuple[Tensor, Truth]:
    """Draw the mass of a lens and sources behind it, until one is visible.

    Arguments:
        laws: All laws.
        red: The lens.
        place: Where it stands, arcsec.
        galaxy: Counts of its light, (3, P, P).
        psf: As in `render`.
        sky_sd: In each band, (3,), counts.
        random: The stream of this image.

    Returns:
        Counts of what is lensed, (3, P, P), and its part of the truth.
    """
    law = laws.lens
    q = float(np.clip(red.q + one(law.q, random), *law.q_bounds))
    phi = red.phi + one(law.phi, random)
    g1, g2 = law.shear.draw(random, 2).tolist()
    beta_x, beta_y = _source_plane(laws, place, red.theta_e, (q, phi), (g1, g2))
    front = _framed(galaxy, laws)[0]
    for tried in range(1, laws.visible.tries + 1):
        source = draw_source(laws, red.theta_e, random)
        shape = source.brightness(beta_x, beta_y)
        magnification = float(shape.sum()) * (PIXEL_SCALE / laws.supersampling) ** 2
        if magnification <= laws.visible.magnification:
            continue
        spectrum = sky_spectrum(shape, laws.supersampling, PIXEL_SCALE)
        flux = torch.from_numpy(counts_of(source.magnitudes))[:, None, None]
        pixels = pixels_of(spectrum * flux * psf)
        seen = _visibility(_framed(pixels, laws)[0], front, float(sky_sd[0]), laws)
        if _is_visible(seen, laws):
            truth = _arc_truth(source, red.z_s, red.theta_e)
            truth |= {
                "lens": np.array([q, phi]),
                "shear": np.array([g1, g2]),
                "magnification": np.asarray(magnification),
                "arc_snr": np.asarray(seen.snr),
                "arc_contrast": np.asarray(seen.contrast),
                "arc_share": np.asarray(seen.share),
                "tries": np.asarray(float(tried)),
            }
            return pixels, truth
    raise RuntimeError(
        f"survey: none of {laws.visible.tries} sources behind a lens of Einstein radius "
        f"{red.theta_e:.2f} arcsec was visible; the laws of sources leave too few bright ones"
    )


def _source_plane(
    laws: Survey,
    place: Place,
    theta_e: float,
    ellipse: tuple[float, float],
    g: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Where the rays of the fine grid left the source, from the lens, (1, H, H), arcsec."""
    x, y = _grid(laws)
    x, y = x - place[0], y - place[1]
    q, phi = torch.tensor(ellipse, dtype=x.dtype).unbind()
    lens, tide = sie(x, y, theta_e, q, phi), shear(x, y, *g)
    return x - lens[0] - tide[0], y - lens[1] - tide[1]


def _visibility(
    arc: NDArray[np.float64], galaxy: NDArray[np.float64], sky_sd: float, laws: Survey
) -> _Visibility:
    """What there is to see of `arc` in front of the sky and of `galaxy`, (64, 64) counts each."""
    bright = arc[arc > sky_sd]
    snr = float(bright.sum()) / (sky_sd * math.sqrt(len(bright))) if len(bright) else 0.0
    clear = arc > laws.visible.contrast * sky_sd
    share = float((arc[clear] / (arc[clear] + galaxy[clear])).max()) if clear.any() else 0.0
    return _Visibility(snr, float(arc.max()) / sky_sd, share)


def _is_visible(seen: _Visibility, laws: Survey) -> bool:
    least = laws.visible
    return seen.snr > least.snr and seen.contrast > least.contrast and seen.share > least.share


def _arc_truth(source: SourceGalaxy, z_s: float, theta_e: float) -> Truth:
    shape = (*source.place, source.radius, source.n, source.q, source.phi)
    return {
        "z_s": np.asarray(z_s),
        "theta_e": np.asarray(theta_e),
        "source": np.array(shape),
        "clumps": source.clumps,
        "source_magnitudes": source.magnitudes,
    }


def _noise(
    counts: NDArray[np.float64], conditions: _Conditions, laws: Survey, random: np.random.Generator
) -> NDArray[np.float64]:
    """Noise of the sky and of the photons of the objects, (3, 64, 64) counts.

    White noise smoothed along both axes by (a, 1, a), which correlates neighbours by
    r = 2 a / (1 + 2 a^2), and scaled back to its standard deviation.
    """
    r = conditions.correlation
    a = r / (1 + math.sqrt(1 - 2 * r * r))
    white = random.standard_normal((counts.shape[0], counts.shape[1] + 2, counts.shape[2] + 2))
    rows = white[:, 1:-1] + a * (white[:, :-2] + white[:, 2:])
    both = rows[:, :, 1:-1] + a * (rows[:, :, :-2] + rows[:, :, 2:])
    photons = np.maximum(counts, 0) / laws.camera.electrons
    sd = np.sqrt(conditions.sky_sd[:, None, None] ** 2 + photons)
    return sd * both / (1 + 2 * a * a)


def _public_form(
    counts: NDArray[np.float64], sky_sd: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Each band from 0 to 1, (3, 64, 64) float32, and the counts at 0 and at 1, (3, 2).

    Counts are rounded to a 64th of the noise of the sky first, which adds 2e-5 of its variance:
    what is below depends on the machine.
    """
    grain = sky_sd / _GRAINS
    whole = np.rint(counts / grain[:, None, None])
    least, most = whole.min((1, 2)), whole.max((1, 2))
    image = (whole - least[:, None, None]) / (most - least)[:, None, None]
    return image.astype(np.float32), np.stack([least * grain, most * grain], 1)


def _framed(pixels: Tensor, laws: Survey) -> NDArray[np.float64]:
    """Without the margin, (3, 64, 64) float64."""
    kept = slice(laws.margin, -laws.margin)
    return pixels[..., kept, kept].numpy()


def _grid(laws: Survey) -> tuple[Tensor, Tensor]:
    size = SHAPE[-1] + 2 * laws.margin
    return fine_grid(size, PIXEL_SCALE, laws.supersampling)


def _window(axis: Tensor, place: float, reach: float) -> slice:
    """Samples of one axis within reach of a place; none if it is too far outside."""
    first, last = torch.searchsorted(
        axis, axis.new_tensor([place - reach, place + reach])
    ).tolist()
    return slice(first, last)


def _no_arc(laws: Survey) -> Truth:
    """The part of the truth that only a lens has, as zeros."""
    shapes = {
        "z_s": (),
        "theta_e": (),
        "source": (6,),
        "clumps": (laws.source.most_clumps, 4),
        "source_magnitudes": (3,),
        "lens": (2,),
        "shear": (2,),
        "magnification": (),
        "arc_snr": (),
        "arc_contrast": (),
        "arc_share": (),
        "tries": (),
    }
    return {name: np.zeros(shape) for name, shape in shapes.items()}
