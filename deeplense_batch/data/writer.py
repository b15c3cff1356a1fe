"""Write shards: buffered, exact, and under a temporary name until the whole set is there.

`shards` describes the format.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.content import Content, sha256
from deeplense_batch.data.encoding import COUNTS, Array
from deeplense_batch.data.shards import FORMAT, NAME, TEXT, ShardError

__all__ = [
    "DamagedError",
    "ShardWriter",
    "describe_split",
    "file_digest",
    "make_folder",
    "refuse_shards",
    "stratified_order",
]

_BLOCK = 256  # images in memory while a file is read again


def refuse_shards(root: Path) -> None:
    """Shards are never written over.

    Raises:
        ShardError: `root` holds shards already, or is a file.
    """
    if root.exists() and not root.is_dir():
        raise ShardError(f"{root}: is a file; shards need a folder")
    if root.is_dir() and any(NAME.match(path.name) for path in root.iterdir()):
        raise ShardError(
            f"{root}: holds shards already, and they are never written over; "
            "name another folder or remove this one"
        )


def make_folder(root: Path) -> None:
    """Make a folder and those above it, and prove that files can be written there.

    Raises:
        ShardError: That cannot be.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise ShardError(
            f"{root}: no shards can be written there ({error.strerror or error}); "
            "name a folder that can be made and written to"
        ) from error


