"""Training sets against test sets: every number against one that is computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from made_transfer import Networks, answers, digest_of, targets_of, three_by_three
from numpy.typing import NDArray
from scipy.stats import t

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.report.compare import compare, name_variants
from deeplense_batch.report.run_table import read_rows
from deeplense_batch.report.statistics.bootstrap import bootstrap, macro_auc
from deeplense_batch.report.studies.transfer import matrices, ranked


def only(root: Path) -> dict:
    (matrix,) = matrices(read_rows(root))
    return matrix


def cell(matrix: dict, training: str, test: str) -> dict:
    (found,) = [c for c in matrix["cells"] if (c["training"], c["test"]) == (training, test)]
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    three_by_three(root)
    return root


@pytest.fixture(scope="module")
def matrix(root):
    return only(root)


def test_rows_are_training_sets_columns_test_sets(matrix):
    assert [(t["name"], t["own"]) for t in matrix["trainings"]] == [
        ("a", "a"), ("b", "b"), ("a + b", "a")
    ]  # fmt: skip
    assert [(t["name"], t["images"]) for t in matrix["tests"]] == [
        ("a", 600), ("b", 450), ("real", 30)
    ]  # fmt: skip
    assert len(matrix["cells"]) == 9 and not matrix["missing"] and not matrix["repeated"]
    owned = {(c["training"], c["test"]) for c in matrix["cells"] if c["own"]}
    assert owned == {("a", "a"), ("b", "b"), ("a + b", "a")}


def test_a_cell_is_the_mean_over_its_seeds(matrix):
    skills = {("a", "a"): 2.2, ("a", "b"): 0.9, ("a + b", "real"): 0.9}
    for (training, test), skill in skills.items():
        images = {"a": 600, "b": 450, "real": 30}[test]
        outputs = [softmax(answers(test, images, skill, seed)) for seed in (0, 1)]
        targets = targets_of(images)
        found = cell(matrix, training, test)
        accuracy = np.mean([(p.argmax(1) == targets).mean() for p in outputs])
        assert found["accuracy"] == pytest.approx(accuracy)
        statistics = [macro_auc(targets, p) for p in outputs]
        auc = np.mean([one(np.ones((images, 1), np.uint16))[0] for one in statistics])
        assert found["auc"] == pytest.approx(auc)
        assert found["auc_low"] < auc < found["auc_high"]
        assert len(found["runs"]) == 2 and found["interval"] == "samples and seeds"


def test_so_few_images_have_wide_intervals(matrix):
    widths = {c["test"]: c["auc_high"] - c["auc_low"] for c in matrix["cells"]}
    assert widths["real"] > 0.2 > 5 * widths["a"]


SKILLS = {("a", "a"): 2.2, ("a", "b"): 0.9, ("b", "a"): 1.2, ("b", "b"): 2.0}


def one_seed(root: Path, skills: dict[tuple[str, str], float]) -> dict:
    """A matrix without any noise of training that is known."""
    networks = Networks(root, {"a": 200, "b": 160})
    for data, other in (("a", "b"), ("b", "a")):
        networks.evaluate(networks.train(data, 0, skills[data, data]), other, skills[data, other])
    return only(root)


def test_differences_and_losses_are_those_of_a_direct_bootstrap(tmp_path):
    matrix = one_seed(tmp_path, SKILLS)
    images = {"a": 200, "b": 160}

    def resampled(training, test, seed):
        logits = answers(test, images[test], SKILLS[training, test], 0)
        targets = targets_of(images[test])
        return bootstrap([macro_auc(targets, softmax(logits))], targets, seed=seed)[0]

    paired = resampled("b", "a", 7) - resampled("a", "a", 7)  # the same images
    found = cell(matrix, "b", "a")
    value = found["auc"] - cell(matrix, "a", "a")["auc"]
    assert found["reference"] == "a" and found["difference"] == pytest.approx(value)
    half = (found["difference_high"] - found["difference_low"]) / 2
    assert half == pytest.approx(1.97 * paired.std(ddof=1), rel=0.05)

    apart = resampled("a", "a", 8) - resampled("a", "b", 9)  # other images
    found = cell(matrix, "a", "b")
    value = cell(matrix, "a", "a")["auc"] - found["auc"]
    assert found["loss"] == pytest.approx(value) and found["loss_covers"] == "samples"
    half = (found["loss_high"] - found["loss_low"]) / 2
    assert half == pytest.approx(1.97 * apart.std(ddof=1), rel=0.05)
    assert found["loss_resolved"] and found["loss_runs"] == 1
    assert cell(matrix, "a", "a")["loss"] is None


def test_p_values_of_losses_are_adjusted_over_the_matrix(tmp_path):
    skills = SKILLS | {("a", "b"): 1.85, ("b", "a"): 1.7}
    matrix = one_seed(tmp_path, skills)
    raw = {}
    for training, test in (("a", "b"), ("b", "a")):
        found = cell(matrix, training, test)
        half, freedom = (found["loss_high"] - found["loss_low"]) / 2, 350  # or so, of 360 images
        p = 2 * t.sf(abs(found["loss"]) / half * t.ppf(0.975, freedom), freedom)
        raw[p] = found
    least, most = sorted(raw)
    assert 1e-6 < least < most / 2  # else the test shows nothing
    assert raw[least]["loss_p"] == pytest.approx(2 * least, rel=0.05)
    assert raw[most]["loss_p"] == pytest.approx(most, rel=0.05)


def test_cells_without_runs_and_runs_that_are_missing_are_said(tmp_path):
    networks = Networks(tmp_path, {"a": 90, "b": 60, "c": 60})
    for seed in (0, 1):
        run = networks.train("a", seed, 2.0)
        if seed == 0:
            networks.evaluate(run, "b", 1.0)
    networks.train("b", 0, 2.0)
    matrix = only(tmp_path)
    assert matrix["missing"] == [
        {"training": "a", "test": "b", "runs": 1, "of": 2},
        {"training": "b", "test": "a", "runs": 0, "of": 1},
    ]
    assert cell(matrix, "a", "b")["loss_runs"] == 1  # of the network that is on both


def test_a_network_counts_once_however_often_it_was_scored(tmp_path):
    networks = Networks(tmp_path, {"a": 90, "b": 60})
    run = networks.train("a", 0, 2.0)
    networks.evaluate(run, "b", 1.0)
    again = networks.evaluate(run, "a", 2.0)  # once more on its own test slice
    matrix = only(tmp_path)
    assert matrix["repeated"] == [str(again.path)]
    found = cell(matrix, "a", "a")
    assert found["runs"] == [str(run.path)] and found["evaluations"] == []
    rows = read_rows(tmp_path)
    name_variants(rows)
    (models,), (alone,) = ranked(rows, [matrix])  # nor is it ranked with itself
    assert alone[1:] == ("resnet18", "a", "b")
    assert [[row["run"] for row in model.runs] for model in models] == [[str(run.path)]]


def test_sets_of_one_name_are_told_apart(tmp_path):
    networks = Networks(tmp_path, {"a": 90, "b": 60})
    run = networks.train("a", 0, 2.0)
    networks.evaluate(run, "b", 1.0)
    networks.evaluate(run, "a", 2.0, "val[:50%]")
    assert [t["name"] for t in only(tmp_path)["tests"]] == ["a, val[50%:]", "a, val[:50%]", "b"]
    other = networks.evaluate(run, "b", 0.5, "val")
    job = (other.path / "job.yaml").read_text().replace("/data/b", "/elsewhere/b")
    (other.path / "job.yaml").write_text(job)
    metrics = other.read_json("metrics.json")
    metrics["data"]["digest"] = digest_of("another")
    other.write_json("metrics.json", metrics)
    named = {t["name"] for t in only(tmp_path)["tests"]}
    assert {f"b, {digest_of('b')[:8]}", f"b, {digest_of('another')[:8]}"} < named


def test_one_set_seen_in_two_ways_is_two_rows_with_names(tmp_path):
    networks = Networks(tmp_path, {"a": 90, "b": 60})
    for seed, channels in enumerate((None, [0], "mean")):
        run = networks.train("a", seed, 2.0)
        job = yaml.safe_load((run.path / "job.yaml").read_text())
        job["data"]["channels"] = channels
        (run.path / "job.yaml").write_text(yaml.safe_dump(job))
        networks.evaluate(run, "b", 1.0)
    matrix = only(tmp_path)
    assert [t["name"] for t in matrix["trainings"]] == ["a", "a, channels [0]", "a, channels mean"]
    assert matrix["trainings"][2]["details"] == {
        "data.channels": "mean", "data.valid": "val[:50%]"
    }  # fmt: skip
    assert all(len(c["runs"]) == 1 for c in matrix["cells"]) and not matrix["missing"]


def test_two_networks_of_one_seed_are_said(tmp_path):
    networks = Networks(tmp_path, {"a": 90, "b": 60})
    networks.evaluate(networks.train("a", 0, 2.0), "b", 1.0)
    assert only(tmp_path)["notes"] == []
    made_by_another_version = Networks(tmp_path / "other", {"a": 90}).train("a", 0, 1.0)
    other = RunDir(tmp_path / "demo" / f"resnet18-s0-{'f' * 10}")
    made_by_another_version.path.rename(other.path)
    other.write_json("metrics.json", other.read_json("metrics.json") | {"identity": "f" * 10})
    (note,) = only(tmp_path)["notes"]
    assert note.startswith("trained on a: 2 networks have seed 0, and no field")


def test_scores_over_symmetries_are_said_to_be_left_out(tmp_path):
    networks = Networks(tmp_path, {"a": 90, "b": 60, "c": 60})
    run = networks.train("a", 0, 2.0)
    runs = [run, networks.evaluate(run, "b", 1.0), networks.evaluate(run, "c", 1.0)]
    for one, tta in zip(runs, (False, False, True), strict=True):
        metrics = one.read_json("metrics.json")
        metrics["test"]["tta"] = tta
        one.write_json("metrics.json", metrics)
    (plain,) = matrices(read_rows(tmp_path))
    assert [test["name"] for test in plain["tests"]] == ["a", "b"]
    assert plain["notes"] == [
        "left out: 1 run that scores these networks with the mean over the symmetries of the "
        "square (tta); see the table of all runs"
    ]


@pytest.mark.parametrize("slice_", ["val[50%:]", "val"])
def test_there_is_no_matrix_without_other_data(tmp_path, slice_):
    """Neither of trainings alone, nor of an evaluation on a slice of a network's own data."""
    networks = Networks(tmp_path, {"a": 90, "b": 60})
    networks.train("b", 0, 2.0)
    networks.evaluate(networks.train("a", 0, 2.0), "a", 1.5, slice_)
    assert matrices(read_rows(tmp_path)) == []


