"""Every model of the table keeps the contract, and its size is the one the table says."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.models import MODELS, ModelError, WeightsError, build, check_name

QUICK = [name for name, row in MODELS.items() if row.parameters_m < 6]


@pytest.mark.parametrize("name", QUICK)
def test_a_model_maps_images_to_logits_and_every_parameter_learns(name):
    model = build(name, channels=1, classes=3, size=64)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters / 1e6 == pytest.approx(MODELS[name].parameters_m, rel=2e-3)
    logits = model(torch.randn(2, 1, 64, 64))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(MODELS) - set(QUICK)))
def test_a_large_model_has_the_size_of_the_table(name):
    with torch.device("meta"):
        model = build(name, channels=1, classes=3, size=224)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters / 1e6 == pytest.approx(MODELS[name].parameters_m, rel=2e-3)


@pytest.mark.parametrize("size", [64, 128, 150, 224])
@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_channels_and_sizes(name, size, channels):
    model = build(name, channels=channels, classes=2, size=size).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, channels, size, size)).shape == (1, 2)


@pytest.mark.parametrize("size", [64, 128, 150, 224])
@pytest.mark.parametrize("name", ["resnet20", "simple_cnn"])
def test_our_own_take_any_size(name, size):
    model = build(name, channels=3, classes=2, size=size).eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 2)


def test_parameters_of_the_published_ones():
    """268,979 and 463,411 by the seed; 3-32-64, 16384-128 of the lens finder."""
    for name, parameters in (("resnet20", 268_979), ("resnet32", 463_411)):
        model = build(name, channels=1, classes=3, size=150)
        assert sum(p.numel() for p in model.parameters()) == parameters
    model = build("simple_cnn", channels=3, classes=2, size=64)
    assert model.hidden.weight.shape == (128, 16384)
    with pytest.raises(WeightsError, match="nobody has published weights of resnet20"):
        build("resnet20", channels=1, classes=3, size=64, pretrained=True)


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


def test_weights_that_cannot_be_had_are_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="no weights of 'resnet18' here") as error:
        build("resnet18", channels=1, classes=3, size=64, pretrained=True)
    assert "\n" not in str(error.value)


def test_weights_of_three_channels_start_a_model_of_one(tmp_path):
    """timm's own rule: the first layer's weights are summed over the colours."""
    colour = build("lcnet_050", channels=3, classes=3, size=64)
    path = tmp_path / "weights.pt"
    torch.save(colour.state_dict(), path)
    overlay = {"file": str(path), "num_classes": 3}
    grey = build(
        "lcnet_050", channels=1, classes=3, size=64, pretrained=True,
        pretrained_cfg_overlay=overlay,
    )  # fmt: skip
    first = "conv_stem.weight"
    summed = colour.state_dict()[first].sum(1, keepdim=True)
    assert torch.allclose(grey.state_dict()[first], summed, atol=1e-6)
