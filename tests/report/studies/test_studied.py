"""What is studied of a comparison, and of one that only a matrix shows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_transfer import Networks, answers, targets_of

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.report.collect import collect
from deeplense_batch.report.run_table import CollectError
from deeplense_batch.report.statistics.bootstrap import macro_auc

IMAGES = 450


@pytest.fixture
def networks(tmp_path):
    return Networks(tmp_path / "runs", {"a": 90, "b": IMAGES})


def keep_truth(run: RunDir) -> None:
    """Let a run have kept a quantity of its test images, low in the first half of them."""
    ids = np.load(run.path / "outputs.npz")["ids"].tolist()
    table = pa.table({"id": ids, "theta_e": np.linspace(0.5, 1.5, len(ids))})
    pq.write_table(table.replace_schema_metadata({b"lacking": b"{}"}), run.path / "truth.parquet")


def evaluate(networks: Networks, seeds: int = 2) -> None:
    for seed in range(seeds):
        keep_truth(networks.evaluate(networks.train("a", seed, 2.2), "b", 0.9))


def content_of(tmp_path, **asked):
    collect(tmp_path / "runs", tmp_path / "report", **asked)
    return json.loads((tmp_path / "report" / "results.json").read_text())


def auc(outputs, own=slice(None)):
    targets = targets_of(IMAGES)[own]
    return macro_auc(targets, outputs[own])(np.ones((len(targets), 1), np.uint16))[0]


def test_evaluations_of_one_model_are_an_ensemble_on_their_images(tmp_path, networks):
    evaluate(networks)
    content = content_of(tmp_path)
    assert len(content["comparisons"]) == 1  # of the trainings: evaluations rank nothing
    (one,) = content["studies"]
    assert (one["number"], one["model"], one["training"], one["test"]) == (
        2, "resnet18", "a", "b"
    )  # fmt: skip
    (ensemble,) = one["ensembles"]
    outputs = np.mean([softmax(answers("b", IMAGES, 0.9, seed)) for seed in (0, 1)], axis=0)
    assert ensemble["auc"] == pytest.approx(auc(outputs)) and ensemble["members"] == 2
    title = "Ensembles: resnet18, trained on a, tested on b"
    assert title in [block["title"] for block in content["blocks"]]
    page = (tmp_path / "report" / "report.md").read_text()
    assert f"## {title}" in page and "(ensembles-2.png)" in page
    assert (tmp_path / "report" / "ensembles-2.png").exists()


def test_evaluations_of_one_model_are_studied_by_a_quantity(tmp_path, networks):
    evaluate(networks, seeds=1)
    content = content_of(tmp_path, by=["theta_e=0.5:1:2"])
    ((one,), (training,)) = content["studies"], content["comparisons"]
    assert training["by"]["theta_e"]["fault"] and one["ensembles"] == []
    (model,) = one["by"]["theta_e"]["models"]
    outputs = softmax(answers("b", IMAGES, 0.9, 0))
    halves = (slice(IMAGES // 2), slice(IMAGES // 2, None))
    found = [cell["value"] for cell in model["numbers"]["auc"]]
    assert found == pytest.approx([auc(outputs, half) for half in halves], abs=1e-6)
    titles = [block["title"] for block in content["blocks"]]
    assert titles[-1] == "By theta_e: resnet18, trained on a, tested on b"
    with pytest.raises(CollectError, match="--by size"):
        content_of(tmp_path, by=["size"])


def test_a_comparison_is_studied_in_its_own_section(tmp_path, networks):
    for seed in (0, 1):
        keep_truth(networks.train("b", seed, 1.0))
    content = content_of(tmp_path, by=["theta_e"])
    assert content["studies"] == [] == content["blocks"]
    (comparison,) = content["comparisons"]
    assert [block["title"] for block in comparison["blocks"]] == ["Ensembles", "By theta_e"]
    assert len(comparison["ensembles"]) == len(comparison["by"]["theta_e"]["models"]) == 1