def test_losses_without_predictions_have_no_interval(tmp_path):
    networks = Networks(tmp_path, {"a": 90, "b": 60})
    run = networks.train("a", 0, 2.0)
    (networks.evaluate(run, "b", 1.0).path / "outputs.npz").unlink()
    matrix = only(tmp_path)
    found = cell(matrix, "a", "b")
    assert found["loss"] > 0 and found["loss_resolved"] is None and found["loss_p"] is None
    assert found["interval"] == "Hanley-McNeil"
    assert matrix["notes"] == [
        "tested on b: no bootstrap interval: outputs.npz is missing (all models)"
    ]


def test_only_evaluations_of_one_model_lose_their_section(root):
    rows = read_rows(root)
    found = matrices(rows)
    name_variants(rows)
    every, (kept, beside) = compare(rows), ranked(rows, found)
    left_out = [models for models in every if models not in kept]
    assert [len(models) for models in left_out] == [1, 1]  # of b, tested on a and on real
    assert all("evaluated" in run for models in left_out for run in models[0].runs)
    assert [one.models for one in beside] == left_out  # which are studied all the same
    assert {one[1:] for one in beside} == {("resnet18", "b", "a"), ("resnet18", "b", "real")}
    assert ranked(rows, []) == (every, [])


def regress(run: RunDir, data: str, images: int, error: float) -> NDArray:
    """Let a run have predicted a number, with an error; the squares of it."""
    true = np.random.default_rng(int(digest_of(data), 16) % 2**32).normal(size=images)
    predicted = true + error * np.random.default_rng(images).normal(size=images)
    ids = [f"{data}/{i}" for i in range(images)]
    np.savez(run.path / "outputs.npz", classes=["no"], ids=ids, targets=np.zeros(images, int),
             true=true, predicted=predicted)  # fmt: skip
    metrics = run.read_json("metrics.json")
    squares = (predicted - true) ** 2
    scores = {"r2": 1 - squares.mean() / true.var(), "mae": np.abs(predicted - true).mean()}
    metrics["valid"] |= {"monitor": "r2", "scores": {"r2": 0.9}}
    metrics["test"]["scores"] = scores | {"bias": (predicted - true).mean()}
    run.write_json("metrics.json", metrics)
    return squares / true.var()


def test_a_regression_has_its_own_scores(tmp_path):
    networks = Networks(tmp_path, {"a": 400, "b": 300})
    run = networks.train("a", 0, 2.0)
    there = regress(networks.evaluate(run, "b", 1.0), "b", 300, 0.6)
    here = regress(run, "a", 400, 0.2)
    matrix = only(tmp_path)
    found = cell(matrix, "a", "b")
    assert matrix["score"] == "r2" and "auc" not in found
    assert found["r2"] == pytest.approx(1 - there.mean())
    assert found["r2_low"] < found["r2"] < found["r2_high"] and found["mae_low"] < found["mae"]
    assert found["loss"] == pytest.approx(there.mean() - here.mean())
    error = np.hypot(here.std() / 20, there.std() / np.sqrt(300))  # the truth's spread adds some
    half = (found["loss_high"] - found["loss_low"]) / 2
    assert 0.8 < half / (1.97 * error) < 1.5 and found["loss_resolved"]
