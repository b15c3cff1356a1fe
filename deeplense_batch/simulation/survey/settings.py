"""What is simulated for lens finding, as data: lenses among other objects in a wide survey.

Cutouts of 64 x 64 pixels in three bands, as from the coadds of Hyper Suprime-Cam's Wide layer, in
the form and the proportions of the public set of DeepLense (Test II), which is made of real
images. This one replaces it where it is not at hand: scores on the two are not comparable.

Magnitudes are AB, angles on the sky arcsec, directions rad counted from x towards y, colours and
bands in the order of `BANDS`. That order, blue first, is also the one in which the public files
read as red galaxies under the best seeing in the last band.

Depth is the survey's. Seeing, and redshift, dispersion, brightness and size of the ellipticals,
are such that lenses agree with the few real ones in width and in the peak over the noise of each
band, in colour, and in how much light there is around them. The other objects are guesses: the
real non-lenses are mostly fainter and smaller, but then brightness alone would tell the class.

References:
    Aihara et al. 2019, PASJ 71, 114, and 2022, PASJ 74, 247 (the survey); Faber and Jackson 1976,
    ApJ 204, 668 (brightness and dispersion of ellipticals).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from deeplense_batch.simulation.distributions import Normal, Uniform, as_json
from deeplense_batch.simulation.survey.distributions import (
    AnyDistribution,
    LogNormal,
    NumberCounts,
    Within,
)

__all__ = [
    "BANDS",
    "CLASSES",
    "FRACTIONS",
    "KINDS",
    "PIXEL_SCALE",
    "SHAPE",
    "SURVEY",
    "ZERO_POINT",
    "Camera",
    "Colours",
    "Field",
    "Galaxy",
    "Lens",
    "Mimics",
    "RedSequence",
    "Source",
    "Spiral",
    "Survey",
    "Visible",
    "described",
]

CLASSES = ("nonlenses", "lenses")  # the order in which the public folders are read
BANDS = ("g", "r", "i")
SHAPE = (3, 64, 64)
PIXEL_SCALE = 0.168
ZERO_POINT = 27.0  # magnitude of one count

# What a non-lens is.
FRACTIONS: Mapping[str, float] = MappingProxyType(
    {
        "elliptical": 0.35,
        "spiral": 0.25,
        "neighbours": 0.12,  # a red galaxy and blue ones around it
        "merger": 0.08,
        "ring": 0.06,
        "edge_on": 0.06,
        "group": 0.05,
        "star": 0.03,
    }
)

# The number of a kind in the truth of an image.
KINDS = ("lens", *FRACTIONS)

_TURN = 2 * math.pi


@dataclass(frozen=True)
class Camera:
    """Atmosphere, detector and coadd; one distribution a band where there are three.

    The sky's sd follows in each image from its depth and its own seeing (`noise`). Before the
    exposures were resampled that noise would be the photons of a sky of 21.7, 20.6 and 19.9
    magnitudes per arcsec^2, at three thousand electrons a count. The images are sharper than the
    survey's median, 0.77, 0.76 and 0.58, in r and i: stars in the real cutouts are 0.40 to 0.54
    wide in i, with pixels, and the lenses are as sharp as those.
    """

    fwhm: tuple[AnyDistribution, ...]
    beta: AnyDistribution
    flattening: AnyDistribution  # 1 - q of the point spread function
    depth: tuple[AnyDistribution, ...]  # magnitude of a point of 5 sigma
    # Of the noise of a pixel with that of the next one: coadds are resampled exposures.
    correlation: AnyDistribution
    electrons: float  # in a count
    jitter: AnyDistribution  # of the object from the centre, pixels, along each axis


@dataclass(frozen=True)
class RedSequence:
    """Colours of old galaxies by redshift, between the given ones in a straight line."""

    z: tuple[float, ...]
    g_r: tuple[float, ...]
    r_i: tuple[float, ...]
    scatter: AnyDistribution


@dataclass(frozen=True)
class Colours:
    """g - r and r - i of other galaxies."""

    g_r: AnyDistribution
    r_i: AnyDistribution


@dataclass(frozen=True)
class Galaxy:
    """Massive elliptical. The lens of every lens and the red galaxy of every non-lens is one."""

    z: AnyDistribution
    behind: AnyDistribution  # z_s - z_l of what it would lens
    sigma_v: AnyDistribution  # km/s
    theta_e: tuple[float, float]  # others are drawn again
    n: AnyDistribution
    radius: AnyDistribution
    q: AnyDistribution
    phi: AnyDistribution
    colours: RedSequence
    m_i: float  # absolute magnitude in i at 220 km/s
    m_i_per_dex: float  # L ~ sigma_v^4
    m_i_per_z: float  # bandpass and age together


@dataclass(frozen=True)
class Lens:
    """Mass of a lens: an isothermal ellipsoid, like its light but for a scatter, and shear."""

    q: AnyDistribution  # added to that of the light
    phi: AnyDistribution
    q_bounds: tuple[float, float]
    shear: AnyDistribution  # of each component, so that the modulus is Rayleigh's


@dataclass(frozen=True)
class Source:
    """What is lensed: a blue Sersic galaxy with clumps."""

    g: AnyDistribution  # unlensed
    colours: Colours
    radius: AnyDistribution
    n: AnyDistribution
    q: AnyDistribution
    disc: float  # it lies uniformly in a disc of this many Einstein radii
    most_clumps: int
    clump_sigma: AnyDistribution
    clump_share: AnyDistribution  # of the light


@dataclass(frozen=True)
class Visible:
    """How visible the source of a lens must be; a fainter one is drawn again."""

    snr: float  # of the lensed source in g, in the pixels where it is above one sd
    magnification: float
    contrast: float  # brightest pixel of the lensed source over the sd of the sky, in g
    # Of the light in g, where it is largest among the pixels of that contrast: who labelled the
    # real images by eye did not see what drowns in the galaxy in front.
    share: float
    tries: int


@dataclass(frozen=True)
class Spiral:
    """Bulge, disc and arms, seen at random."""

    bulge: AnyDistribution  # of the light in i
    bulge_radius: AnyDistribution  # in scale lengths
    length: AnyDistribution
    arms: tuple[int, int]
    pitch: AnyDistribution
    colours: Colours  # of the disc
    contrast: AnyDistribution  # share of the disc that is in its arms
    arms_bluer: AnyDistribution  # in g - r; half of that in r - i
    cos_inclination: AnyDistribution


@dataclass(frozen=True)
class Mimics:
    """Whatever else may be taken for an arc, around the red galaxy of a non-lens."""

    neighbours: tuple[int, int]
    blue: Colours  # neighbours and rings
    neighbour_g: AnyDistribution
    neighbour_distance: AnyDistribution
    neighbour_radius: AnyDistribution
    merger_fainter: AnyDistribution  # second nucleus, magnitudes
    merger_distance: AnyDistribution
    merger_tails: tuple[int, int]
    tail_colours: Colours
    tail_share: AnyDistribution  # of the light in i
    tail_radius: AnyDistribution
    tail_width: AnyDistribution
    tail_opening: AnyDistribution
    ring_g: AnyDistribution
    ring_radius: AnyDistribution
    ring_width: AnyDistribution  # in radii
    ring_cosine: AnyDistribution
    edge_on_colours: Colours
    edge_on_length: AnyDistribution
    edge_on_height: AnyDistribution  # in scale lengths
    edge_on_bulge: AnyDistribution
    group: tuple[int, int]  # companions
    group_fainter: AnyDistribution
    group_distance: AnyDistribution
    star_g_i: AnyDistribution


@dataclass(frozen=True)
class Field:
    """Unrelated objects, in the frames of both classes alike."""

    density: float  # per arcsec^2, down to the faintest
    margin: float  # how far outside the frame they are drawn too, arcsec
    i: AnyDistribution
    stars: float  # of them
    star_g_i: AnyDistribution
    colours: Colours
    radius_at_22: AnyDistribution
    radius_per_magnitude: float  # dex
    n: AnyDistribution
    q: AnyDistribution


@dataclass(frozen=True)
class Survey:
    """All settings of the set."""

    name: str
    version: int  # goes up with every change that changes an image
    camera: Camera
    galaxy: Galaxy
    lens: Lens
    source: Source
    visible: Visible
    spiral: Spiral
    mimics: Mimics
    field: Field
    angle: AnyDistribution
    # By how much other objects differ from the red galaxy whose magnitude they borrow, so that
    # brightness tells nothing.
    brightness_scatter: AnyDistribution
    core: float  # of a cusp, arcsec: its flux is held by samples to 1%
    core_above: float  # Sersic index from which samples need that
    margin: int  # pixels around the frame, cut off after the blur
    supersampling: int


_BLUE = Colours(Normal(0.2, 0.2), Normal(0.1, 0.15))

SURVEY = Survey(
    name="hsc_wide",
    version=3,
    camera=Camera(
        fwhm=(
            LogNormal(0.77, 0.08),
            LogNormal(0.68, 0.08),
            LogNormal(0.48, 0.10),
        ),
        beta=Uniform(3.0, 4.8),
        flattening=Uniform(0.0, 0.05),
        depth=(Normal(26.6, 0.05), Normal(26.2, 0.05), Normal(26.2, 0.05)),
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


def described() -> dict[str, object]:
    """All of this file that an image depends on, as JSON."""
    return {
        "bands": list(BANDS),
        "pixel_scale": PIXEL_SCALE,
        "zero_point": ZERO_POINT,
        "fractions": dict(FRACTIONS),
        "laws": as_json(SURVEY),
    }
