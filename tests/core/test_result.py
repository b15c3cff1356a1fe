"""`metrics.json`: what is written is read, and what is no result is refused in one sentence."""

from __future__ import annotations

import pytest

from deeplense_batch.core.result import outcome, read_metrics, read_scores, write_metrics
from deeplense_batch.core.rundir import RunDir, RunDirError

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
