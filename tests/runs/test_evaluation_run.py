"""Evaluations: a finished run scored on labelled shards, as a training is on its test slice."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
from conftest import CLASSES, make_images, make_job
from made_runs import untrained
from made_shards import write_shards

from deeplense_batch.core.job import Evaluation, JobError, NotYetError, Resources
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.report.collect import collect
from deeplense_batch.report.studies.transfer import doubt
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
    (matrix,), (study,) = results["transfer"], results["studies"]
    assert matrix["model"] == study["model"] == "test_resnet"
    (cell,) = [cell for cell in matrix["cells"] if cell["test"] == study["test"]]
    assert cell["evaluations"] == [str(item.run.path) for item in items]
    assert [ensemble["members"] for ensemble in study["ensembles"]] == [2]
    assert len(report.table) == 4
    # An evaluation in the job's own folder is no run to evaluate.
    again = evaluation(runs / "elsewhere", data={"root": str(others[0])})
    with pytest.raises(NotYetError, match="no run there"):
        plan([again], tmp_path)


def test_images_that_the_run_has_learnt_are_noted_and_warned_of(one, tmp_path, caplog):
    directory = carried_out(evaluation(one, data={"slice": "train[:30]"}), tmp_path)
    notes = directory.read_json("metrics.json")["test"]["notes"]
    (note,) = (note for note in notes if "was trained on " in note)
    assert f"{one.parent.name}/{one.name}: {note}" in caplog.messages


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
        (
            {"data": {"root": str(other), "slice": "a"}},
            JobError,
            "classes no, sphere, new, and .* has learnt no, sphere, vort; it does not know",
        ),
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
    with pytest.raises(JobError, match=r"data: sky: 29 of 30 images have a label, which"):
        plan([evaluation(one, data={"root": str(tmp_path / "data")})], tmp_path)


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


def honest(run, outputs):
    """Probabilities of what a run answered, by its own temperature."""
    scores = RunDir(run).read_json("metrics.json")["test"]["scores"]
    odds = np.exp(outputs["logits"].astype(np.float64) / scores["temperature"])
    return odds / odds.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def ensemble(runs, others, tmp_path_factory):
    """Both seeds as one, on other images; and each alone."""
    root, data = tmp_path_factory.mktemp("ensemble"), {"root": str(others[0])}
    alone = [
        carried_out(evaluation(path, data=data), root)
        for path in sorted((runs / "small").iterdir())
    ]
    together = evaluation(runs / "small", data=data, ensemble=True)
    return carried_out(together, root), alone, together


def test_an_ensemble_is_the_mean_of_its_members_calibrated_scores(ensemble, runs):
    together, alone, _ = ensemble
    found = np.load(together.path / "outputs.npz")
    members = [np.load(one.path / "outputs.npz") for one in alone]
    each = [
        honest(RunDir(one.path).read_json("metrics.json")["evaluated"]["run"], outputs)
        for one, outputs in zip(alone, members, strict=True)
    ]
    mean = np.mean(each, 0)
    assert np.exp(found["logits"]) == pytest.approx(mean, abs=1e-6)
    assert found["spread"] == pytest.approx(np.std(each, 0, ddof=1), abs=1e-6)
    for name in ("ids", "targets", "classes"):
        assert found[name].tolist() == members[0][name].tolist()
    scores = together.read_json("metrics.json")["test"]["scores"]
    right = mean.argmax(1) == members[0]["targets"]
    assert scores["accuracy"] == pytest.approx(right.mean())
    truth = mean[np.arange(len(mean)), members[0]["targets"]]
    assert scores["nll"] == pytest.approx(-np.log(truth).mean(), abs=1e-5)


def test_the_result_of_an_ensemble_names_its_members(ensemble, runs):
    together, alone, _ = ensemble
    metrics = together.read_json("metrics.json")
    members = [RunDir(path).read_json("metrics.json") for path in (runs / "small").iterdir()]
    assert metrics["model"] == "test_resnet x2" and together.path.name.startswith("test_resnet_x2")
    identities = {one["identity"] for one in members}
    assert {one["identity"] for one in metrics["evaluated"]["members"]} == identities
    assert {str(path) for path in (runs / "small").iterdir()} == {
        one["run"] for one in metrics["evaluated"]["members"]
    }
    cost = [one["cost"] for one in members]
    assert metrics["cost"]["train_seconds"] == pytest.approx(sum(c["train_seconds"] for c in cost))
    assert metrics["cost"]["parameters"] == sum(c["parameters"] for c in cost)
    # Its score on the validation slice is that of the mean of what the members answered there.
    files = [np.load(path / "validated.npz") for path in sorted((runs / "small").iterdir())]
    paths = sorted((runs / "small").iterdir())
    mean = np.mean([honest(path, file) for path, file in zip(paths, files, strict=True)], 0)
    right = (mean.argmax(1) == files[0]["targets"]).mean()
    assert metrics["valid"]["scores"]["accuracy"] == pytest.approx(right)
    assert metrics["valid"]["epoch"] is None
    assert {p.name for p in together.figures.iterdir()} == {
        p.name for p in alone[0].figures.iterdir()
    }


def test_two_processes_answer_as_one_and_leave_the_telling_to_it(ensemble, tmp_path, capfd):
    together, _, job = ensemble
    plan([job], tmp_path)[0].create()  # of one process, as another evaluate has left it
    job = job.model_copy(update={"resources": Resources(gpus=0, processes=2)})
    shared = carried_out(job, tmp_path)
    out, err = capfd.readouterr()
    assert "AUC" not in out  # where the Gloo of torch 2.8 says that it is connected
    assert "test AUC" in err and "WORLD_SIZE" not in err
    assert shared.path.name == together.path.name
    one, two = (np.load(run.path / "outputs.npz") for run in (together, shared))
    assert one.files == two.files
    for name in ("ids", "targets", "classes"):
        assert np.array_equal(one[name], two[name]), name
    for name in ("logits", "spread"):
        assert two[name] == pytest.approx(one[name], abs=1e-6), name
    a, b = (run.read_json("metrics.json")["test"] for run in (together, shared))
    assert a["scores"].keys() == b["scores"].keys() and a["notes"] == b["notes"]


def test_reports_read_an_ensemble_as_a_model_of_its_own(ensemble, tmp_path):
    together = ensemble[0]
    report = collect(together.path.parent, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    models = {model["model"] for c in results["comparisons"] for model in c["models"]}
    assert models == {"test_resnet x2", "test_resnet"}
    (row,) = (row for row in results["rows"] if row["run"] == str(together.path))
    assert (row["task"], row["seed"], row["state"]) == ("classification", 0, "done")
    assert row["best_epoch"] is None and report.complete


def test_a_recipe_of_ensembles_and_data_has_a_grid(runs, others, tmp_path):
    paths = sorted((runs / "small").iterdir())
    recipe = tmp_path / "elsewhere.yaml"
    recipe.write_text(
        f"evaluate: {{run: x, ensemble: true}}\ngrid: {{evaluate.run: [{runs / 'small'}, "
        f"[{paths[1]}, {paths[0]}]], evaluate.data.root: [null, {others[0]}]}}\n"
    )
    items = plan(load_jobs(recipe), tmp_path)
    assert [item.job.evaluate.data.slice for item in items] == ["val[50%:]", "sky"]
    assert {item.job.evaluate.run for item in items} == {tuple(map(str, paths))}
    recipe.write_text(f"evaluate: {{run: [{paths[1]}, {paths[0]}]}}\n")
    assert [item.job.evaluate.run for item in plan(load_jobs(recipe), tmp_path)] == [
        str(paths[1]), str(paths[0]),
    ]  # fmt: skip


def test_a_run_alone_is_no_ensemble_before_anything_runs(one, runs, shards, tmp_path, caplog):
    with pytest.raises(JobError, match=f"elsewhere: evaluate.run: {one} alone is no ensemble"):
        plan([evaluation(one, ensemble=True)], tmp_path)
    # In a folder of several recipes it is left out, and named.
    shutil.copytree(runs / "small", tmp_path / "small")
    lonely = untrained(make_job(shards, train={"epochs": 2}), tmp_path).run.path
    items = plan([evaluation(tmp_path / "small", ensemble=True)], tmp_path / "runs")
    assert [item.job.label for item in items] == ["test_resnet x2"]
    assert f"left out {lonely}, which no other run differs from in its seed" in caplog.text


def test_symmetries_are_averaged_where_it_is_asked_for(one, tmp_path):
    items = {tta: plan([evaluation(one, tta=tta)], tmp_path)[0] for tta in (None, False, True)}
    # What the run does without being asked is one evaluation, however it is asked for.
    assert items[None].run.path == items[False].run.path != items[True].run.path
    for item in items.values():
        evaluate_run(item, device="cpu")
    plain, on = (np.load(items[tta].run.path / "outputs.npz")["logits"] for tta in (None, True))
    assert np.abs(on - plain).max() > 1e-3
    assert items[True].run.read_json("metrics.json")["test"]["tta"] is True


def test_the_images_of_another_unit_are_warned_of_and_noted(one, shards, tmp_path, caplog):
    images, targets = make_images(30, 5)
    write_shards(tmp_path / "counts", "sky", images.astype(np.float32) * 5000, targets)
    directory = carried_out(evaluation(one, data={"root": str(tmp_path / "counts")}), tmp_path)
    assert caplog.text.count("are they in the same unit?") == 1
    notes = directory.read_json("metrics.json")["test"]["notes"]
    assert [note for note in notes if note.startswith("unit: ") and "same unit?" in note]
    assert doubt([{"notes": notes}]) == "another unit"  # what a report marks its score with
