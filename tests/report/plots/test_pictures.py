"""Figures as data: what a comparison has, that saved numbers redraw it, and the hardest images."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from conftest import typed
from made_runs import make_run
from pictures import drawn, explained, texts

from deeplense_batch.core.scoring import detection
from deeplense_batch.core.scoring.figures import save
from deeplense_batch.data.shards import data_digest, open_split
from deeplense_batch.report.collect import collect
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.pages.compose import compose, compose_hardest, search, searches
from deeplense_batch.report.plots.hardest import hardest
from deeplense_batch.report.plots.pictures import FUNCTIONS, Picture, draw, redraw, write
from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.run_table import CollectError

NASTY = "<script>alert('$x$_&%')</script>\n$y$\x01\udc80--"


def comparison(count, seeds=2, **fields):
    """A comparison as in `results.json`, and the runs of its models."""
    random = np.random.default_rng(0)
    models, runs = [], []
    for place in range(count):
        auc = 0.99 - 0.001 * place
        rows = [
            {"model": f"net_{place}", "auc": auc + random.normal() / 1e4, "accuracy": auc - 0.05,
             "train_seconds": 100.0 * (count - place + seed), "train_samples": 600,
             "device": "CPU" if place % 3 == 2 else "GPU"}
            for seed in range(seeds)
        ]  # fmt: skip
        model = {"place": place + 1, "label": f"net_{place}", "valid_score": auc, "auc_mean": auc,
                 "auc_low": auc - 0.004, "auc_high": auc + 0.003, "accuracy_mean": auc - 0.05,
                 "interval": "bootstrap",
                 "difference": -0.001 * place if place else None, "tied": place < 2,
                 "difference_low": -0.001 * place - 0.001, "p_value": 0.04 if place else None,
                 "difference_high": 0.001 - 0.001 * place, "parameters_m": 5.0 + place,
                 "reference_hours": 1.0 + place if place < 3 else None}  # fmt: skip
        models.append(model)
        runs.append(rows)
    return {"number": 1, "score": "auc", "models": models} | fields, runs


def searched(count):
    random = np.random.default_rng(0)
    positive = random.random(5000) < 0.05
    scores = [random.normal(size=5000) + 2 * positive for _ in range(count)]
    return [search(positive, score, 2.5) for score in scores], positive, scores


def by_name(pictures):
    return {picture.name: picture for picture in pictures}


def test_a_comparison_has_these_figures_and_json_keeps_them():
    pictures = compose(*comparison(5), searched(5)[0])
    names = ["auc", "accuracy", "differences", "time", "auc_time", "auc_cost", "auc_reference"]
    assert list(by_name(pictures)) == [*names, "roc_low_fpr", "precision_recall"]
    for picture in pictures:
        assert json.loads(json.dumps(picture.arguments, allow_nan=False)) == picture.arguments
        assert picture.caption.endswith(".") and picture.function in FUNCTIONS
        drawn(draw(picture))
    second = compose(*comparison(5, number=2))
    assert [picture.name for picture in second] == [f"{name}-2" for name in names]


def test_what_is_not_known_is_left_out():
    content, runs = comparison(3)
    for model, rows in zip(content["models"], runs, strict=True):
        model |= dict.fromkeys(set(model) - {"place", "label"})
        rows[:] = [row | {"auc": None, "accuracy": None} for row in rows]
    assert [picture.name for picture in compose(content, runs)] == ["time"]
    for rows in runs:
        rows[:] = [row | {"train_seconds": None} for row in rows]
    assert compose(content, runs) == []


def test_marks_and_devices_follow_the_comparison():
    content, runs = comparison(4)
    content["models"][3]["tied"] = None
    pictures = by_name(compose(content, runs))
    rows = pictures["auc"].arguments["models"]
    assert [row["mark"] for row in rows] == ["best", "tied", "apart", "unknown"]
    assert (rows[0]["low"], rows[0]["high"]) == (0.986, 0.993)
    devices = pictures["auc_time"].arguments["devices"]
    assert [device["device"] for device in devices] == ["GPU", "CPU"]  # that of most runs first
    hours = pictures["auc_reference"].arguments["costs"]
    assert [len(cost["models"]) for cost in hours] == [3]
    assert [cost["name"] for cost in pictures["auc_cost"].arguments["costs"]] == [
        "parameters (millions)"
    ]


def test_of_very_many_models_the_best_are_shown_and_the_rest_told_of():
    pictures = by_name(compose(*comparison(60, seeds=1), searched(60)[0]))
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
    content, runs = comparison(3, score="r2")
    for model, rows in zip(content["models"], runs, strict=True):
        model |= {"r2_mean": 0.5, "auc_mean": None, "accuracy_mean": None}
        rows[:] = [row | {"auc": None, "more": {"r2": 0.4}} for row in rows]
    pictures = by_name(compose(content, runs))
    assert list(pictures) == ["r2", "differences", "time"]
    assert pictures["r2"].arguments["models"][0]["seeds"] == [0.4, 0.4]
    assert "test R2 not distinguishable from the best" in explained(draw(pictures["r2"]))
    assert pictures["differences"].caption.startswith("Test R2 of each model minus that of")


def test_without_validation_the_best_is_by_test_and_devices_may_have_no_name():
    content, runs = comparison(3)
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
    content, runs = comparison(2)
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


def test_any_label_is_shown_as_it_is(tmp_path):
    content, runs = comparison(3)
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


def test_saved_numbers_draw_the_same_files_again(tmp_path):
    written = write(tmp_path, compose(*comparison(3), searched(3)[0]))
    assert written[0].name == "figures.json"
    assert {path.suffix for path in written[1:]} == {".png", ".svg"} and len(written) == 19
    before = {path: path.read_bytes() for path in written[1:]}
    for path in before:
        path.unlink()
    assert redraw(str(tmp_path)) == written[1:]
    assert {path: path.read_bytes() for path in before} == before
    (first, *_) = redraw(tmp_path, ["pdf"])
    assert first.read_bytes().startswith(b"%PDF")


def test_figures_that_are_no_more_go_and_those_of_others_stay(tmp_path):
    pictures = compose(*comparison(3))
    write(tmp_path, pictures)
    redraw(tmp_path, ["pdf"])
    (tmp_path / "mine.png").touch()
    write(tmp_path, pictures[:1])
    assert {path.name for path in tmp_path.iterdir()} == {
        "figures.json", "auc.png", "auc.svg", "mine.png"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, r"figures.json: cannot be read \(No such file or directory\)"),
        ("{", r"figures.json: is damaged or cut short \(Expecting property name .*\)"),
        ("[]", "figures.json: expected a JSON object, got .*"),
        ('{"schema": 9}', r"\(ValueError: schema 9, expected 1\)"),
        ('{"schema": 1, "figures": [{"name": "auc"}]}', r"\(TypeError: .*\)"),
        ({"name": "../auc"}, "no such figure: '../auc' by 'time_bars'"),
        ({"function": "remove"}, "no such figure: 'auc' by 'remove'"),
        ({"arguments": {"devices": 3}}, r"numbers of figure 'auc' cannot be drawn \(TypeError"),
        ({"arguments": {"devices": [{}]}}, r"numbers of figure 'auc' cannot be drawn \(KeyError"),
    ],
)
def test_damaged_or_foreign_numbers_are_one_sentence(tmp_path, content, reason):
    if isinstance(content, dict):
        figure = {"name": "auc", "function": "time_bars", "arguments": {}, "caption": ""}
        content = json.dumps({"schema": 1, "figures": [figure | content]})
    if content is not None:
        (tmp_path / "figures.json").write_text(content)
    with pytest.raises(CollectError, match=reason) as error:
        redraw(tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.png"))
    with pytest.raises(CollectError, match=r"jpg: no format of figures; png, svg, pdf are"):
        redraw(tmp_path, ["jpg"])


def answers(rows, targets=(0, 1, 2, 0, -1)):
    """What one model says: the class it answers for each of the samples a, b, ..., surely."""
    ids = np.array(list("abcde")[: len(rows)])
    probabilities = np.full((len(rows), 3), 0.1)
    probabilities[np.arange(len(rows)), rows] = 0.8
    return Predictions(
        ids, np.array(targets[: len(rows)]), ("no", "sphere", "vort"), probabilities
    )


def shuffled(samples, seed):
    order = np.random.default_rng(seed).permutation(len(samples.ids))
    ids, targets = samples.ids[order], samples.targets[order]
    return Predictions(ids, targets, samples.classes, samples.probabilities[order])


def test_the_hardest_are_those_that_the_most_models_get_wrong():
    models = [answers([0, 2, 1, 2, 1]), answers([1, 2, 1, 0, 1]), answers([0, 1, 0, 0, 1])]
    models[2].probabilities[1, 2] = 0.5  # of b the truth becomes no likelier, of c less likely
    models[2].probabilities[2, 2] = 0.05
    found = hardest([shuffled(model, seed) for seed, model in enumerate(models)])
    assert [(one["id"], one["truth"], one["said"], one["wrong"], one["of"]) for one in found] == [
        ("c", "vort", "sphere", 3, 3),
        ("b", "sphere", "vort", 2, 3),
        ("a", "no", "sphere", 1, 3),  # as d, whose truth is as likely: by id
        ("d", "no", "vort", 1, 3),
    ]  # nothing of e, which has no label
    assert hardest(models, most=2) == found[:2]
    models[1].probabilities[0, 0] = 0.7  # of a the truth becomes likelier
    assert [one["id"] for one in hardest(models)][2:] == ["d", "a"]


def test_models_of_different_samples_have_no_common_hardest():
    one = answers([0, 1, 2])
    for other in (answers([0, 1]), replace(one, classes=("x", "y", "z"))):
        pictures, (note,) = compose_hardest(1, [one, other], "", "", "")
        assert pictures == [] and note.endswith(
            "the models were tested on different samples or classes"
        )


def test_the_hardest_images_are_shown_with_what_they_are(shards, tmp_path):
    split = open_split(shards, "val[50%:]")
    ids, targets = np.array(split.ids()), split.targets()
    models = [
        Predictions(ids, targets, ("no", "sphere", "vort"), np.eye(3)[targets + (targets == 1)]),
        Predictions(ids, targets, ("no", "sphere", "vort"), np.eye(3)[targets]),
    ]
    place = (str(shards), data_digest(shards), "val[50%:]")
    (picture,), notes = compose_hardest(2, models, *place)
    assert notes == [] and picture.name == "hardest-2"
    figure = drawn(draw(picture))
    count = min(24, int(np.sum(targets == 1)))
    assert len([axes for axes in figure.axes if axes.images]) == count
    first = min(ids[targets == 1])
    title = f"{first}\ntrue sphere\ntaken for vort\nwrong in 1 of 2"
    assert figure.axes[0].get_title() == title
    shown = figure.axes[0].images[0].get_array()
    at = int(np.flatnonzero(ids == first)[0])
    assert np.corrcoef(shown.ravel(), split.images()[at, 0].ravel())[0, 1] > 0.8
    write(tmp_path, [picture])
    assert len(redraw(tmp_path)) == 2
    assert compose_hardest(1, [models[1]], *place) == ([], [])
    numbers = replace(models[0], probabilities=None, numbers=np.zeros((len(ids), 2)))
    assert compose_hardest(1, [numbers], *place) == ([], [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"root": "/nowhere"}, "are not shown: /nowhere: no such folder of shards"),
        ({"digest": "0" * 16}, "are not shown: .* holds other data now"),
        ({"test": "test"}, "are not shown: .* has no split 'test'"),
        ({"test": "val[:1]"}, "are not shown: .* has no 'val/"),
    ],
)
def test_images_that_are_not_at_hand_are_a_note(shards, change, reason):
    split = open_split(shards, "val")
    ids, targets = np.array(split.ids()), split.targets()
    wrong = Predictions(ids, targets, split.info.classes, np.eye(3)[(targets + 1) % 3])
    place = {"root": str(shards), "digest": data_digest(shards), "test": "val"} | change
    pictures, (note,) = compose_hardest(1, [wrong], **place)
    assert pictures == []
    samples = hardest([wrong])
    with pytest.raises(CollectError, match=reason) as error:
        draw(Picture("hardest", "hardest", place | {"samples": samples}, ""))
    assert str(error.value) == note and "\n" not in note


def test_a_collected_comparison_has_its_differences_and_hardest_images(shards, tmp_path):
    split = open_split(shards, "val[50%:]")
    ids, targets = np.array(split.ids()), split.targets()
    digest, place = data_digest(shards), str(shards)
    for k, name in enumerate(("one", "other")):
        run = make_run(tmp_path / "runs", name, digest=digest, place=place, valid=0.9 - k / 100)
        logits = 2 * np.eye(3)[targets] + np.random.default_rng(k).normal(size=(len(ids), 3))
        np.savez(run.path / "outputs.npz", classes=["no", "sphere", "vort"], ids=ids,
                 targets=targets, logits=logits)  # fmt: skip
    out = tmp_path / "report"
    collect(tmp_path / "runs", out)
    names = {path.stem for path in out.glob("*.svg")}
    assert {"differences", "hardest", "auc_cost"} < names
    (comparison,) = json.loads((out / "results.json").read_text())["comparisons"]
    assert {figure["name"] for figure in comparison["figures"]} == names
    assert "![The " in (out / "report.md").read_text()
    for run in (tmp_path / "runs" / "demo").iterdir():
        job = run / "job.yaml"
        job.write_text(job.read_text().replace(place, "/nowhere"))
    collect(tmp_path / "runs", out)
    assert not (out / "hardest.png").exists()
    assert "the hardest images are not shown: /nowhere" in (out / "report.md").read_text()


def test_torch_is_not_loaded():
    code = """import sys, deeplense_batch.report.pages.compose
print({"torch", "matplotlib.pyplot"} & {*sys.modules})"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_figures_are_redrawn_from_the_command_line(tmp_path, capsys):
    make_run(tmp_path / "runs")
    collect(tmp_path / "runs", tmp_path / "report")
    code, out, _ = typed(capsys, "redraw", tmp_path / "report", "--format", "pdf,svg")
    assert code == 0 and (tmp_path / "report" / "auc.pdf").read_bytes().startswith(b"%PDF")
    assert str(tmp_path / "report" / "auc.pdf") in out.splitlines()
    code, _, err = typed(capsys, "redraw", tmp_path / "report", "--format=gif")
    assert code == 3 and "gif: no format of figures" in err
    code, _, err = typed(capsys, "redraw", tmp_path / "absent")
    assert code == 3 and "figures.json" in err
