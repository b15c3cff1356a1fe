"""Small networks of the published comparisons that timm does not have, registered with it.

References:
    He et al. 2016, arXiv:1512.03385, section 4.2 (ResNets for small images).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "NarrowResNet",
    "SmallResNet",
    "options_unless_pretrained",
    "own_options",
    "resnet10_narrow",
    "resnet20",
    "resnet32",
    "simple_cnn",
]


class SmallResNet(nn.Module):
    """Three stages of residual blocks, 16, 32 and 64 channels wide, at full, half, quarter size.

    Shortcuts have no weights: where the width grows, pixels are left out and zero channels added
    on both sides ("option A").

    Arguments:
        blocks: In each stage; 3 make 20 layers with weights, 5 make 32.
        in_chans: Channels of the images.
        num_classes: Logits.
        drop_rate: Of the features before the last layer.
    """

    def __init__(
        self, blocks: int, in_chans: int = 3, num_classes: int = 1000, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_chans, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        widths = [16] * (blocks + 1) + [32] * blocks + [64] * blocks
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in pairwise(widths)))
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (B, num_classes), of images (B, in_chans, H, W)."""
        features = self.blocks(functional.relu(self.norm(self.stem(images))))
        return self.head(self.dropout(features.mean((2, 3))))

    def get_classifier(self) -> nn.Module:
        """The last layer, as timm's models give it."""
        return self.head


class _Block(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.stride, self.grow = (2 if width > channels else 1), width - channels
        self.conv1 = nn.Conv2d(channels, width, 3, self.stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        features = functional.relu(self.norm1(self.conv1(x)))
        features = self.norm2(self.conv2(features))
        half = self.grow // 2
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return functional.relu(features + functional.pad(shortcut, (0, 0, 0, 0, half, half)))


class NarrowResNet(nn.Module):
    """Four residual blocks, each of which halves the image, as the first layer does.

    Most of its work is at a quarter of the size, so that a step of large images is cheap.
    Shortcuts are convolutions of one pixel ("option B").

    Arguments:
        in_chans: Channels of the images.
        num_classes: Logits.
        drop_rate: Of the features before the last layer.
    """

    def __init__(self, in_chans: int = 3, num_classes: int = 1000, drop_rate: float = 0.0) -> None:
        super().__init__()
        widths = (16, 24, 48, 96, 160)
        self.stem = nn.Conv2d(in_chans, widths[0], 5, 2, 2, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.blocks = nn.Sequential(*(_Halving(a, b) for a, b in pairwise(widths)))
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (B, num_classes), of images (B, in_chans, H, W)."""
        features = self.blocks(functional.relu(self.norm(self.stem(images))))
        return self.head(self.dropout(features.mean((2, 3))))

    def get_classifier(self) -> nn.Module:
        """The last layer, as timm's models give it."""
        return self.head


class _Halving(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(channels, width, 1, 2, bias=False)
        self.norm3 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        features = functional.relu(self.norm1(self.conv1(x)))
        features = self.norm2(self.conv2(features))
        return functional.relu(features + self.norm3(self.shortcut(x)))


class _SimpleCNN(nn.Module):
    """Two convolutions, each halved, and two layers: 1.1 million weights at 64 pixels."""

    def __init__(
        self, in_chans: int = 3, num_classes: int = 2, img_size: int = 64, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_chans, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.hidden = nn.Linear(64 * (img_size // 4) ** 2, 128)
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(128, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (B, num_classes), of images (B, in_chans, img_size, img_size)."""
        return self.head(self.dropout(functional.relu(self.hidden(self.features(images)))))

    def get_classifier(self) -> nn.Module:
        """The last layer, as timm's models give it."""
        return self.head


def own_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are the network's, of those that timm hands on."""
    theirs = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
    return {key: value for key, value in options.items() if key not in theirs}


def options_unless_pretrained(
    name: str, pretrained: bool, options: dict[str, Any], *, classes: bool = True
) -> dict[str, Any]:
    """The options of a network that nobody has published weights of.

    Arguments:
        name: Of the network.
        pretrained: Whether it should start from published weights.
        options: Those that timm hands on.
        classes: Whether it gives logits, so that ``num_classes`` is one of its options.

    Raises:
        RuntimeError: It should start from such weights.
    """
    if pretrained:
        raise RuntimeError(f"nobody has published weights of {name}")
    own = own_options(options)
    return own if classes else {key: own[key] for key in own if key != "num_classes"}


@register_model
def resnet10_narrow(pretrained: bool = False, **options: Any) -> NarrowResNet:
    """ResNet of 10 layers, 16 to 160 channels wide, quick on large images."""
    return NarrowResNet(**options_unless_pretrained("resnet10_narrow", pretrained, options))


@register_model
def resnet20(pretrained: bool = False, **options: Any) -> SmallResNet:
    """ResNet of 20 layers for small images (reference 004)."""
    return SmallResNet(3, **options_unless_pretrained("resnet20", pretrained, options))


@register_model
def resnet32(pretrained: bool = False, **options: Any) -> SmallResNet:
    """ResNet of 32 layers for small images (reference 004's best)."""
    return SmallResNet(5, **options_unless_pretrained("resnet32", pretrained, options))


@register_model
def simple_cnn(pretrained: bool = False, **options: Any) -> _SimpleCNN:
    """Two convolutions and two layers (reference 003's lens finder)."""
    return _SimpleCNN(**options_unless_pretrained("simple_cnn", pretrained, options))
