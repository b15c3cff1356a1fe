"""A classifier that solves the lens equation, and sees what a smooth lens leaves over.

The network predicts the seven numbers of an ellipsoid in shear (`lensing.macro`). Their closed
deflection maps the coordinates of the pixels to the source plane, beta = theta - alpha(theta);
the source is what the pixels are when laid down there, and the image is made again from it
(`lensing.source_plane`). What the smooth lens cannot explain, image minus reconstruction, is where
substructure shows. From it a decoder draws a correction delta psi of the potential. A backbone
classifies [image, residual, delta kappa].

Every deflection is the gradient of a potential, so there is no curl and its mass is real. All
positions are in half frames, -1 to 1 from edge to edge, so the network needs no pixel scale. The
image is lensed as it was observed, blur included: the source found is as blurred as the image.

References:
    Hezaveh et al. 2017, Nature 548, 555 (lens parameters by a network); Kormann et al. 1994, A&A
    284, 285 (ellipsoid); Koopmans 2005, MNRAS 363, 1136 (corrections of the potential); Liu et al.
    2018, arXiv:1807.03247 (coordinates as channels).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import register_model
from torch import Tensor, nn

from deeplense_batch.lensing.macro import macro_convergence, macro_deflection, pixel_grid
from deeplense_batch.lensing.source_plane import divergence, gradient, relens, splat
from deeplense_batch.models.small import own_options
from deeplense_batch.models.weights import backbone

__all__ = ["LensPinn", "lens_pinn"]

_MOST_ELLIPTICITY = 0.5  # an axis ratio of a third
_MOST_SHEAR = 0.4
_MOST_OFFSET = 0.2  # of the middle of the lens, half frames
_CORRECTION = 0.01  # scale of delta psi, half frames squared
_EDGE = 0.25  # width of the band along the edges where delta psi goes to zero, half frames


class LensPinn(nn.Module):
    """The network.

    Arguments:
        in_chans: Channels C of the images.
        num_classes: Logits K.
        encoder: timm name of the backbone that sees the lens.
        classifier: timm name of the backbone that predicts the class.
        hidden: Width of the head of the seven numbers.
        correction: Whether there is a delta psi.
        width: Channels of its decoder.
        drop_rate: Of the features of the classifier before its last layer.
        pretrained: Start both backbones from published weights.
    """

    encoder: Any  # of timm, which has no types
    classifier: Any

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        encoder: str = "resnet18",
        classifier: str = "resnet18",
        hidden: int = 256,
        correction: bool = True,
        width: int = 32,
        drop_rate: float = 0.0,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = backbone(
            encoder, pretrained=pretrained, in_chans=in_chans + 2, num_classes=0
        )
        features = self.encoder.head_hidden_size
        self.head = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 7))
        self.decoder = _decoder(2 * in_chans, width) if correction else None
        self.classifier = backbone(
            classifier,
            pretrained=pretrained,
            in_chans=2 * in_chans + 1,
            num_classes=num_classes,
            drop_rate=drop_rate,
        )

    def get_classifier(self) -> nn.Module:
        """The last layer, as timm's models give it."""
        return self.classifier.get_classifier()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Lens and class of images, (B, C, N, N) float.

        Returns:
            By name, float32 but for the logits:

            ``logits``        (B, K)
            ``parameters``    (B, 7), as of `macro_of_truth`; lengths in half frames
            ``deflection``    (B, 2, N, N), half frames, of ellipsoid and shear
            ``correction``    (B, 2, N, N), half frames, the gradient of delta psi
            ``convergence``   (B, N, N), kappa of everything
            ``image``         (B, C, N, N), what was given
            ``smooth``        (B, C, N, N), made again with the ellipsoid and shear alone
            ``relensed``      (B, C, N, N), made again with the correction too
        """
        x, y = pixel_grid(images.shape[-1], images)
        theta = torch.stack(torch.broadcast_tensors(x, y), 1)  # (1, 2, N, N)
        seen = torch.cat([images, theta.to(images).expand(len(images), -1, -1, -1)], 1)
        raw = self.head(self.encoder(seen))
        with torch.autocast(images.device.type, enabled=False):
            image = images.float()
            parameters = _bounded(raw.float())
            deflection = macro_deflection(parameters, x, y, least=2 / images.shape[-1])
            smooth = _made_again(image, theta - deflection)
        residual = image - smooth
        potential = self._correction(torch.cat([image, residual], 1))
        with torch.autocast(images.device.type, enabled=False):
            correction = gradient(potential)
            extra = divergence(correction) / 2
            relensed = smooth
            if self.decoder is not None:
                relensed = _made_again(image, theta - deflection - correction)
        return {
            "logits": self.classifier(torch.cat([image, residual, extra[:, None]], 1)),
            "parameters": parameters,
            "deflection": deflection,
            "correction": correction,
            "convergence": macro_convergence(parameters, x, y) + extra,
            "image": image,
            "smooth": smooth,
            "relensed": relensed,
        }

    def _correction(self, seen: Tensor) -> Tensor:
        """delta psi, (B, N, N) float32, half frames squared; zero along the edges."""
        size = seen.shape[-1]
        if self.decoder is None:
            return seen.new_zeros(len(seen), size, size)
        drawn = self.decoder(seen).float()
        drawn = F.interpolate(drawn, size=(size, size), mode="bicubic", align_corners=False)[:, 0]
        x, y = pixel_grid(size, seen)
        return _CORRECTION * drawn * _window(x) * _window(y)


def _decoder(channels: int, width: int) -> nn.Sequential:
    """From images to delta psi at half their resolution; nothing, before it is trained."""
    last = nn.Conv2d(width, 1, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 5, stride=2, padding=2), nn.GELU()]
    for dilation in (1, 2, 4):
        layers += [nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.GELU()]
    return nn.Sequential(*layers, last)


def _window(theta: Tensor) -> Tensor:
    """1 in the frame, 0 at its edges, with no kink between: its slope bends no light."""
    share = ((1 - theta.abs() - 4 / theta.numel()) / _EDGE).clamp(0, 1)  # two pixels of nothing
    return share * share * (3 - 2 * share)


def _bounded(raw: Tensor) -> Tensor:
    """The seven numbers, of outputs of a layer: any value is a lens that fits into the frame."""
    theta_e = torch.sigmoid(raw[:, :1] - 0.6)  # at first about a third of a half frame
    return torch.cat(
        [
            theta_e,
            _in_disc(raw[:, 1:3]) * _MOST_ELLIPTICITY,
            torch.tanh(raw[:, 3:5]) * _MOST_OFFSET,
            _in_disc(raw[:, 5:7]) * _MOST_SHEAR,
        ],
        1,
    )


def _in_disc(raw: Tensor) -> Tensor:
    """Vectors, (B, 2), shortened to below 1."""
    return raw * torch.rsqrt(1 + raw.square().sum(1, keepdim=True))


def _made_again(image: Tensor, beta: Tensor) -> Tensor:
    return relens(splat(image, beta, image.shape[-1]), beta)


@register_model
def lens_pinn(pretrained: bool = False, **options: Any) -> LensPinn:
    """Classifier over the lens equation, with its physics right."""
    return LensPinn(pretrained=pretrained, **own_options(options))
