"""What a machine made of a recipe, and the note where that changes a result."""

from __future__ import annotations

import pytest
import torch
from conftest import CLASSES, make_job
from torch import nn

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import TaskSection
from deeplense_batch.models import build
from deeplense_batch.tasks import build_task
from deeplense_batch.training.resolved import of_pieces, resolved
from deeplense_batch.training.step import Stepper

CPU = torch.device("cpu")
ALONE, THREE = World(0, 1, CPU), World(0, 3, CPU)


def trained_by(shards, model="test_resnet", drop=0.0, **train):
    """A job of batches of 20, and what trains it on one process."""
    job = make_job(shards, model={"name": model}, train={"batch_size": 20} | train)
    network = build(model, channels=1, classes=3, size=32, drop_rate=drop)
    return job, Stepper(job, ALONE, build_task("classification", classes=CLASSES), network)


def test_a_batch_norm_that_saw_a_third_of_a_batch_is_told(shards):
    job, stepper = trained_by(shards)
    assert of_pieces(job, ALONE, stepper) is None
    assert of_pieces(job, THREE, stepper) == (
        "batch norm worked on 7 images of a batch at a time instead of 20 (3 processes), which "
        "changes the weights and is not part of the run's name; on GPUs train.sync_bn: true makes "
        "it work on the whole batch"
    )
    stepper.micro_batch = 10
    assert "on 10 images of a batch at a time instead of 20 (micro-batches halved)" in of_pieces(
        job, ALONE, stepper
    )


def test_pieces_that_the_recipe_itself_makes_are_no_surprise(shards):
    job, stepper = trained_by(shards, micro_batch=7)
    assert of_pieces(job, ALONE, stepper) is None
    assert of_pieces(job, THREE, stepper) is None  # 7 of 20 images on each process too


def test_where_images_go_through_alone_pieces_do_not_matter(shards):
    assert of_pieces(*swapped(trained_by(shards, "test_vit"))) is None
    told = of_pieces(*swapped(trained_by(shards, "test_vit", drop=0.2)))
    assert told.startswith("dropout worked on 7 images") and "sync_bn" not in told
    job, stepper = trained_by(shards)
    for module in stepper.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)  # frozen: it keeps its statistics
    assert of_pieces(job, THREE, stepper) is None


@pytest.mark.parametrize("by", ["coral", "mmd", "dann"])
def test_sets_that_an_adaptation_compares_on_each_process_are_told(shards, by):
    """A discriminator sees each image alone, and its loss is a mean over them."""
    job, stepper = trained_by(shards, "test_vit")
    adapt = {"to": {"root": "elsewhere"}, "by": by}
    job = job.model_copy(update={"task": TaskSection(options={"adapt": adapt})})
    said = of_pieces(job, THREE, stepper)
    if by == "dann":
        assert said is None
    else:
        assert said.startswith(f"the {by} of adaptation worked on 7 images of a batch at a time")


def swapped(made):
    job, stepper = made
    return job, THREE, stepper


@pytest.mark.parametrize("sync_bn", [True, False])
def test_a_batch_norm_over_all_gpus_sees_the_whole_batch(shards, sync_bn):
    job, stepper = trained_by(shards, sync_bn=sync_bn)
    two = World(0, 2, torch.device("cuda", 0))
    assert (of_pieces(job, two, stepper) is None) == sync_bn
    assert resolved(job, two, stepper, [])["synced_batch_norm"] == sync_bn
    stepper.micro_batch = 5  # of the ten of each
    assert of_pieces(job, two, stepper).startswith("batch norm worked on 5 images")


def test_a_batch_that_gpus_do_not_divide_is_whole_for_a_norm_over_all(shards):
    job, stepper = trained_by(shards, sync_bn=True, batch_size=21)
    two = World(0, 2, torch.device("cuda", 0))
    assert of_pieces(job, two, stepper) is None  # 11 and 10 images, in one piece each
    job, stepper = trained_by(shards, sync_bn=True, batch_size=21, micro_batch=7)
    assert of_pieces(job, two, stepper) is not None  # two pieces of each in place of three


def test_the_record_has_the_processes_of_every_attempt(shards):
    job, stepper = trained_by(shards, sync_bn=True, micro_batch=8)
    assert resolved(job, ALONE, stepper, [2, 4, 2]) == {
        "processes": [1, 2, 4],
        "batch_at_once": 7,  # three pieces of 20
        "synced_batch_norm": False,
        "amp": "off",
        "device": "cpu",
        "compile": False,
        "graph": False,
    }
