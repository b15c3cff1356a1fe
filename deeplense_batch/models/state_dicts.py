"""State dictionaries in files that anyone wrote, read without running code.

`torch.load(weights_only=True)` refuses a checkpoint that holds other Python objects beside the
weights, as those of Lightning and of most training scripts do: options, paths, NumPy numbers.
Here each of their classes is given an empty stand-in, so that the tensors can be read and nothing
of the file is imported, called or kept.
"""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deeplense_batch.models.weights import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read", "some"]

_log = logging.getLogger(__name__)

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
_OBJECTS = (
    "it holds other Python objects than tensors, which could run code; save its state_dict() alone"
)


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
        content, objects = _read(path)
    except Exception as error:  # a foreign file makes its reader raise anything at all
        reason = " ".join(str(error).split()) or type(error).__name__
        if "weights_only" in reason or "Unsupported" in reason:
            reason = _OBJECTS
        raise WeightsError(
            f"train.init: {path}: no weights can be read ({reason[:200]})"
        ) from error
    states = dict(sorted(_states(content), key=lambda pair: _likeliness(pair[0])))
    if not states:
        instead = f", but objects of {some(objects)}; save its state_dict() alone" * bool(objects)
        raise WeightsError(f"train.init: {path}: holds no state dictionary of a network{instead}")
    if objects:
        _log.info("%s: objects of %s in it are not read", path, some(objects))
    return states


def _read(path: Path) -> tuple[Any, list[str]]:
    """What a run directory or a file holds, and the classes of objects that were not read."""
    file = path / "best.pt" if path.is_dir() else path
    _check_start(file)
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file), []
    if path.is_dir():
        from deeplense_batch.models import checkpoint

        return checkpoint.load(file), []  # what this program wrote has checksums
    import torch
    from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

    objects = []
    if zipfile.is_zipfile(file):  # of torch before 1.6 it is not known what they hold
        objects = sorted(get_unsafe_globals_in_checkpoint(str(file)))
    try:
        with safe_globals([(_stand_in(name), name) for name in objects]):
            return torch.load(file, map_location="cpu", weights_only=True), objects
    except (pickle.UnpicklingError, TypeError, ValueError, AttributeError) as error:
        if not objects:
            raise
        raise ValueError(_OBJECTS) from error


class _Object:
    """Stands for an object whose state is a tuple."""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


class _Mapping:
    """Stands for any other object: torch fills an ordered dictionary with whatever it holds."""

    def __new__(cls, *_: object) -> Any:
        return OrderedDict()


def _stand_in(name: str) -> type:
    return _Object if name.startswith(("numpy.", "functools.")) else _Mapping


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


def some(names: Sequence[str]) -> str:
    """The first of some names, in words."""
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)
