"""Weights that a network starts from: published ones, fetched once; or those of an earlier run.

A run never goes to the network. ``fetch`` brings published weights, on a machine that has one,
into a folder, ``$DEEPLENSE_WEIGHTS`` or ``weights``: a file ``<name>.safetensors`` for each model,
as timm has it, and ``SHA256SUMS``, which ``sha256sum -c`` reads.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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

_log = logging.getLogger(__name__)

_SUMS = "SHA256SUMS"
_USUAL_NAMES = (
    "model",
    "model_state_dict",
    "state_dict",
    "net",
    "network",
    "params",
    "weights",
    "ema",
)
_DEEPEST = 8  # levels of dictionaries
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


class WeightsError(RuntimeError):
    """Weights are missing, damaged, or of another network."""

    exit_code = 4


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
        WeightsError: None are published, or they cannot be downloaded from here.
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
        raise WeightsError(
            f"fetch: weights of '{name}' cannot be downloaded from here ({reason})"
        ) from error
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


def read(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read the state dictionaries in a file: no code in it is run.

    Arguments:
        path: A run directory (its best weights), a ``.safetensors``, or what `torch.save` wrote: a
            state dictionary, or any nest of dictionaries that holds some.

    Returns:
        Each by where it lies (``model``, ``state_dict``, ``checkpoint.ema``), those that are most
        likely meant first.

    Raises:
        WeightsError: There are none.
    """
    try:
        content = _read(path)
    except Exception as error:  # a foreign file makes its reader raise anything at all
        reason = " ".join(str(error).split()) or type(error).__name__
        if "weights_only" in reason or "Unsupported" in reason:
            reason = (
                "it holds other Python objects than tensors, which could run code; save its "
                "state_dict() alone"
            )
        raise WeightsError(
            f"train.init: {path}: no weights can be read ({reason[:200]})"
        ) from error
    states = dict(sorted(_states(content), key=lambda pair: _likeliness(pair[0])))
    if not states:
        raise WeightsError(f"train.init: {path}: holds no state dictionary of a network")
    return states


def _read(path: Path) -> Any:
    """What a run directory or a file holds."""
    file = path / "best.pt" if path.is_dir() else path
    _check_start(file)
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    if path.is_dir():
        from deeplense_batch.models import checkpoint

        return checkpoint.load(file)  # what this program wrote has checksums
    import torch

    return torch.load(file, map_location="cpu", weights_only=True)


def _check_start(file: Path) -> None:
    """Refuse what neither `torch.save` nor safetensors wrote, such as the page of an error."""
    with file.open("rb") as stream:
        start = stream.read(64)
    if not start:
        raise ValueError("is an empty file")
    if start.startswith(b"\x89HDF"):
        raise ValueError("is HDF5, as Keras writes it")
    if start.isascii() and start.decode().replace("\n", " ").isprintable():
        raise ValueError(f"is a text, not weights: {start[:24].decode()!r}...")


def start_from(model: nn.Module, path: Path) -> list[str]:
    """Give a network the weights in a file; a classifier of another size keeps its own.

    Prefixes of the names (``module.``, ``_orig_mod.``, ``model.backbone.``) are recognised.

    Arguments:
        model: Is changed.
        path: As `read`.

    Returns:
        Names of the parameters that were left as they are.

    Raises:
        WeightsError: There are none, or they are of another network.
    """
    own = model.state_dict()
    get = getattr(model, "get_classifier", None)
    last = {id(p) for p in get().parameters()} if callable(get) else set()
    head = {name for name, p in model.named_parameters() if id(p) in last}
    matches = {name: _match(state, own, head) for name, state in read(path).items()}
    best = min(matches.values(), key=lambda match: len(match.wrong))
    fitting = [name for name, match in matches.items() if not match.wrong]
    if len(fitting) > 1:
        _log.warning(
            "%s holds %s, which all fit: %s is taken", path, ", ".join(fitting), fitting[0]
        )
    if best.wrong:
        raise WeightsError(
            f"train.init: {path}: are weights of another network; {best.faults(own)}"
        )
    model.load_state_dict(best.fits, strict=False)
    return sorted(head - set(best.fits))


