"""Settings, random streams and blur that several tests of the survey need."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from deeplense_batch.simulation.survey.presets import HSC
from deeplense_batch.simulation.survey.psf import psf_spectrum
from deeplense_batch.simulation.survey.settings import Survey

NONLENS, LENS = 0, 1
SIZE = HSC.padded


def stream(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def survey_with(part: str = "", **changes) -> Survey:
    """The settings with one part changed."""
    if not part:
        return dataclasses.replace(HSC, **changes)
    changed = dataclasses.replace(getattr(HSC, part), **changes)
    return dataclasses.replace(HSC, **{part: changed})


def counts(image: np.ndarray, truth: dict[str, np.ndarray]) -> np.ndarray:
    """What the image was before each band was brought to 0 and 1, (3, 64, 64)."""
    least, most = (truth["scale"][:, i, None, None] for i in (0, 1))
    return image * (most - least) + least


def blur(fwhm: float = 0.6, beta: float = 3.5, q: float = 0.96, phi: float = 1.0) -> torch.Tensor:
    given = (torch.tensor([v], dtype=torch.float32) for v in (fwhm, beta, q, phi))
    names = ("fwhm", "beta", "q", "phi")
    return psf_spectrum(SIZE, HSC.pixel_scale, **dict(zip(names, given, strict=True)))
