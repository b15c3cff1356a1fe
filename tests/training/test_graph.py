"""Replayed steps are launched ones, whatever is recorded; what records here is no GPU."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from conftest import make_job

from deeplense_batch.core.distributed import World
from deeplense_batch.models import build
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Batch, Frame
from deeplense_batch.training.graph import CudaRecorder
from deeplense_batch.training.step import Stepper

CLASSES = ("no", "sphere", "vort")


class Tape:
    """Keeps a function and runs it again, and gives what it gives in one and the same memory."""

    def __init__(self, parameters) -> None:
        self.parameters, self.recorded, self.replayed = list(parameters), 0, 0

    def warm_up(self, function):
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
    draws = torch.randint(1 << 40, (count,), generator=random)  # of a task that draws for each
    return Batch(
        images, torch.arange(count) % 3, torch.arange(count), draws=draws, truth={"theta_e": radii}
    )


def stepper_of(shards, task: str, model: str, tape=None, **options) -> tuple[Stepper, Tape | None]:
    torch.manual_seed(0)
    made = build_task(task, classes=CLASSES, frame=Frame(1, 48, 0.05), **options)
    more: dict[str, object] = {"drop_rate": 0.3} if model == "test_vit" else {}
    if model == "masked_autoencoder":
        more = {"encoder": "test_vit", "decoder_depth": 1}
    network = build(model, channels=1, classes=made.spec.num_outputs, size=48, **more)
    job = make_job(shards, model={"name": model}, train={"lr": 0.01, "clip": 1.0, "ema": 0.9})
    stepper = Stepper(job, World(0, 1, torch.device("cpu")), made, network)
    stepper.start_epoch()
    if tape is None:
        return stepper, None
    recorder = tape(network.parameters())
    stepper._graph = stepper._recording(recorder)
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
        ("regression", "test_vit", {"targets": ["theta_e"], "posterior": "gaussian"}),
        ("generation", "unet", {"conditions": ["theta_e"], "schedule": "cosine"}),
        ("masked", "masked_autoencoder", {"mask_ratio": 0.5}),
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


def test_what_is_recorded_and_the_gradients_go_with_the_training(shards):
    """Else a process would keep their memory through the test, and the next run."""
    stepper, tape = stepper_of(shards, "classification", "test_vit", Tape)
    train(stepper)
    recorded, held = weakref.ref(tape), weakref.ref(stepper)
    stepper.finish()
    del tape
    assert recorded() is None and stepper.graph
    assert all(parameter.grad is None for parameter in stepper.model.parameters())
    gc.disable()
    try:
        del stepper
        assert held() is None
    finally:
        gc.enable()


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
    """Cannot record, and says at the end that something was wrong before."""

    def record(self, function):
        try:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        finally:
            raise RuntimeError("operation failed due to a previous error")


def test_what_cannot_be_recorded_is_launched_and_said_once(shards, caplog):
    plain, _ = stepper_of(shards, "classification", "test_vit")
    unable, _ = stepper_of(shards, "classification", "test_vit", Unable)
    assert train(plain) == train(unable)
    assert not unable.graph
    (message,) = [record.getMessage() for record in caplog.records]
    assert "cannot be recorded (operation not permitted when stream is capturing)" in message


class OnceAble(Tape):
    """Records a first shape and no second one."""

    def record(self, function):
        if self.recorded:
            raise RuntimeError("operation not permitted when stream is capturing")
        return super().record(function)


def test_after_a_recording_that_failed_nothing_is_replayed(shards):
    """The random numbers of what was recorded before would be those of a step before."""
    plain, _ = stepper_of(shards, "classification", "test_vit")
    once, tape = stepper_of(shards, "classification", "test_vit", OnceAble)
    assert train(plain) == train(once)
    assert not once._graph.replays and (tape.recorded, tape.replayed) == (1, 1)


def test_where_memory_runs_out_what_was_recorded_gives_way_before_batches_are_halved(
    shards, caplog
):
    """Here the last batch of an epoch has no room beside the graph of the others."""
    stepper, tape = stepper_of(shards, "classification", "test_vit", Tape)
    losses = stepper._task.losses

    def hungry(model, batch, progress):
        if len(batch.images) == 7 and stepper._graph is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(model, batch, progress)

    stepper._task.losses = hungry
    plain, _ = stepper_of(shards, "classification", "test_vit")
    counts = (6, 6, 6, 6, 7, 6)
    for each in (plain, stepper):
        for number, count in enumerate(counts):
            batch = batch_of(count, number)
            each(batch, samples=count, time=0.1, progress=0.1, seed=number)
    assert (tape.recorded, tape.replayed) == (1, 1)
    assert stepper._graph is None and stepper.micro_batch is None
    assert [r.getMessage() for r in caplog.records] == [
        "out of memory: steps are not replayed any more, which took memory"
    ]
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, stepper.model.state_dict()[name]), name


@pytest.mark.parametrize("broken", [True, False])
def test_a_recording_that_failed_leaves_stream_memory_and_random_numbers_as_they_were(
    monkeypatch, broken
):
    """As torch leaves them: it ends what no operation broke, and else raises at its end."""
    done = []

    class Generator:
        def __init__(self, device) -> None:
            self.graphsafe_get_state = lambda: f"fresh of {device}"

    def ended(device, pool):
        if not broken:
            raise RuntimeError("INTERNAL ASSERT: there is no such pool")
        done.append(("ended", device, pool))

    class Graph:
        def __init__(self, *_, **__) -> None: ...

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            if broken:
                raise RuntimeError("operation failed due to a previous error during capture")

    device = torch.device("cuda", 1)
    default = SimpleNamespace(graphsafe_set_state=lambda state: done.append(("random", state)))
    for name, value in {
        "Stream": lambda on, **_: SimpleNamespace(device=on),
        "CUDAGraph": lambda: SimpleNamespace(replay=None),
        "current_stream": lambda on: "the usual stream",
        "graph_pool_handle": lambda: (0, 7),
        "set_stream": lambda stream: done.append(("stream", stream)),
        "graph": Graph,
        "default_generators": ("", default),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", ended)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *of: done.append(("released", *of)))

    def synchronises():
        raise RuntimeError("operation not permitted when stream is capturing")

    recorder = CudaRecorder(device)
    with pytest.raises(RuntimeError, match="operation"):
        recorder.record(synchronises)
    memory = [("ended", 1, (0, 7)), ("released", 1, (0, 7))] if broken else []
    assert done == [("stream", "the usual stream"), *memory, ("random", "fresh of cuda:1")]


def test_cublas_has_no_workspace_beside_that_of_a_graph(monkeypatch):
    done = []

    class Graph:
        def __init__(self, *_, **__) -> None: ...

        def __enter__(self) -> None:
            done.append("begun")

        def __exit__(self, *_: object) -> None:
            done.append("ended")

    for name, value in {
        "Stream": lambda on, **_: SimpleNamespace(device=on),
        "CUDAGraph": lambda: SimpleNamespace(replay=None),
        "current_stream": lambda on: None,
        "graph_pool_handle": lambda: (0, 7),
        "graph": Graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(
        torch._C, "_cuda_clearCublasWorkspaces", lambda: done.append("cleared"), raising=False
    )
    CudaRecorder(torch.device("cuda", 0)).record(lambda: done.append("recorded") or {})
    assert done == ["cleared", "begun", "recorded", "ended", "cleared"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_graph_outlives_the_workspace_of_cublas():
    """Lightning frees it at the end of a training; other allocations then take its place."""
    device = torch.device("cuda", 0)
    recorder, factors = CudaRecorder(device), torch.randn(2, 512, 512, device=device)

    def product() -> dict[str, torch.Tensor]:
        return {"loss": (factors[0] @ factors[1]).square().mean()}

    expected = float(recorder.warm_up(product)["loss"])
    replay, sums = recorder.record(product)
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    for _ in range(3):
        replay()
        torch.cuda.synchronize()
        assert float(sums["loss"]) == pytest.approx(expected, rel=1e-5)


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


def test_settled_norms_are_not_replayed(shards):
    """What was recorded computes with the statistics of each batch."""
    stepper, recorder = stepper_of(shards, "classification", "test_resnet", Tape)
    assert recorder is not None and stepper._graph is not None
    stepper.start_epoch(settled=True)
    assert stepper._graph is None