def file_digest(path: Path) -> str:
    """Read a shard and name its content, which its attribute ``digest`` does as well.

    Raises:
        ShardError: The file cannot be read.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            content = _content_of(file)
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
    whole = _SplitFacts()
    for path in paths:
        try:
            with h5py.File(path, "r", locking=False) as file:
                said = file.attrs.get("simulation")
                own = _content_of(file)
                for arrays, digests in _read_again(file):
                    own.add(arrays, digests)
                    whole.add(file, arrays, digests)
                digest = str(file.attrs["digest"])
        except Exception as error:  # a broken file makes its reader raise anything at all
            raise DamagedError(path, " ".join(str(error).split())) from error
        if own.hexdigest() != digest:
            raise DamagedError(path, "its content has another digest")
        if said != simulation:
            raise ShardError(f"{path}: was made by another simulation; remove it")
        whole.digests.append(digest)
        each()
    for i, path in enumerate(paths):
        with h5py.File(path, "r", locking=False) as file:
            described = file.attrs["shards"] == len(paths) and file.attrs["shard"] == i
            described &= [str(d) for d in file.attrs["digests"]] == whole.digests
        if not described:
            with h5py.File(path, "r+") as file:
                file.attrs.update(whole.attributes(), shard=i)


@dataclass
class _SplitFacts:
    """What is true of a whole split and stands in each of its files."""

    digests: list[str] = field(default_factory=list)  # of its files
    samples: int = 0
    pixels: int = 0  # of a channel, over all samples
    class_counts: NDArray[np.int64] | int = 0  # (K,)
    moments: NDArray[np.float64] | float = 0.0  # (2, C): sums of values and of their squares
    content: Content | None = None

    def add(self, file: h5py.File, arrays: Mapping[str, Array], digests: list[bytes]) -> None:
        """Count samples of an open shard."""
        self.content = self.content or _content_of(file)
        self.content.add(arrays, digests)
        labelled = arrays["targets"][arrays["targets"] >= 0]
        classes = len(file.attrs["classes"])
        self.class_counts = self.class_counts + np.bincount(labelled, minlength=classes)
        self.moments = self.moments + _moments(arrays)
        self.samples += len(arrays["images"])
        self.pixels += len(arrays["images"]) * arrays["images"][0, 0].size

    def attributes(self) -> dict[str, Any]:
        """Attributes of a file."""
        assert self.content is not None
        sums, squares = np.asarray(self.moments) / max(self.pixels, 1)
        return {
            "shards": len(self.digests),
            "samples": self.samples,
            "class_counts": self.class_counts,
            "mean": sums,
            "sd": np.sqrt(np.maximum(squares - sums**2, 0.0)),
            "digests": np.asarray(self.digests, object),
            "content": self.content.hexdigest(),
        }


def _content_of(file: h5py.File) -> Content:
    """An empty digest for samples like those of an open shard."""
    return Content(str(file.attrs["dtype"]), file.attrs["classes"].tolist())


def _read_again(file: h5py.File) -> Iterator[tuple[dict[str, Array], list[bytes]]]:
    """All arrays of an open shard, a few images at a time, and the digests of the images."""
    names = [name for name in file if name != "truth"]
    names += [f"truth/{name}" for name in file.get("truth", ())]
    for first in range(0, len(file["targets"]), _BLOCK):
        part = slice(first, first + _BLOCK)
        arrays = {name: file[name][part] for name in names}
        arrays["ids"] = np.array([id_.decode() for id_ in arrays["ids"]], object)
        yield arrays, [sha256(image) for image in arrays["images"]]


def stratified_order(targets: Sequence[int], seed: int) -> NDArray[np.int64]:
    """Shuffle once so that every slice of the result has the class shares of the whole.

    Each class is shuffled; its i-th of n samples then stands at the place (i + u) / n, u uniform.

    Arguments:
        targets: Class numbers, (N,).
        seed: Seed of the order.

    Returns:
        A permutation of the N sample numbers, (N,) int64.
    """
    random = np.random.default_rng(seed)
    classes = np.asarray(targets, dtype=np.int64)
    place = np.empty(len(classes))
    for c in np.unique(classes):
        members = np.flatnonzero(classes == c)
        ranks = random.permutation(len(members))
        place[members] = (ranks + random.random(len(members))) / len(members)
    return np.argsort(place, kind="stable")


@dataclass
class ShardWriter:
    """Write one split; nothing carries its final name before `publish`.

    Used as a context manager: leaving it without `publish` removes what was written.

    ``` python
    with ShardWriter(root, split="train", classes=("no", "sphere"), ...) as writer:
        writer.append(images, targets=targets, ids=ids, scale=scale)
        writer.publish()
    ```
    """

    root: Path
    split: str
    shape: tuple[int, int, int]  # C, H, W
    stored: np.dtype  # uint16 (with a scale) or a float type
    dtype: np.dtype  # of the values before packing
    classes: Sequence[str]
    source: str
    seed: int
    pixel_scale: float = float("nan")
    shard_size: int = 2048
    compression: str | None = None
    simulation: str | None = None  # JSON of what simulated the images

    _buffer: dict[str, Array] = field(default_factory=dict, repr=False)  # one shard at most
    _buffered: int = 0
    _finished: bool = False
    _image_digests: list[bytes] = field(default_factory=list, repr=False)  # of the buffer
    _content: Content = field(init=False, repr=False)  # of the whole split
    _counts: list[int] = field(default_factory=list, repr=False)
    _digests: list[str] = field(default_factory=list, repr=False)
    _class_counts: NDArray[np.int64] = field(init=False, repr=False)
    _moments: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._class_counts = np.zeros(len(self.classes), np.int64)
        self._moments = np.zeros((2, self.shape[0]))
        self._content = self._no_content()
        make_folder(self.root)

    def __enter__(self) -> Self:
        self.discard()  # what a killed packing left
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    def append(
        self,
        images: Array,
        *,
        targets: Sequence[int] | NDArray[np.int64],
        ids: Sequence[str],
        scale: NDArray[np.float64] | None = None,
        truth: Mapping[str, NDArray[np.float64]] | None = None,
        digests: Sequence[bytes] | None = None,
    ) -> None:
        """Add samples in their final order.

        Arguments:
            images: Stored form, (n, C, H, W) of `stored`.
            targets: Class numbers, (n,); -1 where there is no label.
            ids: Stable names, n.
            scale: Counts of value 1, (n, C) float64; with uint16 images only.
            truth: Further quantities by name, each (n, ...) float64.
            digests: sha256 of each of `images`, n, where they are known already.
        """
        assert images.shape[1:] == self.shape and images.dtype == self.stored
        assert (scale is not None) == (self.stored == COUNTS)
        arrays: dict[str, Array] = {
            "images": images,
            "targets": np.asarray(targets, np.int64),
            "ids": np.asarray(ids, object),
        }
        if scale is not None:
            arrays["scale"] = scale.astype(np.float64)
        for name, values in (truth or {}).items():
            arrays[f"truth/{name}"] = np.asarray(values, np.float64)
        assert {len(values) for values in arrays.values()} == {len(images)}
        assert not self._buffer or set(self._buffer) == set(arrays)
        digests = [sha256(image) for image in images] if digests is None else digests
        first = 0
        while first < len(images):
            last = min(first + self.shard_size - self._buffered, len(images))
            self._keep({name: values[first:last] for name, values in arrays.items()})
            self._image_digests += digests[first:last]
            first = last
            if self._buffered == self.shard_size:
                self._write()

    def finish(self) -> None:
        """Write what is buffered and the attributes that need the whole split."""
        if self._finished:
            return
        self._finished = True
        if self._buffered:
            self._write()
        samples = sum(self._counts)
        whole = _SplitFacts(
            digests=self._digests,
            samples=samples,
            pixels=samples * self.shape[1] * self.shape[2],
            class_counts=self._class_counts,
            moments=self._moments,
            content=self._content,
        )
        for path in self._temporary():
            with h5py.File(path, "r+") as file:
                file.attrs.update(whole.attributes())

    def publish(self) -> None:
        """Finish, then give every file its final name."""
        self.finish()
        for i, path in enumerate(self._temporary()):
            path.replace(self.root / f"{self.split}-{i:05d}-of-{len(self._counts):05d}.h5")

    def discard(self) -> None:
        """Remove the temporary files of this split."""
        for path in self.root.glob(f".{self.split}-*.tmp.h5"):
            path.unlink()

    def _temporary(self) -> list[Path]:
        return [self._temporary_name(i) for i in range(len(self._counts))]

    def _temporary_name(self, shard: int) -> Path:
        return self.root / f".{self.split}-{shard:05d}.tmp.h5"

    def _keep(self, arrays: Mapping[str, Array]) -> None:
        """Copy samples into the buffer, and count them on the way."""
        first, last = self._buffered, self._buffered + len(arrays["images"])
        for name, values in arrays.items():
            if name not in self._buffer:
                shape = (self.shard_size, *values.shape[1:])
                self._buffer[name] = np.empty(shape, values.dtype)
            self._buffer[name][first:last] = values
        self._buffered = last
        self._tally(arrays)

    def _write(self) -> None:
        arrays = {name: values[: self._buffered] for name, values in self._buffer.items()}
        content = self._no_content()
        for each in (content, self._content):
            each.add(arrays, self._image_digests)
        digest = content.hexdigest()
        chunks = (1, *self.shape) if self.compression else None
        options = {"compression": self.compression, "shuffle": True, "chunks": chunks}
        with h5py.File(self._temporary_name(len(self._counts)), "w") as file:
            for name, values in arrays.items():
                if name == "images" and self.compression:
                    file.create_dataset(name, data=values, **options)
                else:
                    file.create_dataset(name, data=values, dtype=TEXT if name == "ids" else None)
            file.attrs.update(
                format=FORMAT,
                split=self.split,
                shard=len(self._counts),
                classes=np.asarray(list(self.classes), object).astype(TEXT),
                dtype=str(self.dtype),
                pixel_scale=self.pixel_scale,
                source=self.source,
                seed=self.seed,
                digest=digest,
            )
            if self.simulation is not None:
                file.attrs["simulation"] = self.simulation
        self._counts.append(self._buffered)
        self._digests.append(digest)
        self._buffered = 0
        self._image_digests.clear()

    def _no_content(self) -> Content:
        return Content(str(self.dtype), list(self.classes))

    def _tally(self, arrays: Mapping[str, Array]) -> None:
        labelled = arrays["targets"][arrays["targets"] >= 0].astype(np.int64)
        self._class_counts += np.bincount(labelled, minlength=len(self.classes))
        self._moments += _moments(arrays)


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
