"""Write shards: buffered, exact, and under a temporary name until the whole set is there.

`shards` describes the format.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.files import sweep
from deeplense_batch.core.rundir import RunBusyError, RunDir, Status
from deeplense_batch.data.digest import ContentHash, Form, SplitStatistics, complete, sha256
from deeplense_batch.data.encoding import COUNTS, Array
from deeplense_batch.data.header import head_room
from deeplense_batch.data.pairs.pair_arrays import PIXELS, PairArrays
from deeplense_batch.data.shard_file import check_room, half_named, writing
from deeplense_batch.data.shards import FORMAT, NAME, TEXT, ShardError

__all__ = [
    "ShardWriter",
    "make_folder",
    "own_folder",
    "refuse_packing",
    "refuse_shards",
    "stratified_order",
    "usual_class",
]


_MUCH = 1 << 12  # numbers of one truth of a sample, such as a long list with room; is compressed


def refuse_shards(root: Path) -> None:
    """Refuse to write over shards; those of a killed packing do not count.

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
    """Make a folder and those above it, and make sure that files can be written there.

    Raises:
        ShardError: They cannot.
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


@contextmanager
def own_folder(root: Path) -> Iterator[None]:
    """Be the only process that packs into a folder, and remove what a killed one left there.

    Raises:
        ShardError: Another process packs there, or a simulation was begun there.
    """
    mark = RunDir(root / ".packing")
    with ExitStack() as stack:
        try:
            mark.path.mkdir(exist_ok=True)
            stack.enter_context(mark.claim())
        except (RunBusyError, FileNotFoundError) as error:  # or the other process has just ended
            raise ShardError(
                f"{root}: another pack is at work there ({error}); wait for it, or name another "
                "folder"
            ) from error
        stack.callback(shutil.rmtree, mark.path, ignore_errors=True)
        mark.write_status(Status(state="running"))
        for name in half_named(root) or ():
            (root / name).unlink(missing_ok=True)
        refuse_simulation(root)
        refuse_shards(root)
        sweep(root)  # not below it, where others may be at work
        yield


def refuse_simulation(root: Path) -> None:
    """Refuse to mix other images into a simulation that was begun.

    Raises:
        ShardError: `root` holds one.
    """
    parts = root / ".parts"
    if (parts / "plan.json").exists():
        raise ShardError(
            f"{root}: a simulation was begun here and is not complete; go on with it, name "
            f"another folder, or remove {parts}"
        )
    shutil.rmtree(parts, ignore_errors=True)  # without a plan it is nothing


def refuse_packing(root: Path) -> None:
    """Refuse to simulate into a folder that is being packed into.

    Raises:
        ShardError: A living process packs into `root`.
    """
    mark = RunDir(root / ".packing")
    if mark.path.is_dir() and mark.held:
        raise ShardError(f"{root}: a pack is at work there; wait for it, or name another folder")


def stratified_order(
    targets: Sequence[int], seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Shuffle once so that every slice of the result has the class shares of the whole.

    Each class is shuffled; its i-th of n samples then gets the position (i + u) / n, u uniform.
    Of groups it is each group whose position is drawn so, among those of its usual class and as
    long as it is; its samples follow each other, shuffled.

    Arguments:
        targets: Class numbers, (N,).
        seed: Seed of the order.
        groups: Group numbers from 0, each of them there, (N,); equal ones stay side by side.

    Returns:
        A permutation of the N sample numbers, (N,) int64.
    """
    random = np.random.default_rng(seed)
    classes = np.asarray(targets, dtype=np.int64)
    if groups is not None:
        return _order_of_groups(classes, groups, random)
    position = np.empty(len(classes))
    for c in np.unique(classes):
        members = np.flatnonzero(classes == c)
        ranks = random.permutation(len(members))
        position[members] = (ranks + random.random(len(members))) / len(members)
    return np.argsort(position, kind="stable")


