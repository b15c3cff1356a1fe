"""The step: any micro-batch is the same step, and every option does what its name says."""

from __future__ import annotations

import copy
import weakref

import numpy as np
import pytest
import torch
from conftest import make_job
from timm.layers import convert_sync_batchnorm
from torch import nn

from deeplense_batch.core.distributed import World
from deeplense_batch.data.batches.sampling import balanced, balancing_weights, order, shuffled
from deeplense_batch.models import build
from deeplense_batch.tasks.classification import Classification
from deeplense_batch.tasks.task import Batch
from deeplense_batch.training.optim import Ema, Schedule, build_optimizer, freeze
from deeplense_batch.training.step import DivergedError, Stepper, compiled

WORLD = World(0, 1, torch.device("cpu"))
TASK = Classification(classes=("no", "sphere", "vort"))


def make_batch(samples: int = 10) -> Batch:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(samples, 1, 48, 48, generator=random)
    return Batch(images, torch.arange(samples) % 3, torch.arange(samples))


def make_stepper(shards, task=TASK, model="test_vit", **train) -> Stepper:
    torch.manual_seed(0)
    fields = {"optimizer": "sgd", "lr": 0.01, "schedule": "constant"} | train
    job = make_job(shards, train=fields, model={"name": model})
    return Stepper(job, WORLD, task, build(model, channels=1, classes=3, size=48))


def step(stepper: Stepper, batch: Batch | None = None, **changes) -> dict[str, torch.Tensor]:
    batch = batch or make_batch()
    stepper.start_epoch()
    return stepper(
        Batch(**vars(batch) | changes), samples=len(batch.images), time=1.0, progress=0.1, seed=5
    )


def weights(stepper: Stepper) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in stepper.model.state_dict().items()}


@pytest.mark.parametrize("micro", [1, 3, 9])
def test_micro_batches_make_the_step_of_the_whole_batch(shards, micro):
    whole, pieces = make_stepper(shards), make_stepper(shards, micro_batch=micro)
    mixed = {"partners": make_batch().targets.flip(0), "share": 0.3, "weights": torch.rand(10)}
    mixed["partner_weights"] = torch.rand(10)
    a, b = step(whole, **mixed), step(pieces, **mixed)
    assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-6)
    for name, value in weights(whole).items():
        assert torch.allclose(value, weights(pieces)[name], atol=1e-7), name


def test_batch_norm_sees_the_piece_and_not_the_batch(shards):
    whole, pieces = (make_stepper(shards, model="test_resnet", micro_batch=m) for m in (None, 3))
    a, b = step(whole), step(pieces)
    assert float(a["loss"]) != pytest.approx(float(b["loss"]), rel=1e-3)


