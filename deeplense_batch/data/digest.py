"""The digest of a shard or of a whole split: computed, written into files, and verified."""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import h5py
import numpy as np

from deeplense_batch.core.machine import cores
from deeplense_batch.core.pieces import DamagedPieceError
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.header import FORMAT, Description, packing_of, write_head
from deeplense_batch.data.pixels.moments import Moments, Sums, sums_of
from deeplense_batch.data.shard_file import (
    array_names,
    check_room,
    describe_file,
    fields_of,
    open_shard,
    reading,
    writing,
)
from deeplense_batch.data.shards import ShardError, SplitInfo

__all__ = [
    "ContentHash",
    "Form",
    "SplitStatistics",
    "complete",
    "describe_split",
    "file_digest",
    "form_of",
    "read_again",
    "sha256",
    "verify",
]

_BLOCK = 256  # images in memory while a file is read again
_MOST_THREADS = 8

_PAIRED = ("inputs", "clean")
_BY_SAMPLE = ("images", *_PAIRED)  # arrays of which each sample is hashed by itself

T = TypeVar("T")
U = TypeVar("U")


def sha256(values: Array) -> bytes:
    """Digest of the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(values).data).digest()


class Form(NamedTuple):
    """What all samples of a split share, and what changes what is learnt from them."""

    dtype: str  # of the values before packing
    classes: Sequence[str]
    pixel_scale: float | None  # arcsec, None or NaN where unknown
    format: int = 2  # of the shard
    inputs_dtype: str | None = None  # of the inputs of pairs before packing; None: no pairs

    def __str__(self) -> str:
        if self.format == 1:  # it left out the width of a pixel
            return f"{self.dtype} {list(self.classes)}"
        known = self.pixel_scale is not None and not math.isnan(self.pixel_scale)
        scale = self.pixel_scale if known else None
        pairs = [] if self.inputs_dtype is None else [self.inputs_dtype]
        return json.dumps([self.dtype, list(self.classes), scale, *pairs])


class ContentHash:
    """sha256 of the form of the samples, and name, type, shape, sha256 of each array.

    That of images, of inputs and of images without noise is the sha256 of the sha256 of each; that
    of texts, of a line each. How many samples are added at a time changes nothing.
    """

    def __init__(self, form: Form) -> None:
        self._head = f"{form}\n"
        self._samples = 0
        self._arrays: dict[str, tuple[str, Any]] = {}  # type and shape of a sample; running hash

    def add(
        self,
        arrays: Mapping[str, Array],
        image_digests: Sequence[bytes],
        pair_digests: Mapping[str, Sequence[bytes]] | None = None,
    ) -> None:
        """Add samples.

        Arguments:
            arrays: By name.
            image_digests: sha256 of each image.
            pair_digests: Those of ``inputs`` and ``clean``, where they are known; else they are
                computed.
        """
        known = {"images": image_digests} | dict(pair_digests or {})
        self._samples += len(arrays["images"])
        for name, values in arrays.items():
            form = f"{values.dtype} {values.shape[1:]}"
            _, running = self._arrays.setdefault(name, (form, hashlib.sha256()))
            if name in _BY_SAMPLE:
                running.update(b"".join(known.get(name) or map(sha256, values)))
            elif values.dtype == object:
                running.update("".join(f"{text}\n" for text in values.tolist()).encode())
            else:
                running.update(np.ascontiguousarray(values).data)

    def hexdigest(self) -> str:
        """Digest of what was added so far."""
        digest = hashlib.sha256(f"{self._head}{self._samples}\n".encode())
        for name, (form, running) in sorted(self._arrays.items()):
            digest.update(f"{name} {form} {running.hexdigest()}\n".encode())
        return digest.hexdigest()


class SplitStatistics:
    """Counts, moments and digests of a split, from its samples.

    Arguments:
        form: What all samples share.
    """

    def __init__(self, form: Form) -> None:
        self.digests: list[str] = []  # of the files
        self._samples = 0
        self._class_counts = np.zeros(len(form.classes), np.int64)
        self._moments = Moments()
        self._content = ContentHash(form)

    def add(self, arrays: Mapping[str, Array], digests: Sequence[bytes]) -> None:
        """Count samples: the data sets of a shard by name, and the digests of the images."""
        self.add_read(arrays, digests, sums_of(arrays))

    def add_read(
        self,
        arrays: Mapping[str, Array],
        digests: Sequence[bytes],
        sums: Sums,
        pair_digests: Mapping[str, Sequence[bytes]] | None = None,
    ) -> None:
        """The same with all that is needed of the pixels, whose form alone is then looked at."""
        self._content.add(_learnt(arrays), digests, pair_digests)
        labelled = arrays["targets"][arrays["targets"] >= 0].astype(np.int64)
        self._class_counts += np.bincount(labelled, minlength=len(self._class_counts))
        self._samples += len(arrays["images"])
        self._moments.add(arrays, sums)

    def attributes(self) -> dict[str, Any]:
        """Attributes of a file."""
        return {
            "shards": len(self.digests),
            "samples": self._samples,
            "class_counts": self._class_counts,
            **self._moments.attributes(),
            "digests": np.asarray(self.digests, object),
            "content": self._content.hexdigest(),
        }


def complete(path: Path, shard: int, whole: SplitStatistics) -> None:
    """Write the attributes of the whole split into a file of it, and seal it with its head.

    Raises:
        OSError: There is no room.
    """
    with writing(path):
        check_room(path)
        with h5py.File(path, "r+", locking=False) as file:
            file.attrs.update(whole.attributes(), shard=shard)
            fields, room = fields_of(file), file.userblock_size
        write_head(path, room, fields | {"packing": packing_of(whole.digests)})


def file_digest(path: Path) -> str:
    """Read a shard and name its content, which its attribute ``digest`` does as well.

    Raises:
        ShardError: The file cannot be read.
    """
    content = ContentHash(form_of(describe_file(path)))
    for arrays, digests in read_again(path):
        content.add(arrays, digests)
    return content.hexdigest()


def describe_split(
    paths: Sequence[Path], *, simulation: str | None, on_batch: Callable[[], None]
) -> None:
    """Write the attributes of a whole split into each of its files, in order.

    They are read again and checked by their digests, several at a time by threads, in whose work
    Python's lock is hardly held; a file that has the attributes is left alone.

    Arguments:
        paths: The files.
        simulation: The attribute of that name that all should have.
        on_batch: Called after each file.

    Raises:
        DamagedPieceError: A file cannot be read, or is not what was written.
        ShardError: A file was made by another simulation.
    """
    whole: SplitStatistics | None = None
    read = partial(_read_whole, simulation=simulation)
    with closing(_by_threads(read, paths)) as files:
        for form, content, blocks in files:
            whole = whole or SplitStatistics(form)
            for block in blocks:
                whole.add_read(*block)
            whole.digests.append(content)
            on_batch()
    assert whole is not None
    seal = partial(_seal, whole=whole, shards=len(paths))
    deque(_by_threads(seal, [*enumerate(paths)]), 0)


class _Block(NamedTuple):
    """A few samples of a file, of whose pixels only the form is kept."""

    arrays: dict[str, Array]
    digests: list[bytes]
    sums: Sums
    pair_digests: dict[str, list[bytes]]


_Blocks = list[_Block]


def _read_whole(path: Path, *, simulation: str | None) -> tuple[Form, str, _Blocks]:
    """Form, digest and samples of a file, the images only by their digests and moments.

    Raises:
        DamagedPieceError, ShardError: As `describe_split`.
    """
    blocks: _Blocks = []
    try:
        description = describe_file(path)
        form = form_of(description)
        content = ContentHash(form)
        with open_shard(path) as file, reading(path):  # once: to open it is to check its bytes
            made_by = file.attrs.get("simulation")
            for arrays, digests in _blocks_of(file):
                pairs = {n: [*map(sha256, arrays[n])] for n in _PAIRED if n in arrays}
                content.add(arrays, digests, pairs)
                forms = {
                    name: np.broadcast_to(values.dtype.type(0), values.shape)
                    for name, values in arrays.items()
                    if name in _BY_SAMPLE
                }
                blocks.append(_Block(arrays | forms, digests, sums_of(arrays), pairs))
    except ShardError as error:
        raise DamagedPieceError(path, str(error).removeprefix(f"{path}: ")) from error
    if content.hexdigest() != description.digest:
        raise DamagedPieceError(path, "its content has another digest")
    if description.format != FORMAT:
        raise DamagedPieceError(path, "an earlier version made it")
    if made_by != simulation:
        raise ShardError(f"{path}: was made by another simulation; remove it")
    return form, description.digest, blocks


def _seal(file: tuple[int, Path], *, whole: SplitStatistics, shards: int) -> None:
    """Write the attributes of the whole split into one of its files, unless it has them."""
    number, path = file
    written = describe_file(path)
    packing = packing_of(whole.digests)
    if (written.shard, written.shards, written.packing) != (number, shards, packing):
        complete(path, number, whole)


def _by_threads(work: Callable[[T], U], items: Sequence[T]) -> Generator[U, None, None]:
    """Results in order; not many more are in memory than there are threads."""
    threads = min(cores(), _MOST_THREADS, len(items))
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[U]] = deque()
        for item in items:
            if len(begun) == threads:
                yield begun.popleft().result()
            begun.append(pool.submit(work, item))
        while begun:
            yield begun.popleft().result()


def form_of(description: Description) -> Form:
    """What the samples of a file share."""
    inputs = description.inputs
    return Form(
        description.dtype, description.classes, description.pixel_scale, description.format,
        None if inputs is None else inputs.dtype,
    )  # fmt: skip


def read_again(path: Path) -> Iterator[tuple[dict[str, Array], list[bytes]]]:
    """All arrays of a shard, a few images at a time, with the digests of the images.

    Raises:
        ShardError: It cannot be read.
    """
    with open_shard(path) as file, reading(path):
        yield from _blocks_of(file)


def _blocks_of(file: h5py.File) -> Iterator[tuple[dict[str, Array], list[bytes]]]:
    """As `read_again`, of a file that is open."""
    names = array_names(file)
    for first in range(0, len(file["targets"]), _BLOCK):
        part = slice(first, first + _BLOCK)
        arrays = {name: file[name][part] for name in names}
        for name, values in arrays.items():
            if values.dtype == object:
                arrays[name] = np.array([text.decode() for text in values], object)
        yield arrays, [sha256(image) for image in arrays["images"]]


def verify(split: SplitInfo) -> None:
    """Compute the digests of a split and of its files anew, and count its classes; reads it whole.

    Raises:
        ShardError: A file is not what was packed, or its attributes are not those of its samples.
    """
    whole: ContentHash | None = None
    counts = np.zeros(len(split.classes), np.int64)
    for path, packed in zip(split.files, split.digests, strict=True):
        form = form_of(describe_file(path))
        own, whole = ContentHash(form), whole or ContentHash(form)
        for arrays, digests in read_again(path):
            own.add(arrays, digests)
            whole.add(_learnt(arrays), digests)
            labels = arrays["targets"][arrays["targets"] >= 0]
            here = np.bincount(labels, minlength=len(counts))
            if len(here) > len(counts):
                raise ShardError(f"{path}: has class {len(here) - 1} of {len(counts)} classes")
            counts += here
        if (digest := own.hexdigest()) != packed:
            raise ShardError(
                f"{path}: is damaged or was changed after it was packed (content {digest[:12]}, "
                f"packed as {packed[:12]}); pack it again"
            )
    root = split.files[0].parent
    if whole is None or whole.hexdigest() != split.content:
        raise ShardError(
            f"{root}: the content of split {split.name} has another digest than its files say; "
            "pack it again"
        )
    if counts.tolist() != list(split.class_counts):
        raise ShardError(
            f"{root}: split {split.name} has {counts.tolist()} samples of its classes; its files "
            f"say {list(split.class_counts)}"
        )


def _learnt(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """All arrays but the catalogue, which changes nothing that is learnt."""
    return {name: v for name, v in arrays.items() if not name.startswith("catalogue/")}
