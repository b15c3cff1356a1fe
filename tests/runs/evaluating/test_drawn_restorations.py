"""A run that draws images of inputs, evaluated as a restoration."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import make_job
from made_restoration import drawer, restorer, write_rings
from made_runs import untrained

from deeplense_batch.core.job import Evaluation, JobError
from deeplense_batch.core.result import read_metrics
from deeplense_batch.data.shards import open_split
from deeplense_batch.inference.generation.sample import sample
from deeplense_batch.inference.trained import TrainedError
from deeplense_batch.report.collect import collect
from deeplense_batch.runs.evaluation_run import evaluate_run
from deeplense_batch.runs.planning.plan import plan

DRAWN = {"samples": 6, "sampler": "ddim", "steps": 3}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run that draws, one that restores, a classifier and an evaluation."""
    root = tmp_path_factory.mktemp("drawn")
    pairs = write_rings(root / "pairs")
    made = {"drawer": drawer(pairs, root / "runs", name="drawer")}
    made["restorer"] = restorer(pairs, root / "runs", name="restorer")
    made["classifier"] = untrained(make_job(pairs, name="classifier"), root / "others").run.path
    made["root"] = root
    (made["item"],) = plan([evaluation(made)], root / "runs")
    evaluate_run(made["item"], device="cpu")
    return made


def evaluation(runs, **fields):
    section = {"run": str(runs["drawer"]), "classifier": str(runs["classifier"])}
    return Evaluation.model_validate({"name": "tested", "evaluate": section | DRAWN | fields})


def test_the_mean_is_scored_as_a_restoration_and_the_samples_by_coverage(runs):
    item = runs["item"]
    metrics, outputs = read_metrics(item.run), np.load(item.run.path / "outputs.npz")
    scores = metrics["test"]["scores"]
    split = open_split(item.run.path / "samples", "drawn")
    samples = np.stack([*split.images()])[np.argsort(split.truth("index"))]
    samples = samples.reshape(-1, 6, 1, 32, 32)
    test = open_split(runs["root"] / "pairs", "val[50%:]")
    truth, clean = (np.stack([*one.images()]) for one in (test, test.of("clean")))
    assert len(samples) == len(truth) == 12
    error = ((samples.mean(1) - truth) ** 2).mean((1, 2, 3))
    assert np.allclose(outputs["mse"], error, rtol=1e-3)
    apart = np.abs(samples[:, :, None] - samples[:, None]).sum((1, 2)) / (2 * 6 * 5)
    for name, of in (("pixel_crps", truth), ("pixel_crps_clean", clean)):
        crps = np.abs(samples - of[:, None]).mean(1) - apart
        assert scores[name] == pytest.approx(crps.mean(), rel=1e-3)
    outside = (truth < samples.min(1)) | (truth > samples.max(1))
    assert scores["outside"] == pytest.approx(outside.mean(), abs=1e-3)
    assert scores["coverage_68"] is not None and scores["coverage_95"] is None
    assert outputs["ranks"].shape == (12, 7) and np.allclose(outputs["ranks"].sum(1), 1)
    names = {"psnr_fitted", "gain_clean", "ring_error", "seen_auc_restored", "spread"}
    assert names <= {name for name, value in scores.items() if value is not None}
    figures = {path.stem for path in item.run.figures.iterdir()}
    assert {"samples", "ranks", "restored", "spectrum", "physics"} <= figures
    said = " ".join(metrics["test"]["notes"])
    assert "the mean of 6 samples, by ddim with 3 steps" in said
    assert "coverage_95: needs 39 samples of each image, got 6" in said


def test_the_report_holds_it_beside_networks_that_restore(runs):
    collect(runs["root"] / "runs", runs["root"] / "report")
    report = json.loads((runs["root"] / "report" / "results.json").read_text())
    (comparison,) = [c for c in report["comparisons"] if c.get("restored")]
    labels = {row["label"] for row in comparison["restored"] if row["kind"] == "network"}
    assert len(labels) == 2 and any("unet" in label for label in labels)
    fitted = [row for row in comparison["restored"] if row["label"] == "bicubic, fitted"]
    scores = read_metrics(runs["item"].run)["test"]["scores"]
    assert fitted[0]["psnr"] == pytest.approx(scores["psnr_fitted"], abs=1e-3)
    (row,) = [row for row in comparison["restored"] if "outside" in row]
    assert row["outside"] == scores["outside"] and row["coverage_95"] is None
    page = (runs["root"] / "report" / "report.md").read_text()
    assert "How sure restored images are" in page and "in the central 68 %" in page


def test_it_is_evaluated_anew_with_other_samples_and_once_with_the_same(runs):
    again, other = plan([evaluation(runs), evaluation(runs, samples=7)], runs["root"] / "runs")
    assert again.run.path == runs["item"].run.path != other.run.path
    assert evaluate_run(again, device="cpu")["psnr"] == pytest.approx(
        read_metrics(runs["item"].run)["test"]["scores"]["psnr"]
    )
    assert not other.run.path.exists()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"images": 9}, "evaluate.images: .* draws samples of every image of a slice"),
        ({"guidance": 2.0}, "evaluate.guidance: .* as it has learnt; leave it out"),
        ({"tta": True}, "evaluate.tta: .* generates images"),
    ],
)
def test_what_it_cannot_be_asked_for_is_one_sentence(runs, fields, sentence):
    with pytest.raises(JobError, match=sentence):
        plan([evaluation(runs, **fields)], runs["root"] / "other")


def test_a_classifier_is_not_shown_images_that_were_drawn_of_their_class(runs):
    task = {"name": "generation", "options": {"conditions": ["class", "input"]}}
    told = drawer(runs["root"] / "pairs", runs["root"] / "told", name="told", task=task)
    with pytest.raises(JobError, match=r"evaluate.classifier: .* draws images of their class"):
        plan([evaluation(runs | {"drawer": told})], runs["root"] / "other")


def test_samples_of_runs_that_restore_and_images_of_nothing_are_refused(runs):
    with pytest.raises(JobError, match=r"evaluate.samples: .* generates no images"):
        plan([evaluation(runs | {"drawer": runs["restorer"]}, sampler="dpmpp", steps=25)],
             runs["root"] / "other")  # fmt: skip
    with pytest.raises(TrainedError, match="draws images of inputs, and of none without"):
        sample(runs["drawer"], runs["root"] / "new", images=8)
