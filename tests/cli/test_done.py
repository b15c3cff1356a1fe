"""What is told of a run that is done."""

from __future__ import annotations

from conftest import make_job
from made_runs import untrained

from deeplense_batch.cli.done import done
from deeplense_batch.core.job import Evaluation
from deeplense_batch.runs.planning.plan import plan


def test_a_training_is_told_with_its_scores(shards, tmp_path):
    item = untrained(make_job(shards), tmp_path)
    metrics = item.run.read_json("metrics.json")
    metrics["valid"]["monitor"] = "auc"
    item.run.write_json("metrics.json", metrics)
    says = f"{item.run.path}: done; validation auc 0.9100; test auc 0.9000, "
    assert done(item).startswith(says)


def test_an_evaluation_says_which_run_it_scored_on_which_images(shards, tmp_path):
    trained = untrained(make_job(shards), tmp_path)
    section = {"run": str(trained.run.path), "data": {"slice": "val[:20]"}}
    job = Evaluation.model_validate({"name": "elsewhere", "evaluate": section})
    (item,) = plan([job], tmp_path)
    item.create()
    metrics = trained.run.read_json("metrics.json") | {"evaluated": {}}
    item.run.write_json("metrics.json", metrics)
    data = f"{shards.parent.name}/{shards.name}"
    says = f"done, {trained.run.name} on val[:20] of {data}; test auc 0.9000, "
    assert done(item).startswith(f"{item.run.path}: {says}")
