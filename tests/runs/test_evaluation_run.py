"""Evaluations: a finished run scored on labelled shards, as a training is on its test slice."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from conftest import CLASSES, make_images, make_job
from made_shards import write_shards

from deeplense_batch.core.job import Evaluation, JobError, NotYetError
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.report.collect import collect
from deeplense_batch.runs.evaluation_run import evaluate_run
from deeplense_batch.runs.launch import execute
from deeplense_batch.runs.planning.plan import plan, reopen
from deeplense_batch.runs.training_run import run
from deeplense_batch.simulation.simulate import simulate
from deeplense_batch.simulation.truth.known import FILE
from deeplense_batch.simulation.truth.maps import write_truth


def evaluation(path, **section):
    return Evaluation.model_validate(
        {"name": "elsewhere", "evaluate": {"run": str(path), **section}}
    )


def carried_out(job, root):
    (item,) = plan([job], root)
    assert execute(item, device="cpu") == 0
    return item.run


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory):
    """Two seeds of one job."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        (item,) = plan([make_job(shards, seed=seed, train={"epochs": 1})], root)
        run(item, device="cpu")
    return root


@pytest.fixture(scope="module")
def one(runs):
    return next(path for path in (runs / "small").iterdir() if "-s0-" in path.name)


def test_on_its_own_test_slice_a_run_has_the_scores_of_its_training(one, tmp_path):
    directory = carried_out(evaluation(one), tmp_path)
    before, after = (RunDir(path).read_json("metrics.json") for path in (one, directory.path))
    assert after["test"] == before["test"]
    for name in ("logits", "targets", "ids"):
        a, b = (np.load(path / "outputs.npz")[name] for path in (one, directory.path))
        assert np.array_equal(a, b), name
    assert after["evaluated"]["identity"] == before["identity"]
    assert after["identity"] != before["identity"]
    assert {p.name for p in directory.figures.iterdir()} == {
        p.name for p in (one / "figures").iterdir()
    } - {"history.png"}


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Other images, of two of the classes, in another order."""
    images, targets = make_images(90, 77)
    kept = targets > 0
    root = tmp_path_factory.mktemp("others")
    names = CLASSES[:0:-1]
    write_shards(root, "sky", images[kept], len(CLASSES) - 1 - targets[kept], classes=names)
    return root, images[kept], targets[kept]


def test_classes_are_matched_by_name(one, others, tmp_path):
    root, _, targets = others
    directory = carried_out(evaluation(one, data={"root": str(root)}), tmp_path)
    outputs = np.load(directory.path / "outputs.npz")
    assert outputs["classes"].tolist() == list(CLASSES)
    assert sorted(outputs["targets"]) == sorted(targets)
    metrics = directory.read_json("metrics.json")
    right = (outputs["logits"].argmax(1) == outputs["targets"]).mean()
    assert metrics["test"]["scores"]["accuracy"] == pytest.approx(right)
    assert metrics["data"]["test"] == "sky" and metrics["data"]["digest"]
    assert metrics["test"]["class_counts"][CLASSES[0]] == 0


def test_every_run_of_a_folder_is_evaluated_and_collected(runs, others, tmp_path):
    job = evaluation(runs / "small", data={"root": str(others[0])})
    items = plan([job], runs)
    assert [item.job.label for item in items] == ["test_resnet-s0", "test_resnet-s1"]
    for item in items:
        evaluate_run(item, device="cpu")
    report = collect(runs, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    both = {c["test"]: c for c in results["comparisons"]}
    (model,) = both["sky"]["models"]
    assert (model["runs"], model["model"], model["job"]) == (2, "test_resnet", "elsewhere")
    assert len(report.table) == 4
    # An evaluation in the job's own folder is no run to evaluate.
    again = evaluation(runs / "elsewhere", data={"root": str(others[0])})
    with pytest.raises(NotYetError, match="no run there"):
        plan([again], tmp_path)


def test_images_that_the_run_has_learnt_are_noted(one, tmp_path):
    directory = carried_out(evaluation(one, data={"slice": "train[:30]"}), tmp_path)
    notes = directory.read_json("metrics.json")["test"]["notes"]
    assert any("was trained on " in note for note in notes)


def test_done_it_is_not_done_again_and_force_starts_over(one, tmp_path):
    directory = carried_out(evaluation(one), tmp_path)
    before = (directory.path / "metrics.json").stat().st_mtime_ns
    item = reopen(directory.path)
    assert execute(item, device="cpu") == 0
    assert (directory.path / "metrics.json").stat().st_mtime_ns == before
    assert execute(item, device="cpu", force=True) == 0
    assert len([*(directory.path.parent / ".old").iterdir()]) == 1


def test_the_recipe_of_an_evaluation_gives_the_same_evaluation(one, tmp_path):
    (item,) = plan([evaluation(one)], tmp_path)
    item.create()
    (again,) = plan(load_jobs(item.run.path / "job.yaml"), tmp_path)
    assert again.run.path == item.run.path


def test_what_cannot_be_evaluated_is_refused_in_one_sentence(one, runs, others, tmp_path):
    other = tmp_path / "two"
    images, targets = make_images(12, 1)
    for split in ("a", "b"):
        write_shards(other, split, images, targets, classes=("no", "sphere", "new"))
    wide = tmp_path / "wide"
    write_shards(wide, "sky", np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1))), targets)
    for section, error, sentence in (
        ({"run": str(tmp_path / "nothing")}, NotYetError, "no run there"),
        ({"data": {"root": str(other)}}, JobError, "has a, b; name a slice"),
        ({"data": {"root": str(other), "slice": "a"}}, JobError, "has the class 'new'"),
        ({"data": {"root": str(others[0]), "slice": "no"}}, JobError, "has no split 'no'"),
    ):
        with pytest.raises(error, match=sentence):
            plan([evaluation(one, **section)], tmp_path)
    (item,) = plan([evaluation(one, data={"root": str(wide)})], tmp_path)
    with pytest.raises(ValueError, match="has images of 1 x 26 x 26"):
        evaluate_run(item, device="cpu")
    assert item.run.status().reason == "data"


def test_a_recipe_of_evaluations_has_a_grid(one, others, tmp_path):
    recipe = tmp_path / "elsewhere.yaml"
    recipe.write_text(
        f"evaluate: {{run: {one}}}\ngrid: {{evaluate.data.root: [null, {others[0]}]}}\n"
    )
    items = plan(load_jobs(recipe), tmp_path)
    assert [item.job.evaluate.data.slice for item in items] == ["val[50%:]", "sky"]


def test_a_damaged_shard_is_refused(one, others, tmp_path):
    images, targets = make_images(30, 5)
    write_shards(tmp_path / "data", "sky", images, targets)
    (item,) = plan([evaluation(one, data={"root": str(tmp_path / "data")})], tmp_path)
    (file,) = (tmp_path / "data").glob("*.h5")
    content = bytearray(file.read_bytes())
    with h5py.File(file) as opened:
        content[opened["images"].id.get_offset() + 7] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged|digest|changed"):
        evaluate_run(item, device="cpu")


def test_images_without_labels_are_refused_before_they_are_scored(one, tmp_path):
    images, targets = make_images(30, 5)
    write_shards(tmp_path / "data", "sky", images, np.where(np.arange(30) == 7, -1, targets))
    (item,) = plan([evaluation(one, data={"root": str(tmp_path / "data")})], tmp_path)
    with pytest.raises(ValueError, match=r"data: sky: 1 of 30 images has no label"):
        evaluate_run(item, device="cpu")


def test_lenses_are_scored_where_pixels_are_as_wide_as_those_learnt(tmp_path):
    images, targets = make_images(48, 3)
    lens, shear = np.tile([0.0, 0.0, 0.8, 0.3], (48, 1)), np.full((48, 2), 0.02)
    truth = {"theta_e": 1.0 + targets / 10, "lens": lens, "shear": shear}
    for name, scale in (("learnt", 0.1), ("same", 0.1), ("other", 0.05), ("unknown", np.nan)):
        for split in ("train", "val"):
            write_shards(tmp_path / name, split, images, targets, truth=truth, pixel_scale=scale)
    write_shards(tmp_path / "plain", "val", images, targets, pixel_scale=0.05)  # without lenses
    job = make_job(
        tmp_path / "learnt", task={"name": "physics_guided"}, train={"epochs": 1},
        data={"augment": {"dihedral": False}},
    )  # fmt: skip
    (trained,) = plan([job], tmp_path / "runs")
    run(trained, device="cpu")
    for name, came in (("other", "0.05 arcsec"), ("unknown", "unknown width")):
        data = {"root": str(tmp_path / name), "slice": "val"}
        (item,) = plan([evaluation(trained.run.path, data=data)], tmp_path)
        with pytest.raises(ValueError, match=f"has pixels of {came}; .* those of 0.1 arcsec"):
            evaluate_run(item, device="cpu")
    for name in ("same", "plain"):
        data = {"root": str(tmp_path / name), "slice": "val"}
        (item,) = plan([evaluation(trained.run.path, data=data)], tmp_path)
        assert evaluate_run(item, device="cpu")["auc"]


def test_training_and_evaluation_score_by_delta_chi2_where_it_is_known(tmp_path):
    """Of a simulated set with its numbers beside it; a note says where they are of other data."""
    root = tmp_path / "set"
    simulate("substructure", root, preset="varied", images=90, size=48, seed=1)
    truth = root / FILE
    write_truth(root, "val", truth, maps=False)
    slices = {"train": "train", "valid": "val[:40%]", "test": "val[40%:]"}
    (item,) = plan([make_job(root, data=slices, train={"epochs": 1})], tmp_path / "runs")
    run(item, device="cpu")
    trained = item.run.read_json("metrics.json")["test"]
    found = trained["by_delta_chi2"]
    images = found["without"] + sum(one["images"] for one in found["bins"])
    assert images == trained["scored"] and found["without"] == trained["class_counts"]["no"]
    assert (item.run.figures / "auc_by_delta_chi2.png").is_file()
    evaluated = carried_out(evaluation(item.run.path), tmp_path / "same")
    assert evaluated.read_json("metrics.json")["test"]["by_delta_chi2"] == found
    with h5py.File(truth, "r+") as file:
        file.attrs["data"] = "0" * 16
    tested = carried_out(evaluation(item.run.path), tmp_path / "other").read_json("metrics.json")
    assert "by_delta_chi2" not in tested["test"]
    assert any("truth.h5 beside the shards is of other" in n for n in tested["test"]["notes"])
