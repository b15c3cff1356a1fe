"""Write shards: buffered, exact, and under a temporary name until the whole set is there.

`shards` describes the format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.encoding import COUNTS, Array
from deeplense_batch.data.shards import FORMAT, NAME, TEXT, ShardError

__all__ = ["ShardWriter", "refuse_shards", "stratified_order"]


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

    _buffer: dict[str, list[Array]] = field(default_factory=dict, repr=False)
    _buffered: int = 0
    _counts: list[int] = field(default_factory=list, repr=False)
    _digests: list[str] = field(default_factory=list, repr=False)
    _class_counts: NDArray[np.int64] = field(init=False, repr=False)
    _moments: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._class_counts = np.zeros(len(self.classes), np.int64)
        self._moments = np.zeros((2, self.shape[0]))
        self.root.mkdir(parents=True, exist_ok=True)

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
    ) -> None:
        """Add samples in their final order.

        Arguments:
            images: Stored form, (n, C, H, W) of `stored`.
            targets: Class numbers, (n,); -1 where there is no label.
            ids: Stable names, n.
            scale: Counts of value 1, (n, C) float64; with uint16 images only.
            truth: Further quantities by name, each (n, ...) float64.
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
        for name, values in arrays.items():
            self._buffer.setdefault(name, []).append(values)
        self._buffered += len(images)
        while self._buffered >= self.shard_size:
            self._write(self.shard_size)

    def finish(self) -> None:
        """Write what is buffered and the attributes that need the whole split."""
        if self._buffered:
            self._write(self._buffered)
        samples = sum(self._counts)
        pixels = max(samples * self.shape[1] * self.shape[2], 1)
        mean = self._moments[0] / pixels
        sd = np.sqrt(np.maximum(self._moments[1] / pixels - mean**2, 0.0))
        for path in self._temporary():
            with h5py.File(path, "r+") as file:
                file.attrs.update(
                    shards=len(self._counts),
                    samples=samples,
                    class_counts=self._class_counts,
                    mean=mean,
                    sd=sd,
                    digests=np.asarray(self._digests, object),
                )

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

    def _take(self, count: int) -> dict[str, Array]:
        """Remove the first `count` samples from the buffer."""
        taken = {}
        for name, parts in self._buffer.items():
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            taken[name] = whole[:count]
            self._buffer[name] = [whole[count:]] if len(whole) > count else []
        self._buffered -= count
        return taken

    def _write(self, count: int) -> None:
        arrays = self._take(count)
        digest = _digest(arrays, self.classes, self.dtype)
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
        self._counts.append(count)
        self._digests.append(digest)
        self._tally(arrays)

    def _tally(self, arrays: Mapping[str, Array]) -> None:
        labelled = arrays["targets"][arrays["targets"] >= 0].astype(np.int64)
        self._class_counts += np.bincount(labelled, minlength=len(self.classes))
        scale = arrays.get("scale")
        for i, image in enumerate(arrays["images"]):
            values = image.astype(np.float64)
            if scale is not None:
                values /= scale[i, :, None, None]
            self._moments[0] += values.sum((1, 2))
            self._moments[1] += np.einsum("chw,chw->c", values, values)


def _digest(arrays: Mapping[str, Array], classes: Sequence[str], dtype: np.dtype) -> str:
    """sha256 of the value type, the class names, and name, type, shape and bytes of each array."""
    digest = hashlib.sha256(f"{dtype} {list(classes)}\n".encode())
    for name in sorted(arrays):
        values = arrays[name]
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        text = values.dtype == object
        data = "\n".join(values.tolist()).encode() if text else np.ascontiguousarray(values).data
        digest.update(data)
    return digest.hexdigest()
