"""Colours of objects in every band, from those in g, r and i.

Populations are drawn in g, r and i. Their light at other wavelengths follows from that:

    ellipticals     colours by redshift of the template E
    other galaxies  straight lines in g - r and r - i, fitted to the templates Sbc, Scd and Im at
                    redshifts from 0.2 to 2; they hold to 0.24 mag in u - g and J - y, and to 0.14
                    in the others
    stars           straight lines along the stellar locus, to about 0.1 mag

which gives magnitudes at eight wavelengths. A band is one of these, and then exact, or is read
between its neighbours in a straight line in wavelength. That is simple, not photometry: a broad
band such as Euclid's VIS gets the magnitude at its mean wavelength, and no filter curve is used.

References:
    Coleman, Wu and Weedman 1980, ApJS 43, 393 (templates, as extended in GalSim 2.7, through the
    LSST filters, J 1.17-1.33 and H 1.49-1.78 um); Covey et al. 2007, AJ 134, 2398 (stars).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

__all__ = ["WAVELENGTHS", "beyond_of_galaxy", "beyond_of_red", "beyond_of_star", "in_bands"]

# Mean wavelength of a band, um. The first eight are the reference.
WAVELENGTHS = MappingProxyType(
    {
        "u": 0.367, "g": 0.483, "r": 0.622, "i": 0.755, "z": 0.869, "y": 0.971, "J": 1.250,
        "H": 1.635, "Y": 0.990, "VIS": 0.715, "F606W": 0.592, "F814W": 0.805,
    }
)  # fmt: skip
_REFERENCE = tuple(WAVELENGTHS)[:8]

# u - g, i - z, z - y, y - J, J - H of the template E at the redshifts of the first row.
_RED_Z = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
_RED = (
    (1.77, 1.98, 2.29, 2.60, 2.38, 1.95, 1.54, 0.98),
    (0.28, 0.30, 0.37, 0.40, 0.42, 0.52, 0.79, 1.08),
    (0.15, 0.20, 0.22, 0.24, 0.29, 0.32, 0.29, 0.55),
    (0.46, 0.44, 0.43, 0.42, 0.46, 0.52, 0.58, 0.65),
    (0.13, 0.21, 0.31, 0.43, 0.45, 0.47, 0.46, 0.47),
)

# The same colours of other galaxies: a constant, and what g - r and r - i add.
_GALAXY = np.array(
    (
        (0.226, 0.846, -0.610),
        (0.235, -0.319, 0.582),
        (0.272, -0.209, 0.165),
        (0.518, -0.149, -0.017),
        (0.176, -0.100, 0.383),
    )
)


def in_bands(
    bands: Sequence[str], gri: Sequence[float], beyond: Sequence[float]
) -> NDArray[np.float64]:
    """Magnitudes in bands, (B,) float64.

    Arguments:
        bands: Their names, of `WAVELENGTHS`.
        gri: Magnitudes in g, r and i.
        beyond: u - g, i - z, z - y, y - J and J - H.
    """
    g, r, i = gri
    known = dict(
        zip(_REFERENCE, [g + beyond[0], g, r, i, *(i - np.cumsum(beyond[1:]))], strict=True)
    )
    at = [WAVELENGTHS[name] for name in _REFERENCE]
    values = list(known.values())
    return np.array(
        [
            known[band] if band in known else np.interp(WAVELENGTHS[band], at, values)
            for band in bands
        ]
    )


def beyond_of_red(z: float) -> list[float]:
    """`beyond` of an old galaxy at redshift `z`."""
    return [float(np.interp(z, _RED_Z, colour)) for colour in _RED]


def beyond_of_galaxy(g_r: float, r_i: float) -> list[float]:
    """`beyond` of any other galaxy."""
    return (_GALAXY @ np.array([1.0, g_r, r_i])).tolist()


def beyond_of_star(g_i: float, r_i: float) -> list[float]:
    """`beyond` of a star of the main sequence."""
    return [min(0.6 + 1.2 * g_i, 2.6), 0.5 * r_i, 0.25 * r_i, 0.1 + 0.3 * r_i, 0.3 * r_i - 0.1]
