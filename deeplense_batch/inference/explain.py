"""Where a finished network looks: for each class, a map of what speaks for it in an image.

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) weights the channels of the last convolutional
features by the mean gradient of a logit, and keeps what is positive. A network whose last features
are no map, such as a Vision Transformer, gets integrated gradients instead (Sundararajan et al.
2017, arXiv:1703.01365), from the mean image on, summed over the channels; the title says which.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradCam
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplense_batch.core.distributed import device_of
from deeplense_batch.core.job import nearest
from deeplense_batch.core.scoring import figures
from deeplense_batch.core.scoring.colours import Rgb
from deeplense_batch.core.scoring.image_grid import map_sheet
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.formats.filters import colour_channels
from deeplense_batch.data.shards import ShardError, Split, open_split, read_splits
from deeplense_batch.inference.images.suitable import check_bands, wrong_shape
from deeplense_batch.inference.trained import Logits, Trained, open_trained

__all__ = ["explain", "feature_layer"]

_MOST = 48  # images on a sheet
_STEPS = 32  # of an integral
_AT_ONCE = 32  # images of a step of an integral
_BATCH = 8  # images at once
_LEAST_SIDE = 4  # of a feature map: fewer pixels do not say where

Map = NDArray[np.float32]


def explain(
    run: Path | str,
    out: Path | str,
    *,
    ids: Sequence[str] = (),
    slice_: str = "",
    of: str = "",
    data: Path | str = "",
    rgb: Sequence[str] = (),
    device: str = "cpu",
) -> None:
    """Draw images beside their maps, a row each.

    Where the network gives a deflection or a source beside its logits, they are drawn too.

    Arguments:
        run: Run directory.
        out: The picture, ``.png``.
        ids: Names of samples.
        slice_: Or a slice of the data.
        of: One class, instead of all.
        data: Folder of shards; by default that of the run.
        rgb: Bands that are red, green and blue; by default those of the longest waves.
        device: ``cpu`` or ``cuda``.

    Raises:
        TrainedError: The run is not finished, or there is no such class.
        ShardError: The images are not there, too many, or of another shape or other bands; or
            there is no such band for `rgb`.
        FileExistsError: `out` is there already.
    """
    out = Path(out)
    if os.path.lexists(out):  # also a link to nothing
        raise FileExistsError(f"{out}: is there already; name another file")
    chosen = device_of(device)
    trained = open_trained(run)
    trained.check_class(of)
    if not data:
        trained.slice("test")  # raises where other data are in the place of its own
    samples = _choose(Path(data or trained.job.data.root), trained, ids, slice_)
    bands = samples[0].info.bands
    check_bands(data or trained.job.data.root, bands, trained.bands, run)
    channels = colour_channels(bands, rgb)
    trained.model.to(chosen)
    inputs = torch.cat([_prepared(sample, trained, chosen) for sample in samples])
    outputs = _outputs(trained.model, inputs)
    method, maps = _maps(trained, inputs, of)
    title = f"{trained.run.name}\n{method}"
    figures.save(_sheet(trained, samples, outputs, maps, title, channels), out)


def _sheet(
    trained: Trained,
    samples: Sequence[Split],
    outputs: Mapping[str, Tensor],
    maps: Mapping[str, Map],
    title: str,
    channels: Rgb | None,
) -> Figure:
    """Each image beside its maps by class, and beside the other fields that the network gives."""
    scores = outputs["logits"].softmax(1).cpu().numpy()
    fields = _fields(outputs)
    names, rows = [], []
    for i, sample in enumerate(samples):
        predicted = trained.classes[int(scores[i].argmax())]
        names.append(f"{sample.ids()[0]}\n{_caption(sample, predicted)}")
        of_class = {
            f"{name}, score {scores[i, trained.classes.index(name)]:.3f}": map_[i]
            for name, map_ in maps.items()
        }
        rows.append(of_class | {name: field[i] for name, field in fields.items()})
    return map_sheet(
        [_as_packed(sample, trained) for sample in samples],
        names,
        rows,
        title,
        common="evidence for the class, of the row's largest",
        own=list(fields),
        rgb=channels,
    )


def feature_layer(network: nn.Module, images: Tensor) -> tuple[str, nn.Module] | None:
    """Find the last convolutional features that the logits come from.

    Arguments:
        network: In evaluation mode.
        images: Prepared, (B, C, H, W).

    Returns:
        Name and module whose output is (B, channels, h, w) with h and w of 4 or more: of the
        levels that a timm backbone names, or else the last module with such an output. None where
        there is none, or attention comes after it, which mixes all places of the image.
    """
    channels_of = _levels(network)
    candidates: list[tuple[str, nn.Module, Tensor]] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        if not channels_of and "attention" in type(module).__name__.lower():
            candidates.clear()
        if not isinstance(output, Tensor) or output.ndim != 4 or not output.requires_grad:
            return
        fits = output.shape[1] == channels_of.get(name) if channels_of else True
        if fits and min(output.shape[2:]) >= _LEAST_SIDE:
            candidates.append((name, module, output))

    def hook(name: str) -> Any:
        return lambda module, inputs, output: look(name, module, output)

    handles = [m.register_forward_hook(hook(name)) for name, m in network.named_modules() if name]
    try:
        logits = Logits(network)(images.detach().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    if not candidates:
        return None
    outputs = [output for *_, output in candidates]
    gradients = torch.autograd.grad(logits.sum(), outputs, allow_unused=True)
    leading = [
        (name, module)
        for (name, module, _), gradient in zip(candidates, gradients, strict=True)
        if gradient is not None
    ]
    return leading[-1] if leading else None


def _levels(network: nn.Module) -> dict[str, int]:
    """Channels of the feature levels that timm names of a backbone in a network, by module."""
    levels = {}
    for prefix, module in network.named_modules():
        feature_info = getattr(module, "feature_info", None)
        if feature_info is None or callable(feature_info):  # of blocks it is a method
            continue
        for level in feature_info:
            levels[f"{prefix}.{level['module']}".lstrip(".")] = level["num_chs"]
    return levels


def _maps(trained: Trained, inputs: Tensor, of: str) -> tuple[str, dict[str, Map]]:
    """What was done, in words; and maps, (B, h, w), of each class."""
    targets = {name: k for k, name in enumerate(trained.classes) if of in ("", name)}
    layer = feature_layer(trained.model, inputs[:1])
    if layer is None:
        maps = {
            name: _integrated_gradients(trained.model, inputs, k) for name, k in targets.items()
        }
        return (
            f"integrated gradients: {trained.job.model.name} has no convolutional feature layer "
            "for Grad-CAM",
            maps,
        )
    name_of_layer, module = layer
    maps = {name: _grad_cam(trained.model, module, inputs, k) for name, k in targets.items()}
    height, width = next(iter(maps.values())).shape[1:]
    return f"Grad-CAM at layer {name_of_layer}, {height} x {width} pixels", maps


def _grad_cam(network: nn.Module, layer: nn.Module, inputs: Tensor, target: int) -> Map:
    cam = LayerGradCam(Logits(network), layer)
    parts = [
        cam.attribute(part, target=target, relu_attributions=True) for part in inputs.split(_BATCH)
    ]
    return _positive(torch.cat(parts)[:, 0])


def _integrated_gradients(network: nn.Module, inputs: Tensor, target: int) -> Map:
    integral = IntegratedGradients(Logits(network))
    parts = [
        integral.attribute(image, target=target, n_steps=_STEPS, internal_batch_size=_AT_ONCE)
        for image in inputs.split(1)
    ]
    return _positive(torch.cat(parts).sum(1))


def _positive(values: Tensor) -> Map:
    return values.detach().clamp(min=0).cpu().numpy()


@torch.no_grad()
def _outputs(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """All that the network gives, by name."""
    parts = []
    for part in inputs.split(_BATCH):
        outputs = network(part)
        parts.append(outputs if isinstance(outputs, dict) else {"logits": outputs})
    return {name: torch.cat([part[name] for part in parts]).float() for name in parts[0]}


def _fields(outputs: Mapping[str, Tensor]) -> dict[str, Map]:
    """Maps that the network gives beside its logits, (B, H, W), by what they are."""
    fields = {}
    if "deflection" in outputs:  # of lens_pinn
        fields["deflection, modulus"] = outputs["deflection"].norm(dim=1).cpu().numpy()
    if "smooth" in outputs:
        residual = (outputs["image"] - outputs["smooth"]).abs().mean(1)
        fields["what the smooth lens leaves, modulus"] = residual.cpu().numpy()
    return fields


def _choose(root: Path, trained: Trained, ids: Sequence[str], slice_: str) -> list[Split]:
    """The samples asked for, each as a slice of one, as the network sees it."""
    samples = _samples_of_slice(root, slice_) if slice_ else _samples_by_id(root, ids)
    if len(samples) > _MOST:
        raise ShardError(f"explain: {len(samples)} images; a sheet holds {_MOST} at most")
    seen = [trained.as_seen(sample) for sample in samples]
    if not trained.fits(came := seen[0].info.shape):
        raise ShardError(f"{root}: {wrong_shape(came, trained.shape)}")
    return seen


def _samples_of_slice(root: Path, slice_: str) -> list[Split]:
    split = open_split(root, slice_)
    return [split.part(i, i + 1) for i in range(len(split))]


def _samples_by_id(root: Path, ids: Sequence[str]) -> list[Split]:
    samples = {
        id_: Split(info, i, i + 1)
        for info in read_splits(root).values()
        for i, id_ in enumerate(Split(info, 0, len(info)).ids())
    }
    for id_ in ids:
        if id_ not in samples:
            raise ShardError(f"{root}: has no sample '{id_}'; {nearest(id_, samples)}")
    return [samples[id_] for id_ in ids]


def _as_packed(sample: Split, trained: Trained) -> NDArray[np.float32]:
    """One image, (C, H, W), cropped; of expected counts the observation that the network sees."""
    cpu = torch.device("cpu")
    loader = Loader(sample, transform=trained.transform, device=cpu, resident="off")
    return next(loader.decoded([np.arange(1)]))[0].numpy()


def _prepared(sample: Split, trained: Trained, device: torch.device) -> Tensor:
    loader = Loader(sample, transform=trained.transform, device=device, resident="off")
    return next(loader.batches([np.arange(1)]))[0]


def _caption(sample: Split, predicted: str) -> str:
    target = int(sample.targets()[0])
    if target < 0:
        return f"predicted {predicted}"
    return f"true {sample.info.classes[target]}, predicted {predicted}"
