"""SwinIR."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.models.restoring.swinir import SwinIr


def small(**options) -> SwinIr:
    torch.manual_seed(0)
    return SwinIr(1, width=6, groups=1, blocks=2, heads=2, window=4, **options).eval()


def test_images_of_any_size_are_padded_and_cut_again():
    """What lies far from the padding is as in a larger image."""
    network, images = small(ratio=2), torch.randn(1, 1, 20, 20)
    with torch.inference_mode():
        whole, part = network(images), network(images[..., :18, :18])
    assert part.shape == (1, 1, 36, 36)
    assert torch.allclose(part[..., :20, :20], whole[..., :20, :20], atol=1e-5)


def test_windows_shift_by_half_of_them_from_one_block_to_the_next():
    """A pixel of the first window, 0 to 3, is seen in the next one, 2 to 5, and no further.

    Three convolutions reach three pixels beyond; not beyond the opposite borders, around which
    the windows are shifted.
    """
    network, images = small(ratio=1), torch.randn(1, 1, 16, 16)
    changed = images.clone()
    changed[..., 1, 1] += 5
    with torch.inference_mode():
        differs = (network(images) - network(changed)).abs()[0, 0] > 1e-6
    assert differs[:9, :9].all()
    assert not differs[9:].any() and not differs[:, 9:].any()


def test_its_size_is_that_of_the_paper():
    with torch.device("meta"):
        network = SwinIr(3, ratio=2)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == pytest.approx(0.878e6, rel=0.06)  # table 2: 878 K


def test_a_width_that_heads_do_not_share_is_refused():
    with pytest.raises(ValueError, match="width: expected a multiple of heads, 6, got 32"):
        SwinIr(1, width=32)
