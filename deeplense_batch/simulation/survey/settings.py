"""What a simulated survey is made of: its camera, its populations of objects, its images.

Magnitudes are AB, angles on the sky arcsec, directions rad counted from x towards y. What is a
law of each band is a mapping by the band's name, and may name more bands than the images have.
`presets` holds the values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.formats.filters import band_as_written
from deeplense_batch.simulation.distributions import AnyDistribution, as_json

__all__ = [
    "CLASSES",
    "KINDS",
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
]

CLASSES = ("nonlenses", "lenses")  # the order in which the public folders are read

# The number of a kind in the truth of an image.
KINDS = (
    "lens",
    "elliptical",
    "spiral",
    "neighbours",
    "merger",
    "ring",
    "edge_on",
    "group",
    "star",
)

# Of fields that sets made before them lack: left out of their description at the default.
NEW = {"new": True}

_OF_BANDS = ("fwhm", "depth", "sky")  # fields of a camera that are mappings by band


@dataclass(frozen=True)
class Camera:
    """Atmosphere or telescope, detector and coadd.

    The sky's sd follows in each image from its depth and its own seeing (`noise`).
    """

    fwhm: dict[str, AnyDistribution]
    beta: AnyDistribution
    flattening: AnyDistribution  # 1 - q of the point spread function
    depth: dict[str, AnyDistribution]  # magnitude of `sigmas` times the noise
    # Of the noise of a pixel with that of the next one: coadds are resampled exposures.
    correlation: AnyDistribution
    electrons: float | None  # in a count; None: as many as make the noise that of `sky`
    jitter: AnyDistribution  # of the object from the centre, pixels, along each axis
    sky: dict[str, float] | None = field(default=None, metadata=NEW)  # magnitudes per arcsec^2
    sigmas: float = field(default=5.0, metadata=NEW)
    # Diameter of the circle whose noise `depth` is of, arcsec; None: of PSF flux.
    aperture: float | None = field(default=None, metadata=NEW)
    # FITS file of measured kernels, or folder of such files, in place of Moffats (`psf`).
    psf: str | None = field(default=None, metadata=NEW)


@dataclass(frozen=True)
class RedSequence:
    """Colours of old galaxies by redshift, between the given ones in a straight line.

    Those beyond g, r and i are in `colours`.
    """

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

    snr: float  # of the lensed source in one band, in the pixels where it is above one sd
    magnification: float
    contrast: float  # brightest pixel of the lensed source over the sd of the sky, in that band
    # Of the light in that band, where it is largest among the pixels of that contrast: who
    # labelled the real images by eye did not see what drowns in the galaxy in front.
    share: float
    tries: int
    # The band; None is g where the images have it, otherwise their first one.
    band: str | None = field(default=None, metadata=NEW)


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
    """All settings of a set."""

    name: str
    version: int  # goes up with every change that changes an image
    bands: tuple[str, ...]  # of the images, in their order
    pixel_scale: float
    zero_point: float  # magnitude of one count
    fractions: dict[str, float]  # what a non-lens is
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
    supersampling: int  # samples of the sky along a side of a pixel of the blur
    size: int = dataclasses.field(default=64, metadata=NEW)  # pixels along a side of an image
    # Pixels of the blur along a side of a pixel of the image, for a point spread function that
    # the pixels of the image would undersample.
    oversampling: int = dataclasses.field(default=1, metadata=NEW)
    # public: each band by itself from 0 to 1, as in the public set. flux: counts over the sky.
    form: Literal["public", "flux"] = dataclasses.field(default="public", metadata=NEW)

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of an image."""
        return len(self.bands), self.size, self.size

    @property
    def padded(self) -> int:
        """Pixels along a side of an image with the margin on both sides."""
        return self.size + 2 * self.margin

    @property
    def fine_scale(self) -> float:
        """Width of a pixel of the blur, arcsec."""
        return self.pixel_scale / self.oversampling

    @property
    def half(self) -> float:
        """Half of the side of an image, arcsec."""
        return self.size / 2 * self.pixel_scale

    @property
    def seen_in(self) -> int:
        """Number of the band in which arcs have to be visible."""
        usual = "g" if "g" in self.bands else self.bands[0]
        return self.bands.index(self.visible.band or usual)

    def as_written(self, bands: Iterable[str]) -> tuple[str, ...]:
        """Bands by the names of the camera's: g for G and HSC-G; others as they are."""
        return tuple(band_as_written(band, self.camera.fwhm) or band for band in bands)

    def counts(self, magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Counts of magnitudes."""
        return 10 ** (-0.4 * (magnitudes - self.zero_point))

    def magnitudes(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Magnitudes of counts above zero."""
        return self.zero_point - 2.5 * np.log10(counts)

    def described(self) -> dict[str, Any]:
        """All that an image depends on, as JSON; laws of the bands in the order of the bands."""
        laws = as_json(self)
        apart = {
            name: laws.pop(name) for name in ("bands", "pixel_scale", "zero_point", "fractions")
        }
        camera = laws["camera"]
        for name in _OF_BANDS:
            if camera.get(name) is not None:
                camera[name] = [camera[name][band] for band in self.bands]
        return apart | {"laws": laws}
