"""Sets of images in one file: ``{split}.npz`` with `images`, `labels` and `classes`."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.formats.arrays import array_header, array_names, read_arrays
from deeplense_batch.data.formats.filters import bands_of_names
from deeplense_batch.data.formats.untrusted import ImageError
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.sources.archive import Tree
from deeplense_batch.data.sources.beside import about_sets
from deeplense_batch.data.sources.layouts import KNOWN, meaning
from deeplense_batch.data.sources.listing import Listing, Sample
from deeplense_batch.data.sources.sets.labels import check_labels, class_names, classes_of_sets

__all__ = ["hold_sets", "read_sets"]

_READ = ("images", "labels", "classes")  # arrays of a set


def hold_sets(root: Path, tree: Tree, ids: dict[str, str]) -> bool:
    """Whether the .npz files are sets of images, not images: all of them or none.

    A folder may hold thousands of .npz images, so that only the first is opened; but one that
    cannot be an image, being the whole source or named as a split, must be a set.
    """
    packed = [name for name in ids if name.lower().endswith(".npz")]
    alone = not root.is_dir() and root.name in packed
    must = [name for name in packed if alone or meaning(PurePosixPath(name).stem)[1] == ""]
    with suppress(ShardError):  # a damaged image among others is reported when it is read
        if packed and "images" in _arrays(root, tree, packed[0]):
            must = packed
    for name in must:
        if "images" not in (arrays := _arrays(root, tree, name)):
            raise ShardError(
                f"{root}: {ids[name]} holds the arrays {', '.join(arrays) or 'none'}; a set has "
                "'images' (N, H, W) or (N, C, H, W), 'labels' (N,), and perhaps 'classes' (K,)"
            )
    return bool(must)


def read_sets(root: Path, tree: Tree, ids: dict[str, str]) -> Listing:
    """Samples of .npz sets, and their classes."""
    _refuse_band_sets(root, ids.values())
    samples: list[Sample] = []
    class_lists: set[tuple[str, ...]] = set()
    unread: list[str] = []
    for name, id_ in ids.items():
        if not name.lower().endswith(".npz"):
            raise ShardError(
                f"{root}: unknown layout, .npz sets beside other images such as {id_}; {KNOWN}"
            )
        try:
            with tree.open(name) as file:
                labels, classes = _read_labels(file)
        except Exception as error:  # a broken file makes its reader raise anything at all
            raise ShardError(f"{_file_of(root, id_)}: {error}") from error
        class_lists.add(classes)
        unread += [
            f"{array} of {id_}" for array in _arrays(root, tree, name) if array not in _READ
        ]
        split = meaning(PurePosixPath(id_).stem)[0]
        if not split and (labels < 0).all():
            split = "train"
        samples += [
            Sample(f"{id_}[{i}]", (name,), split, t, i) for i, t in enumerate(labels.tolist())
        ]
    if len(class_lists) > 1:
        raise ShardError(f"{root}: its .npz files name different classes")
    splits = {sample.split for sample in samples}
    if ("" in splits and len(splits) > 1) or not splits:
        raise ShardError(f"{root}: unknown layout, {', '.join(list(ids.values())[:6])}; {KNOWN}")
    warnings = about_sets([sample.target for sample in samples], unread, _READ)
    classes, notes = classes_of_sets(root, class_lists.pop(), max(s.target for s in samples))
    return Listing(samples, classes, "{split}.npz", notes, warnings)


def _read_labels(file: IO[bytes]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Read what a set of images in an .npz says about them, without the images.

    Returns:
        Class numbers from `labels`, (N,), -1 where there are none; names from `classes`, or none.

    Raises:
        ImageError: The file is broken, or its arrays do not fit together.
    """
    try:
        arrays = read_arrays(file, only={"labels", "classes"})
        with zipfile.ZipFile(file) as archive, archive.open("images.npy") as images:
            shape, _, dtype = array_header(images)
            available = archive.getinfo("images.npy").file_size
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"cannot be read ({type(error).__name__}: {error})") from error
    if (
        min(shape, default=0) < 0
        or 0 in shape[1:]
        or np.prod(shape, dtype=object) * dtype.itemsize > available
    ):
        raise ImageError(f"'images' of shape {shape} and {dtype} are cut short, or none")
    if len(shape) not in (3, 4):
        raise ImageError(f"'images' has shape {shape}, expected (N, C, H, W) or (N, H, W)")
    labels = arrays.get("labels", np.full(shape[0], -1))
    if labels.shape != shape[:1]:
        raise ImageError(f"{shape[0]} images, but labels of shape {labels.shape}")
    check_labels(labels)
    return labels.astype(np.int64), class_names(arrays.get("classes", np.empty(0, str)))


def _arrays(root: Path, tree: Tree, name: str) -> tuple[str, ...]:
    """Arrays of an .npz file."""
    try:
        with tree.open(name) as file:
            return array_names(file)
    except ImageError as error:
        raise ShardError(f"{_file_of(root, name)}: {error}") from error
    except Exception as error:  # a broken file makes its reader raise anything at all
        raise ShardError(f"{_file_of(root, name)}: cannot be read ({error})") from error


def _file_of(root: Path, name: str) -> str:
    """A file of a source, as errors name it; it may be the source itself."""
    return str(root) if root.name == name else f"{root}: {name}"


def _refuse_band_sets(root: Path, ids: Collection[str]) -> None:
    """Refuse .npz sets of one band each, whose images would be packed one by one."""
    if bands_of_names([PurePosixPath(id_).stem for id_ in ids]):
        raise ShardError(
            f"{root}: {', '.join(ids)} are named for bands; put the bands of an image into one "
            "array, 'images' (N, C, H, W)"
        )
