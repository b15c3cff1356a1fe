"""One cutout of the survey: draw it, trace its rays, blur it, and add the noise.

An image and its truth come from one stream of random numbers: first atmosphere and sky, then the
elliptical that both classes share, the field, the object, and last the noise. Brightness and
colour of the galaxy in front therefore say nothing about the class: the elliptical of a lens is
kept whatever the source behind it is, and only a source that would not be seen is drawn again.

The sky of each band is the sum of lights times their flux, on a grid finer than the pixels and
with a margin around the frame, blurred by the band's own point spread function. An image has one
of two forms: as in the public set, each band by itself from exactly 0 to exactly 1, or counts
over the sky, from which colours can still be read. B is the number of bands.

Truth of an image, float64, angles in arcsec, directions in rad, magnitudes AB, in the order of its
bands:

    kind ()                 number in `KINDS`
    place (2,)              x y of the object
    galaxy (4,)             radius n q phi of the elliptical; a spiral, an edge-on disc and a star
    galaxy_magnitudes (B,)  have only its brightness, but for a scatter
    object_magnitudes (B,)  of all that belongs to the object, what is lensed included
    z_l, sigma_v ()         of the elliptical
    seeing (B,)             FWHM
    psf (B, 3)              beta q phi of each band; beta is 0 for a measured one
    psf_kernel ()           number of the measured kernel, where kernels are given
    depth (B,)              magnitude of a point of 5 sigma (`noise`)
    sky_sd (B,)             counts in a pixel
    noise_correlation ()    of pixels side by side
    neighbours ()           objects of the field in the frame
    scale (B, 2)            counts at 0 and at 1 of the image

and zero for a non-lens

    z_s, theta_e ()
    lens (2,)               q phi of the mass
    shear (2,)              g1 g2
    source (6,)             x y radius n q phi, x and y from the lens
    clumps (4, 4)           x y sigma share, x and y from the lens
    source_magnitudes (B,)  not lensed
    magnification ()        flux of what is lensed, in the frame and its margin, over that
    arc_snr, arc_contrast, arc_share ()     in the band of `Visible`
    tries ()                sources drawn
    stamp ()                number of the real galaxy that is the source, from 1; only of sets
                            with such sources
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.simulation.distributions import rounded
from deeplense_batch.simulation.survey.arcs import Arc, DrawsSource, draw_arc, framed, render
from deeplense_batch.simulation.survey.noise import GRAINS, Conditions, draw_conditions, noise
from deeplense_batch.simulation.survey.nonlenses import draw_nonlens
from deeplense_batch.simulation.survey.objects import (
    Light,
    RedGalaxy,
    draw_field,
    draw_red_galaxy,
    draw_source,
    light_of,
)
from deeplense_batch.simulation.survey.settings import CLASSES, KINDS, Survey

__all__ = ["arc_truth", "make", "no_arc", "stored"]

Truth = dict[str, NDArray[np.float64]]


def make(
    target: int,
    random: np.random.Generator,
    survey: Survey,
    draw: DrawsSource = draw_source,
) -> tuple[NDArray[np.float32], Truth]:
    """Make one image.

    Arguments:
        target: Number of the class in `CLASSES`.
        random: The stream of this image.
        survey: What is drawn from.
        draw: Draws the source of a lens.

    Returns:
        The image, (B, size, size) float32 in the survey's form, and its truth by name.

    Raises:
        ShardError: No source was visible in `Visible.tries` draws: the sources are too faint.
    """
    conditions = draw_conditions(survey, random)
    psf = conditions.psf
    red = draw_red_galaxy(survey, random)
    x, y = survey.camera.jitter.draw(random, 2) * survey.pixel_scale
    centre = float(x), float(y)
    field = draw_field(survey, random)
    arc = None
    if CLASSES[target] == "lenses":
        kind, lights = "lens", [light_of(survey, red, centre)]
        galaxy = render(lights, psf, survey)
        front = framed(galaxy, survey)[survey.seen_in]
        arc = draw_arc(survey, red, centre, front, psf, conditions.sky_sd, random, draw)
        sky = galaxy + arc.pixels + render(field, psf, survey)
    else:
        fractions = survey.fractions
        kind = str(random.choice(list(fractions), p=list(fractions.values())))
        lights = draw_nonlens(kind, survey, red, centre, random)
        sky = render([*lights, *field], psf, survey)
    counts = framed(sky, survey)
    counts += noise(
        counts, conditions.sky_sd, conditions.correlation, conditions.electrons, random
    )
    image, scale = stored(counts, conditions.sky_sd, survey.form)
    truth: dict[str, object] = {"kind": KINDS.index(kind), "place": centre}
    of_arc = arc_truth(arc, red) if arc else no_arc(survey)
    truth |= _galaxy_truth(survey, red, lights, of_arc) | of_arc
    truth |= _frame_truth(survey, conditions, field)
    truth["scale"] = scale
    if draw is not draw_source:
        truth["stamp"] = arc.source.stamp if arc else 0
    return image, {name: rounded(value) for name, value in truth.items()}


def stored(
    counts: NDArray[np.float64], sky_sd: NDArray[np.float64], form: str
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """An image in its form, (B, H, W) float32, and the counts at 0 and at 1 of it, (B, 2).

    Counts are rounded to a 64th of the noise of the sky first, which adds 2e-5 of its variance:
    the digits below depend on the machine.

    Arguments:
        counts: With noise, (B, H, W).
        sky_sd: Noise of the sky, (B,).
        form: ``public``, each band from 0 to 1, or ``flux``, counts.
    """
    grain = sky_sd / GRAINS
    whole = np.rint(counts / grain[:, None, None])
    if form == "flux":
        ends = np.tile([0.0, 1.0], (len(grain), 1))
        return (whole * grain[:, None, None]).astype(np.float32), ends
    least, most = whole.min((1, 2)), whole.max((1, 2))
    image = (whole - least[:, None, None]) / (most - least)[:, None, None]
    return image.astype(np.float32), np.stack([least * grain, most * grain], 1)


def _galaxy_truth(
    survey: Survey, red: RedGalaxy, lights: Sequence[Light], arc: Truth
) -> dict[str, object]:
    """Truth of the elliptical, and of all that belongs to the object."""
    flux = np.sum([light.flux for light in lights], 0)
    flux += survey.counts(arc["source_magnitudes"]) * arc["magnification"]
    return {
        "galaxy": (red.radius, red.n, red.q, red.phi),
        "galaxy_magnitudes": red.magnitudes,
        "object_magnitudes": survey.magnitudes(flux),
        "z_l": red.z,
        "sigma_v": red.sigma_v,
    }


def _frame_truth(
    survey: Survey, conditions: Conditions, field: Sequence[Light]
) -> dict[str, object]:
    """Truth of atmosphere, sky and field."""
    kernel = {} if conditions.kernel is None else {"psf_kernel": conditions.kernel}
    return kernel | {
        "seeing": conditions.fwhm,
        "psf": conditions.shape,
        "depth": conditions.depth,
        "sky_sd": conditions.sky_sd,
        "noise_correlation": conditions.correlation,
        "neighbours": sum(max(map(abs, light.centre)) < survey.half for light in field),
    }


def arc_truth(arc: Arc, red: RedGalaxy) -> Truth:
    """The part of the truth that only a lens has."""
    source, mass = arc.source, arc.mass
    values = {
        "z_s": red.z_s,
        "theta_e": mass.theta_e,
        "source": (*source.centre, source.radius, source.n, source.q, source.phi),
        "clumps": source.clumps,
        "source_magnitudes": source.magnitudes,
        "lens": (mass.q, mass.phi),
        "shear": (mass.g1, mass.g2),
        "magnification": arc.magnification,
        "arc_snr": arc.seen.snr,
        "arc_contrast": arc.seen.contrast,
        "arc_share": arc.seen.share,
        "tries": arc.tries,
    }
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def no_arc(survey: Survey) -> Truth:
    """The same names, as zeros."""
    shapes: dict[str, tuple[int, ...]] = {
        "z_s": (), "theta_e": (), "source": (6,), "clumps": (survey.source.most_clumps, 4),
        "source_magnitudes": (len(survey.bands),), "lens": (2,), "shear": (2,),
        "magnification": (), "arc_snr": (), "arc_contrast": (), "arc_share": (), "tries": (),
    }  # fmt: skip
    return {name: np.zeros(shape) for name, shape in shapes.items()}
