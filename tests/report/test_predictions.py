"""Results of other programs in the comparison: published files and plain predictions."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
from conftest import typed
from sklearn.metrics import roc_auc_score

from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.report.predictions import (
    UNANSWERED,
    Predictions,
    PredictionsError,
    in_order,
    predictions_of,
    published_rows,
    read_predictions,
    validated_of,
)

CLASSES = ("no", "sphere", "vort")
REPORT = """              precision    recall  f1-score   support

          no       0.92      0.98      0.95       100
 odd name 2       0.98      0.88      0.93       120
        vort       0.93      0.97      0.95        80

    accuracy                           0.94       300
   macro avg       0.94      0.94      0.94       300
"""


def published(folder, name="ResNet18", auc=0.95, **changed):
    folder.mkdir(exist_ok=True)
    content = {
        "model_desc": name, "status": "Completed", "error": None, "best_epoch": 2,
        "config": {"epochs": 3, "seed": 42, "img_size": 224}, "best_val_auc": auc + 0.01,
        "val_aucs": [0.9, auc + 0.01, 0.93], "training_time_s": 60.0,
        "test_results": {"accuracy": 0.9, "auc_ovr_macro": auc, "report": REPORT,
                         "roc_curve_data": {str(k): {"auc": auc} for k in range(3)}},
    }  # fmt: skip
    (folder / f"results_{name}.json").write_text(json.dumps(content | changed))


def test_a_published_result_is_a_row(tmp_path):
    published(tmp_path / "past")
    (row,) = published_rows(tmp_path / "past")
    assert (row["model"], row["state"], row["auc"], row["seed"]) == ("ResNet18", "done", 0.95, 42)
    assert row["class_counts"] == {"no": 100, "odd name 2": 120, "vort": 80}
    assert row["auc_odd name 2"] == 0.95 and row["test_samples"] == 300
    assert row["device"] is None and "hardware" in row["notes"][0]


def test_failed_and_foreign_results_are_rows_too(tmp_path, capsys):
    published(tmp_path / "past")
    published(tmp_path / "past", "Other", status="Failed", error="out of memory")
    (tmp_path / "past" / "results_Half.json").write_text('{"model_desc": "Half", "con')
    (tmp_path / "past" / "results_Foreign.json").write_text("[1, 2]")
    states = {
        row["model"]: (row["state"], row["reason"]) for row in published_rows(tmp_path / "past")
    }
    assert states["ResNet18"] == ("done", None) and states["Other"] == ("failed", "out of memory")
    assert states["Half"][0] == "unreadable" and "JSONDecodeError" in states["Half"][1]
    assert states["Foreign"][0] == "unreadable"
    words = ("collect", "--import", tmp_path / "past", "--out", tmp_path / "report")
    code, out, _ = typed(capsys, *words)
    assert code == 5 and "incomplete: 1 of 4 runs done" in out


def test_predictions_are_compared_without_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    targets = np.repeat([0, 1, 2], 100)
    shared = np.random.default_rng(0).normal(size=(300, 3))
    for name, skill in (("good", 2.0), ("poor", 0.8)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "all_labels.npy", targets)
        np.save(tmp_path / name / "all_preds.npy", skill * np.eye(3)[targets] + shared)
    words = ("collect", "--predictions", "a=good", "--predictions=b=poor", "--classes")
    code, out, _ = typed(capsys, *words, "no,sphere,vort", "--out", "report")
    assert code == 0 and "since no run has a validation score: a, AUC" in out
    best, other = csv.DictReader((tmp_path / "report" / "models.csv").open())
    assert best["model"] == "a" and other["resolved"] == "True"
    assert float(other["difference_high"]) < 0 and float(other["delong_p_value_vort"]) < 0.01
    for flags, sentence in (
        (("--classes", "no,yes"), "has scores of 3 classes, and 2 names were given"),
        (("--predictions", "c=absent"), "c: absent: outputs.npz is missing"),
        (("--predictions", "good"), "expected NAME=FOLDER, got 'good'"),
    ):
        code, _, err = typed(capsys, "collect", "--predictions=a=good", *flags, "--out", "other")
        assert code in (2, 3) and sentence in err and not (tmp_path / "other").exists()


def test_nothing_to_import_is_one_sentence(tmp_path, capsys):
    for folder, sentence in ((tmp_path, "no results here"), (tmp_path / "x", "no such folder")):
        code, _, err = typed(capsys, "collect", "--import", folder, "--out", tmp_path / "out")
        assert code == 3 and sentence in err


def test_the_published_comparison_comes_out_as_it_was_published(real_data, tmp_path, capsys):
    """Thirteen models: the table of its own CSV file, to the digits printed there."""
    source = real_data / "comparison_results"
    shutil.copytree(source, tmp_path / "past")
    words = ("collect", "--import", tmp_path / "past", "--out", tmp_path / "report")
    code, out, _ = typed(capsys, *words)
    assert (
        code == 0 and "Best by validation: ResNet34, validation AUC 0.9931, test AUC 0.9942" in out
    )
    models = {row["model"]: row for row in csv.DictReader((tmp_path / "report/models.csv").open())}
    (theirs,) = source.glob("*.csv")
    expected = list(csv.DictReader(theirs.open()))
    assert len(expected) == len(models) == 13
    for row in expected:
        ours = models[row["Model"]]
        assert round(float(ours["auc_mean"]), 4) == float(row["Test AUC (OVR Macro)"])
        assert round(float(ours["valid_auc"]), 4) == float(row["Best Val AUC"])
        assert round(float(ours["accuracy_mean"]), 4) == float(row["Test Accuracy"])
        minutes = float(ours["train_seconds"]) / 60
        assert round(minutes, 4) == float(row["Training Time (min)"])
        assert ours["interval"] == "Hanley-McNeil" and ours["resolved"] == ""
        assert float(ours["auc_low"]) < float(ours["auc_mean"]) < float(ours["auc_high"])
    for name in ("auc", "accuracy", "time", "auc_time"):
        assert (tmp_path / "report" / f"{name}.png").stat().st_size > 10_000
    page = (tmp_path / "report" / "report.md").read_text()
    assert "the files do not name the hardware" in page and "3750 samples" in page


def test_real_predictions_and_their_differences(real_data, tmp_path, capsys):
    named = [f"--predictions={p.name}={p}" for p in sorted((real_data / "predictions").iterdir())]
    words = ("--classes", "no,sphere,vort", "--out", tmp_path / "report")
    assert typed(capsys, "collect", *named, *words)[0] == 0
    models = {row["model"]: row for row in csv.DictReader((tmp_path / "report/models.csv").open())}
    expected = {
        "resnet": (0.98071, 0.90627),
        "pi_resnet": (0.98825, 0.93440),
        "pi_resnet_preprocessed": (0.96507, 0.82293),
    }
    for name, scores in expected.items():
        found = models[name]
        assert tuple(round(float(found[f"{n}_mean"]), 5) for n in ("auc", "accuracy")) == scores
    assert [*models] == ["pi_resnet", "resnet", "pi_resnet_preprocessed"]
    other = models["resnet"]
    assert float(other["difference"]) == pytest.approx(0.98071 - 0.98825, abs=1e-5)
    assert (
        float(other["difference_low"])
        < float(other["difference"])
        < float(other["difference_high"])
    )
    assert float(other["difference_high"]) < 0 and other["resolved"] == "True"
    assert all(float(other[f"delong_p_value_{c}"]) < 1e-3 for c in CLASSES)


TARGETS = np.repeat([0, 1, 2], 200)


def answers(skill):
    """Logits, (600, 3), of some skill."""
    noise = np.random.default_rng(99).normal(size=(600, 3))
    return (skill * np.eye(3)[TARGETS] + noise).astype(np.float32)


def test_validation_answers_are_those_of_the_training(tmp_path):
    ids, targets = np.array(["a", "b"]), np.array([1, 0])
    logits = np.array([[0.0, 1.0], [2.0, 0.0]])
    np.savez(
        tmp_path / "validated.npz", ids=ids, targets=targets, classes=["x", "y"], logits=logits
    )
    elsewhere = {"run": "gone", "trained_in": str(tmp_path)}  # an evaluation
    for row in ({"run": str(tmp_path)}, elsewhere):
        found = validated_of(row)
        assert found.ids.tolist() == ["a", "b"] and found.classes == ("x", "y")
        assert np.allclose(found.probabilities, scipy.special.softmax(logits, axis=1))
        assert found.grouping is None
    with pytest.raises(PredictionsError, match=r"validated\.npz is missing"):
        validated_of({"run": str(tmp_path / "old")})
    with pytest.raises(PredictionsError, match="slices of their own"):
        validated_of({"run": str(tmp_path), "members": [elsewhere, elsewhere]})


def test_predictions_of_another_program_are_read(tmp_path):
    np.save(tmp_path / "all_labels.npy", TARGETS)
    np.save(tmp_path / "all_preds.npy", softmax(answers(2.0)))
    samples = read_predictions(tmp_path)
    assert samples.classes == ("0", "1", "2") and samples.targets.tolist() == TARGETS.tolist()
    assert np.allclose(samples.probabilities, softmax(answers(2.0)))
    np.save(tmp_path / "all_preds.npy", answers(2.0))  # logits
    assert np.allclose(read_predictions(tmp_path).probabilities, samples.probabilities)


@pytest.mark.parametrize(
    ("labels", "scores", "sentence"),
    [
        (TARGETS[:-1], answers(1.0), r"all_preds.npy: expected scores of shape \(N, K\)"),
        (TARGETS + 1, answers(1.0), "labels up to 3, scores of 3 classes"),
        (TARGETS / 2, answers(1.0), "all_labels.npy: expected class numbers from 0"),
        (TARGETS, np.full((600, 3), np.nan), "not finite"),
    ],
)
def test_foreign_predictions_are_one_sentence(tmp_path, labels, scores, sentence):
    np.save(tmp_path / "all_labels.npy", labels)
    np.save(tmp_path / "all_preds.npy", scores)
    with pytest.raises(PredictionsError, match=sentence):
        read_predictions(tmp_path)


@pytest.mark.parametrize(
    ("model", "auc", "accuracy"),
    [("resnet", 0.98071, 0.90627), ("pi_resnet", 0.98825, 0.93440),
     ("pi_resnet_preprocessed", 0.96507, 0.82293)],
)  # fmt: skip
def test_real_predictions_give_the_published_scores(real_data, model, auc, accuracy):
    samples = read_predictions(real_data / "predictions" / model)
    areas = [roc_auc_score(samples.targets == k, samples.probabilities[:, k]) for k in range(3)]
    assert round(float(np.mean(areas)), 5) == auc
    right = (samples.probabilities.argmax(1) == samples.targets).mean()
    assert round(float(right), 5) == accuracy


def test_answers_in_another_order_of_classes_are_the_same_answers():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    samples = Predictions(np.array(["x", "y"]), np.array([0, -1]), ("b", "c", "a"), probabilities)
    found = in_order(samples, ("a", "b", "c"))
    assert found.classes == ("a", "b", "c") and found.targets.tolist() == [1, -1]
    assert found.probabilities.tolist() == [[0.1, 0.7, 0.2], [0.6, 0.1, 0.3]]
    assert samples.positive == 1 and found.positive == 2  # of c
    assert in_order(samples, ("a", "b", "d")) is samples
    honest = in_order(replace(samples, calibrated=probabilities, called=np.array([True, False])),
                      ("a", "b", "c"))  # fmt: skip
    assert honest.calibrated.tolist() == found.probabilities.tolist()
    assert honest.called.tolist() == [True, False]


def test_answers_are_calibrated_and_called_by_what_their_run_found(tmp_path):
    logits = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 0.5]])
    np.savez(tmp_path / "outputs.npz", ids=[*"abc"], targets=[1, 0, 0], classes=["lens", "no"],
             logits=logits)  # fmt: skip
    run = {"run": str(tmp_path), "learns": "lens"}
    plain = predictions_of(run)
    assert plain.calibrated is plain.called is None and plain.positive == 0
    found = predictions_of(run | {"temperature": 2.0, "more": {"threshold": 0.6}})
    assert np.allclose(found.calibrated, scipy.special.softmax(logits / 2, axis=1))
    assert found.called.tolist() == [False, True, True]
    fitted = {"temperature": 2.0, "slope": 0.5, "offset": -1.0}  # the search by its log odds
    lens = scipy.special.expit(0.5 * (logits[:, 0] - logits[:, 1]) - 1)
    assert np.allclose(predictions_of(run | {"more": fitted}).calibrated[:, 0], lens)


def test_an_answer_without_a_doubt_can_be_calibrated(tmp_path):
    """A probability of 0 in float64 has no logarithm."""
    np.savez(tmp_path / "outputs.npz", ids=["a", "b"], targets=[1, 0], classes=["no", "lens"],
             logits=[[0.0, 2000.0], [2000.0, 0.0]])  # fmt: skip
    run = {"run": str(tmp_path), "learns": "lens", "slope": 0.5, "offset": 0.0}
    assert np.allclose(predictions_of(run).calibrated, [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("kept", "who"),
    [({"errors": (4, 3)}, "a generator"), ({"errors": 4, "powers": 4}, "a masked autoencoder")],
)
def test_networks_without_answers_are_called_what_they_are(tmp_path, kept, who):
    np.savez(tmp_path / "outputs.npz", ids=np.arange(4).astype(str), targets=np.zeros(4, int),
             classes=["a"], **{name: np.ones(shape) for name, shape in kept.items()})  # fmt: skip
    with pytest.raises(PredictionsError, match=f"{who} .*makes no predictions") as raised:
        read_predictions(tmp_path)
    assert str(raised.value) in UNANSWERED
