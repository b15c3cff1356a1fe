"""The shard format: images in HDF5, exact, self-describing, one writer, never appended.

A data set is a folder of files ``<split>-<i>-of-<n>.h5`` (five digits each, i from 0), such as
``train-00003-of-00012.h5``. A file of format 2 is HDF5 with a head in its user block (`header`:
what the file is, and the sha256 of all bytes that follow):

=================  ==================  ============================================================
data set           shape, type         meaning
=================  ==================  ============================================================
``images``         (N, C, H, W)        uint8, uint16 counts or floats; contiguous unless compressed
``scale``          (N, C) float64      counts of value 1; only beside uint16. value = count / scale
``targets``        (N,) int64          class number, or -1 where there is no label
``ids``            (N,) UTF-8 text     stable name of the sample, from its source path
``truth/<name>``   (N, ...) float64    optional: mass, Einstein radius, ... one array a quantity
``catalogue/...``  (N,) int64,         optional: columns of the user's table, by their names, such
                   float64 or text     as ``ra``, ``dec``, ``mag``; NaN and "" where unknown
``inputs``         (N, C, h, w)        optional, of a set of pairs: what a network is given, where
                                       ``images`` is what it is to make; stored as images are
``inputs_scale``   (N, C) float64      of ``inputs``, only where they are uint16
``clean``          (N, C, H, W)        optional, of simulated pairs: the images without their
                   float32             noise, in the units of ``images``
=================  ==================  ============================================================

============================  ===================================================================
attribute                     meaning
============================  ===================================================================
``format``                    2
``split``                     name of the split
``shard``, ``shards``         number of this file, and how many the split has
``samples``                   samples of the whole split
``classes``                   class names in the order of their numbers, (K,) text, may be empty
``class_counts``              samples of the whole split in each class, (K,) int64
``dtype``                     type of the values before packing ("float64"), which decoding gives
``mean``, ``sd``              of the decoded values of the whole split, (C,) float64
``pixel_scale``               arcsec per pixel, NaN where unknown
``bands``                     optional: names of the channels, such as g, r, i, (C,) text
``group``                     optional: the column of the catalogue whose equal values name images
                              of one object or tile; these are side by side, in one split
``inputs_dtype``              of pairs: type of the values of ``inputs`` before packing
``inputs_mean``, ``..._sd``   of pairs: of the decoded inputs of the whole split, (C,) float64
``source``, ``seed``          what the images come from, and the seed of their order
``simulation``                optional: what simulated the images, JSON: kind, settings, whether
                              they are ``unphysical`` and by which known faults, ``slips``
``digest``                    sha256 of the content of this file (see `digest`)
``digests``                   the digests of all files of the split, (shards,) text
``content``                   sha256 of the content of the whole split, the same however the split
                              is cut into files; `data_digest` names a set by it
============================  ===================================================================

The head has the same but for ``simulation`` and ``digests``, and further: ``count`` (samples of
the file), ``shape`` (C, H, W), ``stored`` (type of the images), ``packing`` (sha256 of the lines
of ``digests``), ``head`` and ``size`` (bytes of the head and of the file), ``bytes`` (the sha256).
Of pairs it has ``clean`` (whether there is such an array) and all that is known of ``inputs``.
To plan with a set, only its heads are read. A process hashes the bytes of a file once before HDF5
opens it, and again if the file has changed.

The content is all that changes what is learnt: the arrays but for the catalogue, ``dtype``,
``classes``, ``pixel_scale`` and ``inputs_dtype``. Format 1 is read as well: it has no head, and
its content lacks ``pixel_scale``.

Of pairs H is r times h and W is r times w, with r = 1, 2, 3, ...: r x r pixels of an image cover
one of its input.

Images are stored as small as is exact: uint8 where ``dtype`` is uint8 (older sets: counts); uint16
with a scale where the values are integer counts divided by a constant (`encoding`); floats
otherwise. The order of samples is fixed when they are packed: shuffled once, classes interleaved,
so that a slice of a split (``train[:10%]``) is a fair, stratified sample and still one contiguous
read; groups are shuffled as wholes (`slices.edges`).

Files are written under a temporary name (``.<split>-<i>.tmp.h5``) and renamed when the whole set
is complete. They are opened with ``locking=False``: they never change.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deeplense_batch.core.sections.fold_names import FoldName
from deeplense_batch.data.header import (
    FORMAT,
    Description,
    InputsFields,
    ShardError,
    packing_of,
)
from deeplense_batch.data.shard_file import describe_file, open_shard, refuse_half_named
from deeplense_batch.data.slices.edges import slice_name
from deeplense_batch.data.slices.folds import samples_of
from deeplense_batch.data.split import Inputs, Split, SplitInfo

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

NAME = re.compile(r"^(?P<split>\w+)-(?P<shard>\d{5})-of-(?P<shards>\d{5})\.h5$")
TEXT = h5py.string_dtype()


def read_splits(root: Path | str) -> dict[str, SplitInfo]:
    """Describe every split of a data set.

    Raises:
        ShardError: There is no such folder, it holds no shards, a shard of a split is missing,
            cannot be read, or is of another format or another packing.
    """
    root = Path(root)
    refuse_half_named(root)
    if not root.is_dir():
        raise ShardError(
            f"{root}: no such folder of shards; make one with 'pack SOURCE {root}' or "
            f"'simulate substructure {root}'"
        )
    by_packing: dict[str, dict[int, Path]] = {}
    try:
        paths = sorted(root.iterdir())
    except OSError as error:
        raise ShardError(f"{root}: cannot be read ({error.strerror})") from error
    for path in paths:
        if match := NAME.match(path.name):
            key = f"{match['split']}-of-{match['shards']}"
            by_packing.setdefault(key, {})[int(match["shard"])] = path
    if not by_packing:
        raise ShardError(f"{root}: holds no shards, files such as train-00000-of-00001.h5")
    infos: dict[str, SplitInfo] = {}
    for key, files in by_packing.items():
        split, _, shards = key.partition("-of-")
        missing = set(range(int(shards))) - set(files)
        if missing:
            name = f"{split}-{min(missing):05d}-of-{shards}.h5"
            raise ShardError(
                f"{root}: split {split} has {len(files)} of {int(shards)} shards; "
                f"{name} is missing"
            )
        if split in infos:
            raise ShardError(f"{root}: has split {split} twice, in two packings")
        infos[split] = _describe(split, [files[i] for i in sorted(files)])
    return infos


def open_split(
    root: Path | str, slice_: str, splits: Mapping[str, SplitInfo] | None = None
) -> Split:
    """Open a split or a slice of one.

    Arguments:
        root: Folder of shards.
        slice_: ``train``, ``train[:10%]``, ``val[50%:]``, ``train[100:200]``, or folds
            (`slices.folds`): ``train[fold 3/5]``, ``train[folds 1,2,5/5]``.
        splits: Those of the folder, if they have been read already.

    Raises:
        ShardError: As `read_splits`; or no such split, a malformed or an empty slice, or folds
            without a sample of some class.
    """
    name = _folds(root, slice_) or slice_name(root, slice_)
    splits = read_splits(root) if splits is None else splits
    if name.split not in splits:
        raise ShardError(
            f"{root}: has no split '{name.split}' (asked as '{slice_}'); "
            f"it has {', '.join(splits)}"
        )
    info = splits[name.split]
    if isinstance(name, FoldName):
        return Split(info, 0, len(info), picked=samples_of(info, name))
    start, stop = name.edges(len(info), info.groups)
    if start >= stop:
        raise ShardError(f"{root}: '{slice_}' holds none of the {len(info)} samples of the split")
    return Split(info, start, stop)


def data_digest(root: Path | str) -> str:
    """Name the content of a whole data set: 16 hex digits.

    Where it lies, the size of its files and their compression change nothing.
    """
    digest = hashlib.sha256()
    for name, info in sorted(read_splits(root).items()):
        group = f":{info.group}" if info.group else ""  # which moves slices
        digest.update(f"{name}:{info.content}{group}\n".encode())
    return digest.hexdigest()[:16]


def _folds(root: Path | str, slice_: str) -> FoldName | None:
    """The folds that a slice names; None where it names none.

    Raises:
        ShardError: There cannot be such folds.
    """
    try:
        return FoldName.parse(slice_)
    except ValueError as error:
        raise ShardError(f"{root}: {error}") from None


def _describe(split: str, files: Sequence[Path]) -> SplitInfo:
    shards = [describe_file(path) for path in files]
    first, digests = shards[0], tuple(shard.digest for shard in shards)
    for i, (path, own) in enumerate(zip(files, shards, strict=True)):
        if own.split != split:
            raise ShardError(
                f"{path}: holds split {own.split}, not {split}; give the file its old name"
            )
        if (own.shard, own.shards, _shared(own)) != (i, len(files), _shared(first)):
            raise ShardError(f"{path}: belongs to another packing than {files[0].name}")
    counts = tuple(shard.count for shard in shards)
    if packing_of(digests) != first.packing or sum(counts) != first.samples or not min(counts):
        raise ShardError(
            f"{files[0].parent}: the files of split {split} come from several packings"
        )
    return SplitInfo(
        name=split,
        files=tuple(files),
        counts=counts,
        shape=(first.shape[0], first.shape[1], first.shape[2]),
        stored=np.dtype(first.stored),
        dtype=np.dtype(first.dtype),
        classes=tuple(first.classes),
        class_counts=tuple(first.class_counts),
        mean=tuple(first.mean),
        sd=tuple(first.sd),
        pixel_scale=math.nan if first.pixel_scale is None else first.pixel_scale,
        bands=tuple(first.bands),
        group=first.group,
        source=first.source,
        seed=first.seed,
        digests=digests,
        content=first.content,
        inputs=None if first.inputs is None else _inputs(first.inputs),
        has_clean=first.clean,
    )


def _inputs(fields: InputsFields) -> Inputs:
    return Inputs(
        shape=(fields.shape[0], fields.shape[1], fields.shape[2]),
        stored=np.dtype(fields.stored),
        dtype=np.dtype(fields.dtype),
        mean=tuple(fields.mean),
        sd=tuple(fields.sd),
    )


def _shared(description: Description) -> dict[str, Any]:
    """The fields that are the same in all files of a split."""
    own = {"shard", "count", "digest", "head", "size", "bytes"}
    return description.model_dump(exclude=own)
