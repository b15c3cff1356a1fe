"""What a network that draws says of its images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_job
from made_runs import untrained
from tiny_networks import UNET

from deeplense_batch.inference.generation.drawer import Drawer
from deeplense_batch.inference.trained import open_trained


def test_it_draws_images_as_the_network_sees_them(shards, tmp_path):
    job = make_job(
        shards, task={"name": "generation"}, model={"name": "unet", "options": UNET},
        train={"ema": 0.9}, data={"crop": 20, "size": 32},
    )  # fmt: skip
    trained = open_trained(untrained(job, tmp_path).run.path)
    drawer = Drawer(
        trained=trained, task=trained.task, sampler="ddim", steps=7, device=torch.device("cpu")
    )
    assert drawer.shape == (1, 32, 32)
    assert drawer.pixel_scale == pytest.approx(trained.pixel_scale * 20 / 32, nan_ok=True)
    assert drawer.about == f"{trained.run.name}, ddim with 7 steps"
    assert drawer.stored == drawer.dtype == np.float32 and drawer.known_faults == ()
