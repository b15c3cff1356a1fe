"""The Vision Transformer that restores, and the weights that it starts from."""

from __future__ import annotations

import pytest
import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

from deeplense_batch.models import ModelError, WeightsError, build
from deeplense_batch.models.restoring.vit import RestoringVit
from deeplense_batch.models.start import start_from

SMALL = {"encoder": "test_vit", "patch": 8, "width": 2}
DECODER = {"decoder_depth": 1, "decoder_width": 16, "decoder_heads": 2}


def network(size: int = 16, ratio: int = 2, **options: object) -> RestoringVit:
    """With a head that gives something, as a trained one does."""
    torch.manual_seed(0)
    made = build("restoring_vit", channels=1, classes=0, size=size, ratio=ratio, **SMALL | options)
    nn.init.normal_(made.head[-1].weight)
    return made.eval()


def saved(model: nn.Module, path) -> dict[str, torch.Tensor]:
    torch.save({"model": model.state_dict()}, path)
    return model.state_dict()


@pytest.fixture
def autoencoder(tmp_path):
    """Weights of a masked autoencoder of images of 32 pixels, and their file."""
    torch.manual_seed(1)
    options = {"encoder": "test_vit"} | DECODER
    made = build("masked_autoencoder", channels=1, classes=0, size=32, **options)
    return saved(made, tmp_path / "masked.pt"), tmp_path / "masked.pt"


def test_a_patch_of_the_output_lies_where_its_token_was():
    """A head that sees one token alone: every other one is changed."""
    model = network(ratio=2)
    model.encoder.forward_features = lambda images: tokens
    tokens = torch.randn(1, 5, 64)  # the class token, and 2 x 2 patches
    before = model(torch.zeros(1, 1, 16, 16))
    tokens = tokens.clone()
    tokens[0, 3] += 1  # the first patch of the second row
    changed = (model(torch.zeros(1, 1, 16, 16)) != before)[0, 0]
    where = torch.zeros(32, 32, dtype=torch.bool)
    where[15:, :17] = True  # 16 pixels a side, and one more by the convolution
    assert changed.any() and not (changed & ~where).any()
    assert changed[16:, :16].float().mean() > 0.9


def test_pixels_within_a_patch_are_in_order():
    """Each of the numbers that a token gives is one pixel, row by row."""
    model = network(width=1)
    with torch.no_grad():
        model.head[0].weight.zero_()
        model.head[0].bias.copy_(torch.arange(256.0))
        model.head[-1].weight.zero_()[0, 0, 1, 1] = 1
    with torch.inference_mode():
        made = model(torch.zeros(1, 1, 16, 16))[0, 0]
    assert torch.equal(made[:16, :16], torch.arange(256.0).view(16, 16))
    assert torch.equal(made[16:, 16:], made[:16, :16])


def test_images_are_padded_by_reflection_to_whole_patches_and_cut_again():
    model, images = network(13), torch.randn(2, 1, 13, 13)
    padded = torch.cat([images, images[..., 9:12].flip(-1)], -1)
    padded = torch.cat([padded, padded[..., 9:12, :].flip(-2)], -2)
    with torch.inference_mode():
        assert torch.equal(model(images), model(padded)[..., :26, :26])


def test_it_starts_as_nothing_that_is_added():
    torch.manual_seed(0)
    model = build("restoring_vit", channels=2, classes=0, size=16, ratio=2, **SMALL)
    assert torch.equal(model(torch.randn(1, 2, 16, 16)), torch.zeros(1, 2, 32, 32))


@pytest.mark.parametrize("size", [32, 75])
def test_it_starts_from_the_encoder_of_a_masked_autoencoder(autoencoder, size):
    """And of inputs of another size the places are interpolated, as timm does it."""
    theirs, path = autoencoder
    model = network(size)
    head = {n: v.clone() for n, v in model.state_dict().items() if n.startswith("head.")}
    start = start_from(model, path)
    own = model.state_dict()
    assert {*start.left} == {*head} and all(torch.equal(own[n], v) for n, v in head.items())
    side = -(-size // 8)
    places = resample_abs_pos_embed(theirs["encoder.pos_embed"], [side, side])
    expected = {n: v for n, v in theirs.items() if n.startswith("encoder.")}
    expected["encoder.pos_embed"] = places
    assert {*own} == {*expected, *head}
    assert all(torch.equal(own[name], value) for name, value in expected.items())
    said = " ".join(start.notes)
    assert "left out by our rule for RestoringVit" in said and "hidden_token" in said
    assert "the classifier (head.0.bias, head.0.weight, head.2.bias, ...) starts at random" in said
    assert ("encoder.pos_embed of (1, 17, 64) to (1, 101, 64)" in said) == (size == 75)


def test_it_starts_from_another_of_its_kind_with_its_head(tmp_path):
    theirs = saved(network(24), tmp_path / "other.pt")
    model = network(32)
    start = start_from(model, tmp_path / "other.pt")
    own = model.state_dict()
    assert start.left == [] and own["encoder.pos_embed"].shape == (1, 17, 64)
    assert all(torch.equal(own[n], v) for n, v in theirs.items() if n != "encoder.pos_embed")


def test_it_starts_from_the_plain_network_without_its_classifier(tmp_path):
    torch.manual_seed(1)
    plain = build("test_vit", channels=1, classes=3, size=32, patch_size=8)
    theirs = saved(plain, tmp_path / "plain.pt")
    model = network(32)
    assert {*start_from(model, tmp_path / "plain.pt").left} == {
        n for n in model.state_dict() if n.startswith("head.")
    }
    own = model.encoder.state_dict()
    assert all(torch.equal(own[n], v) for n, v in theirs.items() if not n.startswith("head."))


def test_weights_of_a_deeper_encoder_are_refused(autoencoder, tmp_path):
    theirs, _ = autoencoder
    deeper = {n.replace("encoder.blocks.5", "encoder.blocks.6"): v for n, v in theirs.items()}
    torch.save({"model": theirs | deeper}, tmp_path / "deeper.pt")
    with pytest.raises(WeightsError, match=r"weights of another network; .*encoder.blocks.6"):
        start_from(network(32), tmp_path / "deeper.pt")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"patch": 17}, "patch: expected from 1 to the 16 pixels of a side of an input, got 17"),
        ({"patch": 0}, "patch: expected from 1 to"),
        ({"width": 0}, "width: expected 1 or more, got 0"),
        ({"encoder": "swin_tiny_patch4_window7_224"}, "is no plain Vision Transformer of timm"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(options, sentence):
    with torch.device("meta"), pytest.raises(ModelError, match=sentence):
        network(**options)
