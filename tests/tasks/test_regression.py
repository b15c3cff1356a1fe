"""A number behind the image, learnt from the images that have one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_images, make_job
from made_shards import write_shards
from torch import nn

from deeplense_batch.core.job import Evaluation
from deeplense_batch.report.collect import collect
from deeplense_batch.runs.evaluation_run import evaluate_run
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Batch

CLASSES = ("no", "sphere", "vort")


class TestRegression:
    """Of the logarithm of a mass, which a third of the images have."""

    MASS = np.array([1e-22, np.nan, 1e-21, np.nan, 1e-23, np.nan])

    def task(self, **options):
        task = build_task("regression", classes=CLASSES, **options)
        task.fit_statistics(np.zeros(6, np.int64), {"axion_mass_ev": self.MASS})
        return task

    def batch(self, outputs):
        truth = {"axion_mass_ev": torch.from_numpy(self.MASS).float()}
        cut = {name: values[[0, 2, 4]] for name, values in truth.items()}
        return Batch(outputs, torch.zeros(3, dtype=torch.long), torch.arange(3), truth=cut)

    def test_it_learns_the_scaled_logarithm_and_answers_in_decades(self):
        task = self.task()
        assert (
            task.trainable_mask(np.zeros(6), {"axion_mass_ev": self.MASS}).tolist()
            == [True, False] * 3
        )
        perfect = (torch.tensor([[-22.0], [-21.0], [-23.0]]) + 22) / (2 / 3) ** 0.5
        assert float(task.losses(nn.Identity(), self.batch(perfect), 0.0)["loss"]) < 1e-8
        answer = task.predict(nn.Identity(), self.batch(perfect))
        assert answer["predicted"].tolist() == pytest.approx([-22, -21, -23], abs=1e-5)
        scores, _ = task.score({name: v.numpy() for name, v in answer.items()})
        assert scores["r2"] == pytest.approx(1) and scores["mae"] < 1e-5
        other = build_task("regression", classes=CLASSES)
        other.load_state_dict(task.state_dict())
        repeated = other.predict(nn.Identity(), self.batch(perfect))
        assert all(torch.equal(repeated[name], value) for name, value in answer.items())

    def test_what_cannot_be_learnt_is_a_sentence(self):
        task = build_task("regression", classes=CLASSES)
        with pytest.raises(ValueError, match="log10 axion_mass_ev is one and the same"):
            task.fit_statistics(np.zeros(3), {"axion_mass_ev": np.full(3, np.nan)})
        with pytest.raises(ValueError, match="lens has 4 numbers an image; expected one"):
            build_task("regression", classes=CLASSES, target="lens").fit_statistics(
                np.zeros(3), {"lens": np.ones((3, 4))}
            )


def test_no_class_is_needed_and_any_is_allowed(tmp_path):
    images, targets = make_images(48, 3)
    truth = {"theta_e": 1.0 + targets}
    for split in ("train", "val"):
        write_shards(tmp_path, split, images, np.full(48, -1), classes=(), truth=truth)
    write_shards(tmp_path / "other", "test", images, targets % 2, classes=("a", "b"), truth=truth)
    task = {"name": "regression", "options": {"target": "theta_e", "log10": False}}
    (trained,) = plan([make_job(tmp_path, task=task, train={"epochs": 1})], tmp_path / "runs")
    assert np.isfinite(run(trained, device="cpu")["r2"])
    section = {"run": str(trained.run.path), "data": {"root": str(tmp_path / "other")}}
    job = Evaluation.model_validate({"name": "elsewhere", "evaluate": section})
    (item,) = plan([job], tmp_path / "runs")
    assert np.isfinite(evaluate_run(item, device="cpu")["r2"])
    assert item.run.read_json("metrics.json")["test"]["class_counts"] == {}
    assert collect(tmp_path / "runs", tmp_path / "report").summary.startswith("2 runs: 2 done")