class Hungry(Classification):
    """Runs out of memory on more than three images."""

    def losses(self, model, batch, progress):
        if len(batch.images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().losses(model, batch, progress)


def test_out_of_memory_halves_the_micro_batch_and_makes_the_same_step(shards, caplog):
    hungry = make_stepper(shards, task=Hungry(classes=TASK.classes))
    plain = make_stepper(shards)
    step(hungry)
    step(plain)
    assert hungry.micro_batch == 3 and hungry.state_dict()["micro_batch"] == 3
    for name, value in weights(plain).items():
        assert torch.allclose(value, weights(hungry)[name], atol=1e-7), name


class Leaving(Classification):
    """Runs out of memory on more than three images, with its activations still there."""

    activation = staticmethod(lambda: None)

    def losses(self, model, batch, progress):
        losses = super().losses(model, batch, progress)
        if len(batch.images) > 3:
            activations = losses["loss"] * 2
            self.activation = weakref.ref(activations)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses


def test_before_a_smaller_try_the_memory_of_the_failed_one_is_free(shards, monkeypatch):
    """Nor have norms seen the pass that failed."""
    task = Leaving(classes=TASK.classes)
    stepper = make_stepper(shards, task=task, model="test_resnet")
    alive, halve = [], stepper._halve
    monkeypatch.setattr(
        stepper, "_halve", lambda count: (alive.append(task.activation()), halve(count))[1]
    )
    step(stepper)
    assert alive == [None, None] and stepper.micro_batch == 3
    plain = make_stepper(shards, model="test_resnet", micro_batch=3)
    step(plain)
    for name, value in weights(plain).items():
        assert torch.equal(value, weights(stepper)[name]), name


def test_micro_batches_are_found_before_the_first_step_and_leave_no_trace(shards):
    stepper = make_stepper(shards, task=Leaving(classes=TASK.classes), model="test_resnet")
    before = weights(stepper)
    stepper.start_epoch()
    stepper.find_micro_batch(make_batch(), 10)
    assert stepper.micro_batch == 3
    assert all(torch.equal(value, before[name]) for name, value in weights(stepper).items())
    assert all(p.grad is None for p in stepper.model.parameters())
    step(stepper)
    plain = make_stepper(shards, model="test_resnet", micro_batch=3)
    step(plain)
    for name, value in weights(plain).items():
        assert torch.equal(value, weights(stepper)[name]), name


def test_after_the_search_only_norms_that_learn_are_in_training_mode(shards):
    """Those over all processes are out of it meanwhile."""
    stepper = make_stepper(shards, model="test_resnet", freeze=["layer1"])
    stepper._shared = stepper.model = convert_sync_batchnorm(stepper.model)
    stepper.start_epoch()
    names = [n for n, m in stepper.model.named_modules() if isinstance(m, nn.SyncBatchNorm)]
    before = {name: stepper.model.get_submodule(name).training for name in names}
    stepper.find_micro_batch(make_batch(), 10)
    assert set(before.values()) == {True, False}
    assert before == {name: stepper.model.get_submodule(name).training for name in names}


def test_settled_norms_are_those_of_scores_and_do_not_change(shards):
    """So that the loss is that of the network in evaluation mode, and all else still learns."""
    stepper = make_stepper(shards, model="test_resnet")
    step(stepper)  # so that the statistics are not those of a new network
    before, batch = weights(stepper), make_batch()
    stepper.start_epoch(settled=True)
    stepper.find_micro_batch(batch, 10)
    sums = stepper(batch, samples=10, time=1.0, progress=0.1, seed=5)
    after = weights(stepper)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    buffers = {name for name, _ in stepper.model.named_buffers()}
    assert buffers and not changed & buffers
    assert changed >= {"conv1.0.weight", "fc.weight", "layer4.0.bn2.bias"}
    stepper.model.load_state_dict(before)
    stepper.model.eval()
    scored = TASK.losses(stepper.model, batch, 0.1)["loss"]
    assert float(sums["loss"]) / 10 == pytest.approx(float(scored.detach()), rel=1e-6)
    stepper.start_epoch()
    assert all(module.training for module in stepper.model.modules())


def test_processes_take_the_micro_batch_of_the_one_with_the_least_memory(shards):
    """This one has room for all; another has not, twice."""
    stepper, answers = make_stepper(shards, model="test_resnet"), iter([1, 1, 0])
    said = []

    class Beside(World):
        def all_reduce_max(self, value: int) -> int:
            said.append(value)
            return max(value, next(answers))

    stepper._world = Beside(0, 2, torch.device("cpu"))
    stepper.find_micro_batch(make_batch(), 20)
    assert (stepper.micro_batch, said) == (3, [0, 0, 0])


def test_batches_of_every_size_are_compiled_once(shards):
    """The sizes of an epoch differ by one; micro-batches may have any."""
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    network = build("test_vit", channels=1, classes=3, size=48)
    fast = compiled(network, backend=counter)
    for count in (7, 6, 3, 12):
        images = torch.randn(count, 1, 48, 48)
        assert torch.allclose(fast(images), network(images), atol=1e-5)
    assert counter.frame_count == 1


def test_a_training_without_fp16_goes_on_with_it(shards):
    """Queues have GPUs with bf16 and without; `auto` takes what there is."""
    before = make_stepper(shards)
    step(before)
    after = fp16(make_stepper(shards))
    after.load_state_dict(before.state_dict())
    step(after)
    again = make_stepper(shards)
    again.load_state_dict(after.state_dict())
    step(again)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_moments_of_another_device_are_updated_in_the_way_of_this_one(shards, name):
    """Runs go on from GPU to CPU and back: fused there, a loop here."""
    stepper, other = (make_stepper(shards, optimizer=name) for _ in range(2))
    step(stepper)
    state = copy.deepcopy(stepper.state_dict())
    for group in state["optimizer"]["param_groups"]:
        group |= {"fused": True, "foreach": False, "capturable": True}
    other.load_state_dict(state)
    for group in other.optimizer.param_groups:
        assert not group["fused"] and not group.get("capturable")
    for one in (stepper, other):
        step(one)
    for key, value in weights(stepper).items():
        assert torch.equal(value, weights(other)[key]), key


def test_memory_for_not_even_one_image_is_the_end(shards):
    class Starving(Classification):
        def losses(self, model, batch, progress):
            raise torch.OutOfMemoryError("CUDA out of memory")

    stepper = make_stepper(shards, task=Starving(classes=TASK.classes))
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        stepper.find_micro_batch(make_batch(), 10)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        step(stepper)


def test_a_loss_that_is_no_number_ends_at_once(shards):
    stepper = make_stepper(shards)
    with pytest.raises(DivergedError, match="the loss is nan"):
        step(stepper, images=torch.full((10, 1, 48, 48), torch.nan))


class Broken(torch.autograd.Function):
    """The loss is a number, its gradient is not."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


class Overflowing(Classification):
    """Spoils the losses of some steps, or their gradients."""

    def __init__(self, spoil, at) -> None:
        super().__init__(classes=TASK.classes)
        self.spoil, self.at, self.calls = spoil, at, 0

    def losses(self, model, batch, progress):
        self.calls += 1
        loss = super().losses(model, batch, progress)["loss"]
        return {"loss": self.spoil(loss) if self.calls in self.at else loss}


def fp16(stepper: Stepper) -> Stepper:
    """With the scaler of fp16, which a CPU has too."""
    stepper.precision.name = "fp16"
    stepper.precision.scaler = torch.amp.GradScaler("cpu")
    return stepper


def test_fp16_ends_where_no_scale_makes_gradients_finite(shards):
    task = Overflowing(Broken.apply, range(100))
    stepper = fp16(make_stepper(shards, task=task))
    before = weights(stepper)
    with pytest.raises(DivergedError, match="gradients are not finite in fp16"):
        for _ in range(100):
            step(stepper)
    assert task.calls == 21
    assert all(torch.equal(value, before[name]) for name, value in weights(stepper).items())


def test_fp16_leaves_out_a_step_that_is_no_number(shards):
    stepper = fp16(make_stepper(shards, task=Overflowing(lambda loss: loss * torch.inf, [2])))
    losses = [float(step(stepper)["loss"]) for _ in range(3)]
    assert losses[1] == 0 and 0 < losses[2] < losses[0]


def test_averaged_weights_follow_their_formula_and_are_the_ones_scored(shards):
    stepper = make_stepper(shards, model="test_resnet", ema=0.9)
    expected = weights(stepper)
    for n in range(3):
        step(stepper)
        decay = min(0.9, (1 + n) / (10 + n))
        for name, value in stepper.model.state_dict().items():
            mean = decay * expected[name] + (1 - decay) * value
            parameter = name in dict(stepper.model.named_parameters())
            expected[name] = mean if parameter else value.clone()
    assert stepper.scored is not stepper.model
    for name, value in stepper.scored.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6), name


def test_averaged_weights_survive_saving():
    model = nn.Linear(2, 2)
    a, b = Ema(model, 0.5), Ema(nn.Linear(2, 2), 0.5)
    a.update(model)
    b.load_state_dict(a.state_dict())
    nn.init.ones_(model.weight)
    a.update(model)
    b.update(model)
    assert torch.equal(a.model.weight, b.model.weight)


def test_frozen_parts_keep_weights_and_statistics(shards):
    stepper = make_stepper(shards, model="test_resnet", freeze=["conv1", "bn1", "layer1"])
    before = weights(stepper)
    step(stepper)
    moved = {k for k, v in weights(stepper).items() if not torch.equal(v, before[k])}
    assert moved and not any(k.startswith(("conv1", "bn1", "layer1")) for k in moved)
    with pytest.raises(
        ValueError, match=r"no parameter starts with 'layer9'; the model has .*conv1"
    ):
        freeze(stepper.model, ["layer9"])
    with pytest.raises(ValueError, match="every parameter is frozen"):
        freeze(nn.Linear(1, 1), ["weight", "bias"])


def test_the_classifier_may_have_its_own_rate(shards):
    stepper = make_stepper(shards, model="test_resnet", head_lr=0.5, schedule="onecycle")
    head = {id(p) for p in stepper.model.get_classifier().parameters()}
    step(stepper)
    factor = stepper.schedule.factor(1.0)
    for group in stepper.optimizer.param_groups:
        for parameter in group["params"]:
            top = 0.5 if id(parameter) in head else 0.01
            assert group["lr"] == pytest.approx(top * factor)
    assert sum(len(g["params"]) for g in stepper.optimizer.param_groups) == len(
        list(stepper.model.parameters())
    )


def test_clipping_bounds_the_gradient(shards):
    stepper = make_stepper(shards, clip=1e-3, lr=1.0, weight_decay=0.0)
    before = weights(stepper)
    step(stepper)
    moved = sum(float((v - before[k]).square().sum()) for k, v in weights(stepper).items())
    assert moved**0.5 < 2.5e-3  # lr x clip x (1 + the 0.9 of Nesterov)


def test_bf16_learns(shards):
    stepper = make_stepper(shards, amp="bf16", lr=0.05)
    losses = [float(step(stepper)["loss"]) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


def test_one_cycle_rises_and_falls():
    schedule = Schedule("onecycle", epochs=10, warmup=0)
    assert schedule.factor(0) == pytest.approx(1 / 25)
    assert schedule.factor(3) == pytest.approx(1)
    assert schedule.factor(10) == pytest.approx(1e-4)


def test_a_frozen_parameter_is_not_optimised():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    groups = build_optimizer("adamw", model, lr=0.1, weight_decay=0.1).param_groups
    assert [id(p) for g in groups for p in g["params"]] == [id(model.weight)]


def test_a_balanced_epoch_has_every_class_equally_often_and_is_repeatable():
    targets = np.array([0] * 90 + [1] * 9 + [2])
    places = balanced(targets, seed=1, epoch=2)
    assert len(places) == 100
    assert sorted(np.bincount(targets[places])) == [33, 33, 34]
    assert len(set(places[targets[places] == 0])) in (33, 34)  # none of the common ones twice
    assert np.array_equal(places, balanced(targets, seed=1, epoch=2))
    assert not np.array_equal(places, balanced(targets, seed=1, epoch=3))


def test_balancing_weights_give_classes_one_sum_and_the_mean_is_one():
    targets = np.array([0] * 90 + [1] * 9 + [2])
    found = balancing_weights(targets)
    assert found.mean() == pytest.approx(1)
    assert [found[targets == c].sum() for c in range(3)] == pytest.approx([100 / 3] * 3, rel=1e-5)


def test_an_epoch_is_cut_into_batches_of_nearly_one_size():
    steps = order(shuffled(103, seed=0, epoch=0), 20)
    assert sorted(np.concatenate(steps)) == list(range(103))
    assert {len(s) for s in steps} == {17, 18}