@dataclass(frozen=True)
class _Match:
    """A state dictionary beside that of a network, by the network's names."""

    fits: dict[str, Tensor]
    missing: list[str]
    reshaped: dict[str, tuple[int, ...]]  # what came
    unknown: list[str]

    @property
    def wrong(self) -> list[str]:
        return [*self.missing, *self.reshaped, *self.unknown]

    def faults(self, own: Mapping[str, Tensor]) -> str:
        """What does not fit, in words."""
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} of its {len(own)} tensors are missing"
                         f" ({_some(self.missing)})")  # fmt: skip
        if self.reshaped:
            name, shape = next(iter(self.reshaped.items()))
            parts.append(
                f"{len(self.reshaped)} have another shape ({name}: {tuple(shape)}, expected "
                f"{tuple(own[name].shape)})"
            )
        if self.unknown:
            parts.append(f"{len(self.unknown)} are unknown to it ({_some(self.unknown)})")
        return "; ".join(parts)


def _match(given: Mapping[str, Tensor], own: Mapping[str, Tensor], head: set[str]) -> _Match:
    """Put weights beside those of a network, under the prefix by which most names are alike."""
    plain = {_unwrapped(name, own): value for name, value in given.items()}
    votes = Counter(
        prefix for name in plain for prefix in _prefixes(name) if name[len(prefix) :] in own
    )
    added = Counter(
        mine[: -len(name)] for name in plain for mine in own if mine.endswith(f".{name}")
    ) if not votes else Counter()  # fmt: skip
    prefix = max(votes, key=lambda p: (votes[p], -len(p)), default="")
    add = max(added, key=lambda p: (added[p], -len(p)), default="")
    # What lies beside the network, such as a loss with weights of its own, is left alone.
    named = {add + n.removeprefix(prefix): v for n, v in plain.items() if n.startswith(prefix)}
    parts = {name.rpartition(".")[0] + "." for name in head}
    fits = {n: v for n, v in named.items() if n in own and v.shape == own[n].shape}
    reshaped = {
        n: tuple(v.shape) for n, v in named.items()
        if n in own and n not in fits and n not in head
    }  # fmt: skip
    optional = ("num_batches_tracked",)  # which files of old versions lack
    missing = [n for n in own if n not in named and n not in head and not n.endswith(optional)]
    unknown = [n for n in named if n not in own and not n.startswith(tuple(parts))]
    return _Match(fits, missing, reshaped, unknown)


def _unwrapped(name: str, own: Mapping[str, Tensor]) -> str:
    """A name without what compiling and sharding put into the middle of it."""
    if name in own:
        return name
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    return ".".join([*parts[:1], *(part for part in parts[1:] if part != "module")])


def _prefixes(name: str) -> Iterator[str]:
    """Every start of a dotted name, the empty one too."""
    yield ""
    for index, letter in enumerate(name):
        if letter == ".":
            yield name[: index + 1]


def _states(content: Any, path: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary of named tensors in a nest of dictionaries, with its dotted path."""
    import torch

    if not isinstance(content, dict) or path.count(".") > _DEEPEST:
        return
    tensors = {n: v for n, v in content.items() if isinstance(n, str) and torch.is_tensor(v)}
    if tensors and any(value.ndim for value in tensors.values()):
        yield path, tensors
    for name, inner in content.items():
        if isinstance(name, str):
            yield from _states(inner, f"{path}.{name}".lstrip("."))


def _likeliness(path: str) -> int:
    """How likely a path is meant, low first: the trained network before its moving average."""
    return next(
        (i for i, name in enumerate(_USUAL_NAMES) if name in path.split(".")), len(_USUAL_NAMES)
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)


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
