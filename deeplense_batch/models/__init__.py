"""What learns: the table of networks, and one file for each network of our own.

Knows lensing and core. A timm backbone is one row; any other timm name works too, it is only not
listed, and so does a model of the hub that was fetched. Networks of our own are named in
`_OURS`. Nothing here loads torch before a model is built or an unlisted name is looked up.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deeplense_batch.core.job import nearest
from deeplense_batch.models.weights import (
    WeightsError,
    adapt_mean,
    architecture,
    backbone,
    is_hub_name,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "INCEPTION",
    "MODELS",
    "Model",
    "ModelError",
    "WeightsError",
    "build",
    "check_name",
    "check_options",
    "published",
]


class ModelError(ValueError):
    """There is no such model, or not with these options."""

    exit_code = 3


@dataclass(frozen=True)
class Model:
    """A row of the table."""

    parameters_m: float  # millions, with 1 channel and 3 classes, or twice as many pixels a side
    about: str
    sized: bool = False  # built for one size of images, though timm does not say so
    backbones: Mapping[str, str] = field(default_factory=dict)  # its options that name others
    denoises: bool = False  # takes noise from images, given a time
    masks: bool = False  # restores hidden patches of images, and gives no logits
    restores: bool = False  # gives an image of more pixels, or as many, for an image


MODELS: dict[str, Model] = {
    "test_efficientnet": Model(0.0995, "timm's miniature EfficientNet, for demos and tests"),
    "resnet20": Model(0.269, "ResNet-20 for small images (reference 004)"),
    "resnet32": Model(0.463, "ResNet-32 for small images (reference 004, its best)"),
    "test_byobnet": Model(0.200, "timm's miniature RegNet-like net, for demos and tests"),
    "test_resnet": Model(0.373, "timm's miniature ResNet, for demos and tests"),
    "resnet10_narrow": Model(0.557, "ResNet-10 of 16 to 160 channels; quick on large images"),
    "mobilenetv3_small_050": Model(0.571, "MobileNetV3-Small, half width"),
    "lcnet_050": Model(0.604, "LCNet, half width; made for CPUs"),
    "tinynet_e": Model(0.765, "TinyNet-E"),
    "swinir_light": Model(0.905, "SwinIR, light: shifted windows of attention", restores=True),
    "ghostnet_050": Model(1.310, "GhostNet, half width"),
    "d4_resnet18": Model(1.396, "ResNet-18 that no quarter turn and no reflection changes"),
    "fno_small": Model(1.277, "Fourier neural operator, four layers of 12 modes"),
    "edsr": Model(1.368, "EDSR, 16 residual blocks of 64 channels", restores=True),
    "mobilenetv3_small_100": Model(1.521, "MobileNetV3-Small (reference 001)"),
    "simple_cnn": Model(2.117, "two convolutions, two layers (reference 003)", sized=True),
    "regnety_002": Model(2.795, "RegNetY, 0.2 GF"),
    "efficientformerv2_s0": Model(3.247, "EfficientFormerV2-S0"),
    "convnextv2_atto": Model(3.387, "ConvNeXtV2-Atto"),
    "efficientnet_b0": Model(4.011, "EfficientNet-B0 (reference 001)"),
    "mobilenetv3_large_100": Model(4.206, "MobileNetV3-Large (reference 001)"),
    "convnextv2_femto": Model(4.848, "ConvNeXtV2-Femto"),
    "resnet10t": Model(4.924, "ResNet-10 with a deep stem"),
    "efficientnet_b1": Model(6.516, "EfficientNet-B1 (reference 001)"),
    "efficientnet_b2": Model(7.705, "EfficientNet-B2 (reference 001)"),
    "convnextv2_pico": Model(8.553, "ConvNeXtV2-Pico"),
    "restoring_unet": Model(8.950, "UNet of diffusers on interpolated images", restores=True),
    "unet": Model(8.951, "UNet of diffusers, given the time and the class", denoises=True),
    "efficientnet_b3": Model(10.700, "EfficientNet-B3 (reference 001)"),
    "resnet18": Model(11.172, "ResNet-18 (references 001, 002)"),
    "coatnet_nano_rw_224": Model(14.629, "CoAtNet, nano"),
    "convnextv2_nano": Model(14.982, "ConvNeXtV2-Nano"),
    "rcan": Model(15.442, "RCAN, 200 blocks with channel attention", restores=True),
    "efficientnet_b4": Model(17.553, "EfficientNet-B4 (reference 001)"),
    "resnet34": Model(21.280, "ResNet-34 (reference 001, its best)"),
    "vit_small_patch16_224": Model(21.470, "Vision Transformer, small, patches of 16"),
    "deit3_small_patch16_224": Model(21.479, "DeiT III, small"),
    "restoring_vit": Model(
        22.410,
        "ViT-S with patches of 8, whose tokens become pixels",
        sized=True,
        backbones={"encoder": "vit_small_patch8_224"},
        restores=True,
    ),
    "lens_pinn": Model(
        22.517,
        "lens equation by ResNet-18, and a ResNet-18 on what it leaves",
        backbones={"encoder": "resnet18", "classifier": "resnet18"},
    ),
    "masked_autoencoder": Model(
        23.487,
        "masked autoencoder: ViT-S with patches of 8, and a small decoder",
        sized=True,
        backbones={"encoder": "vit_small_patch8_224"},
        masks=True,
    ),
    "resnet50": Model(23.508, "ResNet-50 (references 001, 003)"),
    "physics_resnet50": Model(
        25.603,
        "ResNet-50 with a head for two angles (reference 003)",
        backbones={"encoder": "resnet50"},
    ),
    "swin_tiny_patch4_window7_224": Model(27.519, "Swin Transformer, tiny"),
    "convnextv2_tiny": Model(27.866, "ConvNeXtV2-Tiny (reference 000)"),
    "efficientnet_b5": Model(28.346, "EfficientNet-B5 (reference 001)"),
    "maxvit_tiny_rw_224": Model(28.545, "MaxViT, tiny"),
    "resnet101": Model(42.500, "ResNet-101 (reference 001)"),
    "resnet152": Model(58.144, "ResNet-152 (reference 001)"),
    "lens_vit_pinn": Model(
        71.310,
        "ViT-S and ResNet-18, LensVIT_PINN (reference 002)",
        sized=True,
        backbones={"encoder": "vit_small_patch16_224.dino"},
    ),
}

INCEPTION = "inception_v3"  # whose features generated images are usually judged by

_GIVEN = {
    **{name: "the images" for name in ("channels", "in_chans")},
    **{name: "the task" for name in ("classes", "num_classes")},
    **{
        "ratio": "the images",
        "size": "data.size",
        "pretrained": "model.pretrained",
        "adapt": "model.adapt",
    },
    "name": "model.name",
}
_OURS = (
    "small",
    "lens_pinn",
    "lens_vit_pinn",
    "masked_autoencoder",
    "physics_resnet50",
    "unet",
    *(f"restoring.{name}" for name in ("edsr", "rcan", "swinir", "unet", "vit")),
    *(f"symmetric.{name}" for name in ("d4_resnet", "fourier")),
)


def check_name(name: str) -> None:
    """Make sure that a model can be built by this name.

    Raises:
        ModelError: Neither the table nor timm has it.
        WeightsError: It is on the hub, and was not fetched.
    """
    if name in MODELS:
        return
    import timm  # slow to load, so only for names outside the table

    if is_hub_name(name):
        if not timm.is_model(known := architecture(name).name):
            raise ModelError(f"model.name: '{name}' is a {known}, which this timm does not have")
    elif ":" in name or "/" in name:
        raise ModelError(f"model.name: got '{name}'; of the hub expected hf_hub:owner/name")
    elif not timm.is_model(name):
        close = nearest(name, MODELS)
        raise ModelError(f"model.name: there is no model '{name}', here or in timm; {close}")


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Make sure that options of a model are not what its data give it.

    Raises:
        ModelError: One is.
    """
    for option, source in _GIVEN.items():
        if option in options:
            raise ModelError(
                f"model.options.{option}: '{name}' gets this from {source}; leave it out"
            )


