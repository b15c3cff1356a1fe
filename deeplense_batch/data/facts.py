"""What is true of a whole split and stands in each of its files; and files read again for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.content import Content, sha256
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.shards import ShardError

__all__ = ["DamagedError", "SplitFacts", "describe_split", "file_digest"]

_BLOCK = 256  # images in memory while a file is read again


class SplitFacts:
    """Counts, moments and digests of a split, from its samples.

    Arguments:
        dtype: Type of the values before packing.
        classes: Class names.
    """

    def __init__(self, dtype: str, classes: list[str]) -> None:
        self.digests: list[str] = []  # of the files
        self._samples = 0
        self._pixels = 0  # of a channel, over all samples
        self._class_counts = np.zeros(len(classes), np.int64)
        self._moments: NDArray[np.float64] | float = 0.0  # (2, C): sums of values, of squares
        self._content = Content(dtype, classes)

    def add(self, arrays: Mapping[str, Array], digests: Sequence[bytes]) -> None:
        """Count samples: the data sets of a shard by name, and the digests of the images."""
        self._content.add(arrays, digests)
        labelled = arrays["targets"][arrays["targets"] >= 0].astype(np.int64)
        self._class_counts += np.bincount(labelled, minlength=len(self._class_counts))
        self._moments = self._moments + _moments(arrays)
        self._samples += len(arrays["images"])
        self._pixels += len(arrays["images"]) * arrays["images"][0, 0].size

    def attributes(self) -> dict[str, Any]:
        """Attributes of a file."""
        sums, squares = np.asarray(self._moments) / max(self._pixels, 1)
        return {
            "shards": len(self.digests),
            "samples": self._samples,
            "class_counts": self._class_counts,
            "mean": sums,
            "sd": np.sqrt(np.maximum(squares - sums**2, 0.0)),
            "digests": np.asarray(self.digests, object),
            "content": self._content.hexdigest(),
        }


def file_digest(path: Path) -> str:
    """Read a shard and name its content, which its attribute ``digest`` does as well.

    Raises:
        ShardError: The file cannot be read.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            content = Content(*_form_of(file))
            for arrays, digests in _read_again(file):
                content.add(arrays, digests)
            return content.hexdigest()
    except Exception as error:  # a broken file makes its reader raise anything at all
        raise ShardError(f"{path}: cannot be read as a shard ({error})") from error


class DamagedError(ShardError):
    """A shard is not what was written into it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: was damaged after it was made ({reason})")
        self.path = path


def describe_split(
    paths: Sequence[Path], *, simulation: str | None, each: Callable[[], None]
) -> None:
    """Write what is true of a whole split into each of its files, in order.

    They are read again, and held against their digests; a file that says it already is let alone.

    Arguments:
        paths: The files.
        simulation: The attribute of that name that all should have.
        each: Called after each file.

    Raises:
        DamagedError: A file cannot be read, or is not what was written.
        ShardError: A file was made by another simulation.
    """
    whole: SplitFacts | None = None
    for path in paths:
        try:
            with h5py.File(path, "r", locking=False) as file:
                said = file.attrs.get("simulation")
                own = Content(*_form_of(file))
                whole = whole or SplitFacts(*_form_of(file))
                for arrays, digests in _read_again(file):
                    own.add(arrays, digests)
                    whole.add(arrays, digests)
                digest = str(file.attrs["digest"])
        except Exception as error:  # a broken file makes its reader raise anything at all
            raise DamagedError(path, " ".join(str(error).split())) from error
        if own.hexdigest() != digest:
            raise DamagedError(path, "its content has another digest")
        if said != simulation:
            raise ShardError(f"{path}: was made by another simulation; remove it")
        whole.digests.append(digest)
        each()
    assert whole is not None
    for i, path in enumerate(paths):
        with h5py.File(path, "r", locking=False) as file:
            described = file.attrs["shards"] == len(paths) and file.attrs["shard"] == i
            described &= [str(d) for d in file.attrs["digests"]] == whole.digests
        if not described:
            with h5py.File(path, "r+", locking=False) as file:
                file.attrs.update(whole.attributes(), shard=i)


def _form_of(file: h5py.File) -> tuple[str, list[str]]:
    """Value type and class names of an open shard."""
    return str(file.attrs["dtype"]), file.attrs["classes"].tolist()


def _read_again(file: h5py.File) -> Iterator[tuple[dict[str, Array], list[bytes]]]:
    """All arrays of an open shard, a few images at a time, and the digests of the images."""
    names = [name for name in file if name != "truth"]
    names += [f"truth/{name}" for name in file.get("truth", ())]
    for first in range(0, len(file["targets"]), _BLOCK):
        part = slice(first, first + _BLOCK)
        arrays = {name: file[name][part] for name in names}
        arrays["ids"] = np.array([id_.decode() for id_ in arrays["ids"]], object)
        yield arrays, [sha256(image) for image in arrays["images"]]


def _moments(arrays: Mapping[str, Array]) -> NDArray[np.float64]:
    """Sums of the decoded values and of their squares, (2, C)."""
    scale = arrays.get("scale")
    sums = np.zeros((2, arrays["images"].shape[1]))
    for i, image in enumerate(arrays["images"]):
        for c, values in enumerate(image.astype(np.float64).reshape(len(image), -1)):
            one = 1.0 if scale is None else scale[i, c]
            # Not `values @ values`: BLAS takes cores for it that the readers need.
            square = np.einsum("i,i", values, values)
            sums[:, c] += values.sum() / one, square / one**2
    return sums
