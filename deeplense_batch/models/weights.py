"""Published weights, fetched once into a folder.

A run never goes to the network. ``fetch`` brings published weights, on a machine that has one,
into a folder, ``$DEEPLENSE_WEIGHTS`` or ``weights``: a file ``<name>.safetensors`` for each model,
as timm has it, and ``SHA256SUMS``, which ``sha256sum -c`` reads. Of a model on the Hugging Face
hub, ``hf_hub:owner/name``, they are ``owner--name.safetensors`` and ``owner--name.json``, which
says what network that is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Architecture",
    "WeightsError",
    "adapt_mean",
    "architecture",
    "backbone",
    "fetch",
    "folder",
    "is_hub_name",
    "weights_file",
]

_SUMS = "SHA256SUMS"
# What timm's description says of the file on the hub, and not of the one that is made of it.
_OF_THE_SOURCE = ("source", "hf_hub_id", "hf_hub_filename", "custom_load", "label_offset")
_HUB_NAME = re.compile(r"hf[_-]hub:([\w.-]+)/([\w.-]+)(?:@([\w.-]+))?", re.ASCII)


class WeightsError(RuntimeError):
    """Weights are missing, damaged, or of another network."""

    exit_code = 4


@dataclass(frozen=True)
class Architecture:
    """What timm builds under the name of a model."""

    name: str  # timm's
    options: Mapping[str, Any]  # keyword arguments that it was published with
    published: Any  # timm's description of the published weights, where it has one


def folder() -> Path:
    """Where published weights are kept."""
    return Path(os.environ.get("DEEPLENSE_WEIGHTS") or "weights")


def is_hub_name(name: str) -> bool:
    """Whether a model is named as on the hub, ``hf_hub:owner/name`` or ``...@revision``."""
    return _HUB_NAME.fullmatch(name) is not None


def weights_file(name: str, *, verify: bool = False) -> Path:
    """Find the published weights of a model.

    Arguments:
        name: The model.
        verify: Read the file and hold it against its sha256.

    Raises:
        WeightsError: They were not fetched, or the file was changed.
    """
    return _fetched(name, ".safetensors", "model.pretrained: no weights of", verify=verify)


def architecture(name: str) -> Architecture:
    """What network a name stands for: one that timm knows, or one on the hub that was fetched.

    Raises:
        WeightsError: It is on the hub and was not fetched, or its file was changed.
    """
    import timm
    from timm.models import PretrainedCfg

    if not is_hub_name(name):
        return Architecture(name, {}, timm.get_pretrained_cfg(name))
    path = _fetched(name, ".json", "model.name: nothing is known of", verify=True)
    known = json.loads(path.read_text(encoding="utf-8"))
    published = PretrainedCfg(**known["pretrained_cfg"])
    return Architecture(known["architecture"], known["model_args"], published)


def backbone(name: str, *, pretrained: bool, **options: Any) -> Any:
    """Build a timm network, with its published weights from the folder if so asked.

    Raises:
        WeightsError: They were not fetched, or the file was changed.
    """
    import timm

    built = architecture(name)
    if is_hub_name(name):
        options = {**built.options, **options, "pretrained_cfg": built.published}
    if pretrained:
        file = str(weights_file(name, verify=True))
        options["pretrained_cfg_overlay"] = {"file": file, "hf_hub_id": None, "url": ""}
    return timm.create_model(built.name, pretrained=pretrained, **options)


def fetch(name: str) -> Path:
    """Bring the published weights of a model into the folder; nothing, if they are there.

    Raises:
        WeightsError: None are published, or they cannot be downloaded from here.
    """
    suffixes = (".safetensors", ".json") if is_hub_name(name) else (".safetensors",)
    paths = [folder() / (_stem(name) + suffix) for suffix in suffixes]
    if all(path.is_file() and _sums().get(path.name) == _sha256(path) for path in paths):
        return paths[0]
    try:
        contents = _downloaded(name)
    except Exception as error:  # whatever a download can meet
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"fetch: weights of '{name}' cannot be downloaded from here ({reason})"
        ) from error
    folder().mkdir(parents=True, exist_ok=True)
    for path, content in zip(paths, contents, strict=True):
        _write(path, content)
    return paths[0]


def _downloaded(name: str) -> list[bytes]:
    """A model's weights as a file, and of one on the hub what network it is."""
    import timm
    from safetensors.torch import save
    from timm.models import load_model_config_from_hf

    known: dict[str, Any] = {}
    if is_hub_name(name):
        name = name.replace("hf_hub:", "hf-hub:")  # as every version of timm has it
        try:
            published, of_timm, options = load_model_config_from_hf(name.partition(":")[2])
        except KeyError as error:
            raise ValueError(f"its config.json is not timm's, it has no {error}") from error
        published = {k: v for k, v in published.items() if k not in _OF_THE_SOURCE}
        known = {"architecture": of_timm, "model_args": options, "pretrained_cfg": published}
    model = timm.create_model(name, pretrained=True)
    # Not `save_file`, which makes a file that nobody else may read.
    weights = save({k: v.contiguous() for k, v in model.state_dict().items()})
    return [weights, json.dumps(known, indent=1).encode()] if known else [weights]


def _write(path: Path, content: bytes) -> None:
    """Put a file into the folder, and its sha256 into the list."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    sums = _sums() | {path.name: _sha256(temporary)}
    temporary.replace(path)
    lines = "".join(f"{digest}  {file}\n" for file, digest in sorted(sums.items()))
    temporary.write_text(lines)
    temporary.replace(folder() / _SUMS)


def _fetched(name: str, suffix: str, lacking: str, *, verify: bool) -> Path:
    """A file of a model in the folder.

    Arguments:
        name: The model.
        suffix: Of the file.
        lacking: Begins the sentence where it was not fetched.
        verify: Read the file and hold it against its sha256.
    """
    path = folder() / (_stem(name) + suffix)
    known = _sums().get(path.name)
    if known is None or not path.is_file():
        raise WeightsError(
            f"{lacking} '{name}' in {folder()}; 'fetch' brings what is published where there is "
            "a network, and DEEPLENSE_WEIGHTS names another folder"
        )
    if verify and _sha256(path) != known:
        raise WeightsError(
            f"{path}: is not the file that was fetched (its sha256 is another); fetch it anew"
        )
    return path


def _stem(name: str) -> str:
    """The name of a model's files, but for the ending."""
    if found := _HUB_NAME.fullmatch(name):
        owner, model, revision = found.groups()
        return f"{owner}--{model}" + (f"@{revision}" if revision else "")
    return name


def adapt_mean(model: nn.Module, cfg: Any) -> None:
    """Make the mean over the colours of what timm has summed over them, in the first layer.

    Arguments:
        model: A network for one channel, with weights of one for several.
        cfg: timm's description of the published weights, which names the layer and the colours.
    """
    import torch

    first = cfg.first_conv if isinstance(cfg.first_conv, str) else cfg.first_conv[0]
    with torch.no_grad():
        model.get_parameter(f"{first}.weight").div_(cfg.input_size[0])


def _sums() -> dict[str, str]:
    try:
        lines = (folder() / _SUMS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {file: digest for digest, _, file in (line.partition("  ") for line in lines)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
