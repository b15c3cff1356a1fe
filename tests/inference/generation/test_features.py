"""Networks that images are looked at with."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_job
from made_arrays import rings
from made_runs import untrained
from safetensors.torch import save_file
from tiny_networks import UNET

from deeplense_batch.inference.generation.features import Critic, inception
from deeplense_batch.inference.trained import TrainedError, open_trained
from deeplense_batch.models import INCEPTION
from deeplense_batch.models.weights import WeightsError, backbone

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def generator(shards, tmp_path_factory):
    """A run that generates."""
    job = make_job(
        shards, name="generator",
        task={"name": "generation", "options": {"conditions": ["class"]}},
        model={"name": "unet", "options": UNET}, train={"ema": 0.9},
    )  # fmt: skip
    return untrained(job, tmp_path_factory.mktemp("generator")).run.path


@pytest.fixture(scope="module")
def critic(shards, generator, tmp_path_factory):
    """A classifier of its classes, whatever it makes of them."""
    item = untrained(make_job(shards, name="judge"), tmp_path_factory.mktemp("judge"))
    return Critic(open_trained(item.run.path), open_trained(generator), CPU)


def cropped(trained):
    """A run that sees the inner 16 of 24 pixels, enlarged to 20."""
    data = trained.job.data.model_copy(update={"crop": 16, "size": 20})
    return replace(trained, job=trained.job.model_copy(update={"data": data}))


class TestCritic:
    def test_its_features_are_the_input_of_the_last_layer(self, critic):
        images = rings(8, 3)[0]
        features, logits = critic(images)
        model = critic.trained.model
        head = model.get_classifier()
        assert np.allclose(features @ head.weight.double().detach().numpy().T
                           + head.bias.double().detach().numpy(), logits, atol=1e-4)  # fmt: skip
        expected = model(critic.trained.transform(torch.from_numpy(images)))
        assert np.allclose(logits, expected.detach().numpy(), atol=1e-4)

    def test_it_crops_to_its_field_and_resizes(self, generator, critic):
        generator = open_trained(generator)
        small = Critic(cropped(critic.trained), generator, CPU)
        images = rings(8, 3)[0]
        assert small.kept == 16 and small(images)[1].shape == (8, 3)
        around = images.copy()
        around[..., :4, :] = around[..., -4:, :] = 9
        assert np.array_equal(small(images)[0], small(around)[0])
        with pytest.raises(TrainedError, match=r"sees a field 1\.5 times as wide"):
            Critic(critic.trained, cropped(generator), CPU)
        with pytest.raises(TrainedError, match="tells no classes"):
            Critic(generator, generator, CPU)


def test_inception_is_judged_by_where_its_weights_are(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path))
    images = rings(3, 3)[0]
    with pytest.raises(WeightsError, match="fetch"):
        inception(images, CPU)
    torch.manual_seed(0)
    weights = backbone(INCEPTION, pretrained=False).state_dict()
    file = tmp_path / f"{INCEPTION}.safetensors"
    save_file({k: v.contiguous() for k, v in weights.items()}, file)
    digest = subprocess.run(["sha256sum", file.name], cwd=tmp_path, capture_output=True).stdout
    (tmp_path / "SHA256SUMS").write_bytes(digest)
    found = inception(images, CPU)(images)
    assert found.shape == (3, 2048) and np.isfinite(found).all() and found.std(0).any()
