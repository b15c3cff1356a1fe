"""The masked autoencoder: what it sees, what it restores, and the network that it leaves."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.models import ModelError, build
from deeplense_batch.models.start import start_from

SMALL = {"encoder": "test_vit", "decoder_depth": 1, "decoder_width": 16, "decoder_heads": 2}


def network(size: int = 32, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build("masked_autoencoder", channels=1, classes=0, size=size, **SMALL | options)


@pytest.mark.parametrize(("size", "patch"), [(64, 8), (64, 16), (96, 8), (150, 10), (150, 15)])
def test_it_restores_every_patch_of_images_of_any_size_that_patches_divide(size, patch):
    with torch.device("meta"):
        model = network(size, patch=patch)
        given = model(torch.empty(2, 1, size, size), torch.empty(2, dtype=torch.int64), 0.75)
    assert given["patches"].shape == (2, (size // patch) ** 2, patch**2)


@pytest.mark.parametrize(("ratio", "hidden"), [(0.75, 12), (0.5, 8), (0.01, 1), (0.99, 15)])
def test_it_hides_a_share_of_16_patches_by_the_key_of_each_image(ratio, hidden):
    model, images = network(), torch.zeros(3, 1, 32, 32)
    found = model(images, torch.tensor([5, 9, 5]), ratio)["hidden"]
    assert found.sum(1).tolist() == [hidden] * 3
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1:2], model(images[:1], torch.tensor([9]), ratio)["hidden"])


def test_every_patch_is_hidden_equally_often():
    hidden = network(16, patch=4)(torch.zeros(900, 1, 16, 16), torch.arange(900), 0.75)["hidden"]
    often = hidden.float().mean(0)
    assert (often - 0.75).abs().max() < 5 * (0.75 * 0.25 / 900) ** 0.5


def test_what_is_hidden_changes_nothing_that_it_gives():
    model, keys = network().eval(), torch.arange(2)
    images = torch.randn(2, 1, 32, 32)
    given = model(images, keys, 0.75)
    cover = given["hidden"].view(2, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    other = model(torch.where(cover, torch.randn_like(images), images), keys, 0.75)
    assert all(torch.equal(given[name], other[name]) for name in given)
    seen = model(torch.where(cover, images, torch.randn_like(images)), keys, 0.75)
    assert not torch.allclose(given["features"], seen["features"])


def test_features_of_whole_images_are_those_of_the_plain_network():
    model, images = network().eval(), torch.randn(2, 1, 32, 32)
    tokens = model.encoder.forward_features(images)[:, 1:]
    assert torch.allclose(model(images)["features"], tokens.mean(1), atol=1e-5)


def test_every_parameter_learns():
    model = network()
    model(torch.randn(2, 1, 32, 32), torch.arange(2), 0.75)["patches"].square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("depth", [1, 9])  # of the decoder: less and more than of the encoder
@pytest.mark.parametrize("pooled", [{}, {"global_pool": "avg", "fc_norm": False}])
def test_its_encoder_starts_the_plain_network_of_the_same_name(tmp_path, pooled, depth):
    trained = network(decoder_depth=depth)
    torch.save({"model": trained.state_dict()}, tmp_path / "best.pt")
    plain = build("test_vit", channels=1, classes=3, size=32, patch_size=8, **pooled)
    head = plain.head.weight.clone()
    start = start_from(plain, tmp_path / "best.pt")
    assert start.left == ["head.bias", "head.weight"] and torch.equal(plain.head.weight, head)
    mine, theirs = plain.state_dict(), trained.encoder.state_dict()
    assert {*mine} - {*theirs} == {"head.bias", "head.weight"}
    assert all(torch.equal(mine[name], value) for name, value in theirs.items())
    assert any("what lies beside the network" in note for note in start.notes)


def test_its_places_are_interpolated_for_images_of_another_size(tmp_path):
    torch.save({"model": network().state_dict()}, tmp_path / "best.pt")
    plain = build("test_vit", channels=1, classes=3, size=48, patch_size=8)
    start = start_from(plain, tmp_path / "best.pt")
    assert any("pos_embed of (1, 17, 64) to (1, 37, 64)" in note for note in start.notes)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"patch": 7}, "patch: 7 does not divide the 32 pixels of a side; expected one of 4,"),
        ({"patch": 32}, "patch: 32 does not divide"),
        ({"decoder_heads": 3}, "decoder_width a multiple of 4 and of decoder_heads; got 1,"),
        ({"decoder_depth": 0}, "decoder_depth: expected 1 or more"),
        ({"encoder": "swin_tiny_patch4_window7_224"}, "is no plain Vision Transformer of timm"),
        ({"encoder": "resnet18"}, "is no plain Vision Transformer of timm"),
        ({"encoder": "vit_base_patch16_siglip_224"}, "is no plain Vision Transformer of timm"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(options, sentence):
    with torch.device("meta"), pytest.raises(ModelError, match=sentence):
        network(**options)
