"""The mean of several networks against numpy, from files that say what each member answered."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from conftest import CLASSES, make_job
from made_runs import untrained
from made_shards import write_shards

from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.inference.ensembles.ensemble import VALIDATED, open_ensemble
from deeplense_batch.inference.ensembles.members import Member
from deeplense_batch.models import checkpoint
from deeplense_batch.tasks.detection import Detection
from deeplense_batch.training.trainer import BEST

TEMPERATURES = (2.0, 0.5, 1.25)
RANDOM = np.random.default_rng(3)


def calibrated(run, **state):
    """Put what a validation slice would have fitted into the weights of a run."""
    best = checkpoint.load(run / BEST)
    checkpoint.save(run / BEST, best | {"task": best["task"] | state})


def answered(run, ids, targets, classes=CLASSES, **arrays):
    """Write what a run said of its validation slice."""
    np.savez_compressed(
        run / VALIDATED,
        classes=np.asarray(classes),
        ids=np.asarray(ids),
        targets=targets,
        **arrays,
    )


@pytest.fixture(scope="module")
def made(shards, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    runs = [untrained(make_job(shards, seed=seed), root).run.path for seed in range(3)]
    for run, temperature in zip(runs, TEMPERATURES, strict=True):
        calibrated(run, temperature=temperature)
    return runs


@pytest.fixture
def runs(made, tmp_path):
    """Three seeds, in a folder of this test."""
    return [shutil.copytree(run, tmp_path / "small" / run.name) for run in made]


def opened(runs):
    return open_ensemble([Member.at(run) for run in runs])


def test_probabilities_are_the_mean_of_those_calibrated(runs):
    ensemble = opened(runs)
    logits = [RANDOM.normal(size=(40, 3)).astype(np.float32) for _ in runs]
    ids, targets = np.arange(40).astype(str), np.arange(40) % 3
    mean = ensemble.mean([{"ids": ids, "targets": targets, "logits": one} for one in logits])
    each = []
    for one, temperature in zip(logits, TEMPERATURES, strict=True):
        odds = np.exp(one.astype(np.float64) / temperature)
        each.append(odds / odds.sum(1, keepdims=True))
    assert softmax(mean["logits"]) == pytest.approx(np.mean(each, 0), abs=1e-12)
    assert mean["spread"] == pytest.approx(np.std(each, 0, ddof=1), abs=1e-12)
    assert mean["targets"].tolist() == targets.tolist() and mean["ids"].tolist() == ids.tolist()


def test_classes_are_matched_by_name(runs):
    """The second member numbers the classes the other way round."""
    metrics = Member.at(runs[1]).run.read_json("metrics.json")
    metrics["data"]["classes"].reverse()
    Member.at(runs[1]).run.write_json("metrics.json", metrics)
    ensemble = opened(runs[:2])
    assert ensemble.classes == CLASSES
    sure = np.array([[9.0, 0.0, 0.0]])
    about = {"ids": np.array(["a"]), "targets": np.array([0])}
    mean = ensemble.mean([about | {"logits": sure}, about | {"logits": sure[:, ::-1]}])
    assert softmax(mean["logits"])[0].argmax() == 0
    assert softmax(mean["logits"])[0, 0] == pytest.approx(
        (1 / (1 + 2 * np.exp(-9 / 2)) + 1 / (1 + 2 * np.exp(-9 / 0.5))) / 2
    )


def test_what_it_is_called(runs):
    ensemble, turned = opened(runs), opened(runs[::-1])
    assert ensemble.label == "test_resnet x3"
    assert ensemble.named == turned.named
    assert {one["run"] for one in ensemble.named} == {str(run) for run in runs}


def test_it_is_calibrated_on_the_validation_slice_of_all(runs):
    """Members keep it in any order; T of the mean is where the likelihood of the truth is best."""
    ids, targets = np.array([f"v{i}" for i in range(300)]), np.arange(300) % 3
    logits = [RANDOM.normal(size=(300, 3)) + 2 * np.eye(3)[targets] for _ in runs]
    for number, run in enumerate(runs):
        order = RANDOM.permutation(300)
        answered(run, ids[order], targets[order], logits=logits[number][order])
    ensemble = opened(runs)
    each = [softmax(one / t) for one, t in zip(logits, TEMPERATURES, strict=True)]
    mean = np.mean(each, 0)

    def nll(temperature):
        return -np.log(softmax(np.log(mean) / temperature)[np.arange(300), targets]).mean()

    found = ensemble.valid_scores()
    assert found["accuracy"] == pytest.approx((mean.argmax(1) == targets).mean())
    temperature = found["temperature"]
    assert nll(temperature) < min(nll(temperature * 1.02), nll(temperature / 1.02))
    assert not ensemble.why_not


@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        ("file", "has kept no validated.npz"),
        ("ids", "were validated on different images, val.* of data .* and val"),
        ("damaged", "cannot be read"),
    ],
)
def test_without_one_validation_slice_it_says_why_it_is_not_calibrated(runs, lacks, says):
    ids, targets = np.array([f"v{i}" for i in range(30)]), np.arange(30) % 3
    for run in runs:
        answered(run, ids, targets, logits=RANDOM.normal(size=(30, 3)))
    if lacks == "file":
        (runs[2] / VALIDATED).unlink()
    elif lacks == "ids":
        answered(runs[2], np.char.add(ids, "x"), targets, logits=RANDOM.normal(size=(30, 3)))
    else:
        (runs[2] / VALIDATED).write_bytes(b"nothing")
    ensemble = opened(runs)
    assert ensemble.valid_scores() == {} and runs[2].name in ensemble.why_not
    assert re.search(says, ensemble.why_not)


def test_a_mean_of_searches_has_its_own_threshold(tmp_path, shards):
    """The purest that is most complete, of all scores of lenses, found by trying each."""
    images = np.zeros((12, 1, 24, 24), np.uint16) + np.arange(24, dtype=np.uint16)
    for split in ("train", "val"):
        write_shards(tmp_path / "d", split, images, np.arange(12) % 2, ("nonlens", "lens"))
    task = {"name": "detection", "options": {"purity": 0.8, "prevalence": 0.2}}
    jobs = [make_job(tmp_path / "d", task=task, seed=seed) for seed in (0, 1)]
    runs = [untrained(job, tmp_path / "runs").run.path for job in jobs]
    curve = {"scores": [0.9, 0.5], "false_positives": [0, 1], "others": 8}
    fits = ((0.7, -1.0), (1.4, 0.5))
    targets = (np.arange(400) % 5 == 0).astype(int)
    ids, log_odds = np.arange(400).astype(str), []
    for run, fit in zip(runs, fits, strict=True):
        calibrated(run, slope_and_offset=list(fit), curve=curve, temperature=1.0, threshold=0.5)
        odds = RANDOM.normal(size=400) + 2.5 * targets - 1
        answered(run, ids, targets, logits=np.stack([0 * odds, odds], 1))
        log_odds.append(odds)
    ensemble = opened(runs)
    task = ensemble.task
    assert isinstance(task, Detection) and (task.purity, task.prevalence) == (0.8, 0.2)
    pairs = zip(log_odds, fits, strict=True)
    mean = np.mean([1 / (1 + np.exp(-(a * z + b))) for z, (a, b) in pairs], 0)
    good = []
    for threshold in mean[targets == 1]:
        called = mean >= threshold
        tpr, fpr = called[targets == 1].mean(), called[targets == 0].mean()
        if 0.2 * tpr >= 0.8 * (0.2 * tpr + 0.8 * fpr):
            good.append(threshold)
    assert task.threshold == pytest.approx(min(good), abs=1e-12)


def test_a_search_without_validation_says_that_there_is_no_threshold(tmp_path, runs):
    outputs = {"targets": np.arange(8) % 2, "logits": RANDOM.normal(size=(8, 2))}
    search = Detection(classes=("nonlens", "lens"))
    scores, notes = search.score(outputs)
    assert scores["threshold"] is None and scores["average_precision"] is not None
    assert "threshold: none, which a validation slice would have chosen" in notes


def test_numbers_are_averaged(tmp_path):
    images = RANDOM.integers(0, 99, (12, 1, 24, 24)).astype(np.uint16)
    truth = {"theta_e": np.linspace(1, 2, 12)}
    for split in ("train", "val"):
        write_shards(tmp_path / "d", split, images, np.arange(12) % 3, truth=truth)
    task = {"name": "regression", "options": {"target": "theta_e", "log10": False}}
    jobs = [make_job(tmp_path / "d", task=task, seed=seed) for seed in (0, 1)]
    ensemble = opened([untrained(job, tmp_path / "runs").run.path for job in jobs])
    about = {"ids": np.arange(4), "targets": np.zeros(4, int), "true": np.arange(4.0)}
    answers = [np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 1.0, 4.0, 3.0])]
    mean = ensemble.mean([about | {"predicted": one} for one in answers])
    assert mean["predicted"].tolist() == [0.5, 1.0, 3.0, 3.0]
    assert mean["spread"] == pytest.approx([0.5**0.5, 0, 2**0.5, 0])
    assert ensemble.task.score(mean)[0]["mae"] == pytest.approx(1.5 / 4)
