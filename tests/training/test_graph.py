"""Replayed steps are launched ones, whatever is recorded; what records here is no GPU."""

from __future__ import annotations

import pytest
import torch
from conftest import make_job

from deeplense_batch.core.distributed import World
from deeplense_batch.models import build
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Batch, Frame
from deeplense_batch.training.graph import GradientGraph
from deeplense_batch.training.step import Stepper

CLASSES = ("no", "sphere", "vort")


class Tape:
    """Keeps a function and runs it again, and gives what it gives in one and the same memory."""

    def __init__(self, parameters) -> None:
        self.parameters, self.recorded, self.replayed = list(parameters), 0, 0

    def beside(self, function):
        return function()

    def record(self, function):
        self.recorded += 1
        sums = function()
        gradients = [p.grad for p in self.parameters]

        def replay() -> None:
            self.replayed += 1
            for parameter in self.parameters:
                parameter.grad = None
            again = function()
            for name, value in sums.items():
                value.copy_(again[name])
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                gradient.copy_(parameter.grad)

        return replay, sums


def batch_of(count: int, number: int) -> Batch:
    random = torch.Generator().manual_seed(number)
    images = torch.randn(count, 1, 48, 48, generator=random)
    radii = torch.rand(count, generator=random) + 0.5
    return Batch(images, torch.arange(count) % 3, torch.arange(count), truth={"theta_e": radii})


def stepper_of(shards, task: str, model: str, tape=None, **options) -> tuple[Stepper, Tape | None]:
    torch.manual_seed(0)
    made = build_task(task, classes=CLASSES, frame=Frame(1, 48, 0.05), **options)
    more = {"drop_rate": 0.3} if model == "test_vit" else {}
    network = build(model, channels=1, classes=made.spec.num_outputs, size=48, **more)
    job = make_job(shards, model={"name": model}, train={"lr": 0.01, "clip": 1.0, "ema": 0.9})
    stepper = Stepper(job, World(0, 1, torch.device("cpu")), made, network)
    stepper.start_epoch()
    if tape is None:
        return stepper, None
    recorder = tape(network.parameters())
    stepper._graph = GradientGraph(stepper._whole, [*network.parameters()], recorder)
    return stepper, recorder


def train(stepper: Stepper, steps: int = 14) -> list[float]:
    """Batches of two sizes in turn, each step with a seed and a progress of its own."""
    losses = []
    for number in range(steps):
        batch = batch_of(6 + number % 2, number)
        sums = stepper(
            batch, samples=len(batch.images), time=number / steps, progress=number / steps,
            seed=number,
        )  # fmt: skip
        losses.append(float(sums["loss"]))
    return losses


@pytest.mark.parametrize(
    ("task", "model", "options"),
    [
        ("classification", "test_vit", {"label_smoothing": 0.1}),
        ("regression", "test_vit", {"target": "theta_e"}),
        ("generation", "unet", {"conditions": ["theta_e"], "schedule": "cosine"}),
    ],
)
def test_replayed_steps_are_those_that_are_launched(shards, task, model, options):
    """Dropout, noise and conditions of each step too; batches of each size have a graph."""
    if model == "unet":
        pytest.importorskip("diffusers")
    plain, _ = stepper_of(shards, task, model, **options)
    replayed, tape = stepper_of(shards, task, model, Tape, **options)
    assert train(plain) == train(replayed)
    assert replayed.graph and (tape.recorded, tape.replayed) == (2, 8)  # 14 less 3 of each size
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, replayed.model.state_dict()[name]), name


def test_the_progress_of_a_step_is_not_that_of_the_recorded_one(shards):
    a, _ = stepper_of(shards, "physics_guided", "physics_resnet50")
    b, tape = stepper_of(shards, "physics_guided", "physics_resnet50", Tape)
    pairs = [
        [
            s(batch_of(4, n), samples=4, time=0.0, progress=n / 6, seed=n)["scalar"]
            for n in range(6)
        ]
        for s in (a, b)
    ]
    assert tape.replayed == 3
    # Recording ran the network once more here, which the statistics of its norms have seen.
    assert torch.allclose(torch.stack(pairs[0]), torch.stack(pairs[1]), rtol=0.05)
    assert len({float(value) for value in pairs[1]}) == 6


class Unable(Tape):
    """Cannot record."""

    def record(self, function):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")


def test_what_cannot_be_recorded_is_launched_and_said_once(shards, caplog):
    plain, _ = stepper_of(shards, "classification", "test_vit")
    unable, _ = stepper_of(shards, "classification", "test_vit", Unable)
    assert train(plain) == train(unable)
    assert not unable.graph
    (message,) = [record.getMessage() for record in caplog.records]
    assert "cannot be recorded (operation not permitted when stream is capturing)" in message


def test_only_a_few_shapes_are_recorded(shards):
    stepper, tape = stepper_of(shards, "classification", "test_vit", Tape)
    for count in range(3, 9):
        for number in range(4):
            batch = batch_of(count, number)
            stepper(batch, samples=count, time=0.0, progress=0.0, seed=0)
    assert tape.recorded == 4


@pytest.mark.parametrize(
    ("changes", "device", "recordable"),
    [
        ({}, "cuda", True),
        ({}, "cpu", False),
        ({"engine": {"graph": "off"}}, "cuda", False),
        ({"engine": {"compile": True}}, "cuda", False),
        ({"train": {"mixup": 0.2}}, "cuda", False),
    ],
)
def test_where_steps_differ_or_nothing_is_gained_none_is_recorded(
    shards, changes, device, recordable
):
    stepper, _ = stepper_of(shards, "classification", "test_vit")
    stepper._world = World(0, 1, torch.device(device))
    if changes.get("engine", {}).get("compile"):
        stepper._called = lambda images: images
    assert stepper._recordable(make_job(shards, **changes)) == recordable
    stepper._world = World(0, 2, torch.device(device))
    assert not stepper._recordable(make_job(shards, **changes))
