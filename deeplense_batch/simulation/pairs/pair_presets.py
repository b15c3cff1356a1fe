"""Which pairs are simulated, as data: of which lenses, and how the inputs are made.

``iii_a``
    As set III.A of DeepLense, of which the public facts are: lenses without substructure, images
    of 150 x 150 pixels from exactly 0 to 1, noise that limits a perfect restoration to about 41 to
    42.5 dB, and inputs of 75 x 75 pixels that fit the image shrunk by a cubic kernel without
    antialiasing. Images are those of preset ``common_test_1``, whose photon counts have that noise
    (41.2 dB between an image and its expectation, 40.3 to 42.4 for nine of ten).
``iii_a_substructure``
    The same with all classes, so that one can ask what of the substructure survives.
``hsc_hst``
    A stand-in for the real pairs of III.B, 64 x 64 pixels of Hyper Suprime-Cam beside 128 x 128 of
    Hubble: one sky, of which each telescope has its own blur, pixels and noise, and frames that
    are shifted against each other by up to a pixel of the inputs (``truth/shift``).

Every preset of `simulation.presets` makes pairs too: the inputs are then those of the same
telescope with pixels of twice the width, an exposure of its own, from 0 to 1 each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deeplense_batch.simulation.distributions import Distribution, Uniform
from deeplense_batch.simulation.presets import CLASSES, PRESETS

__all__ = ["PAIR_PRESETS", "RATIO", "PairPreset", "Telescope"]

RATIO = 2  # pixels of an image along one of its input


@dataclass(frozen=True)
class Telescope:
    """What takes the inputs: a Gaussian blur and Gaussian noise of the sky."""

    fwhm: float  # of the point spread function, arcsec
    snr: Distribution  # brightest pixel without noise over the standard deviation of the sky
    shift: float  # of its frame against that of the images, at most, pixels of the inputs


@dataclass(frozen=True)
class PairPreset:
    """One kind of pairs."""

    name: str
    base: str  # preset of the images
    how: Literal["exposed", "shrunk", "telescope"]  # how inputs are made
    overrides: Mapping[str, Any] = field(default_factory=dict)  # of the base, by dotted field
    classes: tuple[str, ...] = CLASSES
    size: int = 150  # pixels along a side of an image, unless another is asked for
    telescope: Telescope | None = None


PAIR_PRESETS = {
    name: PairPreset(name=name, base=name, how="exposed") for name in PRESETS
} | {
    preset.name: preset
    for preset in (
        PairPreset(name="iii_a", base="common_test_1", how="shrunk", classes=CLASSES[:1]),
        PairPreset(name="iii_a_substructure", base="common_test_1", how="shrunk"),
        PairPreset(
            name="hsc_hst",
            base="varied",
            how="telescope",
            overrides={"pixel_scale": 0.084, "camera.psf_sigma": 0.0425},  # FWHM 0.1 arcsec
            size=128,
            # The median seeing of the i band of the Hyper Suprime-Cam survey (Aihara et al. 2018,
            # PASJ 70, S8), by which lenses are found.
            telescope=Telescope(fwhm=0.6, snr=Uniform(15.0, 40.0), shift=1.0),
        ),
    )
}  # fmt: skip
