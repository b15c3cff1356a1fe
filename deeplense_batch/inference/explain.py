"""Where a finished network looks: for each class, a map of what speaks for it in an image.

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) weights the channels of the last convolutional
features by the mean gradient of a logit, and keeps what is positive. A network whose last features
are no map, such as a Vision Transformer, gets integrated gradients instead (Sundararajan et al.
2017, arXiv:1703.01365), from the mean image on, summed over the channels; the title says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplense_batch.core.distributed import device_of
from deeplense_batch.core.job import nearest
from deeplense_batch.core.scoring import figures
from deeplense_batch.core.scoring.image_grid import map_sheet
from deeplense_batch.data.augment import central_crop
from deeplense_batch.data.loader import Loader
from deeplense_batch.data.shards import ShardError, Split, open_split, read_splits
from deeplense_batch.inference.trained import Logits, Trained, TrainedError, open_trained

__all__ = ["explain", "feature_layer"]

_MOST = 48  # images on a sheet
_STEPS = 32  # of an integral
_AT_ONCE = 32  # images of a step of an integral
_LEAST_SIDE = 4  # of a feature map: a few pixels tell no place

Map = NDArray[np.float32]


def explain(
    run: Path | str,
    out: Path | str,
    *,
    ids: Sequence[str] = (),
    slice_: str = "",
    of: str = "",
    data: Path | str = "",
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
        device: ``cpu`` or ``cuda``.

    Raises:
        TrainedError: The run is not finished, or there is no such class.
        ShardError: The images are not there, too many, or of another shape.
        FileExistsError: `out` is there already.
    """
    out = Path(out)
    if out.exists() or out.is_symlink():  # be it a link to nothing
        raise FileExistsError(f"{out}: is there already; name another file")
    place = device_of(device)
    trained = open_trained(run)
    if not trained.classifies:
        raise TrainedError(
            f"{trained.run.path}: its task, {trained.job.task.name}, tells no classes apart"
        )
    if of and of not in trained.classes:
        raise TrainedError(f"--of: there is no class '{of}'; {nearest(of, trained.classes)}")
    if not data:
        trained.slice("test")  # raises where other data are in the place of its own
    chosen = _choose(Path(data or trained.job.data.root), trained.shape, ids, slice_)
    trained.model.to(place)
    inputs = torch.cat([_prepared(split, trained, place) for split in chosen])
    answer = _answer(trained.model, inputs)
    way, of_class = _maps(trained, inputs, of)
    scores = answer["logits"].softmax(1).cpu().numpy()
    fields = _fields(answer)
    rows = [
        {
            f"{name}, score {scores[i, trained.classes.index(name)]:.3f}": values[i]
            for name, values in of_class.items()
        }
        | {name: values[i] for name, values in fields.items()}
        for i in range(len(inputs))
    ]
    figure = map_sheet(
        [central_crop(split.images()[0], trained.transform.crop) for split in chosen],
        [
            f"{split.ids()[0]}\n{_says(split, trained.classes[int(score.argmax())])}"
            for split, score in zip(chosen, scores, strict=True)
        ],
        rows,
        f"{trained.run.name}\n{way}",
        common="evidence for the class, of the row's largest",
        own=list(fields),
    )
    figures.save(figure, out)


