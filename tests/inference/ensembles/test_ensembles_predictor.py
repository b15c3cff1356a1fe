"""Rows of an ensemble against those that each member makes alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSES, make_job
from made_runs import untrained

from deeplense_batch.inference.ensembles.ensemble import open_ensemble
from deeplense_batch.inference.ensembles.members import Member
from deeplense_batch.inference.ensembles.predictor import EnsemblePredictor
from deeplense_batch.inference.images.inputs import open_inputs
from deeplense_batch.inference.images.piecewise import Piece
from deeplense_batch.inference.predict import predict
from deeplense_batch.models import checkpoint
from deeplense_batch.training.trainer import BEST

CPU = torch.device("cpu")
TEMPERATURES = (2.0, 0.5)


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory):
    """Two runs; the second sees the middle of the images, and stretches them."""
    root = tmp_path_factory.mktemp("runs")
    jobs = [
        make_job(shards),
        make_job(shards, seed=1, data={"crop": 16, "stretch": "asinh"}),
    ]
    found = [untrained(job, root).run.path for job in jobs]
    for run, temperature in zip(found, TEMPERATURES, strict=True):
        best = checkpoint.load(run / BEST)
        checkpoint.save(run / BEST, best | {"task": {"temperature": temperature}})
    return found


def test_scores_are_the_mean_of_the_members_calibrated_ones(runs, shards, tmp_path):
    predict(runs, shards, tmp_path / "both.parquet", device="cpu")
    both = pd.read_parquet(tmp_path / "both.parquet")
    each = []
    for number, run in enumerate(runs):
        predict(run, shards, tmp_path / f"{number}.parquet", device="cpu")
        table = pd.read_parquet(tmp_path / f"{number}.parquet")
        assert table["id"].tolist() == both["id"].tolist()
        each.append(table[[f"calibrated_{name}" for name in CLASSES]].to_numpy())
    scores = both[[f"score_{name}" for name in CLASSES]].to_numpy()
    assert np.abs(each[0] - each[1]).max() > 0.01
    assert scores == pytest.approx(np.mean(each, 0), abs=1e-6)
    sds = both[[f"score_{name}_sd" for name in CLASSES]].to_numpy()
    assert sds == pytest.approx(np.std(each, 0, ddof=1), abs=1e-6)
    assert both["predicted"].tolist() == [CLASSES[k] for k in scores.argmax(1)]
    assert not [name for name in both if name.startswith("calibrated")]


def test_an_image_without_an_answer_has_none_of_any_member(runs, shards):
    ensemble, counts = open_ensemble([Member.at(run) for run in runs]), []
    with torch.no_grad():
        next(ensemble.members[1].model.parameters()).fill_(torch.nan)
    with open_inputs(shards, "", (1, 24, 24)) as inputs:
        worker = EnsemblePredictor(ensemble, [inputs, inputs], CPU, 8)
        table = worker.rows(Piece("val", 0, 20), counts.append).to_pandas()
    assert table["problem"].tolist() == ["the network's outputs are not finite"] * 20
    assert table["score_no"].isna().all() and table["score_no_sd"].isna().all()
    assert worker.problems == 20 and worker.done == 20
    assert counts == [0, 0, 0, 8, 8, 4]  # progress is that of the last member
