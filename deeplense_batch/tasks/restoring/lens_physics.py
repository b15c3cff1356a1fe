"""What of the lens an image keeps: its ring, flux, power at every size, and its peaks.

Channels are averaged. The truth is the image without noise where that is known.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring.images.peaks import peaks_without_partner
from deeplense_batch.core.scoring.images.rings import einstein_radii
from deeplense_batch.core.scoring.images.spectra import power_spectra
from deeplense_batch.tasks.task import Arrays, Scores

__all__ = ["PEAK_SD", "above_noise", "measure", "summary"]

PEAK_SD = 3.0  # of the noise: by how much a peak has to exceed all that is near in the other image
_NO_POWER = 1e-30
_LEAST_FLUX = 1e-3  # of the mean |flux|: a truth below it has no relative error

Floats = NDArray[np.float64]


def measure(
    made: Mapping[str, NDArray[np.float32]], truth: NDArray[np.float32], noise_sd: float
) -> dict[str, NDArray[np.float32]]:
    """Measure images and the truth.

    Arguments:
        made: (N, C, H, W) in units of the set, by what made them.
        truth: (N, C, H, W).
        noise_sd: Of the channels' mean, in units of the set; 0 where there is none.

    Returns:
        ``ring_<of>`` (pixels, NaN without a ring), ``flux_<of>`` (N,) and ``power_<of>`` (N, K) of
        ``truth`` and of all that was made; of these ``invented_<of>``, peaks that the truth lacks,
        and ``lost_<of>``, peaks of the truth that they lack, (N,), unless there is no noise.
    """
    flat = {name: images.mean(1) for name, images in {"truth": truth, **made}.items()}
    found: dict[str, NDArray] = {}
    for name, images in flat.items():
        found[f"ring_{name}"] = einstein_radii(images)
        found[f"flux_{name}"] = images.sum((1, 2), dtype=np.float64)
        found[f"power_{name}"] = power_spectra(images)
    for name in made if noise_sd > 0 else ():
        least = PEAK_SD * noise_sd
        own, true = flat[name], flat["truth"]
        found[f"invented_{name}"] = peaks_without_partner(own, true, least)
        found[f"lost_{name}"] = peaks_without_partner(true, own, least)
    return {name: values.astype(np.float32) for name, values in found.items()}


def summary(outputs: Arrays, name: str, noise_sd: float, width: float) -> Scores:
    """Scores of all that was measured of one kind of image; none where it was not.

    Arguments:
        outputs: Of a slice, as `measure` names them.
        name: What made the images.
        noise_sd: As of `measure`.
        width: Of a pixel, arcsec; 1 where unknown.

    Returns:
        ``ring_error``: median over the images of |radius - true radius|, arcsec or pixels;
        ``flux_error``: of |flux / true flux - 1|; ``power_error``: root mean square of log10(power
        / true power), dex, over the wavenumbers where the truth is above the noise; ``invented``
        and ``lost``: peaks an image.
    """
    if f"ring_{name}" not in outputs:
        return {}
    ring, true_ring, flux, true_flux = (
        np.asarray(outputs[f"{what}_{of}"], np.float64)
        for what in ("ring", "flux")
        for of in (name, "truth")
    )
    known = np.abs(true_flux) > _LEAST_FLUX * np.abs(true_flux).mean()
    power, true_power = (
        np.asarray(outputs[f"power_{of}"], np.float64).mean(0) for of in (name, "truth")
    )
    seen = above_noise(true_power, noise_sd)
    dex = np.log10(np.maximum(power[seen], _NO_POWER) / true_power[seen])
    scores: Scores = {
        "ring_error": _median((ring - true_ring) * width),
        "flux_error": _median((flux / np.where(known, true_flux, np.nan)) - 1),
        "power_error": float(np.sqrt((dex**2).mean())) if len(dex) else None,
    }
    for what in ("invented", "lost"):
        if f"{what}_{name}" in outputs:
            scores[what] = float(np.mean(outputs[f"{what}_{name}"]))
    return scores


def above_noise(power: Floats, noise_sd: float) -> NDArray[np.bool_]:
    """At which wavenumbers a mean power, (K,), is above that of white noise of this sd."""
    return power > max(noise_sd**2, _NO_POWER)


def _median(errors: Floats) -> float | None:
    """The median size of errors, but of those that are not known; None where none is."""
    known = errors[np.isfinite(errors)]
    return float(np.median(np.abs(known))) if len(known) else None
