"""How well the smooth lens behind an image was recovered: errors of its fields, and scores.

Deflections are compared within two Einstein radii of the true lens, where the images are; beyond
them nothing is known of it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.lensing.macro import macro_convergence, macro_deflection, pixel_grid

__all__ = ["convergence_correlation", "deflection_square", "recovery_scores", "source_moment"]

_REACH = 2.0  # Einstein radii, within which fields are compared
_CORE = 2.0  # pixels around the middle of the lens, left out where convergences are compared
_NMAD = 1.4826  # sd of a normal distribution over its median absolute deviation


def deflection_square(deflection: Tensor, lens: Tensor) -> Tensor:
    """Mean |alpha - alpha_true|^2 within 2 theta_E of each lens.

    Arguments:
        deflection: alpha_x, alpha_y, (B, 2, H, H) float, half frames.
        lens: The true seven numbers (`macro`), (B, 7) float, half frames.

    Returns:
        (B,) float, half frames squared.
    """
    x, y = pixel_grid(deflection.shape[-1], lens)
    square = (deflection - macro_deflection(lens, x, y)).square().sum(1)
    inside = _distance(lens, x, y) < _REACH * lens[:, 0, None, None]
    return (square * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)


def convergence_correlation(predicted: Tensor, lens: Tensor, size: int) -> Tensor:
    """Correlation of kappa of two lenses within 2 theta_E of the true one, outside its core.

    Arguments:
        predicted: Seven numbers of the lens that was found, (B, 7) float, half frames.
        lens: Those of the true one, (B, 7) float, half frames.
        size: Pixels along a side of the frame.

    Returns:
        (B,) float.
    """
    x, y = pixel_grid(size, lens)
    distance = _distance(lens, x, y)
    used = (distance > 2 * _CORE / size) & (distance < _REACH * lens[:, 0, None, None])
    fields = []
    for numbers in (predicted, lens):
        field = macro_convergence(numbers, x, y)
        mean = (field * used).sum((1, 2), keepdim=True) / used.sum((1, 2), keepdim=True)
        fields.append((field - mean) * used)
    a, b = (field.flatten(1) for field in fields)
    return F.cosine_similarity(a, b, dim=1)


def source_moment(images: Tensor, deflection: Tensor, theta_e: Tensor) -> Tensor:
    """Second moment, over theta_E^2, of where the light came from in the source plane.

    Light is what is brighter than the edges of the frame. The theta_E that it is measured by gets
    no gradient, or a larger lens would do.

    Arguments:
        images: (B, C, H, H) float.
        deflection: alpha_x, alpha_y, (B, 2, H, H) float, half frames.
        theta_e: (B,) float, half frames.

    Returns:
        (B,) float.
    """
    image = images.mean(1)
    edges = [image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]]
    light = F.relu(image - torch.cat(edges, 1).mean(1)[:, None, None])
    light = light / light.sum((1, 2), keepdim=True).clamp_min(1e-6)
    x, y = pixel_grid(image.shape[-1], image)
    moment = torch.zeros_like(light[:, 0, 0])
    for beta in (x - deflection[:, 0], y - deflection[:, 1]):
        middle = (light * beta).sum((1, 2), keepdim=True)
        moment = moment + (light * (beta - middle).square()).sum((1, 2))
    return moment / theta_e.detach().square()


def recovery_scores(
    theta_e: NDArray[np.floating],
    true_theta_e: NDArray[np.floating],
    squares: NDArray[np.floating],
    squares_of_mean: NDArray[np.floating],
    correlations: NDArray[np.floating],
) -> dict[str, float | None]:
    """Scores of the lenses of a slice.

    Arguments:
        theta_e: Einstein radii that were found, (N,), arcsec.
        true_theta_e: The true ones, (N,), arcsec.
        squares: `deflection_square` of the lenses, (N,), arcsec squared.
        squares_of_mean: The same, had the mean lens of the training slice been found in all.
        correlations: `convergence_correlation`, (N,).

    Returns:
        By name; lengths in arcsec, bias and NMAD of the Einstein radius relative to it.
        ``deflection_gain`` is how many times better than the mean lens, None without any error.
    """
    true = true_theta_e.astype(np.float64)
    off = theta_e - true
    relative = off / true
    deviation = np.median(np.abs(relative - np.median(relative)))
    error, error_of_mean = (
        float(np.sqrt(values.mean(dtype=np.float64))) for values in (squares, squares_of_mean)
    )
    return {
        "deflection_error": error,
        "deflection_error_of_mean": error_of_mean,
        "deflection_gain": error_of_mean / error if error else None,
        "einstein_radius_error": float(np.median(np.abs(off))),
        "einstein_radius_bias": float(np.median(relative)),
        "einstein_radius_nmad": float(_NMAD * deviation),
        "convergence_correlation": float(correlations.mean(dtype=np.float64)),
    }


def _distance(lens: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """From the middle of each lens, (B, H, W), half frames."""
    return torch.hypot(x - lens[:, 3, None, None], y - lens[:, 4, None, None])
