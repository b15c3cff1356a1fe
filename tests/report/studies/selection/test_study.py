"""Selection functions of runs: columns, bins, classes that have a quantity, refusals."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import typed
from made_folds import FOLDS, SAMPLES, fold_run
from made_runs import make_run
from made_shards import write_shards
from sklearn.metrics import roc_auc_score

from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.data.shards import data_digest, open_split
from deeplense_batch.report.catalogue import keep
from deeplense_batch.report.collect import collect
from deeplense_batch.report.run_table import CollectError
from deeplense_batch.report.studies.selection.study import Wanted, read_wanted

N = 400
LENS = np.arange(N) % 2 == 1
RANDOM = np.random.default_rng(2)
THETA = np.where(LENS, RANDOM.uniform(0.5, 2.0, N), 0.0)  # as simulated sets have it
CATALOGUE = {
    "mag": RANDOM.uniform(18, 24, N),
    "field": np.array([f"field {i % 3}" for i in range(N)], object),
    "name": np.array([f"J{i}" for i in range(N)], object),
    "dust": np.full(N, np.nan),
}
LOGITS = np.stack([np.zeros(N), 3 * (THETA - 0.8) + RANDOM.normal(size=N)], 1)  # finds wide ones


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    images = np.ones((N, 1, 4, 5), np.uint16)
    write_shards(root, "test", images, LENS.astype(int), ("galaxy", "lens"),
                 truth={"theta_e": THETA}, catalogue=CATALOGUE)  # fmt: skip
    return root


def search(root, data, name="finder", *, logits=LOGITS, threshold=0.5, **numbers):
    """A finished search for lenses on those images."""
    run = make_run(root, name, digest=data_digest(data), place=str(data), test="test", **numbers)
    metrics = run.read_json("metrics.json")
    metrics |= {"learns": "lens"}
    metrics["test"]["scores"] |= {"threshold": threshold}
    run.write_json("metrics.json", metrics)
    job = (run.path / "job.yaml").read_text().replace("name: classification", "name: detection")
    (run.path / "job.yaml").write_text(job)
    split = open_split(data, "test")
    np.savez(run.path / "outputs.npz", classes=np.array(["galaxy", "lens"]), logits=logits,
             ids=np.array(split.ids()), targets=split.targets())  # fmt: skip
    keep(run.path, split)
    return run


def studied(tmp_path, *by):
    collect(tmp_path / "runs", tmp_path / "report", by=by)
    content = json.loads((tmp_path / "report" / "results.json").read_text())
    (comparison,) = content["comparisons"]
    return comparison["by"]


def test_completeness_by_the_einstein_radius(data, tmp_path):
    search(tmp_path / "runs", data)
    found = studied(tmp_path, "theta_e")["theta_e"]
    counts = found["counts"]["lens"]
    assert sum(counts) == 200 and set(counts) <= {33, 34} and [*found["counts"]] == ["lens"]
    assert len(found["labels"]) == 6 and found["equal"] and found["without"] == {"galaxy": 200}
    assert (found["unknown"], found["outside"], found["searched"]) == (0, 0, "lens")
    (model,) = found["models"]
    score = softmax(LOGITS)[:, 1]
    edges = np.quantile(THETA[LENS], np.arange(7) / 6)
    assert found["edges"] == pytest.approx(edges)
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        here = LENS & (low <= THETA) & ((high > THETA) | ((k == 5) & (high == THETA)))
        assert found["medians"][k] == pytest.approx(np.median(THETA[here]))
        cell = model["numbers"]["completeness"][k]
        assert cell["value"] == pytest.approx((score[here] >= 0.5).mean())
        assert cell["low"] <= cell["value"] <= cell["high"]
        area = model["numbers"]["auc"][k]["value"]
        both = here | ~LENS
        assert area == pytest.approx(roc_auc_score(LENS[both], score[both]))
    complete = [cell["value"] for cell in model["numbers"]["completeness"]]
    assert complete[0] < 0.6 and complete[-1] > 0.95


def test_purity_where_the_others_have_it_too_and_given_edges(data, tmp_path):
    search(tmp_path / "runs", data)
    found = studied(tmp_path, "mag=19:21:23")["mag"]
    mag, score = CATALOGUE["mag"], softmax(LOGITS)[:, 1]
    assert found["outside"] == ((mag < 19) | (mag > 23)).sum() and not found["equal"]
    assert found["edges"] == [19, 21, 23] and not found["without"]
    for k, (low, high) in enumerate(((19, 21), (21, 23))):
        here = (low <= mag) & (mag < high)
        assert found["counts"]["galaxy"][k] == (here & ~LENS).sum()
        cell = found["models"][0]["numbers"]["purity"][k]
        assert cell["value"] == pytest.approx(LENS[here & (score >= 0.5)].mean())


def test_texts_have_a_bin_for_each(data, tmp_path):
    search(tmp_path / "runs", data)
    found = studied(tmp_path, "field")["field"]
    assert found["labels"] == ["field 0", "field 1", "field 2"]
    assert found["edges"] is None and found["medians"] is None


def test_runs_without_a_threshold_are_said_to_have_none(data, tmp_path):
    search(tmp_path / "runs", data, threshold=None)
    found = studied(tmp_path, "theta_e")["theta_e"]
    assert found["measures"] == ["auc"]
    assert found["notes"] == ["No run of finder found a threshold, so that it finds nothing"]
    search(tmp_path / "runs", data, seed=1)
    found = studied(tmp_path, "theta_e")["theta_e"]
    assert found["measures"] == ["completeness", "auc"]
    assert found["notes"] == [
        "1 of 2 runs of finder found no threshold; what depends on one is that of the others"
    ]


@pytest.fixture
def cross(tmp_path, monkeypatch):
    """A search by folds, each of a threshold of its own; scores of all images, and thresholds."""
    lens, radius = np.arange(SAMPLES) % 2, np.linspace(0.5, 2, SAMPLES)
    monkeypatch.setattr("made_folds.CLASSES", ("galaxy", "lens"))
    monkeypatch.setattr("made_folds.TARGETS", lens)
    logits = np.random.default_rng(0).normal(size=(SAMPLES, 2)) + 2 * np.eye(2)[lens]
    thresholds = np.array([0.3, 0.6, 0.9])
    for fold in range(1, FOLDS + 1):
        scores = {"threshold": thresholds[fold - 1]}
        run = fold_run(tmp_path / "runs", fold, task={"name": "detection"}, learns="lens",
                       arrays={"logits": logits}, scores=scores)  # fmt: skip
        with np.load(run.path / "outputs.npz") as file:
            ids = file["ids"].tolist()
        table = pa.table({"id": ids, "theta_e": radius[[int(id_) for id_ in ids]]})
        table = table.replace_schema_metadata({"lacking": "{}"})
        pq.write_table(table, run.path / "truth.parquet")
    return lens == 1, softmax(logits)[:, 1] >= thresholds[np.arange(SAMPLES) % FOLDS]


def test_pooled_folds_are_judged_each_by_its_own_threshold(cross, tmp_path):
    lens, called = cross
    found = studied(tmp_path, "theta_e")["theta_e"]
    assert found["measures"] == ["completeness", "purity", "auc"] and not found["notes"]
    cells = found["models"][0]["numbers"]["completeness"]
    counts = found["counts"]["lens"]
    assert sum(counts) == lens.sum()
    hits = sum(cell["value"] * count for cell, count in zip(cells, counts, strict=True))
    assert hits == pytest.approx((called & lens).sum())


def test_where_one_fold_has_no_threshold_the_pooled_ones_are_said_to_have_none(cross, tmp_path):
    path = next((tmp_path / "runs" / "cross").glob("*/metrics.json"))
    content = json.loads(path.read_text())
    content["test"]["scores"]["threshold"] = None
    path.write_text(json.dumps(content))
    found = studied(tmp_path, "theta_e")["theta_e"]
    assert found["measures"] == ["auc"]
    assert found["notes"] == [
        "No run of resnet18 found a threshold in each of its folds, so that it finds nothing"
    ]


def test_classes_in_another_order_are_the_same_classes(data, tmp_path):
    search(tmp_path / "runs", data, valid=0.95)
    run = search(tmp_path / "runs", data, "other")
    with np.load(run.path / "outputs.npz") as file:
        turned = dict(file) | {"classes": file["classes"][::-1], "logits": file["logits"][:, ::-1],
                               "targets": 1 - file["targets"]}  # fmt: skip
    np.savez(run.path / "outputs.npz", **turned)
    found = studied(tmp_path, "theta_e")["theta_e"]
    assert [model["label"] for model in found["models"]] == ["finder", "other"]
    assert not found["notes"]
    first, second = (model["numbers"] for model in found["models"])
    for name in ("completeness", "auc"):
        for one, other in zip(first[name], second[name], strict=True):
            assert one["value"] == pytest.approx(other["value"], abs=1e-12)


def test_a_model_without_predictions_is_left_out_and_said_to_be(data, tmp_path):
    search(tmp_path / "runs", data)
    (search(tmp_path / "runs", data, "other").path / "outputs.npz").unlink()
    found = studied(tmp_path, "theta_e")["theta_e"]
    assert [model["label"] for model in found["models"]] == ["finder"]
    assert found["notes"] == ["Left out is other: outputs.npz is missing"]
    page = (tmp_path / "report" / "report.md").read_text()
    assert "Left out is other: outputs.npz is missing." in page


@pytest.mark.parametrize(
    ("by", "sentence"),
    [
        ("mass", "have no column 'mass'; there are dust, field, mag, name, theta_e"),
        ("name", "it has 400 different texts, at most 12 are shown"),
        ("dust", "--by dust: it is unknown or 0 of every test image that is scored"),
        ("mag=3:4", "no image has a value from 3 to 4"),
        ("field=1:2", "it holds texts, which no edges part"),
        ("theta_e=2:1", "'theta_e=2:1', expected a column, or a column and two or more edges"),
        ("theta_e=1", "two or more edges"),
        ("theta_e=1:x", "two or more edges"),
        ("theta_e=nan:2", "two or more edges"),
        ("mag,mag=1:2", "column mag is named twice"),
    ],
)
def test_what_cannot_be_studied_is_one_sentence_and_nothing_is_written(
    data, tmp_path, capsys, by, sentence
):
    search(tmp_path / "runs", data)
    words = ("collect", tmp_path / "runs", "--out", tmp_path / "report", "--by", by)
    code, _, err = typed(capsys, *words)
    assert code == 3 and not (tmp_path / "report").exists()
    assert sentence in err and err.count("\n") == 1


def test_where_one_comparison_lacks_the_column_its_page_says_so(data, tmp_path):
    search(tmp_path / "runs", data)
    make_run(tmp_path / "runs", "foreign", job="far")
    collect(tmp_path / "runs", tmp_path / "report", by=["theta_e"])
    content = json.loads((tmp_path / "report" / "results.json").read_text())
    faults = [comparison["by"]["theta_e"].get("fault") for comparison in content["comparisons"]]
    assert sorted(map(bool, faults)) == [False, True]
    page = (tmp_path / "report" / "report.md").read_text()
    assert "No selection function: no model can be studied by it; Left out is" in page


def test_results_of_other_programs_name_no_images(tmp_path):
    for name in ("all_labels", "all_preds"):
        (tmp_path / "a").mkdir(exist_ok=True)
        np.save(tmp_path / "a" / f"{name}.npy", LENS.astype(int) if "lab" in name else LOGITS)
    with pytest.raises(CollectError, match="results of other programs name no images"):
        collect(None, tmp_path / "report", predictions={"a": tmp_path / "a"}, by=["theta_e"])


def test_no_finished_run_is_one_sentence(tmp_path):
    make_run(tmp_path / "runs", state="failed")
    with pytest.raises(CollectError, match="--by theta_e: there is no finished run"):
        collect(tmp_path / "runs", tmp_path / "report", by=["theta_e"])


def test_a_regression_is_studied_by_its_error(tmp_path):
    root, true = tmp_path / "set", RANDOM.normal(size=N)
    write_shards(root, "test", np.ones((N, 1, 4, 5), np.uint16), [-1] * N, (),
                 truth={"theta_e": THETA, "mass": true})  # fmt: skip
    run = make_run(tmp_path / "runs", digest=data_digest(root), place=str(root), test="test")
    split, predicted = open_split(root, "test"), true + 0.1 * THETA
    known = np.where(np.arange(N) < 5, np.nan, true)
    np.savez(run.path / "outputs.npz", classes=np.array([], str), ids=np.array(split.ids()),
             targets=split.targets(), true=known, predicted=predicted)  # fmt: skip
    keep(run.path, split)
    found = studied(tmp_path, "theta_e=0:1:2")["theta_e"]
    (model,) = found["models"]
    for k, here in enumerate((THETA < 1, THETA >= 1)):
        here = here & np.isfinite(known)
        assert found["counts"]["images"][k] == here.sum()
        bias = model["numbers"]["bias"][k]
        assert bias["value"] == pytest.approx(0.1 * THETA[here].mean())
        assert bias["low"] < bias["value"] < bias["high"]
    assert found["without"] == {} and found["searched"] is None


def regression_on(root, folder, quantities, true):
    """A finished regression of numbers of those images, (N, D)."""
    run = make_run(folder, digest=data_digest(root), place=str(root), test="test")
    metrics = run.read_json("metrics.json")
    run.write_json("metrics.json", metrics | {"learns": " and ".join(quantities)})
    split = open_split(root, "test")
    random = np.random.default_rng(4)
    np.savez(run.path / "outputs.npz", classes=np.array([], str), ids=np.array(split.ids()),
             targets=split.targets(), true=true, predicted=true + 0.1,
             quantities=np.array(quantities), sd=np.full(true.shape, 0.1),
             log_prob=random.normal(size=N), crps=random.uniform(size=true.shape),
             rank=random.uniform(size=true.shape))  # fmt: skip
    keep(run.path, split)


def test_a_posterior_of_one_number_is_studied_as_that_number(tmp_path):
    root, true = tmp_path / "set", RANDOM.normal(size=N)
    write_shards(root, "test", np.ones((N, 1, 4, 5), np.uint16), [-1] * N, (),
                 truth={"theta_e": THETA, "mass": true})  # fmt: skip
    regression_on(root, tmp_path / "runs", ["mass"], true[:, None])
    found = studied(tmp_path, "theta_e=0:1:2")["theta_e"]
    (model,) = found["models"]
    assert [one["value"] for one in model["numbers"]["bias"]] == pytest.approx([0.1, 0.1])
    assert found["notes"] == []


def test_runs_of_several_numbers_are_left_out_with_their_names(tmp_path):
    root = tmp_path / "set"
    write_shards(root, "test", np.ones((N, 1, 4, 5), np.uint16), [-1] * N, (),
                 truth={"theta_e": THETA})  # fmt: skip
    regression_on(root, tmp_path / "runs", ["theta_e", "q"], np.stack([THETA, THETA], 1))
    with pytest.raises(CollectError, match=r"predict 2 numbers of an image \(theta_e, q\)"):
        studied(tmp_path, "theta_e=0:1:2")


def test_edges_are_read_from_what_is_typed():
    assert read_wanted(["theta_e", "mag=18:20.5:22"]) == [
        Wanted("theta_e"), Wanted("mag", (18.0, 20.5, 22.0))
    ]  # fmt: skip