def feature_layer(network: nn.Module, images: Tensor) -> tuple[str, nn.Module] | None:
    """Find the last convolutional features that the logits come from.

    Arguments:
        network: In evaluation mode.
        images: Prepared, (B, C, H, W).

    Returns:
        Name and module whose output is (B, channels, h, w) with h and w of 4 or more: of the
        levels that a timm backbone lists, or else the last module with such an output. None where
        there is none, or attention comes after it: then a pixel of the map is no place any more.
    """
    channels = _feature_channels(network)
    seen: list[tuple[str, nn.Module, Tensor]] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        if not channels and "attention" in type(module).__name__.lower():
            seen.clear()
        if not isinstance(output, Tensor) or output.ndim != 4 or not output.requires_grad:
            return
        fits = output.shape[1] == channels.get(name) if channels else True
        if fits and min(output.shape[2:]) >= _LEAST_SIDE:
            seen.append((name, module, output))

    def hook(name: str) -> Any:
        return lambda module, inputs, output: look(name, module, output)

    handles = [m.register_forward_hook(hook(name)) for name, m in network.named_modules() if name]
    try:
        logits = Logits(network)(images.detach().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        return None
    outputs = [output for *_, output in seen]
    gradients = torch.autograd.grad(logits.sum(), outputs, allow_unused=True)
    leading = [one[:2] for one, g in zip(seen, gradients, strict=True) if g is not None]
    return leading[-1] if leading else None


def _feature_channels(network: nn.Module) -> dict[str, int]:
    """Channels of the feature levels that timm lists of a backbone in a network, by module."""
    channels = {}
    for prefix, module in network.named_modules():
        levels = getattr(module, "feature_info", None)
        for level in () if levels is None or callable(levels) else levels:  # of blocks a method
            channels[f"{prefix}.{level['module']}".lstrip(".")] = level["num_chs"]
    return channels


def _maps(trained: Trained, inputs: Tensor, of: str) -> tuple[str, dict[str, Map]]:
    """What was done, in words; and maps, (B, h, w), of each class."""
    network = Logits(trained.model)
    targets = [trained.classes.index(of)] if of else range(len(trained.classes))
    found = feature_layer(trained.model, inputs[:1])
    maps: dict[str, Map] = {}
    if found is None:
        integral = IntegratedGradients(network)
        for k in targets:
            parts = [
                integral.attribute(one, target=k, n_steps=_STEPS, internal_batch_size=_AT_ONCE)
                for one in inputs.split(1)
            ]
            maps[trained.classes[k]] = _positive(torch.cat(parts).sum(1))
        return (
            f"integrated gradients: {trained.job.model.name} has no convolutional feature layer "
            "for Grad-CAM",
            maps,
        )
    name, layer = found
    cam = LayerGradCam(network, layer)
    for k in targets:
        parts = [cam.attribute(one, target=k, relu_attributions=True) for one in inputs.split(8)]
        maps[trained.classes[k]] = _positive(torch.cat(parts)[:, 0])
    height, width = next(iter(maps.values())).shape[1:]
    return f"Grad-CAM at layer {name}, {height} x {width} pixels", maps


def _positive(values: Tensor) -> Map:
    return values.detach().clamp(min=0).cpu().numpy()


@torch.no_grad()
def _answer(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """All that the network gives, by name."""
    parts = []
    for some in inputs.split(8):
        answer = network(some)
        parts.append(answer if isinstance(answer, dict) else {"logits": answer})
    return {name: torch.cat([part[name] for part in parts]).float() for name in parts[0]}


def _fields(answer: dict[str, Tensor]) -> dict[str, Map]:
    """Maps that the network gives beside its logits, (B, H, W) by what they are."""
    fields = {}
    if "deflection" in answer:  # of lens_pinn
        fields["deflection, modulus"] = answer["deflection"].norm(dim=1).cpu().numpy()
    if "smooth" in answer:
        left = (answer["image"] - answer["smooth"]).abs().mean(1)
        fields["what the smooth lens leaves, modulus"] = left.cpu().numpy()
    return fields


def _choose(
    root: Path, shape: tuple[int, int, int], ids: Sequence[str], slice_: str
) -> list[Split]:
    """The samples asked for, each as a slice of one."""
    if slice_:
        split = open_split(root, slice_)
        found = [Split(split.info, i, i + 1) for i in range(split.start, split.stop)]
    else:
        places = {
            name: Split(info, i, i + 1)
            for info in read_splits(root).values()
            for i, name in enumerate(Split(info, 0, len(info)).ids())
        }
        for name in ids:
            if name not in places:
                raise ShardError(f"{root}: has no sample '{name}'; {nearest(name, places)}")
        found = [places[name] for name in ids]
    if len(found) > _MOST:
        raise ShardError(f"explain: {len(found)} images; a sheet holds {_MOST} at most")
    if found[0].info.shape != shape:
        came, allowed = (" x ".join(map(str, one)) for one in (found[0].info.shape, shape))
        raise ShardError(f"{root}: has images of {came}, this network takes {allowed}")
    return found


def _prepared(split: Split, trained: Trained, device: torch.device) -> Tensor:
    loader = Loader(split, transform=trained.transform, device=device, resident="off")
    return next(loader.batches([np.arange(1)]))[0]


def _says(split: Split, predicted: str) -> str:
    target = int(split.targets()[0])
    if target < 0:
        return f"predicted {predicted}"
    truth = split.info.classes[target]
    return f"true {truth}, predicted {predicted}"
