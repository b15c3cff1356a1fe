"""A split of a set of shards, and a slice of one: what its files say, and its arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.encoding import COUNTS, Array, decode
from deeplense_batch.data.header import ShardError
from deeplense_batch.data.shard_file import open_shard, reading
from deeplense_batch.data.slices.edges import Groups, groups_of

__all__ = ["Split", "SplitInfo"]


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
    bands: tuple[str, ...] = ()  # of the channels; empty where unknown
    group: str = ""  # column of the catalogue that names groups; empty where none does

    def __len__(self) -> int:
        return sum(self.counts)

    def groups(self) -> Groups | None:
        """Its groups, in packed order; None where it has none."""
        return groups_of(self.files, self.group) if self.group else None


@dataclass(frozen=True)
class Split:
    """A slice of one split: samples `start` to `stop` in packed order, or some of them."""

    info: SplitInfo
    start: int
    stop: int
    #: Of a fold: places from `start` of the samples that it holds, (N,), rising; None: all.
    picked: NDArray[np.int64] | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return self.stop - self.start if self.picked is None else len(self.picked)

    def ids(self) -> list[str]:
        """Names of the samples."""
        with reading(self.info.files[0].parent):
            return [name.decode() for name in self._read("ids").tolist()]

    def targets(self) -> NDArray[np.int64]:
        """Class numbers, (N,) int64; -1 where there is no label.

        Raises:
            ShardError: There are numbers of no class.
        """
        targets: NDArray[np.int64] = self._read("targets").astype(np.int64, copy=False)
        if ((targets < -1) | (targets >= len(self.info.classes))).any():
            raise ShardError(
                f"{self.info.files[0].parent}: split {self.info.name} has class numbers from "
                f"{targets.min()} to {targets.max()}, of {len(self.info.classes)} classes"
            )
        return targets

    def truth(self, name: str) -> NDArray[np.float64]:
        """One truth array, (N, ...) float64.

        Raises:
            ShardError: The split has no such truth.
        """
        return self._read(f"truth/{name}").astype(np.float64, copy=False)

    def truths(self) -> list[str]:
        """Names of the truth arrays."""
        with open_shard(self.info.files[0]) as file, reading(self.info.files[0]):
            return list(file.get("truth", ()))

    def shared_truths(self) -> tuple[dict[str, tuple[int, ...]], dict[str, Path]]:
        """The truths that all files of this slice have, and those that one of them lacks.

        Returns:
            Shape of the numbers of an image, by the name of a truth, such as () and (2,); and a
            file that lacks it, by the name of a truth that another file has.
        """
        found: dict[Path, dict[str, tuple[int, ...]]] = {}
        for path, _, _ in self.parts():
            with open_shard(path) as file, reading(path):
                found[path] = {
                    name: file["truth"][name].shape[1:] for name in file.get("truth", ())
                }
        shapes = {name: shape for own in found.values() for name, shape in own.items()}
        lacking = {
            name: path for path, own in found.items() for name, shape in shapes.items()
            if own.get(name) != shape
        }  # fmt: skip
        return {name: shape for name, shape in shapes.items() if name not in lacking}, lacking

    def columns(self) -> list[str]:
        """Names of the columns of the catalogue, in their order."""
        with open_shard(self.info.files[0]) as file, reading(self.info.files[0]):
            return list(file.get("catalogue", ()))

    def catalogue(self, name: str) -> Array:
        """One column of the catalogue, (N,) int64, float64, or objects that are texts.

        Raises:
            ShardError: The split has no such column.
        """
        values = self._read(f"catalogue/{name}")
        if values.dtype == object:
            return np.array([text.decode() for text in values.tolist()], object)
        return values

    def stored(self) -> tuple[Array, NDArray[np.float64] | None]:
        """Images as they are stored, (N, C, H, W), and their scale, (N, C) float64 or None."""
        return self._read("images"), self.scale()

    def scale(self) -> NDArray[np.float64] | None:
        """Counts of value 1, (N, C) float64; None where no counts are stored."""
        if self.info.stored != COUNTS:
            return None
        scale: NDArray[np.float64] = self._read("scale").astype(np.float64, copy=False)
        if not ((scale > 0) & np.isfinite(scale)).all():
            raise ShardError(f"{self.info.files[0].parent}: 'scale' must be numbers above 0")
        return scale

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
            with open_shard(path) as file, reading(path):
                if name not in file:
                    raise ShardError(f"{path}: has no '{name}'")
                if not done:  # all at once: to join the parts would take twice the memory
                    values = np.empty(
                        (self.stop - self.start, *file[name].shape[1:]), file[name].dtype
                    )
                file[name].read_direct(values, np.s_[lo:hi], np.s_[done : done + hi - lo])
                done += hi - lo
        return values if self.picked is None else values[self.picked]
