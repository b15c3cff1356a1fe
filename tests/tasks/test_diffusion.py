"""The diffusion process."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deeplense_batch.tasks.diffusion import PREDICTIONS, SCHEDULES, Process, timesteps


class TestProcess:
    @pytest.mark.parametrize("schedule", ["linear", "cosine"])
    def test_a_step_has_the_mean_and_variance_of_the_closed_form(self, schedule):
        """q(x_t | x_0) is normal, of mean sqrt(prod(1 - beta)) x_0 and variance 1 - prod."""
        if schedule == "linear":
            kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
        else:  # Nichol and Dhariwal 2021, equation 17, with their limit of beta
            f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
            kept = np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))
        process, t = Process(schedule, "epsilon"), timesteps(schedule)
        assert t.shape == (1000,) and (t.diff() > 0).all()
        torch.manual_seed(1)
        noise = torch.randn(20_000, 1, 1, 1)
        for step in (0, 300, 700, 999):
            at = t[step].float().expand(len(noise))
            x = process.add_noise(torch.full_like(noise, 2.0), noise, at)
            assert float(x.mean()) == pytest.approx(2 * kept[step] ** 0.5, abs=0.03)
            assert float(x.var()) == pytest.approx(1 - kept[step], rel=0.03)
            alpha, sigma = process.alpha_sigma(at[:1])
            assert float(alpha) == pytest.approx(kept[step] ** 0.5, abs=1e-4)
            assert float(sigma) ** 2 == pytest.approx(1 - kept[step], abs=1e-4)

    @pytest.mark.parametrize("prediction", PREDICTIONS)
    def test_a_perfect_prediction_gives_the_image_back(self, prediction):
        process = Process("cosine", prediction)
        images, noise = torch.randn(2, 5, 1, 8, 8, dtype=torch.float64)
        t = torch.tensor([0.01, 0.2, 0.5, 0.8, 0.99], dtype=torch.float64)
        noisy = process.add_noise(images, noise, t)
        found = process.image(process.target(images, noise, t), noisy, t)
        assert torch.allclose(found, images, atol=1e-9)

    def test_the_velocity_is_the_network_of_edm(self):
        """c_skip, c_out and the unit weight of Karras et al. 2022, table 1, sigma_data 1."""
        process, sigma = Process("edm", "v"), torch.tensor([0.02, 0.5, 3.0], dtype=torch.float64)
        t = torch.atan(sigma) * 2 / math.pi
        images, noise = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
        s = sigma[:, None, None, None]
        theirs, inside = images + s * noise, (images + s * noise) / (1 + s**2).sqrt()
        assert torch.allclose(process.add_noise(images, noise, t), inside)  # c_in
        network = process.target(images, noise, t)
        restored = theirs / (1 + s**2) - s / (1 + s**2).sqrt() * network
        assert torch.allclose(restored, images)

    def test_a_training_step_draws_t_by_its_schedule(self):
        torch.manual_seed(0)
        for schedule in SCHEDULES:
            t = Process(schedule, "v").draw(20_000, torch.device("cpu"))
            assert t.dtype == torch.float32 and t.min() > 0 and t.max() <= 1
            if schedule == "edm":
                log_sigma = torch.tan(t * math.pi / 2).log()
                assert float(log_sigma.mean()) == pytest.approx(-1.2 + math.log(2), abs=0.03)
                assert float(log_sigma.std()) == pytest.approx(1.2, abs=0.03)
            else:
                expected = timesteps(schedule).float()
                assert set(t.tolist()) <= set(expected.tolist())
                assert float(t.mean()) == pytest.approx(float(expected.mean()), abs=0.01)

    @pytest.mark.parametrize("prediction", PREDICTIONS)
    def test_min_snr_weighs_all_predictions_alike(self, prediction):
        """In units of the error of the image, the weight is min(SNR, 5) for all three."""
        t = torch.tensor([0.1, 0.3, 0.6, 0.9])
        process = Process("cosine", prediction, min_snr=5.0)
        alpha, sigma = (part.flatten() for part in process.alpha_sigma(t))
        snr = (alpha / sigma) ** 2
        per_image_error = {"epsilon": snr, "v": snr + 1, "x0": torch.ones(4)}[prediction]
        found = process.weights(t) * per_image_error
        assert torch.allclose(found, snr.clamp_max(5.0), rtol=1e-4)
        assert Process("cosine", prediction).weights(t).tolist() == [1, 1, 1, 1]
