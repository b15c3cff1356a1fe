"""Weights that a network starts from: published ones, fetched once; or those of an earlier run.

A run never goes to the network. ``fetch`` brings published weights, on a machine that has one,
into a folder, ``$DEEPLENSE_WEIGHTS`` or ``weights``: a file ``<name>.safetensors`` for each model,
as timm has it, and ``SHA256SUMS``, which ``sha256sum -c`` reads.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "WeightsError",
    "adapt_mean",
    "backbone",
    "fetch",
    "folder",
    "read",
    "start_from",
    "weights_file",
]

_SUMS = "SHA256SUMS"


class WeightsError(RuntimeError):
    """Weights are not to be had here."""


def folder() -> Path:
    """Where published weights are kept."""
    return Path(os.environ.get("DEEPLENSE_WEIGHTS") or "weights")


def weights_file(name: str, *, verify: bool = False) -> Path:
    """Find the published weights of a model.

    Arguments:
        name: The model.
        verify: Read the file and hold it against its sha256.

    Raises:
        WeightsError: They were not fetched, or the file was changed.
    """
    path = folder() / f"{name}.safetensors"
    known = _sums().get(path.name)
    if known is None or not path.is_file():
        raise WeightsError(
            f"model.pretrained: no weights of '{name}' in {folder()}; 'fetch' brings them where "
            "there is a network, and DEEPLENSE_WEIGHTS names another folder"
        )
    if verify and _sha256(path) != known:
        raise WeightsError(
            f"{path}: is not the file that was fetched (its sha256 is another); fetch it anew"
        )
    return path


def backbone(name: str, *, pretrained: bool, **options: Any) -> Any:
    """Build a timm network, with its published weights from the folder if so asked.

    Raises:
        WeightsError: They were not fetched, or the file was changed.
    """
    import timm

    if pretrained:
        file = str(weights_file(name, verify=True))
        options["pretrained_cfg_overlay"] = {"file": file, "hf_hub_id": None, "url": ""}
    return timm.create_model(name, pretrained=pretrained, **options)


def fetch(name: str) -> Path:
    """Bring the published weights of a model into the folder; nothing, if they are there.

    Raises:
        WeightsError: Nobody has published any, or they cannot be had from here.
    """
    path = folder() / f"{name}.safetensors"
    if path.is_file() and _sums().get(path.name) == _sha256(path):
        return path
    import timm
    from safetensors.torch import save

    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # whatever a download can meet
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"fetch: weights of '{name}' cannot be had from here ({reason})") from (
            error
        )
    folder().mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    # Not `save_file`, which makes a file that nobody else may read.
    temporary.write_bytes(save({k: v.contiguous() for k, v in model.state_dict().items()}))
    sums = _sums() | {path.name: _sha256(temporary)}
    temporary.replace(path)
    lines = "".join(f"{digest}  {file}\n" for file, digest in sorted(sums.items()))
    temporary.write_text(lines)
    temporary.replace(folder() / _SUMS)
    return path


def read(path: Path) -> dict[str, Tensor]:
    """Read the weights of a network: no code in the file is run.

    Arguments:
        path: A run directory (its best weights), a ``.safetensors``, or a ``.pt`` or ``.pth`` with
            a state dictionary, or one under ``model`` or ``state_dict``.

    Raises:
        WeightsError: There are none.
    """
    file = path / "best.pt" if path.is_dir() else path
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        import torch

        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file makes its reader raise anything at all
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"train.init: {path}: no weights can be read ({reason})") from error
    for key in ("model", "state_dict"):
        found = found.get(key, found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not found or not all(map(torch.is_tensor, found.values())):
        raise WeightsError(f"train.init: {path}: holds no state dictionary of a network")
    return found


def start_from(model: nn.Module, path: Path) -> list[str]:
    """Give a network the weights in a file; a classifier of another size keeps its own.

    Arguments:
        model: Is changed.
        path: As `read`.

    Returns:
        Names of the parameters that were left as they are.

    Raises:
        WeightsError: There are none, or they are of another network.
    """
    given, own = read(path), model.state_dict()
    get = getattr(model, "get_classifier", None)
    last = {id(p) for p in get().parameters()} if callable(get) else set()
    head = {name for name, p in model.named_parameters() if id(p) in last}
    left = {n for n in head if n in given and given[n].shape != own[n].shape} | (head - set(given))
    fits = {n for n in own if n in given and given[n].shape == own[n].shape}
    wrong = [n for n in own if n not in fits and n not in left]
    wrong += [n for n in given if n not in own]
    if wrong:
        raise WeightsError(
            f"train.init: {path}: are weights of another network; {len(wrong)} of {len(own)} "
            f"tensors do not fit, {wrong[0]} for one"
        )
    model.load_state_dict({n: v for n, v in given.items() if n not in left}, strict=False)
    return sorted(left)


def adapt_mean(model: nn.Module, first: str, colours: int) -> None:
    """Make the mean over the colours of what timm has summed over them, in the first layer.

    Arguments:
        model: A network for one channel, with weights of one for several.
        first: Name of its first layer.
        colours: How many channels the weights were published for.
    """
    import torch

    with torch.no_grad():
        model.get_parameter(f"{first}.weight").div_(colours)


def _sums() -> dict[str, str]:
    try:
        lines = (folder() / _SUMS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {file: digest for digest, _, file in (line.partition("  ") for line in lines)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
