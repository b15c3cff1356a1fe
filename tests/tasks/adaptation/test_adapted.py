"""A network that is adapted: which features are compared, and what the losses are."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_networks import PHYSICS
from torch import nn

from deeplense_batch.core.sections.adapt import Adaptation
from deeplense_batch.models import build
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.adaptation.adapted import Adapted
from deeplense_batch.tasks.adaptation.distances import coral, mmd
from deeplense_batch.tasks.task import Batch

CLASSES = ("no", "sphere", "vort")
METHODS = ("coral", "mmd", "dann")


def network(name="test_vit", size=32, **options):
    torch.manual_seed(0)
    return build(name, channels=1, classes=3, size=size, **options).eval()


def adaptation(by, weight=1.0):
    return {"to": {"root": "data/other"}, "by": by, "weight": weight}


def adapted(by, name="test_vit", **options):
    return Adapted(network(name, **options), Adaptation.model_validate(adaptation(by)))


def images(seed, size=32):
    return torch.randn(6, 1, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("by", "distance"), [("coral", coral), ("mmd", mmd)])
def test_the_features_are_those_that_timm_calls_so(by, distance):
    """Of a network that looks at each image alone, so that it does not matter what is beside."""
    model, source, target = adapted(by).eval(), images(1), images(2)
    bare = model.network
    with torch.no_grad():
        answer, gap = model(source, target, 0.5)
        features = [bare.forward_head(bare.forward_features(x), pre_logits=True)
                    for x in (source, target)]  # fmt: skip
        torch.testing.assert_close(gap, distance(*features))
        torch.testing.assert_close(answer, bare(source))
        torch.testing.assert_close(model(source), bare(source))  # to be scored


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "resnet20"])
@pytest.mark.parametrize("by", METHODS)
def test_every_weight_learns_from_the_unlabelled_images(by, name):
    model = adapted(by, name)
    _, gap = model.train()(images(1), images(2), 0.5)
    gap.backward()
    head = {id(p) for p in model.network.get_classifier().parameters()}
    for parameter in model.parameters():
        if id(parameter) in head:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all()
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_batch_norm_sees_both_sets():
    model = adapted("coral", "test_resnet").train()
    alone = copy.deepcopy(model).train()
    norms = [next(m for m in each.modules() if isinstance(m, nn.BatchNorm2d))
             for each in (model, alone)]  # fmt: skip
    model(images(1), images(2) + 5)
    alone(images(1))
    assert not torch.allclose(norms[0].running_mean, norms[1].running_mean)


@pytest.mark.parametrize("by", METHODS)
def test_the_loss_is_that_of_the_classes_and_the_weighted_one_of_the_method(by):
    task = build_task("classification", classes=CLASSES, adapt=adaptation(by, 0.3))
    plain = build_task("classification", classes=CLASSES)
    model = task.wrap(network()).eval()
    batch = Batch(images(1), torch.arange(6) % 3, torch.arange(6), unlabelled=images(2))
    losses = task.losses(model, batch, 0.5)
    torch.testing.assert_close(losses["cross_entropy"], plain.losses(model, batch, 0.5)["loss"])
    torch.testing.assert_close(losses["loss"], losses["cross_entropy"] + 0.3 * losses[by])
    torch.testing.assert_close(losses[by], model(batch.images, batch.unlabelled, 0.5)[1])
    assert set(losses) == {"loss", "cross_entropy", by}
    torch.testing.assert_close(
        task.predict(model, batch)["logits"], plain.predict(model.network, batch)["logits"]
    )


def test_the_start_of_a_network_is_that_of_its_control():
    torch.manual_seed(3)
    control = network()
    states = [dict(adapted(by).network.state_dict()) for by in METHODS]
    for state in states:
        assert all(torch.equal(value, state[name])
                   for name, value in control.state_dict().items())  # fmt: skip
    plain = build_task("classification", classes=CLASSES, adapt=None)
    assert plain.wrap(control) is control


def test_a_network_with_physics_answers_as_before_and_is_adapted_by_its_classifier():
    model = adapted("mmd", "lens_pinn", **PHYSICS["lens_pinn"])
    answer, gap = model(images(1), images(2))
    assert set(answer) == set(model(images(1))) and answer["logits"].shape == (6, 3)
    assert all(len(values) == 6 for values in answer.values()) and gap.ndim == 0


def test_networks_that_do_not_tell_one_classifier_are_refused():
    for bare in (nn.Linear(3, 3), build("deit_tiny_distilled_patch16_224", channels=1, classes=3,
                                        size=224)):  # fmt: skip
        with pytest.raises(ValueError, match="does not tell one layer as its classifier"):
            Adapted(bare, Adaptation.model_validate(adaptation("coral")))


@pytest.mark.parametrize(
    ("adapt", "sentence"),
    [
        ({"to": {"root": "a"}, "by": "corl"},
         "task.options.adapt.by: got 'corl'; did you mean 'coral'?"),
        ({"by": "coral"}, "task.options.adapt.to: missing"),
        ({"to": {"rot": "a"}, "by": "coral"},
         "task.options.adapt.to.rot: unknown; did you mean 'root'?"),
        (adaptation("mmd", -1.0), "task.options.adapt.weight: should be greater than 0, got -1.0"),
        (3, "task.options.adapt: expected a mapping, got 3"),
    ],
)  # fmt: skip
def test_what_is_no_adaptation_is_told_in_one_sentence(adapt, sentence):
    with pytest.raises(ValueError) as told:
        build_task("classification", classes=CLASSES, adapt=adapt)
    assert str(told.value) == sentence
