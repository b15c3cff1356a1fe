"""A finished run for other programs: weights as safetensors and JSON, the network as ONNX, a card.

They hold the network alone, without what its task has beside it for training; it takes images that
are prepared as the card says, and an ONNX file may prepare them too.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from deeplense_batch.data.augment import central_crop
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError
from deeplense_batch.inference.model_card import card
from deeplense_batch.inference.trained import Logits, Trained, TrainedError, open_trained
from deeplense_batch.tasks.extended import Extended, answering
from deeplense_batch.tasks.generation import Generation
from deeplense_batch.tasks.masked import Masked
from deeplense_batch.tasks.restoration import Restoration

__all__ = ["FORMATS", "ExtraError", "export", "read_json_weights"]

FORMATS = ("safetensors", "json", "onnx", "all")

_OPSET = 18
_TOLERANCE = 1e-4  # of a logit, between torch and onnxruntime
_CHECKED = 5  # images of that comparison; not the size that the network was traced with
_TRACED = 2
_JSON_BYTES = (21, 29)  # a parameter, as found in published files

_log = logging.getLogger(__name__)


class ExtraError(TrainedError):
    """Packages of an extra are not installed."""


def export(
    run: Path | str,
    out: Path | str,
    *,
    format_: str = "all",
    schema: str = "described",
    prepares: bool = False,
) -> list[Path]:
    """Write a folder with the best weights of a run, and a card that says how to use them.

    Arguments:
        run: Run directory.
        out: Folder that is made.
        format_: ``safetensors``, ``json``, ``onnx`` or ``all``, which for a run that makes
            images, or has a flow, is without ``onnx``.
        schema: Of the JSON: ``described``, or ``bare`` (`read_json_weights`).
        prepares: Whether the ONNX file takes images as they are in the data, and prepares them.

    Returns:
        The files.

    Raises:
        TrainedError: The run is not finished, its network cannot be written, or `prepares` is
            for another format.
        ExtraError: ONNX is asked for and its packages are not installed.
        FileExistsError: `out` is there already.
    """
    out = Path(out)
    if os.path.lexists(out):  # also a link to nothing
        raise FileExistsError(f"{out}: is there already; name another folder")
    wanted = [kind for kind in FORMATS[:3] if format_ in (kind, "all")]
    if prepares and "onnx" not in wanted:
        raise TrainedError(f"--prepares: is for an ONNX file, got --format {format_}")
    trained = open_trained(run)
    if "onnx" in wanted and (cause := _no_onnx(trained)):
        fault = f"{run}: {cause}"
        if format_ == "onnx":
            raise TrainedError(f"{fault}; expected --format safetensors or json")
        wanted.remove("onnx")
        _log.warning("%s: model.onnx is left out", fault)
    if "onnx" in wanted:
        _need_onnx()
    if "json" in wanted:
        size = [n * trained.metrics["cost"]["parameters"] / 1e6 for n in _JSON_BYTES]
        _log.info("weights.json will have about %.1f to %.1f MB", *size)
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    writers: dict[str, Callable[[], str]] = {
        "safetensors": lambda: _safetensors(trained, temporary / "weights.safetensors"),
        "json": lambda: _json(trained, temporary / "weights.json", schema),
        "onnx": lambda: _onnx(trained, temporary / "model.onnx", prepares),
    }
    try:
        files = {}
        for kind in wanted:
            try:
                name, text = writers[kind]().split(": ", 1)
            except _NoOnnxError as error:
                if format_ != "all":
                    raise
                _log.warning("%s; model.onnx is left out", error)
            else:
                files[name] = text
        (temporary / "README.md").write_text(card(trained, files), encoding="utf-8")
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(out.iterdir())


def read_json_weights(path: Path | str) -> dict[str, Tensor]:
    """Read weights written as JSON, in either of two schemas.

    ::

        bare        {"conv1.weight": [[[[0.1, ...], ...], ...], ...], ...}
        described   {"conv1.weight": {"data": [...], "shape": [16, 1, 3, 3], "dtype": "float32"}}

    Returns:
        Tensors by name. Bare numbers are float32, or int64 where all of a tensor are whole.

    Raises:
        ValueError: The file is no such JSON.
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object of tensors by name")
    return {name: _tensor(f"{path}: {name}", value) for name, value in content.items()}


def _no_onnx(trained: Trained) -> str:
    """Why a network cannot be an ONNX file; empty where it can."""
    if isinstance(trained.task, Restoration):
        return "its network restores images, and an ONNX file gives logits"
    if isinstance(trained.task, Generation):
        return "its network draws images in many steps, and an ONNX file takes one"
    if isinstance(trained.task, Masked):
        return "its network restores hidden patches, and answers nothing for an image"
    if isinstance(answering(trained.model), Extended):
        return "its task has parts beside the network, and an ONNX file holds a network alone"
    return ""


