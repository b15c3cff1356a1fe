"""The smallest networks of the kinds that several test files need."""

from __future__ import annotations

from torch import nn

from deeplense_batch.models import build

UNET = {"width": 8, "multiples": [1, 2], "blocks": 1, "attention": 0}
PHYSICS = {
    "lens_pinn": {"encoder": "test_resnet", "classifier": "test_resnet", "width": 8},
    "lens_vit_pinn": {"encoder": "test_vit", "classifier": "test_resnet"},
    "physics_resnet50": {"encoder": "test_resnet", "hidden": 32},
}


def physics_network(name: str, channels: int = 1, size: int = 64, **options: object) -> nn.Module:
    """A network with physics in it, of three classes."""
    return build(name, channels=channels, classes=3, size=size, **PHYSICS[name] | options)
