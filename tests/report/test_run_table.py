"""A run directory as a row of the table, whatever state it is in."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from made_runs import lose, make_run

from deeplense_batch.core.job import Evaluation
from deeplense_batch.core.result import write_metrics
from deeplense_batch.core.rundir import Status
from deeplense_batch.report.collect import collect
from deeplense_batch.report.run_table import read_rows, run_row


def test_a_run_that_has_lost_its_job_is_a_row(tmp_path):
    run = make_run(tmp_path)
    make_run(tmp_path, "whole")
    (run.path / "job.yaml").unlink()
    row, _ = sorted(read_rows(tmp_path), key=lambda row: row["state"] == "done")
    assert row["state"] == "unreadable" and "job.yaml: is missing" in row["reason"]
    assert "1 of 2 runs done" in collect(tmp_path, tmp_path / "report").summary


def test_a_finished_run_is_a_row(tmp_path):
    run = make_run(tmp_path)
    row = run_row(run)
    assert row == {
        "training": {"name": "data", "digest": "a" * 16 + ":train", "sets": 0},
        "job": "demo", "task": "classification", "model": "resnet18", "variant": None, "more": {},
        "learns": None, "monitor": "auc", "valid_score": 0.91, "train_samples": None,
        "seed": 0, "state": "done",
        "reason": None, "attempts": 1, "epochs": 3, "planned_epochs": 15, "best_epoch": 2,
        "valid_auc": 0.91, "auc": 0.9, "auc_no": 0.9, "auc_sphere": 0.9, "auc_vort": None,
        "accuracy": 0.8, "balanced_accuracy": 0.7, "nll": 0.5, "train_seconds": 60.0,
        "checkpoint_seconds": None, "other_seconds": None,  # earlier versions did not keep them
        "images_per_s": 420.0, "device": "AMD EPYC, 1 thread", "parameters_m": 11.17,
        "gflops": 1.8, "reference_hours": None,
        "data_digest": "a" * 16, "valid": None, "test": "val[50%:]", "test_samples": 600,
        "notes": None, "data_root": "/data", "commit": "abc123",
        "updated": run.status().updated, "run": str(run.path), "log": str(run.path / "log.txt"),
    }  # fmt: skip


def test_time_outside_training_and_validation_is_told(tmp_path):
    run = make_run(tmp_path)
    metrics = run.read_json("metrics.json")
    metrics["cost"] |= {"evaluate_seconds": 12.0, "checkpoint_seconds": 0.5, "device_hours": 0.05}
    metrics["device"]["count"] = 2
    write_metrics(run, metrics)
    row = run_row(run)
    assert row["checkpoint_seconds"] == 0.5
    assert row["other_seconds"] == pytest.approx(0.05 * 3600 / 2 - 60 - 12)


def test_an_unfinished_run_is_a_row_of_what_is_known(tmp_path):
    run = make_run(tmp_path, state="failed", reason="oom", message="CUDA out of memory")
    row = run_row(run)
    assert (row["state"], row["reason"]) == ("failed", "oom: CUDA out of memory")
    assert (row["valid_auc"], row["best_epoch"], row["auc"]) == (0.91, 2, None)
    lost = make_run(tmp_path, seed=1, state="running")
    lose(lost)
    assert run_row(lost)["state"] == "lost"


def test_metrics_of_an_earlier_attempt_are_not_a_result(tmp_path):
    run = make_run(tmp_path)
    run.write_status(Status(state="running", epoch=1))
    assert run_row(run)["auc"] is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("job.yaml", b"a text", r"is not a job this program wrote \(TypeError: .*\)"),
        ("job.yaml", b"name: [unclosed", r"is damaged or cut short \(did not find .*\)"),
        ("status.json", b'{"state": 7}', r"has a wrong state, 7"),
        ("history.jsonl", b'{"epoch": 1}\n', r"is not a history this program wrote .*'valid'\)"),
        ("metrics.json", b'{"schema": 1, "da', r"is damaged or cut short \(Untermin.*\)"),
        ("metrics.json", b'{"schema": 2}', r"has schema 2, expected 1"),
        ("metrics.json", b"", "is empty"),
        ("metrics.json", None, "is missing, though the run is said to be done"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_a_sentence(tmp_path, name, content, reason):
    bad = make_run(tmp_path)
    (bad.path / name).unlink()
    if content is not None:
        (bad.path / name).write_bytes(content)
    assert re.fullmatch(f"{name}: {reason}", run_row(bad)["reason"])


def test_a_job_that_is_a_bomb_of_aliases_is_one_unreadable_run(tmp_path):
    good, bomb = (make_run(tmp_path / "runs", seed=seed) for seed in (0, 1))
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 12))
    (bomb.path / "job.yaml").write_text(f"name: bomb\nl0: &l0 [0]\n{levels}")
    assert run_row(good)["state"] == "done"
    row = run_row(bomb)
    assert row["state"] == "unreadable"
    assert "job.yaml: is damaged or cut short (more than" in row["reason"]


def make_evaluation(root, number, *, run="unet-s3-0123456789", seed=0, state="done", **section):
    """An evaluation, with a number of its own, of a run of seed 3."""
    made = make_run(root, seed=number, job="elsewhere", state=state)
    section |= {"run": f"/runs/demo/{run}", "data": {"root": "/data", "slice": "val"}}
    job = Evaluation.model_validate({"name": "elsewhere", "seed": seed, "evaluate": section})
    (made.path / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    if state == "done":
        metrics = made.read_json("metrics.json") | {"model": "unet", "seed": 3}
        metrics["evaluated"] = {"task": "generation", "recipe": {"model.name": "unet"}}
        made.write_json("metrics.json", metrics)
    return made


@pytest.mark.parametrize(
    ("one", "other", "variant"),
    [
        ({"steps": 1}, {"steps": 2}, "evaluate.steps=2"),
        ({"sampler": "ddim"}, {"sampler": "heun"}, "evaluate.sampler=heun"),
        ({"seed": 0}, {"seed": 5}, "evaluate.seed=5"),
        ({"classifier": "/a/one"}, {"classifier": "/a/two"}, "evaluate.classifier=two"),
        ({"images": 8}, {"images": 8}, None),
    ],
)
def test_evaluations_with_other_settings_are_no_seeds_of_one_model(tmp_path, one, other, variant):
    for number, section in enumerate((one, other)):
        make_evaluation(tmp_path / "runs", number, **section)
    table = collect(tmp_path / "runs", tmp_path / "report").table
    assert variant is None or variant in set(table["variant"])
    content = json.loads((tmp_path / "report" / "results.json").read_text())
    runs = [model["runs"] for one in content["comparisons"] for model in one["models"]]
    assert runs == ([2] if variant is None else [1, 1])


@pytest.mark.parametrize("run", ["best", "unet-s3-0123456789", "a-s-b"])
def test_an_evaluated_run_may_have_any_name(tmp_path, run):
    row = run_row(make_evaluation(tmp_path, 0, run=run))
    assert (row["state"], row["reason"], row["model"], row["seed"]) == ("done", None, "unet", 3)
    row = run_row(make_evaluation(tmp_path, 1, run=run, state="failed"))
    named = ("unet", 3) if run.startswith("unet") else (run, None)
    assert (row["state"], row["model"], row["seed"]) == ("failed", *named)


@pytest.mark.parametrize(
    ("digest", "valid"),
    [("a" * 16, "val[:50%]"), ("b" * 16, f"val[:50%] of data, {'b' * 16}"),
     (None, "val[:50%] of data, unknown")],
)  # fmt: skip
def test_an_evaluation_was_validated_where_its_run_was(tmp_path, digest, valid):
    """On the same data it stands with trainings; data of one name may be others."""
    run = make_evaluation(tmp_path, 0)
    metrics = run.read_json("metrics.json")
    recipe = {"data.valid": "val[:50%]", "data.root": "/elsewhere/data"}
    metrics["evaluated"] |= {"recipe": recipe, "data_digest": digest}
    run.write_json("metrics.json", metrics)
    assert run_row(run)["valid"] == valid


def test_an_evaluation_says_which_network_it_scored(tmp_path):
    run = make_evaluation(tmp_path, 0)
    metrics = run.read_json("metrics.json")
    recipe = {"name": "demo", "data.root": "/data", "data.test": "val[50%:]"}
    metrics["evaluated"] |= {"recipe": recipe, "data_digest": "b" * 16, "identity": "0123456789"}
    run.write_json("metrics.json", metrics)
    expected = {"job": "demo", "identity": "0123456789", "digest": "b" * 16, "test": "val[50%:]"}
    assert run_row(run)["evaluated"] == expected
    del metrics["evaluated"]["identity"]  # an ensemble, in whatever order
    metrics["evaluated"]["members"] = [{"identity": "b"}, {"identity": "a"}]
    run.write_json("metrics.json", metrics)
    assert run_row(run)["evaluated"]["identity"] == "a b"
    assert "evaluated" not in run_row(make_run(tmp_path, "resnet18"))


def test_an_evaluation_says_where_its_network_was_trained_and_of_how_many_it_is(tmp_path):
    run = make_evaluation(tmp_path, 0)
    metrics = run.read_json("metrics.json")
    metrics["evaluated"] |= {"run": "/runs/demo/unet-s3-0123456789"}
    run.write_json("metrics.json", metrics)
    row = run_row(run)
    assert row["trained_in"] == "/runs/demo/unet-s3-0123456789" and "ensemble" not in row
    together = {"name": "a and a + b", "digest": "a & a + b", "sets": 3}
    metrics["evaluated"] |= {"members": [{"identity": "a"}, {"identity": "b"}]}
    metrics["evaluated"] |= {"recipe": {"data.root": "/data/a"}, "training": together}
    run.write_json("metrics.json", metrics)
    row = run_row(run)
    assert row["ensemble"] == 2 and row["training"] == together
