"""Which network a run scores, and what tells models apart."""

from __future__ import annotations

import pytest
import yaml
from made_transfer import SLICE, Networks, digest_of, three_by_three

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.report.run_table import read_rows
from deeplense_batch.report.studies.networks import Slice, Training, names, scored_models


def test_trainings_and_evaluations_of_one_model_meet_whatever_their_data(tmp_path):
    three_by_three(tmp_path)
    ((label, scored),) = scored_models(read_rows(tmp_path))
    assert label == "resnet18" and len(scored) == 18
    assert len({one.network for one in scored}) == 6  # three training sets, two seeds
    a, b, real = (Slice(digest_of(name), SLICE) for name in ("a", "b", "real"))
    details = (("data.valid", "val[:50%]"),)
    assert {one.test for one in scored} == {a, b, real}
    assert {one.training for one in scored} == {
        Training(f"{digest_of('a')}:train", a, details),
        Training(f"{digest_of('b')}:train", b, details),
        Training(f"{digest_of('a')}:train + {digest_of('b')}:train", a, details),
    }


def change(run: RunDir, section: str = "train", **fields: object) -> None:
    """Let a training have been another: fields of a section of its recipe, and its identity."""
    job = yaml.safe_load((run.path / "job.yaml").read_text())
    job[section] |= fields
    (run.path / "job.yaml").write_text(yaml.safe_dump(job))
    metrics = run.read_json("metrics.json")
    run.write_json("metrics.json", metrics | {"identity": metrics["identity"][::-1]})


def test_other_settings_are_other_models_with_names_of_their_own(tmp_path):
    networks = Networks(tmp_path, {"a": 60, "b": 60})
    for seed, rate in ((0, 0.001), (1, 0.01)):
        run = networks.train("a", seed, 2.0)
        change(run, lr=rate)
        networks.evaluate(run, "b", 1.0)
    other = Networks(tmp_path, {"a": 60, "b": 60}, "resnet34")
    other.train("a", 0, 2.0)
    labels = [(label, len(scored)) for label, scored in scored_models(read_rows(tmp_path))]
    assert sorted(labels) == [
        ("resnet18 train.lr=0.001", 2), ("resnet18 train.lr=0.01", 2), ("resnet34", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "first", "second"),
    [
        ("valid", "val[:50%]", "val[:10%]"),
        ("channels", ["g"], "mean"),
        ("channels", None, ["g"]),
        ("classes", {"vort": "sphere"}, {"vort": "no"}),
    ],
)
def test_what_a_recipe_makes_of_one_set_is_another_training_of_one_model(
    tmp_path, field, first, second
):
    networks = Networks(tmp_path, {"a": 60, "b": 60})
    for seed, value in enumerate((first, second)):
        run = networks.train("a", seed, 2.0)
        change(run, "data", **{field: value})
        networks.evaluate(run, "b", 1.0)
    ((label, scored),) = scored_models(read_rows(tmp_path))
    assert label == "resnet18" and len(scored) == 4
    trainings = {one.network: one.training for one in scored}  # an evaluation says the same
    assert len(trainings) == len(set(trainings.values())) == 2
    assert all(one.training == trainings[one.network] for one in scored)


def test_a_mean_over_symmetries_is_another_model(tmp_path):
    networks = Networks(tmp_path, {"a": 60, "b": 60})
    for tta in (False, True):
        network = networks.train("a", int(tta), 2.0)
        run = networks.evaluate(network, "b", 1.0)
        for one in (network, run):
            metrics = one.read_json("metrics.json")
            metrics["test"]["tta"] = tta
            one.write_json("metrics.json", metrics)
    labels = {label for label, _ in scored_models(read_rows(tmp_path))}
    assert labels == {"resnet18 data.tta=False", "resnet18 data.tta=True"}


def test_runs_that_score_no_known_network_are_left_out(tmp_path):
    networks = Networks(tmp_path, {"a": 60, "b": 60})
    run = networks.evaluate(networks.train("a", 0, 2.0), "b", 1.0)
    metrics = run.read_json("metrics.json")
    del metrics["evaluated"]["data_digest"]  # as an earlier version wrote it
    run.write_json("metrics.json", metrics)
    ((_, scored),) = scored_models(read_rows(tmp_path))
    assert len(scored) == 1


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ([("a", "1"), ("b", "1")], ["a", "b"]),
        ([("a", "1"), ("a", "2"), ("b", "3")], ["a, 1", "a, 2", "b"]),
        ([("a", "", "x"), ("a", "", "y")], ["a, x", "a, y"]),
        ([("a",), ("a",)], ["a", "a"]),
        ([], []),
    ],
)
def test_things_are_told_apart_by_as_few_names_as_it_takes(kept, expected):
    assert names(kept) == expected
