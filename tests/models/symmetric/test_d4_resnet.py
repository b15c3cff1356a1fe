"""The network that no symmetry of the square changes."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.models.symmetric.d4_resnet import D4ResNet, d4_resnet18, transformed


def trained_network(size: int, **options: object) -> D4ResNet:
    """One whose norms have seen images."""
    torch.manual_seed(3)
    network = D4ResNet(2, 3, fields=(2, 3, 3), blocks=1, **options).train()
    network(torch.randn(8, 2, size, size))
    return network.eval()


def test_the_eight_symmetries_are_a_group_each_once():
    image = torch.arange(9.0).reshape(3, 3)
    seen = [transformed(image, g) for g in range(8)]
    assert len({tuple(each.flatten().tolist()) for each in seen}) == 8
    for a in range(8):
        for b in range(8):
            twice = transformed(transformed(image, a), b)
            assert sum(torch.equal(twice, each) for each in seen) == 1
    assert torch.equal(seen[1], torch.tensor([[2.0, 5, 8], [1, 4, 7], [0, 3, 6]]))
    assert torch.equal(seen[4], image.flip(-1))


@pytest.mark.parametrize("size", [24, 27, 30])
def test_logits_are_those_of_the_turned_and_mirrored_image(size):
    network = trained_network(size)
    images = torch.randn(2, 2, size, size)
    with torch.no_grad():
        logits = [network(transformed(images, g)) for g in range(8)]
    assert (logits[0][0] - logits[0][1]).abs().max() > 1e-3  # it does look at the image
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], rtol=1e-4, atol=1e-5)


def test_features_move_with_the_image_and_exchange_the_eight():
    """The mean at the end alone would keep the logits; each layer keeps more than that."""
    network = trained_network(24)
    images = torch.randn(1, 2, 24, 24)
    with torch.no_grad():
        features = network.stem(images).unflatten(1, (-1, 8))
        turned = network.stem(transformed(images, 1)).unflatten(1, (-1, 8))
        inner = network.blocks(network.stem(images)).unflatten(1, (-1, 8))
        inner_turned = network.blocks(network.stem(transformed(images, 1))).unflatten(1, (-1, 8))
    # a turn after g is one turn more, for the four of either kind
    order = [3, 0, 1, 2, 7, 4, 5, 6]
    torch.testing.assert_close(turned, transformed(features, 1)[:, :, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        inner_turned, transformed(inner, 1)[:, :, order], rtol=1e-4, atol=1e-5
    )
    assert (features[:, :, 0] - features[:, :, 1]).abs().max() > 1e-3


def test_it_has_an_eighth_of_the_weights_of_as_many_channels():
    wide = sum(p.numel() for p in D4ResNet(1, 3, fields=(8, 16)).blocks.parameters())
    channels = 3 * 64 * 64 + 64 * 64 + 64 * 128 + 3 * 128 * 128  # 3 x 3 kernels
    assert wide == pytest.approx(channels * 9 / 8, rel=0.05)


def test_nobody_has_published_its_weights():
    with pytest.raises(RuntimeError, match="nobody has published weights of d4_resnet18"):
        d4_resnet18(pretrained=True)
