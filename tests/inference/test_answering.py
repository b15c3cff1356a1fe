"""Who predicts: one run, the runs of a folder, or those that are named."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import make_images, make_job
from made_runs import untrained
from made_shards import write_shards

from deeplense_batch.core.job import JobError
from deeplense_batch.inference.answering import answering
from deeplense_batch.inference.predict import predict
from deeplense_batch.inference.table import TableError
from deeplense_batch.inference.trained import TrainedError
from deeplense_batch.models import checkpoint
from deeplense_batch.training.trainer import BEST


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return [untrained(make_job(shards, seed=seed), root).run.path for seed in range(3)]


def details_of(table):
    return json.loads(pq.read_schema(table).metadata[b"deeplense_batch"])


def test_a_folder_or_a_list_is_an_ensemble_and_a_run_is_itself(runs):
    assert len(answering([runs[0]], None, None).networks) == 1
    folder, listed = answering([runs[0].parent], None, None), answering(runs[:2], None, None)
    assert (folder.label, listed.label) == ("test_resnet x3", "test_resnet x2")
    with pytest.raises(TrainedError, match=r"is no run directory, it has no job\.yaml"):
        answering([runs[0].parent / "nothing"], None, None)
    with pytest.raises(TrainedError, match="--purity: the task of the members, classification,"):
        answering(runs, 0.9, None)


def test_the_table_of_another_ensemble_is_refused(runs, shards, tmp_path):
    out = tmp_path / "t.parquet"
    first = predict(runs[:2], shards, out, slice_="val[:20]", device="cpu")
    again = predict(runs[1::-1], shards, out, slice_="val[:20]", device="cpu")
    assert (first.done, again.done) == (20, 0)
    details = details_of(out)["details"]
    assert [one["run"] for one in details["members"]] == sorted(map(str, runs[:2]))
    for others in (runs, runs[1:], runs[0]):
        with pytest.raises(TableError, match="answers another question"):
            predict(others, shards, out, slice_="val[:20]", device="cpu")


def test_members_take_images_of_the_sizes_that_each_has_learnt(runs, shards, tmp_path):
    """A member that sees the middle takes larger ones; one that sees all does not."""
    images, targets = make_images(12, 5)
    wide = np.pad(images, ((0, 0), (0, 0), (3, 3), (3, 3)), mode="edge")
    write_shards(tmp_path / "wide", "val", wide, targets)
    job = make_job(shards, data={"crop": 16})
    cropped = [untrained(job.model_copy(update={"seed": s}), tmp_path).run.path for s in (0, 1)]
    report = predict(cropped, tmp_path / "wide", tmp_path / "t.csv", device="cpu")
    assert report.samples == 12 and report.problems == 0
    with pytest.raises(ValueError, match="has images of 1 x 30 x 30"):
        predict([*cropped, runs[2]], tmp_path / "wide", tmp_path / "o.csv", device="cpu")


@pytest.fixture
def searches(tmp_path):
    """Two searches through galaxies that have kept what they say of their validation slice."""
    random = np.random.default_rng(4)
    images = random.integers(0, 99, (60, 1, 24, 24)).astype(np.uint16)
    lens = np.arange(60) % 3 == 0
    for split in ("train", "val"):
        write_shards(tmp_path / "sky", split, images, lens.astype(int), ("nonlens", "lens"))
    task = {"name": "detection", "options": {"purity": 0.6, "prevalence": 0.3}}
    jobs = [make_job(tmp_path / "sky", task=task, seed=seed) for seed in (0, 1)]
    runs = [untrained(job, tmp_path / "runs").run.path for job in jobs]
    fitted = {"temperature": 1.0, "threshold": 0.5, "slope_and_offset": [0.8, -0.2]}
    fitted |= {"curve": {"scores": [0.9, 0.5], "false_positives": [0, 1], "others": 8}}
    for run in runs:
        best = checkpoint.load(run / BEST)
        checkpoint.save(run / BEST, best | {"task": best["task"] | fitted})
        targets = np.arange(300) % 3 // 2
        logits = random.normal(size=(300, 2)) + 1.5 * np.eye(2)[targets]
        about = {"classes": np.array(["nonlens", "lens"]), "ids": np.arange(300).astype(str)}
        np.savez(run / "validated.npz", **about, targets=targets, logits=logits)
    return runs


def test_candidates_of_an_ensemble_have_a_threshold_of_the_mean_score(searches, tmp_path):
    out = tmp_path / "t.parquet"
    report = predict(searches, tmp_path / "sky", out, slice_="val", device="cpu")
    table, details = pd.read_parquet(out), details_of(out)["details"]
    threshold = details["threshold"]
    assert table["candidate"].tolist() == (table["score_lens"] >= threshold).tolist()
    assert details["expected"]["purity"] >= 0.6 and (details["purity"], details["prevalence"]) == (
        0.6, 0.3,
    )  # fmt: skip
    total = table["score_lens"].sum()
    assert f"score_lens sums to {total:.1f}, what to expect where class lens is 0.333 of all" in (
        str(report)
    )
    assert "--prevalence moves it" not in str(report)
    predict(searches, tmp_path / "sky", tmp_path / "pure.parquet", slice_="val", device="cpu",
            purity=0.9)  # fmt: skip
    assert (details_of(tmp_path / "pure.parquet")["details"]["threshold"] or 9) > threshold


def test_without_one_validation_slice_there_are_no_candidates_and_it_says_why(searches, tmp_path):
    (searches[1] / "validated.npz").unlink()
    out, sky = tmp_path / "t.parquet", tmp_path / "sky"
    report = str(predict(searches, sky, out, slice_="val", device="cpu"))
    why = f"the mean score has no threshold: {searches[1].name} has kept no validated.npz"
    assert f"no candidates, since {why}" in report
    assert "candidate" not in pd.read_parquet(out)
    assert any(why in note for note in details_of(out)["details"]["notes"])
    with pytest.raises(TrainedError, match=f"--purity: {why}"):
        predict(searches, sky, tmp_path / "o.parquet", device="cpu", purity=0.9)


def test_a_folder_of_two_recipes_is_none(runs, shards, tmp_path):
    for run in runs[:2]:
        shutil.copytree(run, tmp_path / "small" / run.name)
    untrained(make_job(shards, train={"lr": 1e-4}), tmp_path)
    with pytest.raises(JobError, match="holds runs of 2 recipes"):
        predict(tmp_path / "small", shards, tmp_path / "t.csv", device="cpu")
