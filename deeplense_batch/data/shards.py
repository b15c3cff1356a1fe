"""The shard format: images in HDF5, exact, self-describing, one writer, never appended.

A data set is a folder of files ``<split>-<i>-of-<n>.h5`` (five digits each, i from 0), such as
``train-00003-of-00012.h5``. Format 1 of a file:

=================  ==================  ==========================================================
data set           shape, type         meaning
=================  ==================  ==========================================================
``images``         (N, C, H, W)        uint16 counts, or floats; contiguous unless compressed
``scale``          (N, C) float64      counts of value 1; only beside uint16. value = count / scale
``targets``        (N,) int64          class number, or -1 where there is no label
``ids``            (N,) UTF-8 text     stable name of the sample, from its source path
``truth/<name>``   (N, ...) float64    optional: mass, Einstein radius, ... one array a quantity
=================  ==================  ==========================================================

============================  ===================================================================
attribute                     meaning
============================  ===================================================================
``format``                    1
``split``                     name of the split
``shard``, ``shards``         number of this file, and how many the split has
``samples``                   samples of the whole split
``classes``                   class names in the order of their numbers, (K,) text, may be empty
``class_counts``              samples of the whole split in each class, (K,) int64
``dtype``                     type of the values before packing ("float64"), which decoding gives
``mean``, ``sd``              of the decoded values of the whole split, (C,) float64
``pixel_scale``               arcsec per pixel, NaN where unknown
``source``, ``seed``          what the images come from, and the seed of their order
``simulation``                optional: what simulated the images, JSON: kind, all laws, whether
                              they are ``unphysical`` and by which ``slips``
``digest``                    sha256 of the content of this file (see `content`)
``digests``                   the digests of all files of the split, (shards,) text
``content``                   sha256 of the content of the whole split, the same however the split
                              is cut into files; `data_digest` names a set by it
============================  ===================================================================

Images are stored as small as is exact: uint16 with a scale where the values are integer counts
divided by a constant (`encoding`), floats otherwise. The order of samples is fixed when they are
packed: shuffled once, classes interleaved, so that a slice of a split (``train[:10%]``) is a fair,
stratified sample and still one contiguous read.

Files are written under a temporary name (``.<split>-<i>.tmp.h5``) and renamed when the whole set
is complete. They are opened with ``locking=False``: they never change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.encoding import COUNTS, Array, decode

__all__ = [
    "FORMAT",
    "NAME",
    "TEXT",
    "ShardError",
    "Split",
    "SplitInfo",
    "data_digest",
    "open_shard",
    "open_split",
    "read_splits",
]

FORMAT = 1

NAME = re.compile(r"^(?P<split>\w+)-(?P<shard>\d{5})-of-(?P<shards>\d{5})\.h5$")
_SLICE = re.compile(r"^(?P<split>\w+)(?:\[(?P<start>\d+%?)?:(?P<stop>\d+%?)?\])?$")
TEXT = h5py.string_dtype()


class ShardError(ValueError):
    """Shards, or the files they are made from, are not what was asked for."""


@dataclass(frozen=True)
class SplitInfo:
    """One split, as the attributes of its shards describe it; no image is read for it."""

    name: str
    files: tuple[Path, ...]
    counts: tuple[int, ...]  # samples in each file
    shape: tuple[int, int, int]  # C, H, W
    stored: np.dtype
    dtype: np.dtype
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    pixel_scale: float
    source: str
    seed: int
    digests: tuple[str, ...]
    content: str

    def __len__(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Split:
    """A slice of one split: samples `start` to `stop` in packed order."""

    info: SplitInfo
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def ids(self) -> list[str]:
        """Names of the samples."""
        return [name.decode() for name in self._read("ids").tolist()]

    def targets(self) -> NDArray[np.int64]:
        """Class numbers, (N,) int64; -1 where there is no label."""
        return self._read("targets").astype(np.int64, copy=False)

    def truth(self, name: str) -> NDArray[np.float64]:
        """One truth array, (N, ...) float64.

        Raises:
            ShardError: The split has no such truth.
        """
        return self._read(f"truth/{name}").astype(np.float64, copy=False)

    def truths(self) -> list[str]:
        """Names of the truth arrays."""
        with open_shard(self.info.files[0]) as file:
            return list(file.get("truth", ()))

    def stored(self) -> tuple[Array, NDArray[np.float64] | None]:
        """Images as they are stored, (N, C, H, W), and their scale, (N, C) float64 or None."""
        return self._read("images"), self.scale()

    def scale(self) -> NDArray[np.float64] | None:
        """Counts of value 1, (N, C) float64; None where no counts are stored."""
        if self.info.stored != COUNTS:
            return None
        return self._read("scale").astype(np.float64, copy=False)

    def images(self) -> Array:
        """Images with the values they had before packing, (N, C, H, W) of `info.dtype`."""
        return decode(*self.stored(), self.info.dtype)

    def parts(self) -> Iterator[tuple[Path, int, int]]:
        """The files that hold this slice, in order, and from where to where in each it lies."""
        first = 0
        for path, count in zip(self.info.files, self.info.counts, strict=True):
            lo, hi = max(self.start - first, 0), min(self.stop - first, count)
            first += count
            if lo < hi:
                yield path, lo, hi

    def _read(self, name: str) -> Array:
        values, done = np.empty(0), 0
        for path, lo, hi in self.parts():
            with open_shard(path) as file:
                if name not in file:
                    raise ShardError(f"{path}: has no '{name}'")
                if not done:  # all at once: to join the parts would take twice the memory
                    values = np.empty((len(self), *file[name].shape[1:]), file[name].dtype)
                file[name].read_direct(values, np.s_[lo:hi], np.s_[done : done + hi - lo])
                done += hi - lo
        return values


def read_splits(root: Path | str) -> dict[str, SplitInfo]:
    """Describe every split of a data set.

    Raises:
        ShardError: There is no such folder, it holds no shards, a shard of a split is missing,
            cannot be read, or is of another format or another packing.
    """
    root = Path(root)
    if not root.is_dir():
        raise ShardError(
            f"{root}: no such folder of shards; make one with 'pack SOURCE {root}' or "
            f"'simulate substructure {root}'"
        )
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(root.iterdir()):
        if match := NAME.match(path.name):
            key = f"{match['split']}-of-{match['shards']}"
            found.setdefault(key, {})[int(match["shard"])] = path
    if not found:
        raise ShardError(f"{root}: holds no shards, files such as train-00000-of-00001.h5")
    infos: dict[str, SplitInfo] = {}
    for key, files in found.items():
        split, _, shards = key.partition("-of-")
        missing = set(range(int(shards))) - set(files)
        if missing:
            name = f"{split}-{min(missing):05d}-of-{shards}.h5"
            raise ShardError(
                f"{root}: split {split} has {len(files)} of {int(shards)} shards; "
                f"{name} is missing"
            )
        if split in infos:
            raise ShardError(f"{root}: split {split} is there twice, in two packings")
        infos[split] = _describe([files[i] for i in sorted(files)])
    return infos


def open_split(
    root: Path | str, slice_: str, splits: Mapping[str, SplitInfo] | None = None
) -> Split:
    """Open a split or a slice of one.

    Arguments:
        root: Folder of shards.
        slice_: ``train``, ``train[:10%]``, ``val[50%:]`` or ``train[100:200]``.
        splits: Those of the folder, where they have been read.

    Raises:
        ShardError: As `read_splits`; or no such split, a malformed or an empty slice.
    """
    match = _SLICE.match(slice_)
    if not match:
        raise ShardError(
            f"{root}: '{slice_}' is not a split or a slice of one, such as train, val[:50%] "
            "or train[0:1000]"
        )
    splits = read_splits(root) if splits is None else splits
    if match["split"] not in splits:
        raise ShardError(
            f"{root}: has no split '{match['split']}' (asked as '{slice_}'); "
            f"it has {', '.join(splits)}"
        )
    info = splits[match["split"]]
    for edge in (match["start"], match["stop"]):
        if edge and edge.endswith("%") and int(edge[:-1]) > 100:
            raise ShardError(f"{root}: '{slice_}' goes to {edge}; percentages end at 100%")
    start = _position(match["start"] or "0", len(info))
    stop = _position(match["stop"] or "100%", len(info))
    if start >= stop:
        raise ShardError(f"{root}: '{slice_}' holds none of the {len(info)} samples of the split")
    return Split(info, start, stop)


def data_digest(root: Path | str) -> str:
    """Name the content of a whole data set: 16 hex digits.

    Where it lies, the size of its files and their compression change nothing.
    """
    digest = hashlib.sha256()
    for name, info in sorted(read_splits(root).items()):
        digest.update(f"{name}:{info.content}\n".encode())
    return digest.hexdigest()[:16]


def open_shard(path: Path) -> h5py.File:
    """Open one file to read.

    Raises:
        ShardError: It is not there, or no HDF5.
    """
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise ShardError(f"{path}: cannot be read as HDF5 ({error})") from error


def _describe(files: Sequence[Path]) -> SplitInfo:
    counts: list[int] = []
    first: dict[str, Any] = {}
    for i, path in enumerate(files):
        with open_shard(path) as file:
            attributes = dict(file.attrs)
            if attributes.get("format") != FORMAT:
                raise ShardError(
                    f"{path}: shard format {attributes.get('format')}, this version reads {FORMAT}"
                )
            if "content" not in attributes:
                raise ShardError(f"{path}: has no attribute 'content'; make these shards anew")
            counts.append(len(file["targets"]))
            if not first:
                first = attributes | {
                    "shape": file["images"].shape[1:],
                    "stored": file["images"].dtype,
                }
        if attributes["digest"] != _texts(first["digests"])[i]:
            raise ShardError(f"{path}: belongs to another packing than {files[0].name}")
    return SplitInfo(
        name=str(first["split"]),
        files=tuple(files),
        counts=tuple(counts),
        shape=tuple(first["shape"]),
        stored=first["stored"],
        dtype=np.dtype(first["dtype"]),
        classes=_texts(first["classes"]),
        class_counts=tuple(int(n) for n in first["class_counts"]),
        mean=tuple(float(v) for v in first["mean"]),
        sd=tuple(float(v) for v in first["sd"]),
        pixel_scale=float(first["pixel_scale"]),
        source=str(first["source"]),
        seed=int(first["seed"]),
        digests=_texts(first["digests"]),
        content=str(first["content"]),
    )


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(v.decode() if isinstance(v, bytes) else str(v) for v in values)


def _position(text: str, samples: int) -> int:
    if text.endswith("%"):
        return samples * int(text[:-1]) // 100
    return min(int(text), samples)
