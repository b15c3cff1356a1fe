"""Blur by a point spread function, and pixels, in the Fourier plane.

A Moffat is no product of a profile along x and one along y, so the matrix of `camera` cannot hold
it. The frame is a torus here: leave a margin around what is kept. With u, v along its axes,

    P(u, v) = (beta - 1) / (pi a^2) [1 + (q u^2 + v^2 / q) / a^2]^(-beta)
    FWHM = 2 a sqrt(2^(1 / beta) - 1)

Within the circle R^2 = q u^2 + v^2 / q lies the share 1 - (1 + R^2 / a^2)^(1 - beta) of its
light, and the integral of P^2 is (beta - 1)^2 / (pi a^2 (2 beta - 1)), one over the area of sky
whose noise disturbs the flux of a star.

The sky is sampled on the grid of `camera.fine_grid`, integrated over pixels and cut at the highest
frequency that pixels can hold; a star does not go through the fine grid at all. For pixels of
0.168 arcsec the cut is wrong by less than 4e-4 of the peak of a star at a FWHM of 0.6 arcsec, by
2e-3 at 0.48 and by 6e-3 at 0.40.

A measured kernel is light in pixels already. It is divided by the transform of a pixel, so that
both kinds are used alike.

References:
    Moffat 1969, A&A 3, 455; Trujillo et al. 2001, MNRAS 328, 977 (elliptical).
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.survey.settings import Survey

__all__ = [
    "binned",
    "described",
    "digest_of_psfs",
    "measured_psfs",
    "moffat",
    "pixels_of",
    "point_spectrum",
    "psf_spectrum",
    "shape_of_kernel",
    "sky_spectrum",
    "spectrum_of_kernel",
]

_ZOOM = 8  # parts of a pixel when the shape of a kernel is measured


def moffat(x: Tensor, y: Tensor, fwhm: Tensor, beta: Tensor, q: Tensor, phi: Tensor) -> Tensor:
    """Moffat profile of total one.

    Arguments:
        x, y: Position, broadcastable float, arcsec.
        fwhm: Full width at half maximum, geometric mean of both axes, broadcastable, arcsec.
        beta: Steepness of the wings, above 1, broadcastable.
        q: Axis ratio, broadcastable in (0, 1].
        phi: Direction of the major axis from x, broadcastable, rad.

    Returns:
        Broadcast float, per arcsec^2.
    """
    a = _scale(fwhm, beta)
    cos, sin = torch.cos(phi), torch.sin(phi)
    u, v = cos * x + sin * y, cos * y - sin * x
    squared = (q * u * u + v * v / q) / a**2
    return (beta - 1) / (math.pi * a**2) * torch.exp(-beta * torch.log1p(squared))


def psf_spectrum(
    size: int, pixel_scale: float, *, fwhm: Tensor, beta: Tensor, q: Tensor, phi: Tensor
) -> Tensor:
    """Transform of Moffat kernels of total one on a torus.

    Arguments:
        size: Pixels along a side of the torus.
        pixel_scale: Their width, arcsec.
        fwhm, beta, q, phi: As in `moffat`, (B,).

    Returns:
        (B, size, size // 2 + 1) complex, one at frequency zero.
    """
    offset = torch.fft.fftfreq(size, dtype=fwhm.dtype) * (size * pixel_scale)
    fwhm, beta, q, phi = (v[:, None, None] for v in (fwhm, beta, q, phi))
    kernel = moffat(offset[None, None, :], offset[None, :, None], fwhm, beta, q, phi)
    return torch.fft.rfft2(kernel / kernel.sum((1, 2), keepdim=True))


@lru_cache(maxsize=4)
def measured_psfs(path: str, bands: int) -> tuple[NDArray[np.float64], ...]:
    """Measured kernels, each (bands, K, K) float64 of total one, in the order of their files.

    Arguments:
        path: FITS file, or folder of files whose names end in ``.fits`` or ``.fits.gz``. The first
            image in a file is one kernel, (K, K), for all bands, or (bands, K, K), one for each.
        bands: Their number.

    Raises:
        ShardError: There is no such file, or a kernel is not square, odd, finite and above zero in
            total, or not one for each band.
    """
    place = Path(path).expanduser()
    files = (
        [place] if place.is_file() else sorted([*place.glob("*.fits"), *place.glob("*.fits.gz")])
    )
    if not files:
        raise ShardError(f"simulate: camera.psf: {path}: no FITS file there")
    return tuple(_kernel(file, bands) for file in files)


def _kernel(file: Path, bands: int) -> NDArray[np.float64]:
    """The kernel of one file, as in `measured_psfs`."""
    try:
        from astropy.io import fits  # an extra: pip install deeplense-batch[fits]

        with fits.open(file) as units:
            images = (unit.data for unit in units if getattr(unit, "is_image", False))
            data = next((image for image in images if image is not None), None)
    except ImportError as error:
        raise ShardError(
            "simulate: camera.psf: FITS files need astropy: pip install deeplense-batch[fits]"
        ) from error
    except OSError as error:
        raise ShardError(f"simulate: camera.psf: {file}: {error}") from error
    if data is None or data.ndim not in (2, 3):
        raise ShardError(f"simulate: camera.psf: {file}: no image of two or three axes")
    kernel = np.asarray(data, np.float64)
    kernel = np.broadcast_to(kernel, (bands, *kernel.shape)) if kernel.ndim == 2 else kernel
    size = kernel.shape[-1]
    if kernel.shape != (bands, size, size) or size % 2 == 0:
        raise ShardError(
            f"simulate: camera.psf: {file}: {' x '.join(map(str, data.shape))}; expected K x K, "
            f"or {bands} x K x K for {bands} bands, with an odd K"
        )
    total = kernel.sum((1, 2), keepdims=True)
    if not np.isfinite(kernel).all() or (total <= 0).any():
        raise ShardError(
            f"simulate: camera.psf: {file}: its light should be finite, and above 0 in total"
        )
    return kernel / total


def digest_of_psfs(path: str, bands: int) -> str:
    """What tells two sets of measured kernels apart, wherever their files lie."""
    found = hashlib.sha256()
    for kernel in measured_psfs(path, bands):
        found.update(kernel.tobytes())
    return found.hexdigest()[:16]


def described(survey: Survey) -> dict[str, Any]:
    """All of a survey that an image depends on, as JSON: measured kernels by their digest."""
    laws, psf = survey.described(), survey.camera.psf
    if psf is not None:
        laws["laws"]["camera"]["psf"] = digest_of_psfs(psf, len(survey.bands))
    return laws


def spectrum_of_kernel(kernel: NDArray[np.float64], size: int) -> Tensor:
    """Transform of measured kernels on a torus, as `psf_spectrum` gives it.

    Arguments:
        kernel: Light in pixels, (B, K, K), its middle that of the kernel; K is at most `size`.
        size: Pixels along a side of the torus.
    """
    bands, side, _ = kernel.shape
    torus = np.zeros((bands, size, size))
    torus[:, :side, :side] = kernel
    torus = np.roll(torus, (-(side // 2), -(side // 2)), (1, 2))
    pixel = torch.sinc(torch.fft.fftfreq(size, dtype=torch.float64))
    along = torch.sinc(torch.fft.rfftfreq(size, dtype=torch.float64))
    return torch.fft.rfft2(torch.from_numpy(torus)) / (pixel[:, None] * along)


def shape_of_kernel(
    kernel: NDArray[np.float64], pixel_scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """FWHM (arcsec), axis ratio and direction (rad) of measured kernels, (B,) each.

    Pixels are divided by cubic splines. The width is that of a circle as large as what lies above
    half of the peak, the shape that of the second moments of this area.
    """
    bright = np.argwhere((kernel > 0.1 * kernel.max((1, 2), keepdims=True)).any(0))
    rows, columns = (
        np.linspace(first - 2, last + 2, (last - first + 4) * _ZOOM + 1)
        for first, last in zip(bright.min(0), bright.max(0), strict=True)
    )
    at = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    fine = np.stack([map_coordinates(one, at, order=3) for one in kernel])
    core = fine > fine.max((1, 2), keepdims=True) / 2
    area = core.sum((1, 2)) / _ZOOM**2  # pixels
    y, x = ((core * v).sum((1, 2)) / core.sum((1, 2)) for v in at)
    dy, dx = (v - middle[:, None, None] for v, middle in zip(at, (y, x), strict=True))
    xx, yy, xy = ((core * u * v).sum((1, 2)) for u, v in ((dx, dx), (dy, dy), (dx, dy)))
    spread, mean = np.hypot((xx - yy) / 2, xy), (xx + yy) / 2
    q = np.sqrt((mean - spread) / (mean + spread))
    fwhm = 2 * np.sqrt(area / math.pi) * pixel_scale
    return fwhm, q, np.arctan2(2 * xy, xx - yy) / 2


def sky_spectrum(sky: Tensor, supersampling: int, pixel_scale: float) -> Tensor:
    """Transform of a finely sampled sky, integrated over pixels.

    Arguments:
        sky: Brightness, (B, H, H) float with H = size supersampling, per arcsec^2.
        supersampling: Samples along a side of a pixel.
        pixel_scale: Width of a pixel, arcsec.

    Returns:
        (B, size, size // 2 + 1) complex: of the flux in pixels.
    """
    fine = sky.shape[-1]
    size = fine // supersampling
    assert fine == size * supersampling
    whole = torch.fft.rfft2(sky)[..., : size // 2 + 1]
    half = size // 2
    kept = torch.cat([whole[..., : size - half, :], whole[..., fine - half :, :]], -2)
    # Samples are of a smooth sky, so that integration is a product here; pixel i starts with
    # sample i supersampling, and its middle is half the others further on.
    frequency = torch.fft.fftfreq(size, dtype=sky.dtype)
    turns = math.pi * (1 - 1 / supersampling) * frequency
    rows = torch.polar(torch.sinc(frequency), turns)
    columns = rows[: half + 1].clone()
    if size % 2 == 0:
        columns[half] = rows[half].conj()  # the real transform counts its last frequency upwards
    return kept * (rows[:, None] * columns) * (pixel_scale / supersampling) ** 2


def point_spectrum(x: float, y: float, size: int, pixel_scale: float) -> Tensor:
    """Transform of a point of flux one, integrated over pixels, wherever it lies between them.

    Arguments:
        x, y: Its position from the middle of the frame, arcsec.
        size: Pixels along a side of the torus.
        pixel_scale: Their width, arcsec.

    Returns:
        (size, size // 2 + 1) complex128.
    """

    def axis(position: float, frequency: Tensor) -> Tensor:
        turns = -2 * math.pi * frequency * (position / pixel_scale + (size - 1) / 2)
        return torch.polar(torch.sinc(frequency), turns)

    rows = torch.fft.fftfreq(size, dtype=torch.float64)
    columns = torch.fft.rfftfreq(size, dtype=torch.float64)
    return axis(y, rows)[:, None] * axis(x, columns)


def pixels_of(spectrum: Tensor) -> Tensor:
    """Back from the Fourier plane: (..., size, size // 2 + 1) complex to (..., size, size)."""
    size = spectrum.shape[-2]
    return torch.fft.irfft2(spectrum, s=(size, size))


def binned(pixels: Tensor, by: int) -> Tensor:
    """Sum squares of ``by`` x ``by`` pixels: (..., H, W) to (..., H / by, W / by)."""
    if by == 1:
        return pixels
    height, width = pixels.shape[-2:]
    return pixels.unflatten(-1, (width // by, by)).unflatten(-3, (height // by, by)).sum((-3, -1))


def _scale(fwhm: Tensor, beta: Tensor) -> Tensor:
    return fwhm / (2 * torch.sqrt(2 ** (1 / beta) - 1))
