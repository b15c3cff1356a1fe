"""`metrics.json`: what is written is read, and what is no result is refused in one sentence."""

from __future__ import annotations

import pytest

from deeplense_batch.core.result import (
    note_scored,
    outcome,
    read_metrics,
    read_scores,
    scored_recipes,
    write_metrics,
)
from deeplense_batch.core.rundir import RunDir, RunDirError, find_runs

TESTED = {"notes": [], "tta": False, "scored": 3, "class_counts": {}}


@pytest.fixture
def directory(tmp_path) -> RunDir:
    return RunDir.create(tmp_path / "job" / "run", "name: job\n")


def test_what_is_written_is_read_with_its_schema(directory):
    scores = {"auc": 0.9, "undefined": None, "nan": float("nan")}
    write_metrics(directory, {"job": "job", "test": {"scores": scores, **TESTED}})
    metrics = read_metrics(directory)
    assert metrics["schema"] == 1 and metrics["job"] == "job"
    assert read_scores(directory) == {"auc": 0.9, "undefined": None, "nan": None}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is missing, though the run is said to be done"),
        ('{"schema": 2}', "has schema 2, expected 1"),
        ("[1]", "expected a JSON object"),
        ('{"schema": 1, "test', "is damaged or cut short"),
    ],
)
def test_what_is_no_result_is_refused_in_one_sentence(directory, content, says):
    if content is not None:
        (directory.path / "metrics.json").write_text(content)
    with pytest.raises(RunDirError, match=says):
        read_metrics(directory)


def test_a_result_without_scores_is_refused_where_scores_are_wanted(directory):
    write_metrics(directory, {"summary": "24 images"})
    with pytest.raises(RunDirError, match="holds no scores of a run"):
        read_scores(directory)


def test_the_outcome_names_every_defined_score_and_that_of_real_images():
    scores = {"fid": 12.0, "fid_real": 1.5, "auc": 0.98765, "recall": None}
    line = outcome({"test": {"scores": scores, **TESTED}, "summary": "not shown"})
    assert line == "test fid 12.0000 (real 1.5000), auc 0.9877"
    assert outcome({"summary": "24 images, 3/s"}) == "24 images, 3/s"


def test_the_outcome_of_a_training_leads_with_what_picks_it():
    valid = {"monitor": "auc", "chosen_by": "auc", "epoch": 3, "scores": {"auc": 0.96}}
    metrics = {"valid": valid, "test": {"scores": {"auc": 0.98765}, **TESTED}, "summary": ""}
    assert outcome(metrics) == "validation auc 0.9600; test auc 0.9877"
    assert outcome(metrics | {"evaluated": {}}) == "test auc 0.9877"  # that of its training


def test_recipes_that_were_scored_on_a_slice_are_counted_over_jobs_and_repeats(tmp_path):
    for job, recipe in (("a", "11"), ("a", "22"), ("b", "22"), ("b", "33"), ("b", "33")):
        directory = RunDir(tmp_path / job / f"run-{recipe}")
        note_scored(directory, "d1", "val[50%:]", recipe)
    note_scored(RunDir(tmp_path / "a" / "x"), "d1", "val[:50%]", "44")
    note_scored(RunDir(tmp_path / "a" / "x"), "d2", "val[50%:]", "55")
    counts = [scored_recipes(root, "d1", "val[50%:]") for root in (tmp_path, tmp_path / "a")]
    assert counts == [3, 3] and scored_recipes(tmp_path, "d3", "val") == 0
    assert find_runs(tmp_path) == []  # and are no runs


def test_a_slice_that_cannot_be_noted_costs_no_result(tmp_path, caplog):
    (tmp_path / ".scored").write_text("in its place")
    note_scored(RunDir(tmp_path / "a" / "run"), "d1", "val", "11")
    (record,) = caplog.records
    assert "not noted that this slice was scored" in record.getMessage()
    assert scored_recipes(tmp_path, "d1", "val") == 0


def test_the_outcome_of_restored_images_leaves_out_what_they_are_held_against():
    scores = {"psnr": 40.0, "psnr_clean": 44.0, "psnr_bicubic": 39.0, "ssim_fitted_clean": 0.9}
    scores |= {"psnr_noise_free": 41.0, "ring_error": 0.01, "ring_error_fitted": 0.02}
    line = outcome({"test": {"scores": scores, **TESTED}, "summary": "not shown"})
    assert line == "test psnr 40.0000, psnr_clean 44.0000, ring_error 0.0100"
