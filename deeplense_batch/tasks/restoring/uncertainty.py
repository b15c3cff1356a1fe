"""Whether samples of an image are as uncertain as they should be: coverage, ranks and CRPS.

Where the samples of a pixel and its truth are draws from one distribution, the truth is as likely
to be the smallest of them all as the second smallest, and so on: its *rank*, from 0 to S, is
uniform (Talts et al. 2018, arXiv:1804.06788). Between the k-th smallest of S samples and the k-th
largest it then lies with the probability 1 - 2 k / (S + 1), whatever the distribution. The
coverage of a share between those of two such intervals is interpolated between theirs, so that it
is right on average; that of a share c needs (S + 1) (1 - c) / 2 of 1 or more: of 68 % it is known
from 6 samples on, of 95 % from 39 on.

The CRPS (`tasks.posteriors.crps`) of a single image without error bars is the mean absolute error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from deeplense_batch.tasks.posteriors.crps import crps_of_draws
from deeplense_batch.tasks.restoring.quality import key
from deeplense_batch.tasks.task import Arrays, Scores

__all__ = ["LEVELS", "least_samples", "measure", "summary"]

LEVELS = (0.68, 0.95)  # of the central intervals whose coverage is a score


def least_samples(level: float) -> int:
    """The number of samples from which on they have a central interval of this share."""
    return math.ceil(2 / (1 - level) - 1 - 1e-9)


def measure(samples: Tensor, truths: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hold the samples of each image against its truth, pixel by pixel.

    Arguments:
        samples: (B, S, C, H, W) in units of the set, two or more of each.
        truths: (B, C, H, W): the image as it is, of an empty name, and perhaps ``clean``.

    Returns:
        Means over the pixels of each image, (B,): ``variance`` of the samples, ``pixel_crps``,
        ``coverage_68``, ... of the `LEVELS` for which there are enough samples, and the same with
        ``_clean``; and ``ranks``, (B, S + 1), the shares of the pixels whose truth exceeds so
        many samples.
    """
    count = samples.shape[1]
    found = {"variance": samples.var(1).mean((1, 2, 3))}
    for name, truth in truths.items():
        found[key("pixel_crps", "", name)] = crps_of_draws(samples, truth).mean((1, 2, 3))
        below = (samples < truth[:, None]).sum(1).flatten(1)
        ranks = torch.stack([(below == rank).float().mean(1) for rank in range(count + 1)], 1)
        for level in LEVELS:
            if count >= least_samples(level):
                found[_coverage(level, name)] = _inside(ranks, level)
        if not name:
            found["ranks"] = ranks
    return found


def summary(outputs: Arrays) -> tuple[Scores, list[str]]:
    """Scores of a slice, and notes; none where nothing was measured.

    Arguments:
        outputs: As `measure` names them, with ``mse`` of the mean of the samples.

    Returns:
        Means over the images of what is measured; ``spread``, the root mean square of the sd of
        the samples over the error of their mean that they would have, which is 1 where they are
        right; and ``outside``, the share of the pixels beyond all samples. Coverage for which
        there are too few samples is None.
    """
    if "ranks" not in outputs:
        return {}, []
    count = outputs["ranks"].shape[1] - 1
    scores: Scores = {}
    for truth in ("", "clean"):
        if key("pixel_crps", "", truth) not in outputs:
            continue
        names = [key("pixel_crps", "", truth), key("pixel_crps", "fitted", truth)]
        names += [_coverage(level, truth) for level in LEVELS]
        scores |= {n: _mean(outputs[n]) if n in outputs else None for n in names}
    error, variance = _mean(outputs["mse"]), _mean(outputs["variance"])
    scores["spread"] = math.sqrt((1 + 1 / count) * variance / error) if error else None
    scores["outside"] = _mean(outputs["ranks"][:, [0, -1]].sum(1))
    notes = [
        f"{count} samples of each image; of right ones, {2 / (count + 1):.3g} of the pixels of "
        "the image that is to be made are outside all of them",
        f"the mean of {count} samples keeps 1/{count} of their variance; beside the mean of very "
        f"many, that costs {10 * math.log10(1 + 1 / count):.2f} dB of PSNR where they are right",
    ]
    notes += [
        f"{_coverage(level)}: needs {least_samples(level)} samples of each image, got {count}"
        for level in LEVELS
        if count < least_samples(level)
    ]
    return scores, notes


def _inside(ranks: Tensor, level: float) -> Tensor:
    """The share of the pixels in the central interval, (B,), of shares by rank, (B, S + 1)."""
    count = ranks.shape[1] - 1
    place = (count + 1) * (1 - level) / 2
    first = math.floor(place + 1e-9)
    wide, narrow = (ranks[:, k : count + 1 - k].sum(1) for k in (first, first + 1))
    return torch.lerp(wide, narrow, max(place - first, 0.0))


def _coverage(level: float, truth: str = "") -> str:
    return key(f"coverage_{100 * level:.0f}", "", truth)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values, dtype=np.float64))
