"""The surveys that are simulated, as data: seven cameras, and one population of objects.

``hsc`` is cutouts of 64 x 64 pixels in three bands, as from the coadds of Hyper Suprime-Cam's
Wide layer, in the form of the public set of DeepLense (Test II), which is made of real images. It
replaces that where it is not at hand: scores on the two are not comparable. Its order, blue
first, is also the one in which the public files read as red galaxies under the best seeing in the
last band. Seeing, and redshift, dispersion, brightness and size of the ellipticals, are such that
lenses agree with the few real ones in width and in the peak over the noise of each band, in
colour, and in how much light there is around them. The other objects are guesses: the real
non-lenses are mostly fainter and smaller, but then brightness alone would tell the class.

The other surveys see the same objects by their own cameras. Their images are fluxes in nJy, so
that colours can still be read. Seeing and depth are those of the cited releases. That they
scatter by 8 % and 0.05 magnitudes from image to image is a guess, as are the wings of the point
spread functions. Bright objects add the noise of their photons to that of the sky, whose
brightness says how many there are. From the ground, Einstein radii begin about at the seeing,
below which no candidates are found: at 1.5 arcsec in PS1 (Canameras et al. 2020, A&A 644, A163).

References:
    HSC: Aihara et al. 2019, PASJ 71, 114 (table of PDR2's Wide layer: depth, seeing of z and y);
        stars in the public cutouts are 0.40 to 0.54 arcsec wide in i, with pixels: sharper than
        the median, 0.58.
    PS1: Chambers et al. 2016, arXiv:1612.05560 (abstract: depth); Magnier et al. 2020, ApJS 251,
        3 (median FWHM); Waters et al. 2020, ApJS 251, 4 (stacks of 0.25 arcsec a pixel).
    KiDS: Kuijken et al. 2019, A&A 625, A2 (abstract: depth of 5 sigma in 2 arcsec, seeing of r;
        that of u, g and i is rounded; 0.2 arcsec a pixel).
    DES: Abbott et al. 2021, ApJS 255, 20 (abstract: FWHM, depth of 10 sigma in 1.95 arcsec;
        0.263 arcsec a pixel).
    LSST: Ivezic et al. 2019, ApJ 873, 111 (tables 1 and 2: depth of all ten years, sky, 0.2 arcsec
        a pixel; seeing is the effective width theta_eff, about the FWHM at airmass 1.2; at the
        zenith FWHM_geom = 0.822 theta_eff + 0.052 is 0.81 0.77 0.73 0.71 0.69 0.68 in u to y).
    Euclid: McCracken et al. 2025, arXiv:2503.15303 (abstract: 10 sigma in 1.3 arcsec at 25.6, FWHM
        0.16 with pixels); Cropper et al. 2025, A&A 697, A2 (0.1 arcsec a pixel, FWHM 0.13).
    HST: Koekemoer et al. 2007, ApJS 172, 196 (abstract: depth of COSMOS, one orbit of F814W);
        Scoville et al. 2007, ApJS 172, 38 (abstract: FWHM, 0.05 arcsec a pixel).
    Faber and Jackson 1976, ApJ 204, 668 (brightness and dispersion of ellipticals).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from deeplense_batch.core.job import nearest
from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.distributions import (
    AnyDistribution,
    LogNormal,
    Normal,
    NumberCounts,
    Uniform,
    Within,
)
from deeplense_batch.simulation.overrides import with_overrides
from deeplense_batch.simulation.survey.settings import (
    Camera,
    Colours,
    Field,
    Galaxy,
    Lens,
    Mimics,
    RedSequence,
    Source,
    Spiral,
    Survey,
    Visible,
)

__all__ = ["HSC", "SURVEYS", "survey_of"]

_TURN = 2 * math.pi
_BLUE = Colours(Normal(0.2, 0.2), Normal(0.1, 0.15))
_NANOJANSKY = 31.4  # magnitude of one

# Magnitudes per arcsec^2 of a dark sky at the zenith of Cerro Pachon, for every survey from the
# ground (Ivezic et al. 2019, table 2); and of the zodiacal light in space, a round value that is
# from no single paper.
_GROUND = {"u": 22.99, "g": 22.26, "r": 21.20, "i": 20.48, "z": 19.60, "y": 18.61, "Y": 18.61}
_SPACE = 22.3


def _each(scatter: float = 0.05, **values: tuple[float, ...]) -> dict[str, AnyDistribution]:
    """A Gaussian around the value of each band, whose letters are the name of the argument."""
    return {
        band: Normal(value, scatter)
        for letters, of in values.items()
        for band, value in zip(letters, of, strict=True)
    }


HSC = Survey(
    name="hsc_wide",
    version=3,
    bands=("g", "r", "i"),
    pixel_scale=0.168,
    zero_point=27.0,
    fractions={
        "elliptical": 0.35,
        "spiral": 0.25,
        "neighbours": 0.12,  # a red galaxy and blue ones around it
        "merger": 0.08,
        "ring": 0.06,
        "edge_on": 0.06,
        "group": 0.05,
        "star": 0.03,
    },
    camera=Camera(
        fwhm={
            "g": LogNormal(0.77, 0.08),
            "r": LogNormal(0.68, 0.08),
            "i": LogNormal(0.48, 0.10),
            "z": LogNormal(0.68, 0.08),
            "y": LogNormal(0.68, 0.08),
        },
        beta=Uniform(3.0, 4.8),
        flattening=Uniform(0.0, 0.05),
        depth=_each(grizy=(26.6, 26.2, 26.2, 25.3, 24.5)),
        correlation=Uniform(0.0, 0.3),
        electrons=3000.0,
        jitter=Uniform(-0.5, 0.5),
    ),
    galaxy=Galaxy(
        z=Within(Normal(0.62, 0.13), 0.2, 0.9),
        behind=Uniform(0.3, 2.0),
        sigma_v=Within(Normal(300.0, 40.0), 170.0, 380.0),
        theta_e=(0.6, 2.5),
        n=Within(Normal(4.5, 0.7), 2.0, 6.0),
        radius=LogNormal(1.15, 0.15 * math.log(10)),
        q=Uniform(0.55, 0.98),
        phi=Uniform(0.0, math.pi),
        colours=RedSequence(
            z=(0.2, 0.4, 0.6, 0.8),
            g_r=(1.2, 1.65, 1.75, 1.8),
            r_i=(0.45, 0.65, 0.95, 1.2),
            scatter=Normal(0.0, 0.07),
        ),
        m_i=-22.6,
        m_i_per_dex=-10.0,
        m_i_per_z=0.6,
    ),
    lens=Lens(
        q=Normal(0.0, 0.05),
        phi=Normal(0.0, math.radians(10)),
        q_bounds=(0.5, 0.99),
        shear=Normal(0.0, 0.03),
    ),
    source=Source(
        g=NumberCounts(0.3, 22.0, 26.0),
        colours=_BLUE,
        radius=Uniform(0.08, 0.5),
        n=Uniform(0.5, 2.0),
        q=Uniform(0.4, 1.0),
        disc=0.8,
        most_clumps=4,
        clump_sigma=Uniform(0.04, 0.10),
        clump_share=Uniform(0.03, 0.12),
    ),
    visible=Visible(
        snr=20.0,
        magnification=3.0,
        contrast=2.0,
        share=0.5,
        tries=400,
    ),
    spiral=Spiral(
        bulge=Uniform(0.05, 0.45),
        bulge_radius=Uniform(0.15, 0.35),
        length=LogNormal(0.75, 0.3),
        arms=(2, 4),
        pitch=Uniform(math.radians(10), math.radians(35)),
        colours=Colours(Normal(0.75, 0.2), Normal(0.35, 0.1)),
        contrast=Uniform(0.2, 0.8),
        arms_bluer=Uniform(0.1, 0.4),
        cos_inclination=Uniform(0.2, 1.0),
    ),
    mimics=Mimics(
        neighbours=(1, 3),
        blue=_BLUE,
        neighbour_g=NumberCounts(0.3, 21.5, 24.5),
        neighbour_distance=Uniform(1.0, 4.0),
        neighbour_radius=Uniform(0.15, 0.45),
        merger_fainter=Uniform(0.0, 1.2),
        merger_distance=Uniform(0.8, 2.6),
        merger_tails=(1, 2),
        tail_colours=Colours(Normal(0.7, 0.3), Normal(0.35, 0.15)),
        tail_share=Uniform(0.03, 0.15),
        tail_radius=Uniform(1.2, 3.0),
        tail_width=Uniform(0.12, 0.35),
        tail_opening=Uniform(0.3, 0.9),
        ring_g=NumberCounts(0.3, 20.5, 23.0),
        ring_radius=Uniform(0.8, 2.5),
        ring_width=Uniform(0.12, 0.3),
        ring_cosine=Uniform(0.35, 1.0),
        edge_on_colours=Colours(Normal(0.9, 0.2), Normal(0.42, 0.1)),
        edge_on_length=LogNormal(0.9, 0.3),
        edge_on_height=Uniform(0.12, 0.25),
        edge_on_bulge=Uniform(0.05, 0.35),
        group=(2, 4),
        group_fainter=Uniform(0.3, 2.5),
        group_distance=Uniform(1.5, 5.0),
        star_g_i=Uniform(0.2, 2.6),
    ),
    field=Field(
        density=0.033,
        margin=2.0,
        i=NumberCounts(0.33, 19.0, 26.0),
        stars=0.12,
        star_g_i=Uniform(0.4, 2.8),
        colours=Colours(Normal(0.65, 0.35), Normal(0.35, 0.25)),
        radius_at_22=LogNormal(0.42, 0.35),
        radius_per_magnitude=-0.1,
        n=Uniform(0.7, 2.5),
        q=Uniform(0.3, 1.0),
    ),
    angle=Uniform(0.0, _TURN),
    brightness_scatter=Normal(0.0, 0.4),
    core=0.01,
    core_above=2.5,
    margin=12,
    supersampling=3,
)


def _seen_by(
    name: str,
    bands: tuple[str, ...],
    pixel_scale: float,
    size: int,
    fwhm: Mapping[str, float],
    depth: Mapping[str, float],
    *,
    theta_e: tuple[float, float] = HSC.galaxy.theta_e,
    sky: Mapping[str, float] = MappingProxyType(_GROUND),
    camera: Mapping[str, Any] = MappingProxyType({}),
    **more: Any,
) -> Survey:
    """The objects of `HSC` in another survey."""
    return dataclasses.replace(
        HSC,
        name=name,
        version=1,
        bands=bands,
        pixel_scale=pixel_scale,
        size=size,
        zero_point=_NANOJANSKY,
        form="flux",
        camera=dataclasses.replace(
            HSC.camera,
            fwhm={band: LogNormal(value, 0.08) for band, value in fwhm.items()},
            depth={band: Normal(value, 0.05) for band, value in depth.items()},
            electrons=None,
            sky={band: sky[band] for band in fwhm},
            **camera,
        ),
        galaxy=dataclasses.replace(HSC.galaxy, theta_e=theta_e),
        visible=dataclasses.replace(HSC.visible, tries=10_000),  # in PS1 one in 20 is visible
        **more,
    )


_SURVEYS = (
    _seen_by(
        "ps1",
        ("g", "r", "i"),
        0.25,
        44,
        {"g": 1.31, "r": 1.19, "i": 1.11, "z": 1.07, "y": 1.02},
        {"g": 23.3, "r": 23.2, "i": 23.1, "z": 22.3, "y": 21.4},
        theta_e=(1.5, 3.0),
    ),
    _seen_by(
        "kids",
        ("g", "r", "i"),
        0.2,
        54,
        {"u": 1.0, "g": 0.9, "r": 0.7, "i": 0.8},
        {"u": 24.23, "g": 25.12, "r": 25.02, "i": 23.68},
        theta_e=(0.8, 2.5),
        camera={"aperture": 2.0},
    ),
    _seen_by(
        "des",
        ("g", "r", "i"),
        0.263,
        42,
        {"g": 1.11, "r": 0.95, "i": 0.88, "z": 0.83, "Y": 0.90},
        {"g": 24.7, "r": 24.4, "i": 23.8, "z": 23.1, "Y": 21.7},
        theta_e=(1.0, 3.0),
        camera={"aperture": 1.95, "sigmas": 10.0},
    ),
    _seen_by(
        "lsst",
        ("g", "r", "i", "z"),
        0.2,
        54,
        {"u": 0.92, "g": 0.87, "r": 0.83, "i": 0.80, "z": 0.78, "y": 0.76},
        {"u": 26.1, "g": 27.4, "r": 27.5, "i": 26.8, "z": 26.1, "y": 24.9},
        theta_e=(0.8, 2.5),
    ),
    _seen_by(
        "euclid_vis",
        ("VIS",),
        0.1,
        100,
        {"VIS": 0.13},
        {"VIS": 25.6},
        sky={"VIS": _SPACE},
        camera={"aperture": 1.3, "sigmas": 10.0, "beta": Uniform(2.0, 2.6)},
        oversampling=2,
        supersampling=2,
        margin=15,
    ),
    _seen_by(
        "hst",
        ("F814W",),
        0.05,
        160,
        {"F814W": 0.09},
        {"F814W": 27.2},
        sky={"F814W": _SPACE},
        camera={"beta": Uniform(1.8, 2.2)},
        oversampling=2,
        supersampling=1,
        margin=20,
    ),
)

# By the names that the command line takes.
SURVEYS: Mapping[str, Survey] = MappingProxyType(
    {"hsc": HSC} | {survey.name: survey for survey in _SURVEYS}
)


def survey_of(preset: str, overrides: Mapping[str, Any]) -> Survey:
    """A survey with some of its fields overridden.

    Raises:
        ShardError: There is no such survey, or a field does not exist or takes no such value.
    """
    if preset not in SURVEYS:
        raise ShardError(f"simulate: preset: got '{preset}'; {nearest(preset, SURVEYS)}")
    survey = with_overrides(SURVEYS[preset], overrides)
    return dataclasses.replace(survey, bands=survey.as_written(survey.bands))
