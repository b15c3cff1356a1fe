"""Outputs as scores, files and figures of a run."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import CLASSES
from matplotlib.figure import Figure

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.runs.scoring import score_outputs, summary_of
from deeplense_batch.tasks.task import Task, TaskSpec


class Brightness(Task):
    """Scores are the mean of a number, which is known of some images."""

    def __init__(self):
        spec = TaskSpec(monitor="score", num_outputs=1, primary_output="found")
        super().__init__(spec, CLASSES)
        self.figures = {"history": Figure(), "found": Figure()}

    def losses(self, model, batch, progress):
        raise NotImplementedError

    predict = losses

    def num_scored(self, outputs):
        return int(np.isfinite(outputs["found"]).sum())

    def score(self, outputs):
        return {"score": float(np.nanmean(outputs["found"]))}, ["one is unknown"]

    def draw(self, outputs, history):
        return self.figures


OUTPUTS = {
    "found": np.array([1.0, 3.0, np.nan, 5.0]),
    "targets": np.array([2, 0, -1, 2]),
    "ids": np.array(["a", "b", "c", "d"]),
}


@pytest.fixture
def directory(tmp_path):
    return RunDir.create(tmp_path / "job" / "run", "")


def test_outputs_are_scored_kept_and_drawn(directory):
    task = Brightness()
    directory.append("history.jsonl", {"epoch": 1})
    tested = score_outputs(directory, task, OUTPUTS, title="a run", tta=True)
    assert tested == {
        "scores": {"score": 3.0},
        "notes": ["one is unknown"],
        "tta": True,
        "scored": 3,
        "class_counts": {"no": 1, "sphere": 0, "vort": 2},  # of those that have a label
    }
    with np.load(directory.path / "outputs.npz") as kept:
        assert set(kept.files) == {*OUTPUTS, "classes"}
        assert kept["classes"].tolist() == list(CLASSES)
        for name, values in OUTPUTS.items():
            assert np.array_equal(kept[name], values, equal_nan=name == "found")
    assert {path.name for path in directory.figures.iterdir()} == {"history.png", "found.png"}
    assert task.figures["found"].get_suptitle() == "a run"
    assert not list(directory.path.glob(".*"))


def test_what_was_not_trained_has_no_history(directory):
    score_outputs(directory, Brightness(), OUTPUTS, title="", tta=False)
    assert {path.name for path in directory.figures.iterdir()} == {"found.png"}


def test_the_result_in_a_line():
    assert summary_of("auc", {"auc": 0.98764}, 72.0, "training") == (
        "test AUC 0.9876, 1.2 min of training"
    )
    assert (
        summary_of("r2", {"r2": 0.5}, 60.0, "evaluation")
        == "test R2 0.5000, 1.0 min of evaluation"
    )
    assert summary_of("auc", {"auc": None}, 6.0, "training") == "0.1 min of training"
