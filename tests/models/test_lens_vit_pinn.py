"""The network of reference 002, as published."""

from __future__ import annotations

import hashlib

import timm
import torch
from safetensors.torch import save_file
from tiny_networks import physics_network

from deeplense_batch.models import build


def test_the_patch_embedding_of_one_channel_is_the_mean_over_colours(tmp_path, monkeypatch):
    """As the reference had it; timm takes the sum."""
    colour = timm.create_model("test_vit", img_size=160)
    file = tmp_path / "test_vit.safetensors"
    save_file(colour.state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  {file.name}\n")
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path))
    model = build(
        "lens_vit_pinn", channels=1, classes=3, size=64, pretrained=True,
        encoder="test_vit", classifier="test_resnet",
    )  # fmt: skip
    mean = colour.patch_embed.proj.weight.mean(1, keepdim=True)
    assert torch.allclose(model.encoder.patch_embed.proj.weight, mean, atol=1e-6)


def test_pixels_beyond_the_last_whole_patch_do_not_reach_alpha():
    torch.manual_seed(0)
    model = physics_network("lens_vit_pinn", size=40).eval()
    images = torch.rand(1, 1, 40, 40)
    images[..., 0, 0], images[..., 0, 1] = -1, 2  # the least and the most, whatever the edge has
    edge, inside = images.clone(), images.clone()
    edge[..., 32:, :], inside[..., 20, 20] = 0.5, 1.9
    with torch.no_grad():
        alpha, of_edge, of_inside = (model(some)["alpha"] for some in (images, edge, inside))
    assert torch.equal(alpha, of_edge) and not torch.equal(alpha, of_inside)
