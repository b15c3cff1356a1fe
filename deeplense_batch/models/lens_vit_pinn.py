"""LensVIT_PINN of reference 002, as published: its equations only look like those of a lens.

A ViT-S/16 gives 384 features, one linear layer makes of them a field alpha of two components, and

    theta_E = mean(alpha)    theta_S = clamp(I - theta_E sign(I), 0, N - 1)

is what "the lens equation of an isothermal sphere" computes where theta is the image. A ResNet-18
classifies [I, theta_S]. The loss adds 0.01 mean (theta_S - (I - alpha))^2 (`tasks.physics`).

What is wrong with it, and kept, because this is what the published scores belong to:

- I is a brightness and alpha an angle; their difference has no meaning. theta_S is the image less
  one number for all pixels, so the second channel says next to nothing that the first does not.
- The mean deflection over a symmetric frame is about 0, not theta_E.
- The clamp to [0, N - 1] is meant for pixel coordinates; on brightness it cuts what is below 0.
- Nothing is resampled: no light is traced back to a source.
- Both sides of the loss hold the network's own output: a constant alpha makes it small.

`lens_pinn` does what was meant.

References:
    Caron et al. 2021, arXiv:2104.14294 (DINO); reference 002.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models import register_model
from torch import Tensor, nn

from deeplense_batch.models.small import own_options
from deeplense_batch.models.weights import backbone

__all__ = ["LensVitPinn", "lens_vit_pinn"]


class LensVitPinn(nn.Module):
    """The network.

    Arguments:
        in_chans: Channels of the images; their mean is the brightness.
        num_classes: Logits K.
        img_size: Pixels N of the images.
        encoder: timm name of a vision transformer. One that starts from published weights gets
            the mean over the colours of its patch embedding.
        classifier: timm name of the backbone that predicts the class.
        slope: Put the modulus of the gradient in place of the image: the preprocessing that the
            seed tried and gave up (mean AUC 0.8786).
        drop_rate: Of the features before alpha.
        pretrained: Start the encoder from published weights, those of DINO by default.
    """

    encoder: Any  # of timm, which has no types
    classifier: Any

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        img_size: int = 150,
        encoder: str = "vit_small_patch16_224.dino",
        classifier: str = "resnet18",
        slope: bool = False,
        drop_rate: float = 0.3,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.slope, self.size = slope, img_size
        self.encoder = backbone(
            encoder,
            pretrained=pretrained,
            img_size=img_size,
            dynamic_img_size=False,  # pixels beyond the last whole patch are left out, as there
            in_chans=1,
            num_classes=0,
        )
        if pretrained:  # timm takes the sum over the colours
            with torch.no_grad():
                self.encoder.patch_embed.proj.weight.div_(3)
        self.dropout = nn.Dropout(drop_rate)
        self.alpha = nn.Linear(self.encoder.num_features, 2 * img_size**2)
        self.classifier = timm.create_model(classifier, in_chans=2, num_classes=num_classes)

    def get_classifier(self) -> nn.Module:
        """The last layer, as timm's models give it."""
        return self.classifier.get_classifier()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Class of images, (B, C, N, N) float.

        Returns:
            ``logits`` (B, K); ``intensity`` (B, 1, N, N) in [0, 1], ``theta_s`` (B, 1, N, N) and
            ``alpha`` (B, 2, N, N), all three in the unit of brightness.
        """
        intensity = _from_0_to_1(images.mean(1, keepdim=True))
        if self.slope:
            # A norm has a gradient where an image is flat, which hypot has not.
            slopes = torch.stack(torch.gradient(intensity, dim=(2, 3)))
            intensity = torch.linalg.vector_norm(slopes, dim=0)
        alpha = self.alpha(self.dropout(self.encoder(intensity)))
        alpha = alpha.view(-1, 2, self.size, self.size)
        theta_e = alpha.mean((1, 2, 3))[:, None, None, None]
        theta_s = (intensity - theta_e * intensity.sign()).clamp(0, self.size - 1)
        return {
            "logits": self.classifier(torch.cat([intensity, theta_s], 1)),
            "intensity": intensity,
            "theta_s": theta_s,
            "alpha": alpha,
        }


def _from_0_to_1(images: Tensor) -> Tensor:
    """As the reference had its images: without the normalisation of the loader."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(1e-6)


@register_model
def lens_vit_pinn(pretrained: bool = False, **options: Any) -> LensVitPinn:
    """ViT and ResNet-18 with the intensity equations of reference 002."""
    return LensVitPinn(pretrained=pretrained, **own_options(options))
