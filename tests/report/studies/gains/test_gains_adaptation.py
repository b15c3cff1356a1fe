"""What adaptation gains: every number against one that is computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from made_transfer import Networks, answers, targets_of
from sklearn.metrics import roc_auc_score

from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.report.collect import collect
from deeplense_batch.report.run_table import read_rows
from deeplense_batch.report.studies.gains.adaptation import adaptations
from deeplense_batch.report.studies.transfer import matrices

IMAGES = {"a": 300, "b": 450}
SKILLS = {"null": (2.2, 0.9), "b by coral": (2.1, 0.95), "b by dann": (2.0, 1.6)}  # on a, on b


def made(root, seeds=(0, 1, 2), skills=SKILLS, labelled=True):
    """Trained on a, adapted to b or not, and on b with its labels; tested on both."""
    networks = Networks(root, IMAGES)
    for adapt, (here, there) in skills.items():
        for seed in seeds:
            run = networks.train("a", seed, here, adapt=adapt)
            networks.evaluate(run, "b", there)
    for seed in seeds if labelled else ():
        networks.train("b", seed, 2.4)
    return networks


def auc(data, skill, seed):
    targets, p = targets_of(IMAGES[data]), softmax(answers(data, IMAGES[data], skill, seed))
    return np.mean([roc_auc_score(targets == k, p[:, k]) for k in range(3)])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    made(root)
    return root


@pytest.fixture(scope="module")
def study(root):
    (study,) = adaptations(read_rows(root))
    return study


def gain(study, adapted, test):
    (found,) = [g for g in study["gains"] if (g["adapted"], g["test"]) == (adapted, test)]
    return found


def test_a_gain_is_the_adapted_score_less_that_of_the_control_over_the_same_seeds(study):
    assert len(study["gains"]) == 4 and not study["notes"]
    for adapted, (here, there) in SKILLS.items():
        if adapted == "null":
            continue
        for test, skill, control in (("a", here, 2.2), ("b", there, 0.9)):
            found = gain(study, adapted, test)
            own = np.mean([auc(test, skill, seed) for seed in range(3)])
            base = np.mean([auc(test, control, seed) for seed in range(3)])
            assert (found["score"], found["control"]) == pytest.approx((own, base))
            assert found["gain"] == pytest.approx(own - base)
            assert found["low"] < found["gain"] < found["high"]
            assert found["training"] == "a" and found["seeds"] == [0, 1, 2]
            assert found["own"] == (test == "a") and found["images"] == IMAGES[test]


def test_a_large_gain_is_resolved_and_a_small_one_is_not(study):
    large, small = gain(study, "b by dann", "b"), gain(study, "b by coral", "b")
    assert large["resolved"] and large["low"] > 0.05 and large["p_value"] < 0.01
    assert not small["resolved"] and small["low"] < 0 < small["high"]
    assert 0 < small["gain"] < small["visible"]
    assert large["covers"] == "samples and seeds"


def test_what_labels_would_give_is_beside_it(study):
    labelled = np.mean([auc("b", 2.4, seed) for seed in range(3)])
    assert gain(study, "b by dann", "b")["labelled"] == {
        "training": "b", "score": pytest.approx(labelled)
    }  # fmt: skip
    assert gain(study, "b by dann", "a")["labelled"] is None  # the own test set of the control


def test_adapted_networks_are_rows_of_the_matrix_beside_their_control(root):
    (matrix,) = matrices(read_rows(root))
    assert [training["name"] for training in matrix["trainings"]] == [
        "a", "b", "a adapted to b by coral", "a adapted to b by dann"
    ]  # fmt: skip


def test_seeds_that_only_one_has_are_left_out_and_told(tmp_path):
    networks = made(tmp_path, seeds=(0, 1), skills={"null": SKILLS["null"]}, labelled=False)
    for seed in (1, 2):
        networks.evaluate(networks.train("a", seed, 2.0, adapt="b by mmd"), "b", 1.6)
    (study,) = adaptations(read_rows(tmp_path))
    found = gain(study, "b by mmd", "b")
    assert found["seeds"] == [1]
    assert found["gain"] == pytest.approx(auc("b", 1.6, 1) - auc("b", 0.9, 1))
    assert found["covers"] == "samples" and found["labelled"] is None
    assert (
        "a adapted to b by mmd on b: left out seeds that only it or its control has: 0, 2"
        in (study["notes"])
    )


def test_without_a_control_it_is_said_and_without_adaptation_nothing(tmp_path, root):
    networks = Networks(tmp_path / "alone", IMAGES)
    networks.train("a", 0, 2.0, adapt="b by mmd")
    (study,) = adaptations(read_rows(tmp_path / "alone"))
    assert study["gains"] == [] and "has no control" in study["notes"][0]
    networks = Networks(tmp_path / "plain", IMAGES)
    networks.train("a", 0, 2.0)
    assert adaptations(read_rows(tmp_path / "plain")) == []


def test_a_report_has_the_section_and_names_runs_by_what_they_were_adapted_to(tmp_path):
    made(tmp_path / "runs", (0,), {n: SKILLS[n] for n in ("null", "b by dann")}, labelled=False)
    report = collect(tmp_path / "runs", tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert "Adapted to images without labels: resnet18" in page
    assert "Adapted to images without labels: resnet18: the greatest gain" in report.summary
    variants = set(report.table["variant"].dropna())
    assert "trained on a adapted to b by dann" in variants
    assert not any("task.options.adapt" in variant for variant in variants)
