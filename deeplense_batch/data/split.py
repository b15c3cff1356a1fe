"""A split of a set of shards, and a slice of one: what its files say, and its arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.sections.data import Channels
from deeplense_batch.data.encoding import CLEAN, COUNTS, Array, decode
from deeplense_batch.data.header import ShardError
from deeplense_batch.data.pixels.channels import Choice, choose
from deeplense_batch.data.shard_file import open_shard, reading
from deeplense_batch.data.slices.edges import Groups, groups_of

__all__ = ["Inputs", "Split", "SplitInfo"]


@dataclass(frozen=True)
class Inputs:
    """The images that a network is given in a set of pairs, of which it makes the others."""

    shape: tuple[int, int, int]  # C, h, w
    stored: np.dtype
    dtype: np.dtype  # before packing
    mean: tuple[float, ...]  # (C,), of the whole split
    sd: tuple[float, ...]


@dataclass(frozen=True)
class SplitInfo:
    """One split, as the attributes of its shards describe it; no image is read for it.

    Classes and channels are those that are seen: all that are stored, unless some are renamed
    (`renamed`, `numbered_as`) or chosen (`with_channels`).
    """

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
    #: For each stored class its number in `classes`, -1 where it is none of them; None: as stored.
    numbers: tuple[int, ...] | None = None
    choice: Choice | None = None  # of the stored channels; None: all
    inputs: Inputs | None = None  # of pairs; None: there are none
    has_clean: bool = False  # whether the images are there without their noise too
    array: str = "images"  # data set of the shards that is read; of a pair also inputs, clean
    #: As its shards have it, where classes or channels are seen in another way.
    origin: SplitInfo | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return sum(self.counts)

    def groups(self) -> Groups | None:
        """Its groups, in packed order; None where it has none."""
        return groups_of(self.files, self.group) if self.group else None

    @property
    def ratio(self) -> int:
        """How many pixels of an image lie along one of its input; 1 without pairs."""
        return 1 if self.inputs is None else self.shape[1] // self.inputs.shape[1]

    @property
    def inputs_pixel_scale(self) -> float:
        """Width of a pixel of the inputs, arcsec; NaN where unknown."""
        return self.pixel_scale * self.ratio

    def of(self, array: str) -> SplitInfo:
        """The split with another of the images of its pairs: ``inputs`` or ``clean``.

        Raises:
            ShardError: Its shards have none.
        """
        there = self.has_clean if array == "clean" else self.inputs is not None
        if not there:
            raise ShardError(f"{self.files[0].parent}: split {self.name} has no '{array}'")
        origin = None if self.origin is None else self.origin.of(array)
        if array == "clean" or self.inputs is None:
            return replace(self, array=array, stored=CLEAN, dtype=CLEAN, origin=origin)
        mean, sd = self.inputs.mean, self.inputs.sd
        if self.choice is not None:
            mean, sd = self.choice.moments(mean, sd)
        return replace(
            self,
            array=array,
            shape=(self.shape[0], *self.inputs.shape[1:]),
            stored=self.inputs.stored,
            dtype=self.inputs.dtype,
            mean=mean,
            sd=sd,
            pixel_scale=self.inputs_pixel_scale,
            origin=origin,
        )

    @property
    def as_stored(self) -> SplitInfo:
        """The split with the classes and channels that its shards have."""
        return self.origin or self

    def renamed(self, names: Mapping[str, str]) -> SplitInfo:
        """The split with other names of classes; those that get one name are one class."""
        if not names.keys() & set(self.classes):
            return self
        new = [names.get(name, name) for name in self.classes]
        return self._with_classes(tuple(dict.fromkeys(new)), new)

    def numbered_as(self, classes: Sequence[str]) -> SplitInfo:
        """The split with the numbers of these classes; an image of another class has no label."""
        same = tuple(classes) == self.classes
        return self if same else self._with_classes(tuple(classes), self.classes)

    def with_channels(self, channels: Channels) -> SplitInfo:
        """The split with some of its channels, or their mean (`data.channels`).

        Raises:
            ShardError: A channel is not there.
        """
        return self.with_choice(choose(channels, self.shape[0], self.bands))

    def with_choice(self, choice: Choice | None) -> SplitInfo:
        """The split with chosen ones of the stored channels; None keeps it as it is."""
        if choice is None:
            return self
        assert self.choice is None, "channels are chosen once, among those that are stored"
        mean, sd = choice.moments(self.mean, self.sd)
        return replace(
            self,
            shape=(len(choice), *self.shape[1:]),
            mean=mean,
            sd=sd,
            bands=choice.bands(self.bands),
            choice=choice,
            origin=self.as_stored,
        )

    def _with_classes(self, classes: tuple[str, ...], new: Sequence[str]) -> SplitInfo:
        """The split with other classes, of which each present one has a new name."""
        now = [classes.index(name) if name in classes else -1 for name in new]
        counts = [0] * len(classes)
        for number, count in zip(now, self.class_counts, strict=True):
            if number >= 0:
                counts[number] += count
        stored = range(len(self.classes)) if self.numbers is None else self.numbers
        numbers = tuple(now[number] if number >= 0 else -1 for number in stored)
        return replace(
            self,
            classes=classes,
            class_counts=tuple(counts),
            numbers=numbers,
            origin=self.as_stored,
        )


@dataclass(frozen=True)
class Split:
    """A slice of one split: samples `start` to `stop` in packed order, or some of them."""

    info: SplitInfo
    start: int
    stop: int
    #: Of a fold: places from `start` of the samples that it holds, (N,), rising; None: all.
    picked: NDArray[np.int64] | None = field(default=None, compare=False)

    @property
    def as_stored(self) -> Split:
        """The same samples with the classes and channels that the shards have."""
        return replace(self, info=self.info.as_stored)

    def of(self, array: str) -> Split:
        """The same samples of pairs, of another of their images: ``inputs`` or ``clean``.

        Raises:
            ShardError: There are none.
        """
        return replace(self, info=self.info.of(array))

    def __len__(self) -> int:
        return self.stop - self.start if self.picked is None else len(self.picked)

    @property
    def places(self) -> NDArray[np.int64]:
        """Where its samples are in the packed order of the split, (N,), rising."""
        if self.picked is None:
            return np.arange(self.start, self.stop)
        return self.start + self.picked

    def part(self, first: int, stop: int) -> Split:
        """Some samples of it, from the first to that before `stop`; fewer where it has fewer."""
        if self.picked is None:
            return replace(self, start=self.start + first, stop=min(self.start + stop, self.stop))
        some = self.places[first:stop]
        start = int(some[0])  # so that no more of the files is read than these need
        return Split(self.info, start, int(some[-1]) + 1, picked=some - start)

    def ids(self) -> list[str]:
        """Names of the samples."""
        with reading(self.info.files[0].parent):
            return [name.decode() for name in self._read("ids").tolist()]

    def targets(self) -> NDArray[np.int64]:
        """Class numbers, (N,) int64; -1 where there is no label, or none of `info.classes`.

        Raises:
            ShardError: There are numbers of no class.
        """
        targets: NDArray[np.int64] = self._read("targets").astype(np.int64, copy=False)
        numbers = self.info.numbers
        classes = len(self.info.classes if numbers is None else numbers)
        if ((targets < -1) | (targets >= classes)).any():
            raise ShardError(
                f"{self.info.files[0].parent}: split {self.info.name} has class numbers from "
                f"{targets.min()} to {targets.max()}, of {classes} classes"
            )
        return targets if numbers is None else np.array([*numbers, -1], np.int64)[targets]

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
        """Images as they are stored, (N, C, H, W), and their scale, (N, C) float64 or None.

        Of the chosen channels; of those that are averaged into one, all.
        """
        return self._chosen(self._read(self.info.array)), self.scale()

    def scale(self) -> NDArray[np.float64] | None:
        """Counts of value 1, (N, C) float64, as `stored`; None where no counts are stored."""
        if self.info.stored != COUNTS:
            return None
        name = "scale" if self.info.array == "images" else f"{self.info.array}_scale"
        scale: NDArray[np.float64] = self._read(name).astype(np.float64, copy=False)
        if not ((scale > 0) & np.isfinite(scale)).all():
            raise ShardError(f"{self.info.files[0].parent}: '{name}' must be numbers above 0")
        return self._chosen(scale)

    def images(self) -> Array:
        """Images with the values they had before packing, (N, C, H, W) of `info.dtype`.

        Means of channels are floats.
        """
        images = decode(*self.stored(), self.info.dtype)
        choice = self.info.choice
        return images.mean(1, keepdims=True) if choice and choice.averaged else images

    def parts(self) -> Iterator[tuple[Path, int, int]]:
        """The files that hold this slice, in order, and from where to where in each it lies."""
        first = 0
        for path, count in zip(self.info.files, self.info.counts, strict=True):
            lo, hi = max(self.start - first, 0), min(self.stop - first, count)
            first += count
            if lo < hi:
                yield path, lo, hi

    def _chosen(self, values: Array) -> Array:
        """The chosen channels of values of all, (N, C, ...)."""
        choice = self.info.choice
        if choice is None or choice.keeps_order(values.shape[1]):
            return values
        return values[:, list(choice.places)]

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
