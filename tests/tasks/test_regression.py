"""A number behind the image, learnt from the images that have one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_images, make_job
from made_shards import write_shards
from scipy import stats
from torch import nn

from deeplense_batch.core.job import Evaluation, JobError
from deeplense_batch.inference.export import export
from deeplense_batch.inference.predict import predict
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


class TestSeveral:
    """Several numbers, of images of which some lack one."""

    TRUTH: ClassVar = {
        "theta_e": np.array([1.0, 2.0, np.nan, 4.0]),
        "lens": np.array([[0, 0, 0.5, 0], [0, 0, 0.7, 0], [0, 0, 0.9, 0], [0, 0, np.nan, 0]]),
    }

    def task(self, **options):
        targets = ["theta_e", "lens.q"]
        task = build_task("regression", classes=None, targets=targets, **options)
        task.fit_statistics(np.zeros(4, np.int64), self.TRUTH)
        return task

    def batch(self, answers, some=slice(None)):
        truth = {name: torch.from_numpy(v).float()[some] for name, v in self.TRUTH.items()}
        count = len(answers)
        return Batch(answers, torch.zeros(count, dtype=torch.long), torch.arange(count),
                     truth=truth)  # fmt: skip

    def test_each_is_scaled_by_the_images_that_have_it_and_learnt_from_them(self):
        task = self.task()
        theta, q = self.TRUTH["theta_e"], self.TRUTH["lens"][:, 2]
        state = task.state_dict()
        assert state["mean"] == pytest.approx([np.nanmean(theta), np.nanmean(q)])
        assert state["sd"] == pytest.approx([np.nanstd(theta), np.nanstd(q)])
        answers = torch.zeros(4, 2)
        loss = task.losses(nn.Identity(), self.batch(answers), 0.0)["loss"]
        scaled = [
            (theta - np.nanmean(theta)) / np.nanstd(theta),
            (q - np.nanmean(q)) / np.nanstd(q),
        ]
        each = [np.where(np.abs(v) < 1, v**2 / 2, np.abs(v) - 0.5) for v in scaled]
        assert float(loss) == pytest.approx(np.nanmean(each, axis=0).mean(), rel=1e-5)
        assert task.trainable_mask(np.zeros(4), self.TRUTH).tolist() == [True] * 4
        assert task.predict(nn.Identity(), self.batch(answers))["predicted"].shape == (4, 2)

    @pytest.mark.parametrize("posterior", ["gaussian", "flow"])
    def test_a_posterior_learns_from_images_of_which_all_are_known(self, posterior):
        task = self.task(posterior=posterior)
        assert task.trainable_mask(np.zeros(4), self.TRUTH).tolist() == [True, True, False, False]
        network = task.wrap(nn.Linear(3, task.spec.num_outputs)).eval()
        images = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            outputs = task.predict(network, self.batch(images))
            loss = task.losses(network, self.batch(images[:2], slice(2)), 0.0)["loss"]
        arrays = {name: values.numpy() for name, values in outputs.items()}
        assert np.isnan(arrays["log_prob"]).tolist() == [False, False, True, True]
        assert float(loss) == pytest.approx(-arrays["log_prob"][:2].mean(), rel=1e-4)
        scores, _ = task.score(arrays)
        assert scores["loss"] == pytest.approx(float(loss), rel=1e-4)
        assert task.num_scored(arrays) == 2 and np.isfinite(arrays["quantiles"]).all()

    def test_the_density_is_that_of_numbers_in_their_units(self):
        """A Gaussian of the spread of all images, of a network that says nothing."""
        task = self.task(posterior="gaussian")
        answers = torch.zeros(4, task.spec.num_outputs)
        outputs = task.predict(nn.Identity(), self.batch(answers))
        mean, sd = (np.array(task.state_dict()[name]) for name in ("mean", "sd"))
        first = np.array([1.0, 0.5])
        expected = stats.norm.logpdf(first, mean, sd).sum()
        assert outputs["log_prob"][0].item() == pytest.approx(expected, abs=1e-3)
        assert outputs["sd"][0].numpy() == pytest.approx(sd, rel=1e-3)
        quantiles = stats.norm.ppf(0.95, mean, sd)
        assert outputs["quantiles"][0, :, -1].numpy() == pytest.approx(quantiles, rel=1e-3)
        draws = task.draws(nn.Identity(), self.batch(answers), 4000)[0].numpy()
        assert draws.mean(0) == pytest.approx(mean, rel=0.1)
        assert draws.std(0) == pytest.approx(sd, rel=0.1)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"target": "theta_e"}, "targets: got target too; expected one of them"),
            ({"posterior": "normal"}, "posterior: got 'normal'; allowed: gaussian, flow, null"),
        ],
    )
    def test_options_that_do_not_go_together_are_a_sentence(self, options, says):
        with pytest.raises(ValueError, match=says):
            self.task(**options)

    def test_numbers_that_are_never_known_together_have_no_posterior(self):
        truth = self.TRUTH | {"theta_e": np.array([np.nan, np.nan, 3.0, 4.0])}
        truth["lens"] = truth["lens"].copy()
        truth["lens"][2, 2] = np.nan
        task = build_task("regression", classes=None, targets=["theta_e", "lens.q"],
                          posterior="gaussian")  # fmt: skip
        with pytest.raises(ValueError, match=r"theta_e, lens.q are known together in no image"):
            task.fit_statistics(np.zeros(4), truth)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({}, r"targets: lens.q is unknown in all images, which are scored by it"),
            ({"log10": ["theta_e"]}, r"log10: 1 of 4 images has a theta_e below 0, .* learn"),
        ],
    )
    def test_what_nothing_can_be_scored_by_is_a_sentence(self, options, says):
        theta = np.array([0.0, -2.0, np.nan, 4.0])
        truth = {"theta_e": theta, "lens": np.full((4, 4), np.nan)}
        with pytest.raises(ValueError, match=says):
            self.task(**options).check_truth(truth, scored=True)

    def test_what_is_learnt_from_may_lack_numbers_and_zeros_have_no_logarithm(self):
        truth = {"theta_e": np.array([0.0, 0.0, 1.0, 4.0]), "lens": np.full((4, 4), np.nan)}
        task = self.task(log10=["theta_e"])
        task.check_truth(truth, scored=False)
        assert task.trainable_mask(np.zeros(4), truth).tolist() == [False, False, True, True]
        apart = {"theta_e": np.array([1.0, np.nan]), "lens": np.array([[0, 0, np.nan, 0]] * 2)}
        apart["lens"][1, 2] = 0.5
        task.check_truth(apart, scored=True)
        with pytest.raises(ValueError, match=r"known together in no image, which a posterior"):
            self.task(posterior="gaussian").check_truth(apart, scored=True)

    def test_what_a_flip_changes_wants_images_that_nothing_moves(self):
        assert not self.task().spec.fixed_geometry
        assert build_task("regression", classes=None, targets=["lens.x"]).spec.fixed_geometry


def test_a_posterior_from_training_to_table_and_report(tmp_path):
    """Trained, scored elsewhere alone and as a mixture, predicted, exported and compared."""
    images, targets = make_images(48, 3)
    random = np.random.default_rng(0)
    truth = {"theta_e": 1.0 + targets + 0.1 * random.normal(size=48),
             "lens": random.uniform(0.5, 1, (48, 4))}  # fmt: skip
    for split in ("train", "val"):
        write_shards(tmp_path, split, images, targets, truth=truth)
    write_shards(tmp_path / "other", "test", images[:20], targets[:20],
                 truth={name: values[:20] for name, values in truth.items()})  # fmt: skip
    options = {"targets": ["theta_e", "lens.q"], "posterior": "flow"}
    task = {"name": "regression", "options": options}
    jobs = [make_job(tmp_path, task=task, seed=seed, train={"epochs": 1}) for seed in (0, 1)]
    runs = plan(jobs, tmp_path / "runs")
    for item in runs:
        assert np.isfinite(run(item, device="cpu")["log_prob"])
    paths = [str(item.run.path) for item in runs]
    figures = {path.stem for path in (runs[0].run.path / "figures").iterdir()}
    assert {"coverage", "ranks", "pulls", "predicted"} <= figures
    data = {"root": str(tmp_path / "other")}
    scored = {}
    for name, section in (("alone", {"run": paths[0]}),
                          ("mixed", {"run": paths, "ensemble": True})):  # fmt: skip
        job = Evaluation.model_validate({"name": name, "evaluate": section | {"data": data}})
        (item,) = plan([job], tmp_path / "runs")
        scored[name] = evaluate_run(item, device="cpu"), np.load(item.run.path / "outputs.npz")
    assert np.isfinite(scored["alone"][0]["crps_theta_e"])
    assert np.isfinite(scored["mixed"][0]["log_prob"])
    assert "crps_theta_e" not in scored["mixed"][0]
    predict(paths[0], tmp_path / "other", tmp_path / "one.parquet", samples=40)
    table, kept = pd.read_parquet(tmp_path / "one.parquet"), scored["alone"][1]
    assert table["lens_q"].to_numpy() == pytest.approx(kept["predicted"][:, 1], rel=1e-4)
    assert table["theta_e_q16"].to_numpy() == pytest.approx(kept["quantiles"][:, 0, 1], rel=1e-4)
    draws = np.stack(table["theta_e_draws"])
    assert draws.shape == (20, 40)
    z = (draws.mean(1) - table["theta_e"]) / (table["theta_e_sd"] / 40**0.5)
    assert np.abs(z).max() < 6
    predict(paths, tmp_path / "other", tmp_path / "mixed.csv")
    table = pd.read_csv(tmp_path / "mixed.csv")
    assert table["theta_e_sd"].to_numpy() == pytest.approx(
        scored["mixed"][1]["sd"][:, 0], rel=1e-4
    )
    for runs_, out, says in (
        (paths, "a.parquet", "got an ensemble"),
        (paths[0], "a.csv", "a row has many"),
    ):
        with pytest.raises(JobError, match=f"--samples: .*{says}"):
            predict(runs_, tmp_path / "other", tmp_path / out, samples=3)
    with pytest.raises(JobError, match="its task has parts beside the network"):
        export(paths[0], tmp_path / "onnx", format_="onnx")
    export(paths[0], tmp_path / "model", format_="safetensors")
    assert "a flow of zuko" in (tmp_path / "model" / "README.md").read_text()
    with pytest.raises(JobError, match="tta: a mean over the symmetries is no posterior"):
        plan([make_job(tmp_path, task=task, data={"tta": True})], tmp_path / "runs")
    section = {"run": paths[0], "data": data, "tta": True}
    with pytest.raises(JobError, match="has learnt a posterior, and a mean over"):
        plan([Evaluation.model_validate({"name": "tta", "evaluate": section})], tmp_path / "runs")
    assert collect(tmp_path / "runs", tmp_path / "report").summary.startswith("4 runs: 4 done")
    report = (tmp_path / "report" / "report.md").read_text()
    assert "log probability" in report and "share within 68 % of theta_e" in report
    assert "mixture of the posteriors" in report