def usual_class(groups: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most frequent class number of each group, (G,); the least of several.

    Arguments:
        groups: Group numbers from 0, each of them there, (N,).
        targets: Class numbers, (N,).
    """
    pairs, counts = np.unique(np.stack([groups, targets]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    first = np.unique(pairs[0][order], return_index=True)[1]
    return pairs[1][order[first]]


def _order_of_groups(
    targets: NDArray[np.int64], groups: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """The order of `stratified_order` where groups stay whole."""
    sizes, classes = np.bincount(groups), usual_class(groups, targets)
    position = np.empty(len(sizes))
    for c in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == c))
        length = sizes[members]
        before = np.cumsum(length) - length
        position[members] = (before + length * random.random(len(members))) / length.sum()
    return np.lexsort((random.random(len(groups)), groups, position[groups]))


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
    stored: np.dtype  # uint16 (with a scale), uint8 or a float type
    dtype: np.dtype  # of the values before packing
    classes: Sequence[str]
    source: str
    seed: int
    pixel_scale: float = float("nan")
    shard_size: int = 2048
    compression: str | None = None
    simulation: str | None = None  # JSON of what simulated the images
    bands: Sequence[str] = ()  # of the channels, where they are known
    group: str = ""  # column of the catalogue whose values name groups
    sky: float | None = None  # mean counts of the sky in a pixel, beside expected counts
    inputs_dtype: np.dtype | None = None  # of the inputs of pairs before packing; None: no pairs

    _buffer: dict[str, Array] = field(default_factory=dict, repr=False)  # one shard at most
    _buffered: int = 0
    _finished: bool = False
    _image_digests: list[bytes] = field(default_factory=list, repr=False)  # of the buffer
    _form: Form = field(init=False, repr=False)
    _statistics: SplitStatistics = field(init=False, repr=False)  # of what is written

    def __post_init__(self) -> None:
        inputs = None if self.inputs_dtype is None else str(self.inputs_dtype)
        shared = str(self.dtype), list(self.classes), self.pixel_scale
        self._form = Form(*shared, sky=self.sky, inputs_dtype=inputs)
        self._statistics = SplitStatistics(self._form)
        make_folder(self.root)

    def __enter__(self) -> Self:
        self.discard()  # what a killed packing left
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def append(
        self,
        images: Array,
        *,
        targets: Sequence[int] | NDArray[np.int64],
        ids: Sequence[str],
        scale: NDArray[np.float64] | None = None,
        truth: Mapping[str, NDArray[np.float64]] | None = None,
        catalogue: Mapping[str, Array] | None = None,
        digests: Sequence[bytes] | None = None,
        pairs: PairArrays | None = None,
    ) -> None:
        """Add samples in their final order.

        Arguments:
            images: Stored form, (n, C, H, W) of `stored`.
            targets: Class numbers, (n,); -1 where there is no label.
            ids: Stable names, n.
            scale: Counts of value 1, (n, C) float64; with uint16 images only.
            truth: Further quantities by name, each (n, ...) float64.
            catalogue: Columns by name, each (n,) int64, float64, or objects that are texts.
            digests: sha256 of each of `images`, n, where they are known already.
            pairs: What goes with the images of a set of pairs.
        """
        arrays = self._arrays(images, targets, ids, scale, truth or {}, catalogue or {})
        assert (pairs is None) == (self.inputs_dtype is None)
        arrays |= {} if pairs is None else pairs.named(images)
        digests = [sha256(image) for image in images] if digests is None else digests
        first = 0
        while first < len(images):
            last = min(first + self.shard_size - self._buffered, len(images))
            self._keep({name: values[first:last] for name, values in arrays.items()})
            self._image_digests += digests[first:last]
            first = last
            if self._buffered == self.shard_size:
                self._write()

    def _arrays(
        self,
        images: Array,
        targets: Sequence[int] | NDArray[np.int64],
        ids: Sequence[str],
        scale: NDArray[np.float64] | None,
        truth: Mapping[str, NDArray[np.float64]],
        catalogue: Mapping[str, Array],
    ) -> dict[str, Array]:
        """The data sets of some samples by name; arguments as of `append`."""
        assert images.shape[1:] == self.shape and images.dtype == self.stored
        assert (scale is not None) == (self.stored == COUNTS)
        arrays: dict[str, Array] = {
            "images": images,
            "targets": np.asarray(targets, np.int64),
            "ids": np.asarray(ids, object),
        }
        if scale is not None:
            arrays["scale"] = scale.astype(np.float64)
        for name, values in truth.items():
            arrays[f"truth/{name}"] = np.asarray(values, np.float64)
        for name, values in catalogue.items():
            assert values.dtype in (np.int64, np.float64, object) and "/" not in name
            arrays[f"catalogue/{name}"] = values
        assert {len(values) for values in arrays.values()} == {len(images)}
        return arrays

    def finish(self) -> None:
        """Write what is buffered and the attributes that need the whole split."""
        if self._finished:
            return
        self._finished = True
        if self._buffered:
            self._write()
        for i, path in enumerate(self._temporary()):
            complete(path, i, self._statistics)

    def publish(self) -> None:
        """Finish, then give every file its final name."""
        self.finish()
        for path, name in zip(self._temporary(), self.names(), strict=True):
            path.replace(self.root / name)

    def names(self) -> list[str]:
        """The final names of all files that were written."""
        count = len(self._statistics.digests)
        return [f"{self.split}-{i:05d}-of-{count:05d}.h5" for i in range(count)]

    def discard(self) -> None:
        """Remove the temporary files of this split."""
        for path in self.root.glob(f".{self.split}-*.tmp.h5"):
            path.unlink()

    def _temporary(self) -> list[Path]:
        return [self._temporary_name(i) for i in range(len(self._statistics.digests))]

    def _temporary_name(self, shard: int) -> Path:
        return self.root / f".{self.split}-{shard:05d}.tmp.h5"

    def _keep(self, arrays: Mapping[str, Array]) -> None:
        """Copy samples into the buffer."""
        assert not self._buffer or set(self._buffer) == set(arrays)
        first, last = self._buffered, self._buffered + len(arrays["images"])
        for name, values in arrays.items():
            if name not in self._buffer:
                shape = (self.shard_size, *values.shape[1:])
                self._buffer[name] = np.empty(shape, values.dtype)
            self._buffer[name][first:last] = values
        self._buffered = last

    def _write(self) -> None:
        arrays = {name: values[: self._buffered] for name, values in self._buffer.items()}
        own = ContentHash(self._form)
        own.add(arrays, self._image_digests)
        self._statistics.add(arrays, self._image_digests)
        shard, digest = len(self._statistics.digests), own.hexdigest()
        path = self._temporary_name(shard)
        with writing(path):
            self._fill(path, arrays, self._attributes(shard, digest))
        self._statistics.digests.append(digest)
        self._buffered = 0
        self._image_digests.clear()

    def _attributes(self, shard: int, digest: str) -> dict[str, Any]:
        """Those that are known before the whole split is."""
        known = {
            "format": FORMAT,
            "split": self.split,
            "shard": shard,
            "classes": list(self.classes),
            "dtype": str(self.dtype),
            "pixel_scale": float(self.pixel_scale),
            "source": self.source,
            "seed": self.seed,
            "digest": digest,
        }
        if self.bands:
            known["bands"] = list(self.bands)
        if self.group:
            known["group"] = self.group
        if self.sky is not None:
            known["sky"] = self.sky
        if self.inputs_dtype is not None:
            known["inputs_dtype"] = str(self.inputs_dtype)
        return known | ({} if self.simulation is None else {"simulation": self.simulation})

    def _fill(self, path: Path, arrays: Mapping[str, Array], attributes: dict[str, Any]) -> None:
        """Write one file, but for its head and what is only known of the whole split."""
        check_room(path, sum(values.nbytes for values in arrays.values()))
        room = head_room(attributes, self.shape[0])
        packed = {"compression": self.compression, "shuffle": True}
        sparse = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        with h5py.File(path, "w", userblock_size=room, locking=False) as file:
            if any(name.startswith("catalogue/") for name in arrays):
                file.create_group("catalogue", track_order=True)  # columns in the user's order
            for name, values in arrays.items():
                options: dict[str, Any] = packed if name in PIXELS and self.compression else {}
                if name.startswith("truth/") and values[0].size > _MUCH:
                    options = sparse
                options |= {"chunks": (1, *values.shape[1:])} if options else {}
                type_ = TEXT if values.dtype == object else None
                file.create_dataset(name, data=values, dtype=type_, **options)
            texts = {
                key: np.asarray(attributes[key], object).astype(TEXT)
                for key in ("classes", "bands")
                if key in attributes
            }
            file.attrs.update(attributes | texts)
