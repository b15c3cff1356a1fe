"""What is known of the test images of runs: kept by them, or in their shards."""

from __future__ import annotations

import shutil

import h5py
import made_shards
import numpy as np
import pytest
from format_1 import to_format_1
from made_runs import make_run

from deeplense_batch.data.shards import data_digest, open_split
from deeplense_batch.report.catalogue import TRUTH, keep
from deeplense_batch.report.run_table import CollectError, run_row
from deeplense_batch.report.studies.selection.known import known_columns


@pytest.fixture
def data(tmp_path):
    made_shards.write(tmp_path / "set", 10)
    return tmp_path / "set"


def run_on(root, data, slice_="train[2:8]", *, kept=True, **numbers):
    """A run on a slice of those shards; gives its row, and the ids of its test images."""
    run = make_run(root, digest=data_digest(data), place=str(data), test=slice_, **numbers)
    split = open_split(data, slice_)
    ids = np.array(split.ids())
    content = {"classes": np.array(["no", "sphere", "vort"]), "ids": ids}
    content |= {"targets": split.targets(), "logits": np.zeros((len(ids), 3))}
    np.savez(run.path / "outputs.npz", **content)
    if kept:
        keep(run.path, split)
    return run_row(run), ids


def test_a_run_needs_no_shards(data, tmp_path):
    row, ids = run_on(tmp_path / "runs", data)
    shutil.rmtree(data)
    known = known_columns([row], ids[::-1], ["theta_e"])
    assert known.columns["theta_e"].tolist() == [i / 8 for i in range(7, 1, -1)]


def test_of_an_earlier_run_the_shards_are_read(data, tmp_path):
    row, ids = run_on(tmp_path / "runs", data, kept=False)
    known = known_columns([row], ids, ["theta_e"])
    assert known.columns["theta_e"].tolist() == [i / 8 for i in range(2, 8)]


def test_where_they_are_gone_another_run_knows_or_a_sentence_says_who_does_not(data, tmp_path):
    old, ids = run_on(tmp_path / "runs", data, kept=False)
    new, _ = run_on(tmp_path / "runs", data, seed=1)
    shutil.rmtree(data)
    assert "theta_e" in known_columns([old, new], ids, ["theta_e"]).columns
    with pytest.raises(CollectError, match=r"s0-.*has kept no truth .*set: no such folder"):
        known_columns([old], ids, ["theta_e"])
    made_shards.write(data, 10, seed=1)
    with pytest.raises(CollectError, match="set holds other data now"):
        known_columns([old], ids, ["theta_e"])


def test_a_damaged_file_is_named(data, tmp_path):
    row, ids = run_on(tmp_path / "runs", data)
    (tmp_path / "runs/demo" / row["run"].rpartition("/")[2] / TRUTH).write_bytes(b"PAR1")
    with pytest.raises(CollectError, match=f"cannot be read: {TRUTH} is damaged"):
        known_columns([row], ids, ["theta_e"])


def test_folds_are_joined_by_id(data, tmp_path):
    first, some = run_on(tmp_path / "runs", data, "train[:4]")
    second, others = run_on(tmp_path / "runs", data, "train[4:]")
    pooled = first | {"members": [second, first]}
    ids = np.concatenate([some, others])
    known = known_columns([pooled], ids, ["theta_e"])
    assert known.columns["theta_e"].tolist() == [i / 8 for i in range(10)]


def test_a_truth_that_one_file_lacks_is_said_to(data, tmp_path):
    to_format_1(data)
    lacks = open_split(data, "train").info.files[1]
    with h5py.File(lacks, "r+") as file:
        del file["truth/theta_e"]
    for kept in (True, False):
        row, ids = run_on(tmp_path / f"runs_{kept}", data, kept=kept)
        known = known_columns([row], ids, ["theta_e"])
        assert known.lacking == {"theta_e": str(lacks)} and "theta_e" not in known.columns
