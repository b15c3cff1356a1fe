"""From packed values to what a network sees: stretched, clipped, normalised, resized.

**Stretch.** A value x becomes, with s = ``softening`` times the sky's sd in its band,

    linear  x
    asinh   asinh(x / s)                        Lupton, Gunn & Szalay 1999, AJ 118, 1406
    log     sign(x) log(1 + |x| / s)
    sqrt    sign(x) (sqrt(1 + |x| / s) - 1)

All are odd and rise everywhere, so that the noise of a sky about zero stays symmetric. Without a
softening, asinh and log are those for images from 0 to 1, with s = 0.05, of value 1 at 1, and a
log of 0 for negative values; sqrt is sign(x) sqrt(|x|).

**What is measured** is so on 2,048 images of the training slice at most, of the channels and
cropped as a network sees them, which stand for all (`slices.representative`). Of several sets that
are trained on together there are as many of each as an epoch draws of it, in proportion: the
statistics are those of the mixture that the network sees, and one set of large pictures counts no
more than one of small ones, but for the percentiles of ``clip``, which count pixels.

**The sky's sd** is stated or measured: of each image and band 1.4826 / sqrt(6) times the median of
|2 x(i) - x(i - 2) - x(i + 2)| along rows and columns (DER_SNR, Stoehr et al. 2008, ASPC 394, 505),
over the half of such triples whose sums are the lowest; and of those of a band the median. Second
differences take away what is smooth over five pixels, and the faint half what is bright: galaxies
that fill a cutout are no noise, as they are to a median absolute deviation. In white noise sum and
difference are independent, so that the choice changes nothing. Noise that is correlated two pixels
apart, as in drizzled images, is measured too low: by 10 % where it is white noise smoothed by a
Gaussian of 0.7 pixels, by 30 % where of one. Triples with a pixel that was filled are left out:
padding and masks give many pixels one value, which noise does not.

**Clip** keeps stretched values between two percentiles, **mean and sd** then normalise. ``per``
says whose: those of each band of the training slice; of all its bands at once, so that colours
stay; or of each image, all its bands at once. A percentile of p is the least value that p % of
the values do not exceed (`numpy.percentile` with ``method="inverted_cdf"``).

With ``photons`` all this is of observations, which a `Loader` draws of expected counts.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.core.sections.data import DataSection
from deeplense_batch.data.augment import resize
from deeplense_batch.data.shards import ShardError, SplitInfo

__all__ = ["Transform", "measure", "noise_of", "per_channel"]

_IMAGES = 2048  # that are measured at most
_BATCH = 16
_CLIPPED = 1 << 24  # values of which percentiles are taken
_UNIT_SOFTENING = 0.05  # of images from 0 to 1: where asinh and log turn from linear
_UNIT_PEAK = 2.0  # of images from 0 to 1 none is brighter, even if they were resampled
_LEAST_CONTRAST = 1e-9  # sd over mean of images that are not constant but for rounding
_FILLED = 0.01  # share of the pixels from which on one value is taken for filled
_BY_CHANCE = 10  # pixels that may have one value by chance, in small images
_COARSE = 0.1  # share of the pixels with the second most frequent value of a coarse sky
_LEAST_KNOWN = 0.1  # share of the triples without filled pixels, of which noise is measured
_DER_SNR = 1.482602 / math.sqrt(6)  # from median |2 x(i) - x(i - 2) - x(i + 2)| to sd
_LIFTED = 10  # softenings of most pixels above which a stretch lifts the sky and not the faint

_log = logging.getLogger(__name__)

Images = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Transform:
    """What happens to every image alike: observe, crop, stretch, clip, normalise, resize.

    The fields of a recipe, then what is measured on the training slice: empty before that, and
    where it is not needed.
    """

    crop: int | None
    size: int | None
    stretch: str
    mean: tuple[float, ...] = ()  # (C,), of stretched and clipped values
    sd: tuple[float, ...] = ()  # (C,)
    softening: float | None = None
    per: str = "band"
    clip: tuple[float, float] | None = None
    sky_sd: tuple[float, ...] = ()  # (C,), in units of the images; stated or measured
    limits: tuple[tuple[float, float], ...] = ()  # (C, 2), of stretched values
    photons: bool = False  # draw photon counts of the images that are expected counts

    @classmethod
    def of(cls, data: DataSection, best: Mapping[str, Any] | None = None) -> Self:
        """The transform of a recipe.

        Arguments:
            data: Of the recipe.
            best: Weights of a run, which hold what was measured.

        Raises:
            KeyError: The weights lack what the recipe needs.
        """
        made = cls(
            data.crop, data.size, data.stretch, softening=data.softening, per=data.per,
            clip=data.clip, sky_sd=data.sky_sd or (), photons=data.augment.photon_noise,
        )  # fmt: skip
        if best is None:
            return made
        made = replace(made, mean=tuple(best["mean"]), sd=tuple(best["sd"]))
        if made.softening is not None:
            made = replace(made, sky_sd=tuple(best["sky_sd"]))
        if made.clip is not None and made.per != "image":
            made = replace(made, limits=tuple((low, high) for low, high in best["limits"]))
        return made

    def stored(self) -> dict[str, Any]:
        """What was measured, as `of` reads it back from the weights of a run."""
        later = {"sky_sd": list(self.sky_sd), "limits": [list(pair) for pair in self.limits]}
        kept = {name: values for name, values in later.items() if values}
        return {"mean": list(self.mean), "sd": list(self.sd)} | kept

    @property
    def scales(self) -> tuple[float, ...]:
        """Values where the stretch turns from linear, (C,), in units of the images."""
        return tuple((self.softening or 0.0) * sd for sd in self.sky_sd)

    def __call__(self, images: Tensor) -> Tensor:
        """Turn values as packed, (B, C, H, W) float32, into what a network sees."""
        return resize(self.normalised(images), self.size)

    def normalised(self, images: Tensor) -> Tensor:
        """Values as packed, (B, C, H, W) float32, stretched, clipped, of mean 0 and sd 1.

        Of ``per`` image, one that is constant becomes NaN.
        """
        images = self.clipped(images)
        if self.per == "image":
            return _by_its_own(images, self.clip)
        if self.mean:
            mean, sd = (per_channel(v, images.device) for v in (self.mean, self.sd))
            images = (images - mean).div_(sd)
        return images

    def clipped(self, images: Tensor) -> Tensor:
        """Values as packed, (B, C, H, W) float32, stretched, and within the limits of the set."""
        images = self.stretched(images)
        if self.limits:
            low, high = (per_channel(v, images.device) for v in zip(*self.limits, strict=True))
            images = images.clamp(low, high)
        return images

    def stretched(self, images: Tensor) -> Tensor:
        """Values as packed, (B, C, H, W) float32, stretched."""
        if self.stretch == "linear":
            return images
        if self.softening is None:
            return _stretch_unit(images, self.stretch)
        return _stretch(images / per_channel(self.scales, images.device), self.stretch)


class Packed(Protocol):
    """The images that are trained on, as a `Loader` or a `Mixture` of several has them."""

    info: SplitInfo
    device: torch.device

    def representative(self, most: int, together: int) -> list[Indices]:
        """Batches of about so many images, `most` in all, that stand for all that are drawn."""

    def decoded(self, batches: Sequence[Indices]) -> Iterator[Tensor]:
        """Values as packed, and cropped, of each batch: (B, C, H, W) float32, on the device."""


def measure(transform: Transform, images: Packed) -> Transform:
    """The transform with all that it needs to know of the training slice.

    Arguments:
        transform: As the recipe has it.
        images: The training slice.

    Raises:
        ShardError: The sky has no noise, or the images no contrast, to divide by.
    """
    if transform.softening is None and transform.stretch in ("asinh", "log"):
        _warn_of_unit(transform.stretch, images)
    if transform.softening is not None and not transform.sky_sd:
        transform = replace(transform, sky_sd=_sky_sd(transform, images))
    if transform.per == "image":
        return transform
    if transform.clip is not None:
        transform = replace(transform, limits=_limits(transform, transform.clip, images))
    mean, variance = _moments(transform, images)
    if transform.per == "set":
        whole = mean.mean().expand_as(mean)
        variance = (variance + (mean - whole) ** 2).mean().expand_as(mean)
        mean = whole
    sd = variance.sqrt()
    if not bool((sd > _LEAST_CONTRAST * mean.abs()).all()):
        raise ShardError(f"{images.info.name}: a channel of the images is constant")
    return replace(transform, mean=tuple(mean.tolist()), sd=tuple(sd.tolist()))


def _warn_of_unit(stretch: str, images: Packed) -> None:
    """Say so where a stretch for images from 0 to 1 has others: it is linear, or lifts the sky."""
    batches = images.representative(_IMAGES, _BATCH)
    peaks = [packed.abs().amax((1, 2, 3)).cpu() for packed in images.decoded(batches)]
    peak = float(torch.cat(peaks).median())
    if not _UNIT_SOFTENING <= peak <= _UNIT_PEAK:
        _log.warning(
            "%s: data.stretch %s without a softening is for images from 0 to 1, and the largest "
            "value of most of these is near %.3g: softening: 3 stretches in units of their sky",
            images.info.name, stretch, peak,
        )  # fmt: skip


def _moments(transform: Transform, images: Packed) -> tuple[Tensor, Tensor]:
    """Mean and variance of the values of each band, stretched and clipped, (C,) float64."""
    batches = images.representative(_IMAGES, _BATCH)
    shape, device = (len(batches), images.info.shape[0]), images.device
    # Taken before the loop: small tensors that outlive large ones keep glibc from using the
    # memory of those again.
    means, variances = torch.empty(2, *shape, dtype=torch.float64, device=device)
    for i, packed in enumerate(images.decoded(batches)):
        values = transform.clipped(packed).double()
        torch.mean(values, (0, 2, 3), out=means[i])
        torch.var(values, (0, 2, 3), correction=0, out=variances[i])
    sizes = torch.tensor([[len(batch)] for batch in batches], device=device)
    mean = (sizes * means).sum(0) / sizes.sum()
    return mean, (sizes * (variances + (means - mean) ** 2)).sum(0) / sizes.sum()


def _limits(
    transform: Transform, clip: tuple[float, float], images: Packed
) -> tuple[tuple[float, float], ...]:
    """The percentiles of stretched values of each band, or of all bands at once, (C, 2)."""
    channels, height, width = images.info.shape
    pixels = transform.crop**2 if transform.crop else height * width
    most = min(max(_CLIPPED // (channels * pixels), 1), _IMAGES)
    batches = images.representative(most, _BATCH)
    values = np.concatenate(
        [
            transform.stretched(packed).movedim(1, 0).flatten(1).cpu().numpy()
            for packed in images.decoded(batches)
        ],
        axis=1,
    )
    if transform.per == "set":
        values = values.reshape(1, -1)
    ranks = [_rank(values.shape[1], percentile) for percentile in clip]
    found = [(float(low), float(high)) for low, high in np.partition(values, ranks)[:, ranks]]
    return tuple(found) * (channels // len(found))


def _sky_sd(transform: Transform, images: Packed) -> tuple[float, ...]:
    """Standard deviation of the sky in each band, (C,): the median of that of single images.

    Raises:
        ShardError: It is 0 in a band.
    """
    info, batches = images.info, images.representative(_IMAGES, _BATCH)
    arrays = (packed.cpu().numpy() for packed in images.decoded(batches))
    measured = [(noise_of(values), np.median(values, axis=(2, 3))) for values in arrays]
    noise, middle = (np.concatenate(of_images) for of_images in zip(*measured, strict=True))
    sds: list[float] = []
    for band, (of_band, middles) in enumerate(zip(noise.T, middle.T, strict=True)):
        known = np.isfinite(of_band)
        sd = float(np.median(of_band[known])) if known.any() else 0.0
        if not sd > 0:
            raise ShardError(
                f"{info.name}: the sky of band {band + 1} of {info.shape[0]} has no noise that "
                "could be measured, most pixels of its images are as their neighbours or were "
                "filled; state data.sky_sd, or leave out data.softening"
            )
        level, scale = float(np.median(middles[known])), sd * (transform.softening or 0.0)
        if abs(level) > _LIFTED * scale:
            _log.warning(
                "%s: in band %d of %d half of the pixels are beyond %.4g, which is %.0f times "
                "where the stretch turns from linear, %.4g: was the sky not subtracted?",
                info.name, band + 1, info.shape[0], level, abs(level) / scale, scale,
            )  # fmt: skip
        sds.append(sd)
    _log.info("sky sd by band %s", ", ".join(f"{sd:.4g}" for sd in sds))
    return tuple(sds)


def noise_of(images: Images) -> NDArray[np.float64]:
    """Standard deviation of the noise of each band of each image, by second differences.

    Arguments:
        images: (N, C, H, W), of 5 pixels or more along both sides.

    Returns:
        (N, C), in units of the images; NaN where a band is constant, or filled almost
        everywhere.
    """
    return np.array([[_noise_of(band) for band in image] for image in images])


def _noise_of(band: Images) -> float:
    """The noise of one band of an image, (H, W)."""
    if band.min() == band.max():
        return math.nan
    places, lines = (slice(None, -4), slice(2, -2), slice(4, None)), (band, band.T)
    triples = np.stack([np.concatenate([v[place].ravel() for v in lines]) for place in places])
    known = (triples != _filled(band)).all(0)
    if known.mean() < _LEAST_KNOWN:
        return math.nan
    before, middle, after = triples[:, known]
    sides = before + after
    half = len(middle) // 2
    faint = np.argpartition(middle + sides, half)[:half]
    return _DER_SNR * float(np.median(np.abs(2 * middle[faint] - sides[faint])))


def _filled(band: Images) -> float:
    """The value that pixels of a band, (H, W), were filled with; NaN where none was.

    At least twice as many pixels have it as any other. So it may be with the usual value of a sky
    that is coarse, of few values in all: there nothing is taken for filled.
    """
    values, counts = np.unique(band, return_counts=True)
    second, most = np.partition(counts, -2)[-2:]
    is_coarse = second > _COARSE * band.size
    if is_coarse or most < max(_FILLED * band.size, 2 * second + _BY_CHANCE):
        return math.nan
    return float(values[counts.argmax()])


def _by_its_own(images: Tensor, clip: tuple[float, float] | None) -> Tensor:
    """Images, (B, C, H, W), each clipped to its own percentiles, of its own mean 0 and sd 1."""
    values = images.flatten(1)
    if clip is not None:
        count = values.shape[1]
        low, high = (_rank(count, percentile) for percentile in clip)
        # The largest of the smallest, and the smallest of the largest: no image is sorted.
        least = values.topk(low + 1, largest=False, sorted=False).values.amax(1, keepdim=True)
        most = values.topk(count - high, sorted=False).values.amin(1, keepdim=True)
        values = values.clamp(least, most)
    # In float64, so that a result does not depend on how many images are at once.
    variance, mean = torch.var_mean(values.double(), 1, correction=0, keepdim=True)
    return ((values - mean.float()) / variance.sqrt().float()).view_as(images)


def _rank(count: int, percentile: float) -> int:
    """Place of a percentile among so many values in order."""
    return max(math.ceil(round(count * percentile / 100, 6)) - 1, 0)


def _stretch(x: Tensor, name: str) -> Tensor:
    """Stretch values in units of the softening, (B, C, H, W), which are overwritten."""
    if name == "asinh":
        return torch.asinh(x)
    size = x.abs()
    stretched = size.log1p_() if name == "log" else size.add_(1).sqrt_().sub_(1)
    return stretched.mul_(x.sign())


def _stretch_unit(images: Tensor, name: str) -> Tensor:
    """Stretch values from 0 to 1, (B, C, H, W); of asinh and log 1 stays 1."""
    if name == "asinh":
        return torch.asinh(images / _UNIT_SOFTENING) / math.asinh(1 / _UNIT_SOFTENING)
    if name == "log":
        return torch.log1p(images.clamp(min=0) / _UNIT_SOFTENING) / math.log1p(1 / _UNIT_SOFTENING)
    return images.abs().sqrt_().mul_(images.sign())


def per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers of the channels, (C, 1, 1) float32, on a device, to which they are sent once."""
    # What is made while a graph is traced has no values, and must not be kept.
    made = _made if torch.compiler.is_compiling() else _kept
    return made(values, device)


def _made(values: tuple[float, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # also good where there are gradients
        return torch.tensor(values, device=device)[:, None, None]


_kept = lru_cache(maxsize=64)(_made)  # to send them makes the host wait for a device
