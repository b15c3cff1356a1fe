"""What is more than noise: intervals, and differences to the best, of runs with predictions."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_answers import CLASSES, TARGETS, answers, compared, model_run, write_outputs
from made_runs import make_run
from sklearn.metrics import average_precision_score

from deeplense_batch.core.scoring.auc import auc_interval
from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.report.collect import collect
from deeplense_batch.report.compare import compare, name_variants
from deeplense_batch.report.run_table import read_rows
from deeplense_batch.report.significance import infer, resampled_score, room_of
from deeplense_batch.report.statistics.bootstrap import bootstrap, macro_auc


def inferred(root):
    return infer(compared(root))


def test_a_far_model_is_resolved_and_a_near_one_is_not(tmp_path):
    model_run(tmp_path, "best", answers(2.0), valid=0.95)
    model_run(tmp_path, "near", answers(2.0, own=0.15), valid=0.94)
    model_run(tmp_path, "far", answers(1.2, own=0.3), valid=0.90)
    (best, near, far), found, notes = inferred(tmp_path)
    assert not notes and set(found) == {"best", "near", "far"}
    assert "resolved" not in best.inferred
    assert far.inferred["resolved"] and not near.inferred["resolved"]
    assert "difference" not in best.inferred
    for model in (near, far):
        row = model.row()
        assert row["difference"] == pytest.approx(row["auc_mean"] - best.mean("auc"))
        assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert far.inferred["difference_high"] < 0 and far.inferred["p_value"] < 0.01
    for model in (best, near, far):
        row = model.row()
        assert row["auc_low"] < row["auc_mean"] < row["auc_high"]
        assert row["interval"] == "samples"  # one run each: nothing is known of the training
        assert set(model.inferred.get("delong", CLASSES)) == set(CLASSES)


def test_pairing_sees_what_intervals_alone_do_not(tmp_path):
    """Two models that err on the same samples: intervals overlap, the difference is not 0."""
    model_run(tmp_path, "best", answers(2.0), valid=0.95)
    model_run(tmp_path, "other", answers(1.75), valid=0.94)
    (best, other), _, _ = inferred(tmp_path)
    assert other.inferred["auc_high"] > best.inferred["auc_low"]
    assert other.inferred["difference_high"] < 0 and other.inferred["resolved"]


def test_one_seed_of_many_sets_no_model_apart(tmp_path):
    """By the test sample alone the means differ; the seeds of the best spread far wider."""
    for seed, skill in enumerate((1.4, 2.0, 2.6)):
        model_run(tmp_path, "best", answers(skill, seed=seed), seed=seed, valid=0.95)
    for seed in range(3):
        logits = answers(1.72, seed=seed, own=0.01)
        model_run(tmp_path, "other", logits, seed=seed, valid=0.94)
    (best, other), _, _ = inferred(tmp_path)
    assert best.row()["auc_sd"] > 0.01 and other.inferred["bootstrap_p_value"] < 0.05
    assert other.inferred["seed_p_value"] > 0.05 and not other.inferred["resolved"]
    assert other.inferred["interval"] == "samples and seeds"
    assert other.inferred["visible"] > abs(other.inferred["difference"])
    assert other.inferred["seeds_needed"] is None or other.inferred["seeds_needed"] > 3


def test_runs_without_answers_or_of_other_samples_are_told_and_not_tested(tmp_path):
    model_run(tmp_path, "best", answers(2.0), valid=0.95)
    make_run(tmp_path, "bare", valid=0.94)
    broken = make_run(tmp_path, "broken", valid=0.93)
    (broken.path / "outputs.npz").write_bytes(b"PK\x03\x04 no zip")
    other = make_run(tmp_path, "other", valid=0.92)
    write_outputs(other, answers(2.0), ids=np.arange(1, 601).astype(str))
    models, found, notes = inferred(tmp_path)
    assert set(found) == {"best"} and notes == [
        "no bootstrap interval: outputs.npz is missing (bare)",
        "no bootstrap interval: outputs.npz is damaged or foreign (BadZipFile) (broken)",
        "no bootstrap interval: its test samples are not those of the others (other)",
    ]
    for model in models[1:]:
        assert model.inferred["interval"] == "Hanley-McNeil" and "resolved" not in model.inferred


def test_regressions_are_compared_by_r2(tmp_path):
    random = np.random.default_rng(0)
    true = np.where(np.arange(600) % 3, random.normal(-22, 0.5, 600), np.nan)
    for name, error, valid in (("best", 0.1, 0.9), ("other", 0.4, 0.5)):
        run = make_run(tmp_path, name, auc=None)
        predicted = true + random.normal(0, error, 600)
        np.savez(run.path / "outputs.npz", classes=CLASSES, ids=np.arange(600).astype(str),
                 targets=TARGETS, true=true, predicted=np.nan_to_num(predicted))  # fmt: skip
        known = np.isfinite(true)
        r2 = 1 - ((predicted - true)[known] ** 2).mean() / true[known].var()
        metrics = run.read_json("metrics.json")
        metrics["valid"] |= {"monitor": "r2", "scores": {"r2": valid}}
        metrics["test"]["scores"] = {"r2": r2, "mae": 0.1, "auc": None}
        run.write_json("metrics.json", metrics)
    (best, other), _, _ = inferred(tmp_path)
    assert best.row()["r2_low"] < best.row()["r2_mean"] < best.row()["r2_high"]
    assert other.inferred["difference"] < -0.3 and other.inferred["resolved"]
    report = collect(tmp_path, tmp_path / "report")
    assert "Best by validation: best, validation R2 0.9000, test R2 0.9" in report.summary
    assert "test R2" in (tmp_path / "report" / "report.md").read_text()


def test_the_searched_class_may_be_the_first(tmp_path):
    logits, targets = np.zeros((600, 2)), (np.arange(600) % 20 > 0).astype(int)
    logits[:, 0] = np.random.default_rng(0).normal(0, 1, 600) + 2 * (targets == 0)
    run = make_run(tmp_path, "finder")
    np.savez(run.path / "outputs.npz", classes=["lens", "other"], logits=logits, targets=targets,
             ids=np.arange(600).astype(str))  # fmt: skip
    metrics = run.read_json("metrics.json") | {"learns": "lens"}
    average = average_precision_score(targets == 0, logits[:, 0])
    metrics["test"]["scores"] |= {"average_precision": average}
    run.write_json("metrics.json", metrics)
    row = inferred(tmp_path)[0][0].row()
    assert row["average_precision_low"] < average < row["average_precision_high"] < 0.9


def test_a_model_without_a_fault_has_the_interval_of_its_number_of_samples(tmp_path):
    """All resamples are alike, and say nothing; of a share nothing is said."""
    model_run(tmp_path, "perfect", 9.0 * np.eye(3)[TARGETS])
    row = inferred(tmp_path)[0][0].row()
    assert "accuracy_low" not in row
    assert (row["auc_low"], row["auc_high"]) == auc_interval(1.0, 200, 400) and row[
        "auc_low"
    ] > 0.97


def write_catalogue(run, groups, ids=None):
    """The catalogue of the test slice of a run, grouped by `tile`."""
    ids = np.arange(600).astype(str) if ids is None else ids
    table = pa.table({"id": ids.tolist(), "tile": groups.tolist()})
    pq.write_table(
        table.replace_schema_metadata({b"group": b"tile"}), run.path / "catalogue.parquet"
    )


def test_intervals_resample_groups_where_the_test_samples_have_some(tmp_path):
    """40 tiles whose images are easy or hard together: the interval is wider, and it is said."""
    groups = np.arange(600) % 40
    hard = np.random.default_rng(3).normal(0, 2.0, 40)[groups]
    logits = answers(2.0) + (hard[:, None] * np.eye(3)[TARGETS]).astype(np.float32)
    widths, pages = {}, {}
    for kind in ("images", "groups"):
        root = tmp_path / kind
        run = model_run(root, "one", logits, valid=0.9)
        if kind == "groups":
            write_catalogue(run, groups)
        (model,), _, notes = inferred(root)
        widths[kind] = model.inferred["auc_high"] - model.inferred["auc_low"]
        said = "intervals resample 40 groups of images (column tile)"
        assert any(note.startswith(said) for note in notes) == (kind == "groups")
        collect(root, root / "report")
        content = json.loads((root / "report" / "results.json").read_text())["comparisons"][0]
        pages[kind] = content.get("resampled")
        assert (said in (root / "report" / "report.html").read_text()) == (kind == "groups")
    assert widths["groups"] > 1.3 * widths["images"]
    assert pages == {"images": None, "groups": {"column": "tile", "groups": 40}}


def test_groups_of_other_samples_are_told_and_no_interval_is_made_of_them(tmp_path):
    run = model_run(tmp_path, "one", answers(2.0), valid=0.9)
    write_catalogue(run, np.arange(600) % 40, ids=np.arange(600, 1200).astype(str))
    _, found, notes = inferred(tmp_path)
    assert not found
    assert any("catalogue.parquet is not of the samples of outputs.npz" in n for n in notes)
    (run.path / "catalogue.parquet").write_bytes(b"PAR1")
    assert any("catalogue.parquet is damaged" in note for note in inferred(tmp_path)[2])


def test_one_score_of_every_run_is_resampled_as_its_interval_is(tmp_path):
    logits = answers(2.0), answers(1.7, own=0.2)
    for name, one in zip(("best", "other"), logits, strict=True):
        model_run(tmp_path, name, one, valid=0.9)
    rows = read_rows(tmp_path)
    name_variants(rows)
    (models,) = compare(rows)
    scores, freedom = resampled_score(models, "auc", 3)
    assert freedom == 597 and len(scores) == 2
    statistics = [macro_auc(TARGETS, softmax(one)) for one in logits]
    expected = bootstrap(statistics, TARGETS, seed=3)
    by_label = {model.label: scores[model.runs[0]["run"]] for model in models}
    assert np.array_equal(by_label["best"], expected[0])
    assert np.array_equal(by_label["other"], expected[1])
    assert not np.array_equal(resampled_score(models, "auc", 4)[0][models[0].picked["run"]],
                              scores[models[0].picked["run"]])  # fmt: skip
    (tmp_path / "demo").rename(tmp_path / "gone")
    assert resampled_score(models, "auc", 3) == ({}, 1)


def test_a_score_has_room_up_to_where_it_cannot_vary():
    assert room_of("auc", [[0.9, 0.7], [1.0]]) == pytest.approx([0.16, 0.0])
    assert room_of("r2", [[0.9, 0.7]]) == pytest.approx([0.2])
    assert room_of("mae", [[0.3]]) == pytest.approx([0.3])


def test_classes_in_another_order_are_the_same_classes(tmp_path):
    """A set whose folders sort otherwise numbers the same classes otherwise."""
    logits, other = answers(2.0), answers(1.7, own=0.2)
    for root, order in ((tmp_path / "one", [0, 1, 2]), (tmp_path / "two", [2, 0, 1])):
        model_run(root, "best", logits, valid=0.95)
        run = make_run(root, "other", valid=0.94)
        write_outputs(run, other[:, order], targets=np.argsort(order)[TARGETS],
                      classes=[CLASSES[k] for k in order])  # fmt: skip
    one, two = (inferred(tmp_path / name) for name in ("one", "two"))
    assert two[2] == [] and len(two[1]) == 2
    assert one[0][1].inferred == two[0][1].inferred
    assert set(two[0][1].inferred["delong"]) == set(CLASSES)
