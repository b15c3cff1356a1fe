"""A slice is predicted whole: in pieces where memory lacks, and with every bit of float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_job
from torch import nn

from deeplense_batch.core.distributed import World
from deeplense_batch.tasks.classification import Classification
from deeplense_batch.tasks.task import Batch
from deeplense_batch.training.evaluation import InPieces, evaluate
from deeplense_batch.training.setup import set_up

ALONE = World(0, 1, torch.device("cpu"))
CLASSES = ("no", "sphere", "vort")


class Hungry(Classification):
    """Runs out of memory on more than so many images, and counts those of each pass."""

    def __init__(self, most: int) -> None:
        super().__init__(classes=CLASSES)
        self.most, self.passes = most, []

    def predict(self, model, batch):
        self.passes.append(len(batch.images))
        if len(batch.images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().predict(model, batch)


def test_evaluation_halves_where_memory_runs_out_and_gives_the_same(shards, caplog):
    setup = set_up(make_job(shards), ALONE)
    whole = evaluate(setup.task, setup.model, setup.test, ALONE)
    hungry = Hungry(5)
    pieces = evaluate(hungry, setup.model, setup.test, ALONE)
    count = len(setup.test)
    assert hungry.passes[0] == count > 5 and hungry.passes[-1] <= 5
    assert np.allclose(pieces["logits"], whole["logits"], atol=1e-6)
    assert np.array_equal(pieces["ids"], whole["ids"])
    assert "samples at a time from here on" in caplog.text


def test_the_size_that_had_room_is_kept_for_the_next_batch():
    hungry = Hungry(3)
    predict = InPieces(hungry, nn.Flatten())
    batch = Batch(torch.randn(8, 1, 1, 3), torch.zeros(8, dtype=torch.int64), torch.arange(8))
    for _ in range(2):
        assert torch.equal(predict(batch)["logits"], batch.images.flatten(1))
    assert hungry.passes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        InPieces(Hungry(0), nn.Flatten())(batch)


class Looking(Classification):
    """Keeps how GPUs would multiply."""

    seen: tuple[bool, bool] | None = None

    def predict(self, model, batch):
        self.seen = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        return super().predict(model, batch)


def test_scores_are_made_with_every_bit_of_float32(shards):
    """By default convolutions on GPUs from Ampere on have the 10 bits of TF32."""
    setup = set_up(make_job(shards), ALONE)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        task = Looking(classes=CLASSES)
        evaluate(task, setup.model, setup.test, ALONE)
        assert task.seen == (False, False)
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32 == before
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
