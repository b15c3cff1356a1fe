"""A plain Vision Transformer whose patch tokens become pixels, so that pretrained ones restore.

An image of the input is padded by reflection to whole patches of p pixels, as for SwinIR. What the
encoder makes of a patch, by itself and all others, becomes the ratio x p pixels along a side that
lie there, in several channels; one convolution makes the image of these, across the borders of the
patches. It starts at 0: with `task.options.residual` at the fitted bicubic image.

The encoder is that of a masked autoencoder (`models.masked_autoencoder`), whose weights it takes;
so are those of the plain Vision Transformer of its name, without its classifier.

References:
    Dosovitskiy et al. 2020, arXiv:2010.11929 (Vision Transformers); Shi et al. 2016,
    arXiv:1609.05158 (sub-pixel convolution).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.models import register_model, vision_transformer
from torch import Tensor, nn
from torch.nn import functional

from deeplense_batch.models.masked_autoencoder import vit_encoder
from deeplense_batch.models.restoring.parts import check_ratio
from deeplense_batch.models.small import options_unless_pretrained

__all__ = ["RestoringVit", "checkpoint_filter_fn", "restoring_vit"]

_ENCODER = "encoder."


class RestoringVit(nn.Module):
    """A Vision Transformer of timm, and a head that makes pixels of its patch tokens.

    Arguments:
        in_chans: Channels of the images.
        ratio: Pixels of the output along a side, for one of the input.
        img_size: Pixels along a side of the inputs; for others, places are interpolated.
        encoder: timm name of a plain Vision Transformer.
        patch: Pixels of the input along a side of a patch, whatever the name of the encoder says.
        width: Channels that the pixels of a patch have before the convolution.
        pretrained: Start the encoder from published weights.

    Raises:
        ValueError: A patch is larger than an image, or the encoder is no plain Vision Transformer.
    """

    encoder: Any  # of timm, which has no types

    def __init__(
        self,
        in_chans: int = 1,
        ratio: int = 2,
        img_size: int = 64,
        encoder: str = "vit_small_patch8_224",
        patch: int = 8,
        width: int = 8,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        check_ratio(ratio)
        if not 1 <= patch <= img_size:
            raise ValueError(
                f"patch: expected from 1 to the {img_size} pixels of a side of an input, got "
                f"{patch}"
            )
        if width < 1:
            raise ValueError(f"width: expected 1 or more, got {width}")
        self.patch, self.ratio = patch, ratio
        self.encoder = vit_encoder(
            encoder,
            patch=patch,
            pretrained=pretrained,
            in_chans=in_chans,
            img_size=img_size + -img_size % patch,
            dynamic_img_size=True,
        )
        pixels = nn.Linear(self.encoder.embed_dim, width * (ratio * patch) ** 2)
        last = nn.Conv2d(width, in_chans, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.head = nn.Sequential(pixels, _Pixels(ratio * patch), last)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, ratio x h, ratio x w) of images (B, C, h, w)."""
        height, width = images.shape[-2:]
        right, below = -width % self.patch, -height % self.patch
        padded = functional.pad(images, (0, right, 0, below), mode="reflect")
        tokens = self.encoder.fc_norm(self.encoder.forward_features(padded))
        rows, columns = ((side // self.patch) for side in padded.shape[-2:])
        patches = tokens[:, self.encoder.num_prefix_tokens :].unflatten(1, (rows, columns))
        return self.head(patches)[..., : height * self.ratio, : width * self.ratio]

    def get_classifier(self) -> nn.Module:
        """What is learnt anew on the weights of an encoder."""
        return self.head

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers, as timm's Vision Transformers tell theirs; the head is above them."""
        stem = rf"^{_ENCODER}(?:cls_token|reg_token|pos_embed|patch_embed|norm_pre)"
        return {"stem": stem, "blocks": [(rf"^{_ENCODER}blocks\.(\d+)", None),
                                         (rf"^{_ENCODER}norm\.", (99999,))]}  # fmt: skip


class _Pixels(nn.Module):
    """Images (B, K, rows x p, columns x p) of patches (B, rows, columns, p * p * K)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.shuffle = nn.PixelShuffle(side)

    def forward(self, patches: Tensor) -> Tensor:
        return self.shuffle(patches.permute(0, 3, 1, 2))


def checkpoint_filter_fn(state: Mapping[str, Tensor], model: RestoringVit) -> dict[str, Tensor]:
    """Another's weights by the names of this network, its places made for the size of the images.

    Arguments:
        state: Of such a network; or of a masked autoencoder or a plain Vision Transformer, of
            which all but the encoder is left out.
        model: Is to have them.
    """
    head = {n: v for n, v in state.items() if n in model.state_dict() and n.startswith("head.")}
    inner = {n.removeprefix(_ENCODER): v for n, v in state.items() if n.startswith(_ENCODER)}
    if not inner:  # a plain one, whose classifier has this name
        inner = {n: v for n, v in state.items() if not n.startswith("head.")}
    converted = vision_transformer.checkpoint_filter_fn(inner, model.encoder)
    return head | {_ENCODER + name: value for name, value in converted.items()}


@register_model
def restoring_vit(pretrained: bool = False, **options: Any) -> RestoringVit:
    """ViT-S with patches of 8 pixels, and one convolution."""
    own = options_unless_pretrained("restoring_vit", False, options, classes=False)
    return RestoringVit(pretrained=pretrained, **own)