def published(name: str, options: Mapping[str, Any]) -> list[str]:
    """Names of the networks whose published weights a model starts from, where it is asked to.

    Arguments:
        name: The model.
        options: Its options in the job.
    """
    row = MODELS.get(name)
    if row is None or not row.backbones:
        return [name]
    return sorted({str(options.get(option, usual)) for option, usual in row.backbones.items()})


def build(
    name: str,
    *,
    channels: int,
    classes: int,
    size: int,
    ratio: int = 1,
    pretrained: bool = False,
    adapt: str = "sum",
    **options: Any,
) -> nn.Module:
    """Build a network that maps images (B, channels, size, size) to logits (B, classes).

    A network with physics in it gives a dictionary of tensors, the logits among them by that name;
    one that denoises maps images to images, and `classes` are those that it can be given; one that
    restores hidden patches gives these; one that restores images maps them to
    (B, channels, ratio x size, ratio x size).

    Arguments:
        name: A key of `MODELS`, any name timm knows, or ``hf_hub:owner/name`` that was fetched.
        channels: Channels of the images; timm adapts the first layer's weights.
        classes: Number of logits.
        size: Pixels of the images; transformers are built for it.
        ratio: Pixels of what a network that restores gives, along a side, for one of its input.
        pretrained: Start from published weights, which `weights.fetch` has brought.
        adapt: What one channel gets of the first layer's weights for colours: their ``sum``
            (timm's rule) or their ``mean``.
        options: Keyword arguments of the model, from ``model.options`` of the job.

    Raises:
        ModelError: Unknown name or option, or a size the model cannot take.
        WeightsError: Pretrained weights were asked for and are not here, or do not fit.
    """
    import timm

    for module in _OURS:  # makes their models known to timm
        importlib.import_module(f"deeplense_batch.models.{module}")

    check_name(name)
    known = architecture(name)
    if name in MODELS and MODELS[name].restores:
        options = {"ratio": ratio} | options
    cfg = known.published
    native = cfg.input_size[-1] if cfg is not None and cfg.fixed_input_size else None
    if native or "img_size" in known.options or (name in MODELS and MODELS[name].sized):
        options = {"img_size": size} | options
    if native and size != native:
        _check_size(name, native, (channels, size, size), options)
    _check_left_out(known.name, options)
    own = name in MODELS and bool(MODELS[name].backbones)  # hands `pretrained` on to those
    try:
        model = (timm.create_model if own else backbone)(
            name, pretrained=pretrained, in_chans=channels, num_classes=classes, **options
        )
    except WeightsError:
        raise
    except (OSError, RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise ModelError(
            f"model: '{name}' cannot be built for {channels} x {size} x {size} images with "
            f"options {options} ({' '.join(str(error).split())[:200]})"
        ) from error
    if pretrained and adapt == "mean" and channels == 1 and not own:
        adapt_mean(model, cfg)
    return model


def _check_left_out(name: str, options: Mapping[str, Any]) -> None:
    """Make sure that options that are null are some of the network, which timm drops unseen.

    Raises:
        ModelError: One is not.
    """
    import timm
    import torch

    for option in (option for option, value in options.items() if value is None):
        try:
            with torch.device("meta"):
                option_alone: dict[str, Any] = {option: False}
                timm.create_model(name, **option_alone)
        except TypeError as error:
            if f"unexpected keyword argument '{option}'" in str(error):
                raise ModelError(
                    f"model.options.{option}: got null, and '{name}' has no such option; YAML "
                    "reads {option:value} without a space as a name without a value"
                ) from error
        except (OSError, RuntimeError, ValueError, AssertionError, AttributeError):
            pass  # it is an option, of which False is no value


def _check_size(
    name: str, native: int, shape: tuple[int, int, int], options: dict[str, Any]
) -> None:
    """Make sure that a network made for one size takes another, by shapes alone."""
    import torch

    try:
        with torch.device("meta"), torch.inference_mode():
            network = backbone(name, pretrained=False, in_chans=shape[0], **options)
            network.eval()(torch.empty(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"model: '{name}' is made for {native} pixels and cannot take {shape[-1]}; "
            f"data.size: {native} resizes the images"
        ) from error
