"""Every model of the table keeps the contract, and its size is the one the table says."""

from __future__ import annotations

import pytest
import torch
from conftest import make_job
from tiny_networks import UNET

from deeplense_batch.models import MODELS, ModelError, build, check_name
from deeplense_batch.runs.planning.plan import plan

# others: tests/tasks/test_physics.py, tests/models/test_unet.py
PLAIN = [
    name for name, row in MODELS.items() if not (row.backbones or row.denoises or row.restores)
]
QUICK = [name for name in PLAIN if MODELS[name].parameters_m < 6]
RESTORING = {  # smaller ones
    "edsr": {"width": 8, "blocks": 2},
    "rcan": {"width": 16, "groups": 2, "blocks": 2},
    "restoring_unet": UNET,
    "restoring_vit": {"encoder": "test_vit", "patch": 6, "width": 2},
    "swinir_light": {"width": 12, "groups": 2, "blocks": 2, "heads": 3, "window": 4},
}


@pytest.mark.parametrize("name", QUICK)
def test_a_model_maps_images_to_logits_and_every_parameter_learns(name):
    model = build(name, channels=1, classes=3, size=64)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters / 1e6 == pytest.approx(MODELS[name].parameters_m, rel=2e-3)
    logits = model(torch.randn(2, 1, 64, 64))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(QUICK)))
def test_a_large_model_has_the_size_of_the_table(name):
    with torch.device("meta"):
        model = build(name, channels=1, classes=3, size=224, ratio=2)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters / 1e6 == pytest.approx(MODELS[name].parameters_m, rel=2e-3)


@pytest.mark.parametrize("size", [64, 128, 150, 224])
@pytest.mark.parametrize("name", [*PLAIN, "vit_tiny_patch16_224"])
def test_any_size(name, size):
    """By shapes alone; windows of some transformers do not fit some sizes, which is a sentence."""
    with torch.device("meta"), torch.inference_mode():
        if (name, size) in [("coatnet_nano_rw_224", 150), ("maxvit_tiny_rw_224", 150)]:
            with pytest.raises(ModelError, match="is made for 224 pixels and cannot take 150"):
                build(name, channels=3, classes=2, size=size)
            return
        model = build(name, channels=3, classes=2, size=size).eval()
        assert model(torch.empty(2, 3, size, size)).shape == (2, 2)


@pytest.mark.parametrize("name", sorted(set(PLAIN) - set(QUICK)))
def test_every_parameter_of_a_large_model_learns(name):
    model = build(name, channels=1, classes=3, size=64)
    model(torch.randn(2, 1, 64, 64)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_every_network_that_restores_is_tried():
    assert {name for name, row in MODELS.items() if row.restores} == set(RESTORING)


@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
@pytest.mark.parametrize("name", RESTORING)
def test_a_network_that_restores_gives_so_many_times_the_pixels(name, ratio):
    with torch.device("meta"), torch.inference_mode():
        model = build(name, channels=2, classes=0, size=75, ratio=ratio, **RESTORING[name])
        for size in (32, 50, 75):
            given = model(torch.empty(2, 2, size, size))
            assert given.shape == (2, 2, ratio * size, ratio * size)


@pytest.mark.parametrize("name", RESTORING)
def test_every_parameter_of_a_network_that_restores_learns(name):
    torch.manual_seed(0)
    model = build(name, channels=1, classes=0, size=18, ratio=2, **RESTORING[name])
    first = model(torch.randn(2, 1, 18, 18))
    first.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", RESTORING)
def test_a_network_that_restores_refuses_a_ratio_below_one(name):
    with pytest.raises(ModelError, match="ratio: expected a whole number from 1 on, got 0"):
        build(name, channels=1, classes=0, size=18, ratio=0, **RESTORING[name])


def test_a_seed_gives_one_network():
    torch.manual_seed(1)
    a = build("lcnet_050", channels=1, classes=3, size=64).state_dict()
    torch.manual_seed(1)
    b = build("lcnet_050", channels=1, classes=3, size=64).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_names_and_options_are_checked_in_a_sentence():
    check_name("resnet26")  # timm's, outside the table
    with pytest.raises(ModelError, match="no model 'resnet19', here or in timm; did you mean"):
        check_name("resnet19")
    with pytest.raises(ModelError, match=r"cannot be built.*no_such_option"):
        build("resnet18", channels=1, classes=3, size=64, no_such_option=1)


@pytest.mark.parametrize("name", ["resnet18", "simple_cnn", "test_vit", "lens_pinn", "edsr"])
def test_an_option_that_is_null_is_one_of_the_network(name):
    """timm drops those that are null, and would build the network without them."""
    with pytest.raises(ModelError, match=rf"options\.widht:3: got null, and '{name}' has no such"):
        build(name, channels=1, classes=3, size=64, ratio=2, **{"widht:3": None})


def test_a_known_option_may_be_null():
    build("resnet18", channels=1, classes=3, size=64, drop_path_rate=None, block_args=None)
    build("test_vit", channels=1, classes=3, size=64, class_token=None)


@pytest.mark.parametrize(
    "option", ["channels", "classes", "size", "ratio", "in_chans", "pretrained"]
)
def test_an_option_that_the_data_give_is_refused_in_one_sentence(shards, tmp_path, option):
    job = make_job(shards, model={"name": "resnet20", "options": {option: 8}})
    with pytest.raises(ModelError, match=rf"model.options.{option}: 'resnet20' gets this from"):
        plan([job], tmp_path)
