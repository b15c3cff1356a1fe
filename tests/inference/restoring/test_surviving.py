"""What a classifier sees in restored images, and the evaluation that asks it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_job
from made_restoration import classifier, restorer, write_rings
from made_runs import untrained
from made_sets import write_set

from deeplense_batch.core.job import Evaluation, JobError
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.inference.restoring.restore import restore
from deeplense_batch.inference.restoring.surviving import seen_in
from deeplense_batch.inference.trained import open_trained
from deeplense_batch.runs.evaluation_run import evaluate_run
from deeplense_batch.runs.planning.plan import plan

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("surviving")
    pairs = write_rings(folder / "pairs")
    return pairs, restorer(pairs, folder / "runs"), classifier(pairs, folder / "runs")


def evaluation(run, **section):
    return Evaluation.model_validate({"name": "e", "evaluate": {"run": str(run), **section}})


def logits_of(run, images):
    """What a classifier says of images in the units of its set."""
    trained = open_trained(run)
    with torch.inference_mode():
        return trained.model(trained.transform(torch.from_numpy(images))).numpy()


def test_the_classifier_is_asked_for_each_kind_of_image_in_the_units_of_the_set(made, tmp_path):
    pairs, run, judge = made
    split = open_split(pairs, "val")
    found = seen_in(open_trained(run), open_trained(judge), split, CPU)
    assert np.array_equal(found["seen_targets"], split.targets())
    restore(run, pairs, tmp_path / "out", slice_="val", device="cpu")
    assert open_trained(judge).transform != open_trained(run).transform
    for name, images in {
        "truth": split.images(),
        "clean": split.of("clean").images(),
        "restored": open_split(tmp_path / "out", "val").images(),
    }.items():
        assert np.allclose(found[f"seen_{name}"], logits_of(judge, images), atol=2e-3), name
    assert not np.allclose(found["seen_fitted"], found["seen_restored"], atol=1e-4)


def test_a_classifier_of_other_images_is_refused(made, tmp_path):
    pairs, run, _ = made
    small = untrained(make_job(pairs, data={"crop": 16}), tmp_path).run.path
    assert seen_in(open_trained(run), open_trained(small), open_split(pairs, "val"), CPU)
    other = untrained(make_job(write_set(tmp_path / "set")), tmp_path).run.path
    with pytest.raises(ShardError, match=r"has images of 1 x 32 x 32 .*takes 1 x"):
        seen_in(open_trained(run), open_trained(other), open_split(pairs, "val"), CPU)


def test_an_evaluation_asks_it_and_scores_what_it_sees(made):
    pairs, run, judge = made
    data = {"root": str(pairs), "slice": "train[:12]"}
    job = evaluation(run, classifier=str(judge), data=data)
    (item,) = plan([job], run.parent.parent)
    scores = evaluate_run(item, device="cpu")
    names = ("clean", "truth", "restored", "fitted")
    notes = item.run.read_json("metrics.json")["test"]["notes"]
    for who in ("network", "classifier"):
        assert any(f"the {who} was trained on 12 of these 12 images" in note for note in notes)
    assert all(0 <= scores[f"seen_auc_{name}"] <= 1 for name in names)
    assert scores["psnr"] > scores["psnr_nearest"]
    outputs = np.load(item.run.path / "outputs.npz")
    assert outputs["psnr"].shape == (12,) and outputs["shown_restored"].shape[0] == 5
    assert {path.name for path in item.run.figures.iterdir()} == {
        "restored.png", "spectrum.png", "physics.png",
    }  # fmt: skip


def test_evaluations_that_make_no_sense_are_refused_before_they_run(made, tmp_path):
    pairs, run, judge = made
    plain = write_rings(tmp_path / "plain", labelled=False)
    restore(run, pairs, tmp_path / "restored", device="cpu")
    for section, says in (
        ({"images": 8}, "evaluate.images: .* generates no images"),
        ({"tta": True}, "evaluate.tta: .* restores images, of which no mean"),
        ({"ensemble": True}, "makes images|alone is no ensemble"),
        ({"data": {"root": str(tmp_path / "restored"), "slice": "val"}},
         "restored: val: has no inputs beside its images.* expected a set of pairs"),
        ({"data": {"root": str(plain), "slice": "val"}, "classifier": str(judge)},
         "evaluate.classifier: .* tells whole, half apart, and the images have no classes"),
    ):  # fmt: skip
        with pytest.raises(JobError, match=f"e: .*(?:{says})"):
            plan([evaluation(run, **section)], tmp_path)
    with pytest.raises(JobError, match=r"classifier: .* restores no .* or restoration$"):
        plan([evaluation(judge, classifier=str(judge))], tmp_path)
