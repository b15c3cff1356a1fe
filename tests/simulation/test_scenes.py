"""Nothing but substructure tells the classes apart: what should be chance is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from deeplense_batch.data.shards import open_split
from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.simulation.presets import PRESETS
from deeplense_batch.simulation.simulate import generator_class, simulate

TIDES = {
    "lens.los_shear": {"law": "Rayleigh", "sigma": 0.015, "most": 0.06},
    "lens.los_convergence": {"law": "Normal", "mean": 0.0, "sd": 0.02},
}


def profiles(images: np.ndarray) -> np.ndarray:
    """Mean brightness in rings around the middle, (N, 40)."""
    x, y = fine_grid(images.shape[-1], 0.05, 1)
    ring = (torch.hypot(x, y)[0].numpy() / 0.07).astype(int).ravel()
    count = np.bincount(ring)
    flat = images.reshape(len(images), -1)
    return np.stack([np.bincount(ring, image) / count for image in flat])[:, :40]


@pytest.mark.slow
def test_size_and_profile_of_the_ring_tell_little_once_compensated(tmp_path):
    """Logistic regression on radial profiles: most of `parity`, almost nothing of `varied`."""
    found = {}
    for name in ("parity", "varied"):
        simulate("substructure", tmp_path / name, preset=name, images=1500, seed=3)
        split = open_split(tmp_path / name, "train")
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        rows = profiles(split.images())
        scores = cross_val_predict(model, rows, split.targets(), cv=3, method="predict_proba")
        found[name] = roc_auc_score(split.targets() == 0, scores[:, 0])
    assert found["parity"] > 0.85, found
    assert found["varied"] < 0.62, found


@pytest.mark.slow
def test_a_network_learns_nothing_from_null(tmp_path):
    simulate("substructure", tmp_path, preset="null", images=3000, seed=4, size=96)
    train, held = open_split(tmp_path, "train"), open_split(tmp_path, "val")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.AvgPool2d(2), nn.Conv2d(1, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    images, targets = torch.from_numpy(train.images()).float(), torch.from_numpy(train.targets())
    for _ in range(4):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[batch]), targets[batch]).backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        scores = net(torch.from_numpy(held.images()).float()).softmax(1).double().numpy()
    scores /= scores.sum(1, keepdims=True)
    auc = roc_auc_score(held.targets(), scores, multi_class="ovr")
    assert auc == pytest.approx(0.5, abs=0.06), auc  # 600 images: a standard error of 0.02


def test_the_line_of_sight_is_drawn_by_its_laws_whatever_the_class():
    content = generator_class("substructure")(preset="varied", set_=TIDES)
    scenes = content.draw("train", range(1500), seed=1).scenes
    kappa, g1, g2 = np.array([scene["los"] for scene in scenes]).T
    drawn = {"kappa": kappa / 0.02, "g1": g1 / 0.015, "g2": g2 / 0.015}  # most is 4 sigma
    for name, values in drawn.items():
        assert stats.kstest(values, "norm").pvalue > 1e-3, name
    assert abs(np.corrcoef(list(drawn.values())) - np.eye(3)).max() < 0.1
    for name, values in drawn.items():
        assert stats.ks_2samp(values[::3], values[1::3]).pvalue > 1e-3, name


def test_either_of_its_tides_is_an_option():
    for name, there in (("los_convergence", [True, False]), ("los_shear", [False, True])):
        content = generator_class("substructure")(set_={f"lens.{name}": 0.04})
        (scene,) = content.draw("train", [0], seed=1).scenes
        assert [scene["los"][0] == np.float32(0.04), scene["los"][1:].any()] == there


@pytest.mark.parametrize("name", PRESETS)
def test_without_the_option_nothing_is_said_of_it(name):
    content = generator_class("substructure")(preset=name, size=32)
    assert "los" not in content.make("train", range(3), seed=1).truth
    assert "los" not in str(content.described()["preset"]["lens"])


@pytest.mark.parametrize("kind", ["substructure", "diffusion", "super_resolution"])
def test_the_line_of_sight_is_the_same_bits_in_any_batch(kind):
    content = generator_class(kind)(preset="physical", set_=TIDES, size=32)
    split = content.splits[0]
    batch = content.make(split, range(6), seed=4)
    assert batch.truth["los"].shape == (6, 3)
    for i in range(6):
        one = content.make(split, [i], seed=4)
        assert (one.images[0] == batch.images[i]).all()
        for name, values in one.truth.items():
            assert np.array_equal(values[0], batch.truth[name][i], equal_nan=True), name
