"""Coverage, ranks and CRPS of samples, against what is known of normal ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deeplense_batch.tasks.restoring.uncertainty import least_samples, measure, summary

COUNT = 40


def outputs_of(sd=1.0, shift=0.0, count=COUNT, images=6):
    """Of normal samples, and a truth of the same middle with sd 1 in every pixel."""
    random = torch.Generator().manual_seed(0)
    middle = torch.randn(images, 1, 1, 32, 32, generator=random)
    noise = torch.randn(images, count + 1, 1, 32, 32, generator=random)
    samples, truth = middle + sd * noise[:, 1:] + shift, (middle + noise[:, :1])[:, 0]
    found = measure(samples, {"": truth, "clean": middle[:, 0]})
    found["mse"] = (samples.mean(1) - truth).square().mean((1, 2, 3))
    return {name: values.numpy() for name, values in found.items()}


def test_right_samples_cover_what_they_say_and_their_ranks_are_uniform():
    outputs = outputs_of()
    scores, notes = summary(outputs)
    assert scores["coverage_68"] == pytest.approx(0.68, abs=0.02)
    assert scores["coverage_95"] == pytest.approx(0.95, abs=0.01)
    assert scores["spread"] == pytest.approx(1, abs=0.03)
    assert scores["outside"] == pytest.approx(2 / 41, abs=0.01)
    assert np.allclose(outputs["ranks"].sum(1), 1)
    assert np.allclose(outputs["ranks"].mean(0), 1 / 41, atol=0.01)
    # of a normal distribution of sd 1, and a truth of the same: 1 / sqrt(pi)
    assert scores["pixel_crps"] == pytest.approx(1 / math.sqrt(math.pi), abs=0.01)
    assert scores["pixel_crps_clean"] == pytest.approx(
        (math.sqrt(2) - 1) / math.sqrt(math.pi), abs=0.01
    )
    assert scores["coverage_68_clean"] > 0.999
    assert notes == [
        "40 samples of each image; of right ones, 0.0488 of the pixels of the image that is to be "
        "made are outside all of them",
        "the mean of 40 samples keeps 1/40 of their variance; beside the mean of very many, that "
        "costs 0.11 dB of PSNR where they are right",
    ]


def test_crps_has_no_bias_of_few_samples():
    scores, _ = summary(outputs_of(count=2, images=60))
    assert scores["pixel_crps"] == pytest.approx(1 / math.sqrt(math.pi), abs=0.01)


def test_samples_that_are_too_sure_or_shifted_are_found_out():
    sure, _ = summary(outputs_of(sd=0.5))
    # within 0.994 sd of 0.5 around the middle: erf(0.497 / sqrt(2))
    assert sure["coverage_68"] == pytest.approx(math.erf(0.4972 / math.sqrt(2)), abs=0.02)
    assert sure["spread"] == pytest.approx(0.5, abs=0.02) and sure["outside"] > 0.2
    shifted = outputs_of(shift=2.0)["ranks"].mean(0)
    assert shifted[0] > 0.3 and shifted[-1] < 0.001


def test_few_samples_have_no_wide_interval():
    assert (least_samples(0.68), least_samples(0.95)) == (6, 39)
    scores, notes = summary(outputs_of(count=6))
    assert scores["coverage_68"] == pytest.approx(0.68, abs=0.01)
    assert scores["coverage_95"] is None
    assert notes[2:] == ["coverage_95: needs 39 samples of each image, got 6"]
    assert summary({"mse": np.ones(3)}) == ({}, [])
