"""The small networks of the published comparisons."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deeplense_batch.models import build
from deeplense_batch.models.small import (
    NarrowResNet,
    SmallResNet,
    options_unless_pretrained,
    own_options,
    resnet10_narrow,
    resnet20,
    resnet32,
    simple_cnn,
)


def test_parameters_of_the_published_ones():
    """268,979 and 463,411 by the seed; 3-32-64, 16384-128 of the lens finder."""
    for name, parameters in (("resnet20", 268_979), ("resnet32", 463_411)):
        model = build(name, channels=1, classes=3, size=150)
        assert sum(p.numel() for p in model.parameters()) == parameters
    model = build("simple_cnn", channels=3, classes=2, size=64)
    assert model.hidden.weight.shape == (128, 16384)


def test_shortcuts_have_no_weights():
    """Where the width grows, pixels are left out and zero channels added on both sides."""
    block = SmallResNet(1).blocks[1].eval()
    nn.init.zeros_(block.norm2.weight)
    images = torch.randn(2, 16, 8, 8)
    found = block(images)
    assert found.shape == (2, 32, 4, 4)
    assert torch.equal(found[:, 8:24], images[:, :, ::2, ::2].relu())
    assert not found[:, :8].any() and not found[:, 24:].any()


def test_every_block_of_the_narrow_one_halves_the_image():
    network = NarrowResNet(in_chans=1, num_classes=3)
    sides = [layer.shape[-1] for layer in _layers(network, torch.zeros(1, 1, 108, 108))]
    assert sides == [54, 27, 14, 7, 4]
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert len(layers) + 1 == 10  # and the last one


def _layers(network, images):
    """What the first layer and each block give."""
    images = network.stem(images)
    yield images
    for block in network.blocks:
        images = block(images)
        yield images


def test_there_are_no_published_weights_of_them():
    for make in (resnet10_narrow, resnet20, resnet32, simple_cnn):
        with pytest.raises(RuntimeError, match=f"nobody has published weights of {make.__name__}"):
            make(pretrained=True)


def test_what_timm_hands_on_is_no_option_of_a_network():
    options = {"drop_rate": 0.1, "pretrained_cfg": {}, "cache_dir": None}
    assert own_options(options) == {"drop_rate": 0.1}
    given = options | {"num_classes": 3}
    assert options_unless_pretrained("edsr", False, given, classes=False) == {"drop_rate": 0.1}
    assert options_unless_pretrained("resnet20", False, given) == {
        "drop_rate": 0.1, "num_classes": 3,
    }  # fmt: skip
    with pytest.raises(RuntimeError, match="nobody has published weights of edsr"):
        options_unless_pretrained("edsr", True, given, classes=False)