def _tensor(name: str, value: Any) -> Tensor:
    try:
        if isinstance(value, Mapping):
            array = np.asarray(value["data"], dtype=np.dtype(value["dtype"]))
            return torch.from_numpy(array.reshape(value["shape"]))
        array = np.asarray(value)
        whole = array.dtype.kind == "i"
        return torch.from_numpy(array.astype(np.int64 if whole else np.float32))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: expected nested lists, or data, shape and dtype ({error})"
        ) from error


def _safetensors(trained: Trained, path: Path) -> str:
    own = answering(trained.model).state_dict()
    tensors = {name: v.clone().contiguous() for name, v in own.items()}
    about = {
        "model": trained.job.model.name,
        "classes": json.dumps(trained.classes),
        "identity": str(trained.metrics["identity"]),
        **({"bands": json.dumps(trained.bands)} if trained.bands else {}),
    }
    path.write_bytes(save(tensors, about))  # `save_file` makes a file that nobody else may read
    return f"{path.name}: weights by name; `safetensors.torch.load_file` reads them"


def _json(trained: Trained, path: Path, schema: str) -> str:
    with path.open("w", encoding="utf-8") as file:  # tensor by tensor: the text is large
        for i, (name, tensor) in enumerate(answering(trained.model).state_dict().items()):
            if not torch.isfinite(tensor).all():
                raise TrainedError(f"{trained.run.path}: {name} is not finite; JSON cannot say so")
            value: Any = tensor.tolist()
            if schema == "described":
                dtype = str(tensor.dtype).removeprefix("torch.")
                value = {"data": value, "shape": list(tensor.shape), "dtype": dtype}
            file.write(f"{',' if i else '{'}\n{json.dumps(name)}: {json.dumps(value)}")
        file.write("\n}\n")
    return (
        f"{path.name}: the same as text, exact, schema `{schema}`; "
        "`deeplense_batch.inference.export.read_json_weights` reads it"
    )


def _need_onnx() -> None:
    missing = [
        name
        for name in ("onnx", "onnxscript", "onnxruntime")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ExtraError(
            f"--format onnx: needs {', '.join(missing)}: pip install 'deeplense-batch[export]', "
            "or choose --format safetensors or json"
        )


class _NoOnnxError(TrainedError):
    """A network does what ONNX has no operation for."""


class _Preparing(nn.Module):
    """A network behind all that is done to images, (B, C, H, W) as they are in the data."""

    def __init__(self, transform: Transform, network: nn.Module) -> None:
        super().__init__()
        self.transform, self.network = transform, network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.transform(central_crop(images, self.transform.crop)))


def _onnx(trained: Trained, path: Path, prepares: bool) -> str:
    """Write the network as ONNX, and compare its logits with torch's."""
    network: nn.Module = Logits(answering(trained.model))
    if prepares:
        network = _Preparing(trained.transform, network)
    network.eval()
    images, kind = _samples(trained, prepared=not prepares)
    try:
        programme = torch.onnx.export(
            network,
            (images[:_TRACED],),
            dynamo=True,
            dynamic_shapes=({0: "batch"},),
            opset_version=_OPSET,
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:  # whose text is a page, its first cause a line
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[:160]
        raise _NoOnnxError(
            f"{trained.run.path}: its network cannot be written as ONNX ({reason}); "
            "--format safetensors or json takes any network"
        ) from error
    assert programme is not None
    programme.save(str(path))
    off = _difference(network, path, images)
    if not off <= _TOLERANCE:
        raise TrainedError(
            f"{trained.run.path}: its network as ONNX is off by {off:.2g} of a logit, allowed "
            f"is {_TOLERANCE:g}; --format safetensors or json is exact"
        )
    outputs = trained.task.spec.num_outputs
    takes = ", ".join(map(str, trained.shape if prepares else trained.input_shape))
    what = "preparation and network, of images as in the data" if prepares else "the network"
    return (
        f"{path.name}: {what}, ONNX opset {_OPSET}; input `images` (batch, {takes}) "
        f"float32{trained.about_channels}; output `logits` (batch, {outputs}); in onnxruntime off "
        f"by {off:.1g} at most on {counted(len(images), f'{kind} image')}"
    )


def _difference(network: nn.Module, path: Path, images: Tensor) -> float:
    """The largest difference of a logit between onnxruntime and torch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    with torch.no_grad():
        expected = network(images).numpy()
    return float(np.abs(logits - expected).max())


def _samples(trained: Trained, *, prepared: bool) -> tuple[Tensor, str]:
    """Images to try a network on: of the validation slice if it is here, else random."""
    try:
        few = trained.slice("valid").part(0, _CHECKED)
        if len(few) < _CHECKED:
            raise ShardError(counted(len(few), "image"))
        how = trained.transform
        if not prepared:  # as packed; of expected counts as observed
            how = Transform(None, None, "linear", photons=how.photons)
        loader = Loader(few, transform=how, device=torch.device("cpu"))
        images, *_ = next(loader.batches([np.arange(_CHECKED)]))
        return images, "validation"
    except ShardError:
        generator = torch.Generator().manual_seed(0)
        shape = trained.input_shape if prepared else trained.shape
        return torch.randn(_CHECKED, *shape, generator=generator), "random"
