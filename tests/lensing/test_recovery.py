"""Errors and scores of a recovered lens, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deeplense_batch.lensing.macro import macro_deflection, pixel_grid
from deeplense_batch.lensing.recovery import (
    convergence_correlation,
    deflection_square,
    recovery_scores,
    source_moment,
)

LENS = torch.tensor([[0.3, 0.1, -0.05, 0.02, -0.03, 0.04, 0.0], [0.4, 0, 0, 0, 0, 0, 0]])
SIZE = 48


def test_only_what_lies_within_two_einstein_radii_is_an_error():
    x, y = pixel_grid(SIZE, LENS)
    deflection = macro_deflection(LENS, x, y)
    assert deflection_square(deflection, LENS).tolist() == [0, 0]
    off = deflection + torch.tensor([0.03, 0.04])[:, None, None]
    assert deflection_square(off, LENS).tolist() == pytest.approx([0.05**2] * 2, rel=1e-4)
    beyond = torch.hypot(x - LENS[:, 3, None, None], y - LENS[:, 4, None, None]) > 0.81
    far = deflection + beyond[:, None]
    assert deflection_square(far, LENS).tolist() == [0, 0]


def test_convergences_of_one_shape_correlate_whatever_their_strength():
    stronger = LENS.clone()
    stronger[:, 0] *= 1.5
    assert convergence_correlation(stronger, LENS, SIZE).tolist() == pytest.approx([1, 1])
    moved = LENS + torch.tensor([0, 0, 0, 0.2, 0, 0, 0])
    assert (convergence_correlation(moved, LENS, SIZE) < 0.9).all()


def test_a_source_is_as_wide_as_its_light():
    x, y = pixel_grid(SIZE, LENS)
    spread = 0.1
    blob = torch.exp(-(x**2 + y**2) / (2 * spread**2))[:, None]
    theta_e = torch.tensor([0.5], requires_grad=True)
    still = torch.zeros(1, 2, SIZE, SIZE, requires_grad=True)
    moment = source_moment(blob, still, theta_e)
    assert moment.item() == pytest.approx(2 * spread**2 / 0.5**2, rel=1e-3)
    shifted = source_moment(blob + 7, still + 0.3, theta_e)  # neither sky nor place counts
    assert shifted.item() == pytest.approx(moment.item(), rel=1e-3)
    moment.sum().backward()
    assert theta_e.grad is None and still.grad.any()


def test_scores_of_lenses():
    true = np.array([1.0, 2.0, 1.0, 4.0])
    found = true * [1.1, 1.1, 0.9, 1.1]
    scores = recovery_scores(
        found, true, np.full(4, 0.04), np.full(4, 0.36), np.array([1.0, 0.5, 0.5, 0.0])
    )
    assert scores == pytest.approx({
        "deflection_error": 0.2,
        "deflection_error_of_mean": 0.6,
        "deflection_gain": 3.0,
        "einstein_radius_error": 0.15,
        "einstein_radius_bias": 0.1,
        "einstein_radius_nmad": 0.0,
        "convergence_correlation": 0.5,
    })  # fmt: skip
    perfect = recovery_scores(true, true, np.zeros(4), np.ones(4), np.ones(4))
    assert perfect["deflection_gain"] is None and math.isclose(perfect["deflection_error"], 0)
