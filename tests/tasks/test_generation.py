"""The task of diffusion: its loss, its scores and its conditions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import CLASSES
from tiny_networks import UNET
from torch import nn

from deeplense_batch.models import build
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Batch, Frame, Unit


def batch_of(count=4, size=24, **truth):
    torch.manual_seed(0)
    images, targets = torch.randn(count, 1, size, size), torch.arange(count) % 3
    return Batch(images, targets, torch.arange(count), truth=truth)


class TestTask:
    @staticmethod
    def task(**options):
        return build_task(
            "generation", classes=CLASSES, frame=Frame(1, 24, 0.05, ratio=2), **options
        )

    def test_a_network_that_knows_the_answer_has_no_loss(self):
        task, batch = self.task(ssim=0.5, prediction="x0"), batch_of()
        losses = task.losses(lambda noisy, t, *_: batch.images, batch, 0.0)
        assert float(losses["squared"]) == 0 and abs(float(losses["unlike"])) < 1e-6
        outputs = task.predict(lambda noisy, t, *_: batch.images, batch)
        scores, _ = task.score({name: v.numpy() for name, v in outputs.items()})
        assert scores["loss"] == 0 and scores["snr_db"] == pytest.approx(120)

    def test_a_network_that_gives_nothing_has_the_loss_of_the_images(self):
        task, batch = self.task(prediction="x0"), batch_of(64)
        outputs = task.predict(lambda noisy, t, *_: torch.zeros_like(noisy), batch)
        scores, _ = task.score({name: v.numpy() for name, v in outputs.items()})
        assert scores["loss"] == pytest.approx(1, abs=0.02) and abs(scores["snr_db"]) < 0.1

    def test_a_sample_is_judged_alike_in_any_batch(self):
        task, batch = self.task(conditions=["class"]), batch_of(4)
        model = build("unet", channels=1, classes=3, size=24, **UNET).eval()
        nn.init.normal_(model.network.conv_out.weight, std=0.1)
        whole = task.predict(model, batch)["errors"]
        for i in (3, 1):
            one = Batch(batch.images[i:][:1], batch.targets[i:][:1], batch.index[i:][:1])
            assert torch.allclose(task.predict(model, one)["errors"][0], whole[i], atol=1e-6)

    def test_conditions_reach_the_network_and_are_dropped_at_random(self):
        task = self.task(conditions=["theta_e", "class"], drop=0.3)
        spec = task.spec
        assert spec.num_outputs == 3 and spec.truth_keys == ("theta_e",) and spec.needs_truth
        seen = []

        def network(noisy, t, labels, radii):
            seen.append((labels, radii))
            return noisy

        torch.manual_seed(0)
        batch = batch_of(1000, 12, theta_e=torch.full((1000,), 1.5))
        task.losses(network, batch, 0.0)
        labels, radii = seen[0]
        dropped = labels < 0
        assert 0.25 < float(dropped.float().mean()) < 0.35
        assert torch.equal(dropped, radii.isnan())
        assert torch.equal(labels[~dropped], batch.targets[~dropped])
        assert torch.allclose(radii[~dropped], torch.tensor(math.log(1.5)))
        plain = self.task().spec
        assert plain.num_outputs == 0 and plain.truth_keys == () and not plain.needs_truth

    def test_the_input_reaches_the_network_as_the_fitted_bicubic_image_and_is_never_dropped(self):
        task = self.task(conditions=["input", "class"], drop=0.9)
        assert task.spec.needs_inputs and not task.spec.given_inputs
        batch = batch_of(8)
        batch = replace(batch, inputs=nn.functional.avg_pool2d(batch.images, 2) / 3 + 1)
        task.fit_images([batch], Unit((0.5,), (2.0,)))
        again = self.task(conditions=["input", "class"])
        again.load_state_dict(task.state_dict())
        bicubic = nn.functional.interpolate(
            batch.inputs, scale_factor=2, mode="bicubic", antialias=True
        )
        (slope, offset), *_ = np.linalg.lstsq(
            np.stack([bicubic.numpy().ravel(), np.ones(bicubic.numel())], 1),
            batch.images.numpy().ravel(), rcond=None,
        )  # fmt: skip
        seen = []

        def network(noisy, t, labels, radii, inputs):
            seen.append((labels, inputs))
            return noisy

        for one in (task, again):
            one.losses(network, batch, 0.0)
            _, inputs = seen[-1]
            assert torch.allclose(inputs, float(slope) * bicubic + float(offset), atol=1e-4)
        again.predict(network, batch)
        assert torch.equal(seen[-1][0], batch.targets) and (seen[0][0] < 0).any()

    def test_a_residual_is_what_the_bicubic_image_lacks_with_sd_1(self):
        task = self.task(conditions=["input"], residual=True, prediction="x0", ssim=0.5)
        batch = batch_of(8)
        batch = replace(batch, inputs=nn.functional.avg_pool2d(batch.images, 2) / 3 + 1)
        task.fit_images([batch], Unit((0.5,), (2.0,)))
        *_, bicubic = conditions = task.conditions_of(batch)
        left = batch.images - bicubic
        answer = left / left.std()
        assert torch.allclose(task.image_of(answer, conditions), batch.images, atol=1e-4)
        losses = task.losses(lambda *_: answer, batch, 0.0)
        assert float(losses["squared"]) < 1e-6 and abs(float(losses["unlike"])) < 1e-4
        assert float(task.predict(lambda *_: answer, batch)["errors"].max()) < 1e-6
        again = self.task(conditions=["input"], residual=True)
        again.load_state_dict(task.state_dict())
        assert torch.equal(again.image_of(answer, conditions), task.image_of(answer, conditions))

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"schedule": "sqrt"}, "schedule: got 'sqrt'; allowed: linear, cosine, edm"),
            ({"prediction": "noise"}, "prediction: got 'noise'"),
            ({"conditions": ["mass"]}, "conditions: got 'mass'; allowed: class, theta_e, input"),
            ({"ssim": 2.0}, "ssim and drop"),
            ({"residual": True}, "residual: is for conditions that have input"),
            ({"data_range": 1.0}, "data_range: is for conditions that have input"),
            ({"min_snr": 0.0}, "min_snr: should be above 0"),
        ],
    )
    def test_options_out_of_range(self, options, sentence):
        with pytest.raises(ValueError, match=sentence):
            self.task(**options)
