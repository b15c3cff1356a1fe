"""Which epoch's weights are kept: those of the best score, or of the least loss without one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import CLASSES, make_images, make_job, write_split

from deeplense_batch.data.writer import ShardWriter
from deeplense_batch.models import checkpoint
from deeplense_batch.runs import scoring
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run
from deeplense_batch.training import trainer


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(scoring, "save_figure", lambda figure, path: None)  # slow


TINY = {"model": {"name": "simple_cnn"}, "train": {"epochs": 5, "batch_size": 60}}


@pytest.mark.parametrize(
    ("scores", "rank"),
    [
        ({"auc": 0.7, "loss": 2.0}, (0.7, False)),
        ({"auc": 0.0, "loss": 2.0}, (0.0, False)),  # a score, though it is none to be proud of
        ({"auc": None, "loss": 2.0}, (-2.0, True)),
        ({"auc": math.nan, "loss": 0.5}, (-0.5, True)),
        ({"auc": -math.inf, "loss": 0.5}, (-0.5, True)),
        ({"loss": 0.5}, (-0.5, True)),
        ({"auc": None, "loss": math.inf}, (None, True)),
        ({"auc": None, "loss": None}, (None, True)),
        ({}, (None, True)),
    ],
)
def test_an_epoch_is_ranked_by_its_score_and_else_by_its_loss(scores, rank):
    assert trainer._rank_of(scores, "auc") == rank


@pytest.mark.parametrize(
    ("ranks", "best", "by_loss"),
    [
        ([(0.5, False), (0.7, False), (0.7, False), (0.6, False), (0.1, False)], 2, False),
        ([(-2.0, True), (-1.0, True), (-3.0, True), (-1.5, True), (-1.0, True)], 2, True),
        # An epoch with a score is better than all without, however small it is and they are.
        ([(-0.1, True), (0.01, False), (-0.01, True), (0.005, False), (None, True)], 2, False),
        ([(0.4, False), (-0.01, True), (-0.01, True), (0.3, False), (-0.01, True)], 1, False),
        ([(None, True), (None, True), (-5.0, True), (None, True), (-6.0, True)], 3, True),
    ],
)
def test_the_best_epoch_of_scores_and_losses(shards, tmp_path, monkeypatch, ranks, best, by_loss):
    coming = iter(ranks)
    monkeypatch.setattr(trainer, "_rank_of", lambda scores, monitor: next(coming))
    (item,) = plan([make_job(shards, **TINY)], tmp_path)
    run(item, device="cpu")
    metrics = item.run.read_json("metrics.json")
    assert metrics["valid"]["epoch"] == best
    assert metrics["valid"]["chosen_by"] == ("loss" if by_loss else "auc")
    assert checkpoint.load(item.run.path / trainer.BEST)["epoch"] == best
    told = any("is undefined on val[:50%]" in note for note in metrics["test"]["notes"])
    assert told == by_loss


def test_on_one_class_alone_the_epoch_of_the_least_loss_is_kept_and_told(tmp_path):
    root = tmp_path / "shards"
    write_split(root, "train", 60, seed=1)
    images, targets = make_images(60, 2)
    only = np.flatnonzero(targets == 1)
    with ShardWriter(
        root, split="val", shape=(1, 24, 24), stored=np.dtype("u2"), dtype=np.dtype("f8"),
        classes=CLASSES, source="tests", seed=0,
    ) as writer:  # fmt: skip
        ids, scale = [f"val/{i}" for i in only], images[only].max((2, 3)).astype("f8")
        writer.append(images[only], targets=targets[only], ids=ids, scale=scale)
        writer.publish()
    (item,) = plan([make_job(root, **TINY)], tmp_path / "runs")
    run(item, device="cpu")
    metrics = item.run.read_json("metrics.json")
    losses = [line["valid"]["loss"] for line in item.run.read_lines("history.jsonl")]
    assert metrics["valid"]["epoch"] == 1 + int(np.argmin(losses))
    assert metrics["valid"]["chosen_by"] == "loss"
    sentence = (
        "the validation auc is undefined on val[:50%], which has no no and no vort: the best "
        "epoch is that of the lowest validation loss"
    )
    assert sentence in metrics["test"]["notes"]
    assert sentence in (item.run.path / "log.txt").read_text()


def test_norms_are_settled_in_the_last_epochs(shards, tmp_path, monkeypatch):
    settled = []
    start = trainer.Stepper.start_epoch

    def noted(self, **options):
        settled.append(options["settled"])
        start(self, **options)

    monkeypatch.setattr(trainer.Stepper, "start_epoch", noted)
    fields = TINY | {"train": TINY["train"] | {"settled": 2}}
    (item,) = plan([make_job(shards, **fields)], tmp_path)
    run(item, device="cpu")
    assert settled == [False] * 3 + [True] * 2
