"""A masked autoencoder: a Vision Transformer of timm that learns from images without labels.

An image is cut into N square patches, of which the encoder sees those that are not hidden, V of
them. A small decoder is given what the encoder makes of these, and one learnt token for each that
is hidden, with its place; it predicts the pixels of all patches (`tasks.masked` scores those of
the hidden ones). Then the decoder is thrown away: the encoder is the plain Vision Transformer of
its name, which ``train.init`` starts from its weights (`start`).

References:
    He et al. 2021, arXiv:2111.06377 (masked autoencoders); Dosovitskiy et al. 2020,
    arXiv:2010.11929 (Vision Transformers).
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models import VisionTransformer, register_model
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from deeplense_batch.data.augment import uniforms
from deeplense_batch.models.small import own_options
from deeplense_batch.models.weights import backbone

__all__ = ["MaskedAutoencoder", "masked_autoencoder", "vit_encoder"]

_SPREAD = 0.02  # sd of the first token of a hidden patch, as in the paper


class MaskedAutoencoder(nn.Module):
    """The network.

    Arguments:
        in_chans: Channels of the images.
        num_classes: Not used: it tells no classes apart.
        img_size: Pixels along a side of the images, a multiple of `patch`.
        encoder: timm name of a Vision Transformer.
        patch: Pixels along a side of a patch, whatever the name of the encoder says.
        decoder_depth: Blocks of the decoder.
        decoder_width: Numbers a token has in it, a multiple of 4 and of `decoder_heads`.
        decoder_heads: Heads of its attention.
        pretrained: Start the encoder from published weights.

    Raises:
        ValueError: Sizes do not go together, or the encoder is no plain Vision Transformer.
    """

    encoder: Any  # of timm, which has no types
    places: Tensor

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 0,
        img_size: int = 64,
        encoder: str = "vit_small_patch8_224",
        patch: int = 8,
        decoder_depth: int = 4,
        decoder_width: int = 192,
        decoder_heads: int = 3,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= patch < img_size or img_size % patch:
            fit = [n for n in range(4, img_size // 2 + 1) if img_size % n == 0]
            raise ValueError(
                f"patch: {patch} does not divide the {img_size} pixels of a side; expected one of "
                f"{', '.join(map(str, fit))}"
            )
        if decoder_depth < 1 or decoder_width % 4 or decoder_width % decoder_heads:
            raise ValueError(
                "decoder_depth: expected 1 or more, and decoder_width a multiple of 4 and of "
                f"decoder_heads; got {decoder_depth}, {decoder_width} and {decoder_heads}"
            )
        self.patch = patch
        self.encoder = vit_encoder(
            encoder, in_chans=in_chans, img_size=img_size, patch=patch, pretrained=pretrained
        )
        side = img_size // patch
        self.embed = nn.Linear(self.encoder.embed_dim, decoder_width)
        self.hidden_token = nn.Parameter(torch.empty(1, 1, decoder_width))
        nn.init.normal_(self.hidden_token, std=_SPREAD)
        places = build_sincos2d_pos_embed([side, side], decoder_width)
        self.register_buffer("places", places, persistent=False)
        # Not named blocks, as those of the encoder are: weights are found by their names.
        self.decoder = nn.Sequential(
            *(Block(decoder_width, decoder_heads, qkv_bias=True) for _ in range(decoder_depth)),
            nn.LayerNorm(decoder_width),
        )
        self.pixels = nn.Linear(decoder_width, patch**2 * in_chans)

    def forward(
        self, images: Tensor, keys: Tensor | None = None, ratio: float = 0.0
    ) -> dict[str, Tensor]:
        """Hide patches of images and restore all.

        Arguments:
            images: (B, C, H, W) float.
            keys: Random numbers, (B,) int64; the hidden patches of an image are a function of
                its own. None hides nothing.
            ratio: Share of the patches that are hidden, above 0 and below 1; at least one is, and
                one is not.

        Returns:
            ``patches``, (B, N, patch * patch * C), pixels of the patches row by row as `tasks.
            masked` cuts them; ``hidden``, (B, N) bool; ``features``, (B, D), the mean over the
            seen patches of what the encoder makes of them.
        """
        tokens = self.encoder._pos_embed(self.encoder.patch_embed(images))
        first = self.encoder.num_prefix_tokens
        count = tokens.shape[1] - first
        seen = _seen(keys, count, ratio, images)
        where = seen[:, :, None]
        kept = tokens[:, first:].gather(1, where.expand(-1, -1, tokens.shape[2]))
        tokens = self.encoder.norm_pre(torch.cat([tokens[:, :first], kept], 1))
        encoded = self.encoder.norm(self.encoder.blocks(tokens))
        encoded = self.encoder.fc_norm(encoded)  # of those that pool before their norm

        given = self.embed(encoded)
        width = given.shape[2]
        tokens = self.hidden_token.to(given.dtype).expand(len(images), count, width)
        tokens = tokens.scatter(1, where.expand(-1, -1, width), given[:, first:])
        tokens = torch.cat([given[:, :first], tokens + self.places.to(given.dtype)], 1)
        hidden = torch.ones(len(images), count, dtype=torch.bool, device=images.device)
        return {
            "patches": self.pixels(self.decoder(tokens)[:, first:]),
            "hidden": hidden.scatter(1, seen, False),
            "features": encoded[:, first:].mean(1),
        }


def vit_encoder(name: str, *, patch: int, pretrained: bool = False, **options: Any) -> Any:
    """A plain Vision Transformer of timm without a classifier.

    Arguments:
        name: timm's.
        patch: Pixels along a side of a patch, whatever the name says.
        pretrained: Start from published weights.
        options: Of timm's network: ``in_chans``, ``img_size``.

    Raises:
        ValueError: It is another network.
    """
    refusal = (
        f"encoder: {name} is no plain Vision Transformer of timm; expected one such as "
        "vit_small_patch8_224"
    )
    try:
        encoder = backbone(name, pretrained=pretrained, num_classes=0, patch_size=patch, **options)
    except TypeError as error:  # it has no patches, or no size of images
        raise ValueError(refusal) from error
    is_plain: bool = isinstance(encoder, VisionTransformer)
    if not is_plain or encoder.attn_pool is not None:
        raise ValueError(refusal)
    return encoder


def _seen(keys: Tensor | None, count: int, ratio: float, images: Tensor) -> Tensor:
    """Numbers of the patches that are not hidden, (B, V) int64, as many of every image."""
    if keys is None:
        return torch.arange(count, device=images.device).expand(len(images), -1)
    hidden = min(max(round(ratio * count), 1), count - 1)
    order = uniforms(0, 0, keys, count).argsort(dim=1, stable=True)
    return order[:, hidden:].sort(dim=1).values


@register_model
def masked_autoencoder(pretrained: bool = False, **options: Any) -> MaskedAutoencoder:
    """ViT-S with patches of 8 pixels, and a decoder of 4 blocks of width 192."""
    return MaskedAutoencoder(pretrained=pretrained, **own_options(options))
