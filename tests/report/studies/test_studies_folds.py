"""A cross-validation in a comparison: one row of all samples for a model, or why there is none."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_folds import SAMPLES, TARGETS, fold_run, ids_of, logits_of
from made_runs import make_run
from sklearn.metrics import roc_auc_score

from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.report.collect import collect
from deeplense_batch.report.compare import compare, name_variants
from deeplense_batch.report.predictions import predictions_of
from deeplense_batch.report.run_table import members_of, read_rows
from deeplense_batch.report.significance import infer
from deeplense_batch.report.studies.folds import compared, lacking, pool


def opened(root):
    rows = read_rows(root)
    pooled = pool(rows)
    name_variants([*rows, *pooled])
    return rows, pooled


def cross(root, folds=(1, 2, 3), **options):
    return [fold_run(root, fold, **options) for fold in folds]


def test_all_folds_are_one_row_of_the_split_and_compared_as_one(tmp_path):
    for seed in (0, 1):
        cross(tmp_path, model="good", seed=seed, skill=2.0, valid=0.9 + seed / 100)
        cross(tmp_path, model="bad", seed=seed, skill=0.2, valid=0.7)
    rows, pooled = opened(tmp_path)
    assert len(rows) == 12 and len(pooled) == 4 and not lacking(pooled)
    (models,) = compare(compared(rows, pooled))
    assert [model.label for model in models] == ["good", "bad"]
    (good, bad), predictions, _ = infer(models)
    assert good.row()["test"] == "train, 3 folds" and good.row()["test_samples"] == SAMPLES
    assert good.valid_score == pytest.approx(0.905) and len(good.members) == 6
    assert predictions["good"].ids.tolist() == ids_of(range(SAMPLES)).tolist()
    aucs = []
    for seed in (0, 1):
        fold_of = np.arange(SAMPLES) % 3 + 1
        logits = [logits_of("good", seed, fold_of[i], 2.0)[i] for i in range(SAMPLES)]
        own = softmax(np.stack(logits))
        aucs.append(np.mean([roc_auc_score(k == TARGETS, own[:, k]) for k in range(3)]))
    assert sorted(good.values("auc")) == pytest.approx(sorted(aucs))
    assert good.inferred["auc_low"] < np.mean(aucs) < good.inferred["auc_high"]
    assert good.inferred["interval"] == "samples and seeds"
    assert bad.inferred["resolved"] and bad.inferred["difference"] < 0


def test_settings_make_variants_and_another_job_or_split_another_row(tmp_path):
    cross(tmp_path, job="one")
    cross(tmp_path, job="other")
    fold_run(tmp_path, 1, folds=4)
    _, pooled = opened(tmp_path)
    done = [(row["job"], row["test"]) for row in pooled if row["state"] == "done"]
    assert sorted(done) == [("one", "train, 3 folds"), ("other", "train, 3 folds")]
    (sentence,) = lacking(pooled)
    assert sentence == (
        "No pooled score of resnet18, seed 0 (job cross): of the 4 folds of train it lacks "
        "2, 3, 4 (missing)."
    )


def test_what_is_trained_on_beside_the_folds_tells_models_apart(tmp_path):
    real = {"root": "/data", "digest": "a" * 16}
    sets = [{"root": "/sim", "digest": "b" * 16}, real]
    cross(tmp_path)
    cross(tmp_path, sets=sets)
    cross(tmp_path, (1, 2), seed=1, sets=[sets[0] | {"train": "train[:10%]"}, real])
    rows, pooled = opened(tmp_path)
    ((first, second),) = compare(compared(rows, pooled))
    assert {first.label, second.label} == {
        "resnet18 trained on data", "resnet18 trained on sim + data"
    }  # fmt: skip
    assert [len(members_of(row)) for row in (*first.runs, *second.runs)] == [3, 3]
    assert lacking(pooled) == [
        "No pooled score of resnet18 trained on sim train[:10%] + data, seed 1 (job cross): of "
        "the 3 folds of train it lacks 3 (missing); its other folds are left out of the "
        "comparison."
    ]


@pytest.mark.parametrize("fold", ["null", "01/3", "1/3"])
def test_a_fold_is_known_by_its_slices_however_it_was_named(fold, tmp_path):
    job = cross(tmp_path)[0].path / "job.yaml"
    text = job.read_text()
    assert "fold: 1/3" in text
    job.write_text(text.replace("fold: 1/3", f"fold: {fold}"))
    rows, pooled = opened(tmp_path)
    assert [row["state"] for row in pooled] == ["done"] and not lacking(pooled)
    assert len(compare(compared(rows, pooled))) == 1


def test_a_seed_that_lacks_a_fold_is_left_out_alone_and_said(tmp_path):
    cross(tmp_path, seed=0)
    cross(tmp_path, (1, 3), seed=1)
    fold_run(tmp_path, 2, seed=1, state="failed")
    rows, pooled = opened(tmp_path)
    ((model,),) = compare(compared(rows, pooled))
    assert [run["seed"] for run in model.runs] == [0]
    assert lacking(pooled) == [
        "No pooled score of resnet18, seed 1 (job cross): of the 3 folds of train it lacks 2 "
        "(failed); its other folds are left out of the comparison."
    ]


def test_folds_of_which_none_is_pooled_are_compared_one_by_one(tmp_path):
    cross(tmp_path, (1, 2))
    make_run(tmp_path)
    rows, pooled = opened(tmp_path)
    tests = {models[0].runs[0]["test"] for models in compare(compared(rows, pooled))}
    assert tests == {"train[fold 1/3]", "train[fold 2/3]", "val[50%:]"}
    assert "it lacks 3 (missing)." in lacking(pooled)[0]


def test_outputs_that_are_gone_are_why_there_is_no_score(tmp_path):
    runs = cross(tmp_path)
    (runs[2].path / "outputs.npz").unlink()
    rows, pooled = opened(tmp_path)
    assert lacking(pooled)[0].endswith("of fold 3 of 3 outputs.npz is missing.")
    assert len(compare(compared(rows, pooled))) == 3


def test_groups_of_the_members_stay_apart(tmp_path):
    for fold, run in enumerate(cross(tmp_path), start=1):
        with np.load(run.path / "outputs.npz") as file:
            ids = file["ids"].tolist()
        tiles = [f"{fold} {int(id_) // 9}" for id_ in ids]  # 10 in every fold
        table = pa.table({"id": ids, "tile": tiles})
        table = table.replace_schema_metadata({"group": "tile"})
        pq.write_table(table, run.path / "catalogue.parquet")
    _, (row,) = opened(tmp_path)
    grouping = predictions_of(row).grouping
    assert (grouping.column, grouping.number) == ("tile", 30)
    expected = [(i % 3, i // 9) for i in range(SAMPLES)]  # in the order of the ids
    for number in set(grouping.values.tolist()):
        assert len({expected[i] for i in np.flatnonzero(grouping.values == number)}) == 1
    (run, *_) = row["members"]
    (tmp_path / "cross" / run["run"].rpartition("/")[2] / "catalogue.parquet").unlink()
    rows, pooled = opened(tmp_path)
    ((model,),) = compare(compared(rows, pooled))
    assert "some of its folds have lost catalogue.parquet" in infer([model])[2][0]


def test_the_report_has_the_pooled_row_and_all_runs(tmp_path):
    cross(tmp_path / "runs", skill=2.0)
    cross(tmp_path / "runs", model="resnet34", folds=(1, 2, 3))
    cross(tmp_path / "runs", (1,), seed=1)
    report = collect(tmp_path / "runs", tmp_path / "report")
    assert len(report.table) == 7 and list(report.models["test"]) == ["train, 3 folds"] * 2
    pooled = report.table[report.table["seed"] == 0]
    assert sorted(pooled["variant"]) == [f"data.fold={k}/3" for k in (1, 1, 2, 2, 3, 3)]
    content = json.loads((tmp_path / "report" / "results.json").read_text())
    assert [len(model["folds"]) for model in content["comparisons"][0]["models"]] == [3, 3]
    assert "No pooled score of resnet18, seed 1 (job cross)" in report.summary
    for page in ("report.md", "report.html"):
        text = (tmp_path / "report" / page).read_text()
        assert "Folds without a pooled score" in text and "2, 3 (missing)" in text
        assert "their outputs are pooled as they are" in text
    assert ": the first of 3 folds." in text
