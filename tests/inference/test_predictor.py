"""Rows of a table: what the network says of each image, and null where it says nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import CLASSES, make_images, make_job
from made_runs import untrained
from made_sets import write_set
from made_shards import write_shards
from scipy.special import softmax

from deeplense_batch.data.shards import open_split
from deeplense_batch.inference.images.inputs import open_inputs
from deeplense_batch.inference.images.piecewise import Piece
from deeplense_batch.inference.predictor import Predictor
from deeplense_batch.inference.trained import open_trained
from deeplense_batch.models import build
from deeplense_batch.tasks import build_task

CPU = torch.device("cpu")
SHAPE = (1, 24, 24)


@pytest.fixture
def opened(shards, tmp_path):
    """A run whose network tells classes apart, at random."""
    return open_trained(untrained(make_job(shards), tmp_path).run.path)


def rows_of(opened, root, piece, **options):
    with open_inputs(root, "", SHAPE) as inputs:
        worker = Predictor(opened, inputs, CPU, options.pop("batch_size", 64))
        return worker, worker.rows(piece, **{"on_batch": int} | options)


def test_a_row_has_the_scores_of_the_network_plain_and_calibrated(opened, shards):
    counts = []
    piece = Piece("val", 3, 23)
    options = {"on_batch": counts.append, "batch_size": 8}
    opened.task.load_state_dict({"temperature": 2.0})
    worker, table = rows_of(opened, shards, piece, **options)
    assert counts == [8, 8, 4] and (worker.done, worker.problems) == (20, 0)
    split = open_split(shards, "val[3:23]")
    with torch.no_grad():
        images = opened.transform(torch.from_numpy(split.images()).float())
        logits = opened.model(images).double().numpy()
    rows = table.to_pandas()
    for kind, scaled in (("score", logits), ("calibrated", logits / 2)):
        found = rows[[f"{kind}_{name}" for name in CLASSES]].to_numpy()
        assert np.allclose(found, softmax(scaled, axis=1), atol=1e-5)
    assert rows["id"].tolist() == split.ids() and set(rows["split"]) == {"val"}
    assert rows["predicted"].tolist() == [CLASSES[k] for k in logits.argmax(1)]
    assert table["problem"].null_count == 20 and worker.seconds > 0


def test_outputs_that_are_no_numbers_are_a_problem_of_their_rows(opened, shards):
    torch.nn.init.constant_(opened.model.fc.bias[1:2], torch.nan)
    worker, table = rows_of(opened, shards, Piece("val", 0, 5))
    assert table["problem"].to_pylist() == ["the network's outputs are not finite"] * 5
    assert worker.problems == 5
    for name in ("predicted", "score_no", "calibrated_vort"):
        assert table[name].null_count == 5, name


def test_a_constant_image_is_a_problem_where_each_is_normalised_by_itself(
    shards, tmp_path, caplog
):
    job = make_job(shards, data={"per": "image"})
    opened = open_trained(untrained(job, tmp_path / "runs").run.path)
    images = make_images(5, seed=5)[0].astype(np.float32)
    images[1] = 7
    write_shards(tmp_path, "train", images, np.arange(5) % 3)
    _, table = rows_of(opened, tmp_path, Piece("train", 0, 5))
    problems = [None, "the network's outputs are not finite", None, None, None]
    assert table["problem"].to_pylist() == problems
    assert table["score_no"].null_count == 1 and "same unit" not in caplog.text


def test_an_image_that_is_none_has_no_scores_and_leaves_the_others_theirs(opened, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(make_images(6, seed=5)[0]):
        np.save(folder / f"{i}.npy", image)
    _, whole = rows_of(opened, folder, Piece("train", 0, 6))
    np.save(folder / "2.npy", np.full((24, 24), np.nan))
    worker, table = rows_of(opened, folder, Piece("train", 0, 6), batch_size=2)
    assert worker.problems == 1 and table["problem"].null_count == 5
    assert table["score_no"][2] == pa.scalar(None, pa.float64())
    kept = [0, 1, 3, 4, 5]
    assert np.allclose(table["score_no"].take(kept), whole["score_no"].take(kept), atol=1e-6)


def test_a_number_that_was_learnt_is_one_column_by_its_name(shards, tmp_path):
    job = make_job(shards, model={"name": "test_resnet"})
    opened = open_trained(untrained(job, tmp_path).run.path)
    task = build_task("regression", classes=CLASSES, target="theta_e")
    task.load_state_dict({"mean": -0.5, "sd": 2.0})
    network = build("test_resnet", channels=1, classes=1, size=24).eval()
    _, table = rows_of(replace(opened, task=task, model=network), shards, Piece("val", 0, 4))
    assert table.column_names == ["id", "split", "label", "log10_theta_e", "problem"]
    with torch.no_grad():
        images = opened.transform(torch.from_numpy(open_split(shards, "val[:4]").images()).float())
        expected = network(images)[:, 0] * 2 - 0.5
    assert table["log10_theta_e"].to_pylist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_draws_from_a_posterior_are_those_of_the_place_in_the_split(tmp_path):
    """Whatever the batch and the piece; and no image shares its numbers with another."""
    options = {"targets": ["theta_e", "q"], "posterior": "gaussian"}
    root = write_set(tmp_path / "set", truth=("theta_e", "q"))
    job = make_job(root, task={"name": "regression", "options": options})
    opened = open_trained(untrained(job, tmp_path / "runs").run.path)

    def drawn(first, batch_size):
        with open_inputs(root, "", (1, 12, 12)) as inputs:
            worker = Predictor(opened, inputs, CPU, batch_size, draws=64)
            rows = worker.rows(Piece("train", first, 12), int).to_pandas()
        numbers = np.stack([np.stack(rows[f"{name}_draws"]) for name in ("theta_e", "q")])
        return (numbers - numbers.mean(2, keepdims=True)) / numbers.std(2, keepdims=True)

    whole = drawn(0, 12)
    assert np.allclose(drawn(0, 4), whole, atol=1e-3)
    assert np.allclose(drawn(5, 3), whole[:, 5:], atol=1e-3)
    alike = np.corrcoef(whole[0])[~np.eye(12, dtype=bool)]
    assert np.abs(alike).max() < 0.6  # 5 sd of what 64 independent numbers have
