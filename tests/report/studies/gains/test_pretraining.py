"""What pretrained weights gain over random ones: pairs of models, intervals, and the page."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from made_runs import make_run

from deeplense_batch.core.scoring.metrics import classification_scores
from deeplense_batch.report.collect import collect
from deeplense_batch.report.compare import compare, name_variants
from deeplense_batch.report.run_table import read_rows
from deeplense_batch.report.statistics.resamples import Resamples
from deeplense_batch.report.studies.gains.pretraining import gains, pretraining_blocks

CLASSES = ("no", "sphere", "vort")
TARGETS = np.arange(240) % 3
SEEDS = (0, 1, 2)


def trained(root, images, *, pretrained, strength, job="labels", **train):
    """Runs of each seed on some images, with answers as good as `strength`."""
    for seed in SEEDS:
        init = f"/runs/masked/masked_autoencoder-s{seed}-{seed:010x}" if pretrained else None
        random = np.random.default_rng([seed, images, pretrained])
        logits = strength * np.eye(3)[TARGETS] + random.normal(size=(len(TARGETS), 3))
        auc = classification_scores(TARGETS, logits, CLASSES)[0]["auc"]
        run = make_run(root, seed=seed, job=job, train={"init": init, "epochs": images} | train,
                       auc=auc, valid=auc)  # fmt: skip
        job_yaml = yaml.safe_load((run.path / "job.yaml").read_text())
        job_yaml["data"]["train"] = f"train[:{images}]"
        (run.path / "job.yaml").write_text(yaml.safe_dump(job_yaml))
        metrics = run.read_json("metrics.json")
        metrics["data"]["samples"]["train"] = images
        run.write_json("metrics.json", metrics)
        np.savez(run.path / "outputs.npz", classes=CLASSES, targets=TARGETS, logits=logits,
                 ids=np.arange(len(TARGETS)).astype(str))  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    trained(root, 30, pretrained=True, strength=3.0)
    trained(root, 30, pretrained=False, strength=0.5)
    trained(root, 900, pretrained=True, strength=3.0)
    trained(root, 900, pretrained=False, strength=3.0)
    trained(root, 300, pretrained=True, strength=2.0)  # without a partner
    collect(root, root / "report")
    return root / "report"


def test_each_number_of_labels_has_a_gain_and_an_interval(report):
    (comparison,) = json.loads((report / "results.json").read_text())["comparisons"]
    few, many = comparison["pretraining"]
    assert (few["train_samples"], many["train_samples"]) == (30, 900)
    assert few["runs"] == [3, 3] and few["init"] == "masked/masked_autoencoder"
    for row in (few, many):
        assert row["gain"] == pytest.approx(row["pretrained"] - row["scratch"])
        assert row["low"] < row["gain"] < row["high"]
    assert few["resolved"] and few["low"] > 0.1
    assert not many["resolved"] and many["low"] < 0 < many["high"]
    assert {model["runs"] for model in comparison["models"]} == {3}  # seeds of one model


def test_the_page_says_where_it_helps_and_draws_it(report):
    page = (report / "report.md").read_text()
    assert "Pretrained against scratch" in page
    assert "Better from pretrained weights: resnet18, 30 images." in page
    assert "Not resolved: resnet18, 900 images." in page
    summary = (report / "report.html").read_text().split("</header>")[0]
    assert "Gain of test AUC from pretrained weights: resnet18: +0." in summary
    assert "on 30 images (better)" in summary and "on 900 images (not resolved)" in summary


def test_without_a_pair_there_is_no_block(tmp_path):
    trained(tmp_path, 30, pretrained=True, strength=1.0)
    trained(tmp_path, 30, pretrained=False, strength=1.0, lr=0.1)
    name_variants(rows := read_rows(tmp_path))
    (models,) = compare(rows)
    assert len(models) == 2 and gains(models, Resamples({}, {}, {})) == []
    assert pretraining_blocks(1, "auc", []) == []


def test_a_gain_against_labels_is_drawn_where_their_number_varies():
    row = {"network": "vit", "init": "m/a", "scratch": 0.5, "pretrained": 0.6, "gain": 0.1}
    row |= {"low": 0.0, "high": 0.2, "p_value": 0.04, "resolved": True, "runs": [2, 2]}
    rows = [row | {"train_samples": n} for n in (10, 100)]
    (block,) = pretraining_blocks(2, "auc", rows)
    (picture,) = block.pictures
    assert picture.name == "pretraining-2"
    assert picture.arguments["curves"] == [
        {"label": "vit, m/a", "gains": [[10, 0.1, 0.0, 0.2], [100, 0.1, 0.0, 0.2]]}
    ]
    assert pretraining_blocks(1, "auc", rows[:1])[0].pictures == []
    unknown = row | {"train_samples": 5, "low": None, "high": None, "p_value": None}
    assert pretraining_blocks(1, "auc", [unknown])[0].lines[0][-2:] == ["+0.1000", "-"]


def test_networks_say_what_of_them_is_trained(tmp_path):
    parts = ["cls_token", "pos_embed", "patch_embed", "blocks", "norm"]
    for freeze in ([], parts):
        for pretrained in (True, False):
            trained(tmp_path, 30, pretrained=pretrained, strength=1.0, freeze=freeze)
    name_variants(rows := read_rows(tmp_path))
    (models,) = compare(rows)
    found = gains(models, Resamples.of(models))
    assert [(one["network"], one["frozen"]) for one in found] == [
        ("resnet18 frozen cls_token and 4 more", True), ("resnet18 whole network", False),
    ]  # fmt: skip
    (block,) = pretraining_blocks(1, "auc", found)
    assert any("linear probe" in sentence for sentence in block.sentences)
    assert any("train.freeze=cls_token and 4 more" in model.label for model in models)
