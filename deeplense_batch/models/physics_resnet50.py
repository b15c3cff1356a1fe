"""The physics-guided ResNet-50 of reference 003: a head for the class, one for "deflection".

The second head gives two numbers between -1 and 1 for a whole image, and the loss holds them to a
constant angle (`tasks.physics`). A deflection is a field, not a vector, and no source was known to
hold it to: the head learns a constant. It is kept as published.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from deeplense_batch.models.small import own_options
from deeplense_batch.models.weights import backbone

__all__ = ["PhysicsResNet", "physics_resnet50"]


class PhysicsResNet(nn.Module):
    """The network.

    Arguments:
        in_chans: Channels of the images.
        num_classes: Logits K.
        encoder: timm name of the backbone.
        hidden: Width of both heads.
        drop_rate: Between the layers of both heads.
        pretrained: Start the backbone from published weights, as the reference did.
    """

    encoder: Any  # of timm, which has no types

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        encoder: str = "resnet50",
        hidden: int = 512,
        drop_rate: float = 0.5,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = backbone(encoder, pretrained=pretrained, in_chans=in_chans, num_classes=0)
        features = self.encoder.head_hidden_size
        self.head = _head(features, hidden, num_classes, drop_rate)
        self.angle = _head(features, hidden, 2, drop_rate)

    def get_classifier(self) -> nn.Module:
        """The head of the class."""
        return self.head

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``logits`` (B, K) and ``angle`` (B, 2) in [-1, 1], of images (B, C, H, W) float."""
        features = self.encoder(images)
        return {"logits": self.head(features), "angle": self.angle(features).tanh()}


def _head(features: int, hidden: int, outputs: int, drop_rate: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(drop_rate), nn.Linear(hidden, outputs)
    )


@register_model
def physics_resnet50(pretrained: bool = False, **options: Any) -> PhysicsResNet:
    """ResNet-50 with a head for the class and one for two angles (reference 003)."""
    return PhysicsResNet(pretrained=pretrained, **own_options(options))
