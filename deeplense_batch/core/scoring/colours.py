"""An image as a picture: the faint parts lifted, as eyes want them.

Three bands make colour, others a grey of the first one. All bands of a pixel are lifted by one
factor, so that hues stay (Lupton et al. 2004, PASP 116, 133).

Values within 0 and 1, and bytes, are pictures already: each band is scaled on its own, as in the
public set. Other values are taken for flux: the sky of each band, its median, is black, the
sd of its noise says where lifting begins, and one scale holds for all bands, by the brightest of
a pixel, so that colours are those of the light up to the core of a galaxy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rgb", "stretched"]

Rgb = tuple[int, int, int]  # channels that are red, green and blue

_SOFTENING = 0.1  # of the range: where asinh turns from linear
_WHITE = 0.998  # share of the pixels below white: one hot pixel must not darken a picture
_BLACK, _SKY = 0.02, 0.5  # share below black; in colour the noise of the sky would be all colours
_NOISE = 3.0  # sd of the sky where asinh turns from linear, of flux
_FAINTEST_WHITE = 30.0  # sd of the sky: an empty field stays dark
_CLIP = 3.0  # sd beyond which a pixel is no sky
_ROUNDS = 10  # of clipping

Array = NDArray[np.float64]


def stretched(
    image: NDArray, like: Sequence[NDArray] = (), rgb: Rgb | None = None
) -> NDArray[np.float64]:
    """Make a picture of an image.

    Arguments:
        image: Values, (C, H, W), of any type and scale.
        like: Images whose black and white are used, each (C, H, W); by default its own.
        rgb: Channels that are red, green and blue; by default the last, the middle and the first
            of three, since bands are stored from short waves to long, and the first of others.

    Returns:
        (H, W, 3) in colour, else (H, W); in [0, 1].
    """
    shown = list(rgb) if rgb else [2, 1, 0] if len(image) == 3 else [0]
    values = image[shown].astype(np.float64)
    scale = np.concatenate([one[shown] for one in like], axis=1) if len(like) else values
    scale = scale.astype(np.float64)
    is_picture = image.dtype == np.uint8 or (scale.min() >= 0 and scale.max() <= 1)
    picture = (_lifted_range if is_picture else _lifted_flux)(values, scale)
    return picture.transpose(1, 2, 0) if len(shown) == 3 else picture[0]


def _lifted_range(values: Array, scale: Array) -> Array:
    """A picture, each band from its own black to its own white."""
    black, white = (
        np.quantile(scale, share, axis=(1, 2), keepdims=True)
        for share in (_SKY if len(values) == 3 else _BLACK, _WHITE)
    )
    values = np.clip((values - black) / np.maximum(white - black, 1e-12), 0, None)
    intensity = values.mean(0)
    lifted = np.arcsinh(intensity / _SOFTENING) / math.asinh(1 / _SOFTENING)
    return np.clip(values * (lifted / np.maximum(intensity, 1e-12)), 0, 1)


def _lifted_flux(values: Array, scale: Array) -> Array:
    """Flux above the sky, on one scale for all bands; what is too bright keeps its hue."""
    skies = [_sky(band) for band in scale]
    sky = np.array([level for level, _ in skies])[:, None, None]
    noise = float(np.mean([sd for _, sd in skies]))
    bright = float(np.quantile((scale - sky).max(0), _WHITE))
    white = max(bright, _FAINTEST_WHITE * noise) or 1.0
    soft = _NOISE * noise or _SOFTENING * white
    values = np.clip(values - sky, 0, None)
    brightest = values.max(0)
    lifted = np.minimum(np.arcsinh(brightest / soft) / math.asinh(white / soft), 1)
    return values * (lifted / np.maximum(brightest, 1e-12 * white))


def _sky(band: Array) -> tuple[float, float]:
    """Level of the sky and sd of its noise: median and sd of the pixels that are no light.

    They are found by clipping again and again (as in SExtractor; Bertin and Arnouts 1996, A&AS
    117, 393).
    """
    kept = band[np.isfinite(band)]
    for _ in range(_ROUNDS):
        level, sd = float(np.median(kept)), float(kept.std())
        near = kept[np.abs(kept - level) <= _CLIP * sd]
        if len(near) == len(kept):
            break
        kept = near
    return level, sd
