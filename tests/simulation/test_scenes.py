"""Nothing but substructure tells the classes apart: what should be chance is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from deeplense_batch.data.shards import open_split
from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.simulation.simulate import simulate


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
