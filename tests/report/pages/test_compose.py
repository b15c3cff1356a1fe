"""Which figures a comparison has, and the numbers that each is drawn from."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from pictures import drawn, explained, texts
from report_content import comparison_and_runs, searched

from deeplense_batch.core.scoring import detection
from deeplense_batch.core.scoring.figures import save
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.pages.compose import compose, search, searches
from deeplense_batch.report.plots.pictures import FUNCTIONS, draw
from deeplense_batch.report.predictions import Predictions

NASTY = "<script>alert('$x$_&%')</script>\n$y$\x01\udc80--"


def by_name(pictures):
    return {picture.name: picture for picture in pictures}


def test_a_comparison_has_these_figures_and_json_keeps_them():
    pictures = compose(*comparison_and_runs(5), searched(5)[0])
    names = ["auc", "accuracy", "differences", "time", "auc_time", "auc_cost", "auc_reference"]
    assert list(by_name(pictures)) == [*names, "roc_low_fpr", "precision_recall"]
    for picture in pictures:
        assert json.loads(json.dumps(picture.arguments, allow_nan=False)) == picture.arguments
        assert picture.caption.endswith(".") and picture.function in FUNCTIONS
        drawn(draw(picture))
    second = compose(*comparison_and_runs(5, number=2))
    assert [picture.name for picture in second] == [f"{name}-2" for name in names]


def test_what_is_not_known_is_left_out():
    content, runs = comparison_and_runs(3)
    for model, rows in zip(content["models"], runs, strict=True):
        model |= dict.fromkeys(set(model) - {"place", "label"})
        rows[:] = [row | {"auc": None, "accuracy": None} for row in rows]
    assert [picture.name for picture in compose(content, runs)] == ["time"]
    for rows in runs:
        rows[:] = [row | {"train_seconds": None} for row in rows]
    assert compose(content, runs) == []


def test_marks_and_devices_follow_the_comparison():
    content, runs = comparison_and_runs(4)
    content["models"][3]["resolved"] = None
    pictures = by_name(compose(content, runs))
    rows = pictures["auc"].arguments["models"]
    assert [row["mark"] for row in rows] == ["best", "not resolved", "resolved", "unknown"]
    assert (rows[0]["low"], rows[0]["high"]) == (0.986, 0.993)
    devices = pictures["auc_time"].arguments["devices"]
    assert [device["device"] for device in devices] == ["GPU", "CPU"]  # that of most runs first
    hours = pictures["auc_reference"].arguments["costs"]
    assert [len(cost["models"]) for cost in hours] == [3]
    assert [cost["name"] for cost in pictures["auc_cost"].arguments["costs"]] == [
        "parameters (millions)"
    ]


def test_of_very_many_models_the_best_are_shown_and_the_rest_told_of():
    pictures = by_name(compose(*comparison_and_runs(60, seeds=1), searched(60)[0]))
    for name in ("auc", "accuracy", "differences"):
        shown = pictures[name].arguments["models"]
        assert [model["label"] for model in shown] == [f"net_{k}" for k in range(40)]
        assert (
            "it shows the first 40 models of the table and leaves out 20."
            in pictures[name].caption
        )
    points = [
        model for device in pictures["auc_time"].arguments["devices"] for model in device["models"]
    ]
    assert len(points) == 60 and sum(point["named"] for point in points) == 16
    assert (
        "labels name the Pareto front and the first 16 of 60 models."
        in pictures["auc_time"].caption
    )
    assert len(pictures["roc_low_fpr"].arguments["models"]) == 8
    assert "leaves out 52" in pictures["precision_recall"].caption


def test_another_task_has_the_score_that_picks_its_models():
    content, runs = comparison_and_runs(3, score="r2")
    for model, rows in zip(content["models"], runs, strict=True):
        model |= {"r2_mean": 0.5, "auc_mean": None, "accuracy_mean": None}
        rows[:] = [row | {"auc": None, "more": {"r2": 0.4}} for row in rows]
    pictures = by_name(compose(content, runs))
    assert list(pictures) == ["r2", "differences", "time"]
    assert pictures["r2"].arguments["models"][0]["seeds"] == [0.4, 0.4]
    assert "difference in test R2 not resolved" in explained(draw(pictures["r2"]))
    assert pictures["differences"].caption.startswith("Test R2 of each model minus that of")


def test_without_validation_the_best_is_by_test_and_devices_may_have_no_name():
    content, runs = comparison_and_runs(3)
    for model, rows in zip(content["models"], runs, strict=True):
        model["valid_score"] = None
        rows[:] = [row | {"device": None} for row in rows]
    pictures = by_name(compose(content, runs))
    assert "best by test" in explained(draw(pictures["auc"]))
    assert "best by test" in pictures["differences"].caption
    (device,) = pictures["time"].arguments["devices"]
    assert device["device"].startswith("hardware not named") and len(device["models"]) == 3
    assert [one["comparable"] for one in pictures["auc_time"].arguments["devices"]] == [False]


def test_auc_against_labels_needs_shares():
    content, runs = comparison_and_runs(2)
    assert "auc_labels" not in by_name(compose(content, runs))
    runs[0][0]["train_samples"] = 60
    (first, _) = by_name(compose(content, runs))["auc_labels"].arguments["models"]
    assert sorted(images for images, _ in first["runs"]) == [60, 600]


def test_a_search_is_followed_through_all_thresholds():
    (found,), positive, (scores,) = searched(1)
    called = scores >= 2.5
    assert found.point == (called[positive].mean(), positive[called].mean())
    assert found.share == positive.mean() and len(found.roc[0]) <= 400
    detected, _ = detection.detection_scores(positive, scores, threshold=None, prevalence=0.01)
    assert found.average_precision == pytest.approx(detected["average_precision"])
    assert search(positive, scores, None).point is None
    assert search(positive, scores, 1e9).point is None


def test_searches_are_those_of_the_runs_that_validation_picks():
    _, positive, (scores,) = searched(1)
    chance = 1 / (1 + np.exp(-scores))
    ids = np.arange(len(positive)).astype(str)
    pair = np.stack([1 - chance, chance], axis=1)
    samples = Predictions(ids, positive.astype(np.int64), ("other", "lens"), pair)
    runs = [{"task": "detection", "valid_score": v, "more": {"threshold": v}} for v in (0.2, 0.9)]
    known, other = ModelRuns("a", runs), ModelRuns("b", runs)
    found, none = searches([known, other], {"a": samples})
    called = chance >= 0.9
    assert found.point == (called[positive].mean(), positive[called].mean()) and none is None
    for task, answers in (
        ("classification", samples),
        ("detection", replace(samples, targets=0 * samples.targets)),
    ):
        one = ModelRuns("a", [run | {"task": task} for run in runs])
        assert searches([one], {"a": answers}) == [None]


def test_a_search_is_followed_over_samples_with_a_label():
    _, positive, (scores,) = searched(1)
    chance = 1 / (1 + np.exp(-scores))
    pair = np.stack([1 - chance, chance], axis=1)
    unlabelled = np.where(np.arange(len(positive)) % 2, -1, positive)
    model = ModelRuns("a", [{"task": "detection", "valid_score": 0.9, "more": {}}])
    found, labelled = [
        searches([model], {"a": Predictions(ids, targets, ("other", "lens"), scored)})[0]
        for ids, targets, scored in (
            (np.arange(len(positive)).astype(str), unlabelled, pair),
            (np.arange(len(positive[::2])).astype(str), positive[::2].astype(int), pair[::2]),
        )
    ]
    assert found.share == labelled.share == positive[::2].mean()
    assert found.average_precision == labelled.average_precision
    np.testing.assert_array_equal(found.roc, labelled.roc)


def test_any_label_is_shown_as_it_is(tmp_path):
    content, runs = comparison_and_runs(3)
    for model, rows in zip(content["models"], runs, strict=True):
        model["label"] = NASTY
        rows[:] = [row | {"device": NASTY, "model": NASTY} for row in rows]
    runs[0][0]["train_samples"] = 60
    for picture in compose(content, runs, searched(3)[0]):
        figure = drawn(draw(picture))
        ours = [text for text in texts(figure) if "script" in text]
        assert ours and all(r"\$x\$" in text and "\n" not in text for text in ours)
        save(figure, tmp_path / "a.svg")
        ElementTree.parse(tmp_path / "a.svg")


def test_torch_is_not_loaded():
    code = """import sys, deeplense_batch.report.pages.compose
print({"torch", "matplotlib.pyplot"} & {*sys.modules})"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
