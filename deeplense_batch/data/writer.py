"""Write shards: buffered, exact, and under a temporary name until the whole set is there.

`shards` describes the format.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.content import Content, sha256
from deeplense_batch.data.encoding import COUNTS, Array
from deeplense_batch.data.facts import SplitFacts
from deeplense_batch.data.shards import FORMAT, NAME, TEXT, ShardError

__all__ = [
    "ShardWriter",
    "make_folder",
    "refuse_shards",
    "stratified_order",
]


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
    _facts: SplitFacts = field(init=False, repr=False)  # of what is written

    def __post_init__(self) -> None:
        self._facts = SplitFacts(str(self.dtype), list(self.classes))
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
        for path in self._temporary():
            with h5py.File(path, "r+", locking=False) as file:
                file.attrs.update(self._facts.attributes())

    def publish(self) -> None:
        """Finish, then give every file its final name."""
        self.finish()
        paths = self._temporary()
        for i, path in enumerate(paths):
            path.replace(self.root / f"{self.split}-{i:05d}-of-{len(paths):05d}.h5")

    def discard(self) -> None:
        """Remove the temporary files of this split."""
        for path in self.root.glob(f".{self.split}-*.tmp.h5"):
            path.unlink()

    def _temporary(self) -> list[Path]:
        return [self._temporary_name(i) for i in range(len(self._facts.digests))]

    def _temporary_name(self, shard: int) -> Path:
        return self.root / f".{self.split}-{shard:05d}.tmp.h5"

    def _keep(self, arrays: Mapping[str, Array]) -> None:
        """Copy samples into the buffer."""
        first, last = self._buffered, self._buffered + len(arrays["images"])
        for name, values in arrays.items():
            if name not in self._buffer:
                shape = (self.shard_size, *values.shape[1:])
                self._buffer[name] = np.empty(shape, values.dtype)
            self._buffer[name][first:last] = values
        self._buffered = last

    def _write(self) -> None:
        arrays = {name: values[: self._buffered] for name, values in self._buffer.items()}
        own = Content(str(self.dtype), list(self.classes))
        own.add(arrays, self._image_digests)
        self._facts.add(arrays, self._image_digests)
        shard, digest = len(self._facts.digests), own.hexdigest()
        chunks = (1, *self.shape) if self.compression else None
        options = {"compression": self.compression, "shuffle": True, "chunks": chunks}
        with h5py.File(self._temporary_name(shard), "w", locking=False) as file:
            for name, values in arrays.items():
                if name == "images" and self.compression:
                    file.create_dataset(name, data=values, **options)
                else:
                    file.create_dataset(name, data=values, dtype=TEXT if name == "ids" else None)
            file.attrs.update(
                format=FORMAT,
                split=self.split,
                shard=shard,
                classes=np.asarray(list(self.classes), object).astype(TEXT),
                dtype=str(self.dtype),
                pixel_scale=self.pixel_scale,
                source=self.source,
                seed=self.seed,
                digest=digest,
            )
            if self.simulation is not None:
                file.attrs["simulation"] = self.simulation
        self._facts.digests.append(digest)
        self._buffered = 0
        self._image_digests.clear()
