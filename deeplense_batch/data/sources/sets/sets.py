"""Sets of images in one file: arrays of images, class numbers, and whatever else each image has.

============================  ====================================================================
file                          its arrays
============================  ====================================================================
``.npz``, HDF5                images (N, C, H, W), (N, H, W, C) or (N, H, W), labels (N,), names of
                              the classes (K,)
Galaxy10 DECaLS               HDF5 with `images`, `ans`, `ra`, `dec`, `redshift`, `pxscale`
Multimodal Universe           HDF5 with `image_array`, `image_band`, `image_scale`, `object_id`,
                              `ra`, `dec` and columns of a catalogue
``.npy`` as the source        images alone
FITS table as the source      a column of images, (H, W) or (C, H, W) in each row, and others
============================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deeplense_batch.data.catalogues.table import kept
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.arrays import array_names
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.filters import bands_of_names
from deeplense_batch.data.formats.images import needs_fits
from deeplense_batch.data.formats.parts import Header, Part
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.formats.untrusted import ImageError
from deeplense_batch.data.listing.archive import Tree
from deeplense_batch.data.listing.layouts import KNOWN, meaning
from deeplense_batch.data.listing.listing import Listing, Sample
from deeplense_batch.data.shards import NAME, ShardError
from deeplense_batch.data.sources.beside import about_unread
from deeplense_batch.data.sources.sets.asked import named_by_flags, say_as_asked
from deeplense_batch.data.sources.sets.ids import ids_of_sets, may_be_ids
from deeplense_batch.data.sources.sets.labels import (
    check_labels,
    class_names,
    classes_of_sets,
    is_labels,
)
from deeplense_batch.data.sources.sets.stacks import HDF5, Stack, open_stack

__all__ = ["ImageSet", "hold_sets", "read_sets"]

# Names of arrays, in the order in which they are looked for.
_IMAGES = ("images", "image_array", "image", "X", "x", "data", "cutouts", "stamps", "IMAGE",
           "STAMP", "CUTOUT")  # fmt: skip
_LABELS = ("labels", "label", "ans", "y", "target", "targets", "class")
_SCALES = ("pixel_scale", "pxscale", "image_scale")
_BANDS = ("image_band", "bands", "filters")


@dataclass(frozen=True)
class ImageSet:
    """The images of one file, and what it says of each as a header would."""

    images: Array  # (N, ...), mapped
    bands: tuple[str, ...]
    scales: NDArray[np.float64] | None  # (N,), arcsec
    scales_from: str  # name of the array of scales, "" for none
    columns: Mapping[str, Array]  # (N,)

    def part(self, index: int) -> Part:
        """One image."""
        ra, dec = (_number(self.columns.get(name), index) for name in ("ra", "dec"))
        header = Header(_number(self.scales, index), ra, dec)
        return Part(np.asarray(self.images[index]), self.bands, header=header)


@dataclass(frozen=True)
class _File:
    """One file of a set as it was read."""

    images: ImageSet
    labels: NDArray[np.int64]  # (N,)
    classes: tuple[str, ...]
    read: tuple[str, str]  # names of the arrays of images and labels; "" where none
    unread: tuple[str, ...]


def hold_sets(root: Path, tree: Tree, ids: Mapping[str, str], reading: Reading) -> bool:
    """Whether files are sets of images, not images: all of them or none.

    HDF5 files are; an .npy file or a FITS table is one if it is the whole source. A folder may
    hold thousands of .npz images, so that only the first is opened; but one that cannot be an
    image, being the whole source or named as a split, must be a set.
    """
    alone = not root.is_dir() and root.name in ids
    if alone and needs_fits(root.name):
        with suppress(Exception), tree.open(root.name) as file, open_stack(root.name, file):
            return True
        return False  # one image, which may be damaged
    if any(_ends(name, *HDF5) for name in ids) or (alone and _ends(root.name, ".npy")):
        return True
    packed = [name for name in ids if _ends(name, ".npz")]
    if packed and (reading.images_key or reading.labels_key or reading.pair):
        return True
    if any(alone or meaning(PurePosixPath(name).stem)[1] == "" for name in packed):
        return True
    with suppress(Exception), tree.open(packed[0]) as file:  # reported when it is read
        arrays = {name.casefold() for name in array_names(file)}
        return "images" in arrays or {"hr", "lr"} <= arrays
    return False


def read_sets(
    root: Path, tree: Tree, ids: Mapping[str, str], reading: Reading
) -> tuple[Listing, dict[str, ImageSet]]:
    """Samples of sets and their classes; and the images of each file.

    Raises:
        ShardError: A file is damaged, is no set, or does not go with the others.
    """
    _refuse_band_sets(root, ids.values())
    files: dict[str, _File] = {}
    for name, id_ in ids.items():
        if not _ends(name, ".npz", *HDF5) and len(ids) > 1:
            raise ShardError(
                f"{root}: unknown layout, sets of images beside other files such as {id_}; {KNOWN}"
            )
        if NAME.match(PurePosixPath(name).name):
            raise ShardError(f"{root}: holds shards, such as {id_}, which are packed already")
        try:
            with tree.open(name) as file, open_stack(name, file) as stack:
                files[name] = _read(stack, reading)
        except Exception as error:  # a broken file makes its reader raise anything at all
            raise ShardError(f"{_file_of(root, id_)}: {_reason(error)}") from error
    return _listing(root, ids, files, reading), {name: file.images for name, file in files.items()}


def _listing(
    root: Path, ids: Mapping[str, str], files: Mapping[str, _File], reading: Reading
) -> Listing:
    places = [f"{ids[name]}[{i}]" for name, one in files.items() for i in range(len(one.labels))]
    columns = [one.images.columns for one in files.values()]
    names, ids_from, notes = ids_of_sets(root, places, columns, reading.id)
    samples: list[Sample] = []
    for name, one in files.items():
        split = meaning(PurePosixPath(ids[name]).stem)[0]
        if not split and (one.labels < 0).all() and not reading.truth:
            split = "train"
        first = len(samples)
        samples += [
            Sample(names[first + i], (name,), split, target, i, row=first + i)
            for i, target in enumerate(one.labels.tolist())
        ]
    splits = {sample.split for sample in samples}
    if ("" in splits and len(splits) > 1) or not splits:
        raise ShardError(f"{root}: unknown layout, {', '.join(list(ids.values())[:6])}; {KNOWN}")
    suffix = "".join(PurePosixPath(next(iter(ids))).suffixes[-1:])
    by_name = all(meaning(PurePosixPath(id_).stem)[0] for id_ in ids.values())
    layout = f"{{split}}{suffix}" if by_name else f"set of images ({suffix})"
    samples, classes, more = _with_classes(root, samples, files, suffix, reading.classes)
    joined, some = _columns(files)
    listing = Listing(
        samples,
        classes,
        layout,
        [*more, *notes, *_about_arrays(files)],
        about_unread(
            [*_unread(files, ids), *some], ("images", "labels", "classes and columns (N,)")
        ),
        columns={name: values for name, values in joined.items() if name != ids_from},
    )
    say_as_asked(root, listing, joined, reading)
    return listing


def _with_classes(
    root: Path,
    samples: list[Sample],
    files: Mapping[str, _File],
    kind: str,
    asked: tuple[str, ...],
) -> tuple[list[Sample], tuple[str, ...], list[str]]:
    """Samples with the numbers of their classes in the order asked for, these, and notes."""
    class_lists = {one.classes for one in files.values()}
    if len(class_lists) > 1:
        raise ShardError(f"{root}: its files name different classes")
    own = class_lists.pop()
    classes, notes = classes_of_sets(root, own, max(s.target for s in samples), kind, asked)
    if own and own != classes:
        numbers = [*map(classes.index, own), -1]  # the last one is that of -1
        samples = [replace(sample, target=numbers[sample.target]) for sample in samples]
    return samples, classes, notes


def _about_arrays(files: Mapping[str, _File]) -> list[str]:
    """Say which arrays are the images and the labels, where they have other names."""
    images, labels = next(iter(files.values())).read
    if images == "images" and labels in ("", "labels"):
        return []
    numbers = f", class numbers of '{labels}'" if labels else ""
    return [f"images are those of the array '{images}'{numbers}"]


def _unread(files: Mapping[str, _File], ids: Mapping[str, str]) -> list[str]:
    return [f"{array} of {ids[name]}" for name, one in files.items() for array in one.unread]


def _columns(files: Mapping[str, _File]) -> tuple[dict[str, Array], list[str]]:
    """Columns that all files have, joined; and the names of the others."""
    sets = [one.images.columns for one in files.values()]
    names = dict.fromkeys(name for columns in sets for name in columns)
    common = [name for name in names if all(name in columns for columns in sets)]
    joined = {
        name: kept(pd.Series(np.concatenate([columns[name] for columns in sets])))
        for name in common
    }
    return joined, [f"{name} of some files" for name in names if name not in common]


def _read(stack: Stack, reading: Reading) -> _File:
    """The images of a file, their labels, and what else it says of them.

    Raises:
        ImageError: It is no set, or its arrays do not fit together.
    """
    images = _images_of(stack, _asked(stack, reading.images_key))
    shape, dtype = stack.forms[images]
    if len(shape) not in (3, 4) or 0 in shape[1:] or dtype.kind not in "iuf":
        raise ImageError(
            f"'{images}' has shape {shape} and type {dtype}, expected numbers (N, C, H, W), "
            "(N, H, W, C) or (N, H, W)"
        )
    labels, numbers = _labels_of(stack, reading, shape[0])
    bands = _bands_of(stack, shape)
    scales = next((n for n in _SCALES if n in stack.forms), "")
    read = {images, labels, "classes", *reading.pair, *([bands[0]] if bands else [])}
    columns = {
        name: stack.read(name)
        for name, (form, kind) in stack.forms.items()
        if name not in read
        and form == shape[:1]
        and (kind.kind in "biufSU" or _texts(kind))
        and "/" not in name  # of arrays in groups of one name, or S/N; shards cannot keep it
    }
    names = stack.read("classes") if "classes" in stack.forms else np.empty(0, str)
    try:
        pixels = stack.mapped(images)
    except Exception as error:  # a broken file makes its reader raise anything at all
        raise ImageError(f"'{images}' {_reason(error)}") from error
    arcsec = _scales_of(stack, scales, shape[0])
    known = ImageSet(
        pixels,
        bands[1] if bands else (),
        arcsec,
        "" if arcsec is None else scales,
        _plain(columns),
    )
    used = read | set(columns) | ({scales} if arcsec is not None else set())
    unread = tuple(
        f"{name} (no '/' can be kept)" if "/" in name and form == shape[:1] else name
        for name, (form, _) in stack.forms.items()
        if name not in used
    )
    return _File(known, numbers, class_names(names), (images, labels), unread)


def _asked(stack: Stack, key: str) -> str:
    """The name of an array that the user names, or where it lies among groups."""
    return next((name for name, path in stack.paths.items() if path == key), key)


def _images_of(stack: Stack, key: str) -> str:
    """Name of the array of images: the one asked for, or of a usual name, or the only one."""
    forms = stack.forms
    if key:
        if key not in forms:
            raise ImageError(f"has no array '{key}'; it has {', '.join(forms) or 'none'}")
        return key
    if named := next((name for name in _IMAGES if name in forms), ""):
        return named
    several = [
        n for n, (shape, kind) in forms.items() if len(shape) in (3, 4) and kind.kind in "iuf"
    ]
    if len(several) != 1:
        raise ImageError(
            f"holds the arrays {', '.join(forms) or 'none'}; a set has 'images' (N, H, W) or "
            "(N, C, H, W), 'labels' (N,), and perhaps 'classes' (K,); --images_key and "
            "--labels_key name others"
        )
    return several[0]


def _labels_of(stack: Stack, reading: Reading, count: int) -> tuple[str, NDArray[np.int64]]:
    """The array of labels and its name: the one asked for, or of a usual name, or the only one."""
    key, others = _asked(stack, reading.labels_key), named_by_flags(reading)
    if key and key not in stack.forms:
        raise ImageError(f"has no array '{key}'; it has {', '.join(stack.forms)}")
    name = key or next((n for n in _LABELS if n in stack.forms and n not in others), "")
    if not name:
        whole = [n for n, (shape, kind) in stack.forms.items()
                 if shape == (count,) and kind.kind in "iu" and not may_be_ids(n)
                 and n not in others]  # fmt: skip
        name = whole[0] if len(whole) == 1 and is_labels(stack.read(whole[0])) else ""
    if not name:
        return "", np.full(count, -1)
    labels = stack.read(name)
    if labels.shape != (count,):
        raise ImageError(f"{counted(count, 'image')}, but labels of shape {labels.shape}")
    check_labels(labels)
    return name, labels.astype(np.int64)


def _bands_of(stack: Stack, shape: tuple[int, ...]) -> tuple[str, tuple[str, ...]] | None:
    """The array of band names, (C,) or (N, C), and these."""
    for name in _BANDS:
        form, kind = stack.forms.get(name, ((), np.dtype(float)))
        if form and form[:-1] in ((), shape[:1]) and (kind.kind in "SU" or _texts(kind)):
            rows = np.unique(np.atleast_2d(_text(stack.read(name))).astype(str), axis=0)
            if len(rows) > 1:
                raise ImageError(f"'{name}' names other bands, or another order, for some images")
            bands = tuple(rows[0].tolist()) if len(rows) else ()
            if len(shape) == 4 and len(bands) in (shape[1], shape[3]):
                return name, bands
    return None


def _scales_of(stack: Stack, name: str, count: int) -> NDArray[np.float64] | None:
    """Pixel scale of each image, (N,); NaN where its bands have several."""
    if not name or stack.forms[name][0][:1] != (count,) or stack.forms[name][1].kind not in "iuf":
        return None
    scales = stack.read(name).astype(np.float64).reshape(count, -1)
    same = np.isclose(scales, scales[:, :1], rtol=1e-3).all(axis=1)
    return np.where(same, scales[:, 0], nan)


def _plain(columns: Mapping[str, Array]) -> dict[str, Array]:
    """Columns as tables have them: truth values as numbers, bytes as text."""
    return {
        name: values.astype(np.int64) if values.dtype.kind == "b" else _text(values)
        for name, values in columns.items()
    }


def _text(values: Array) -> Array:
    return np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values


def _texts(kind: np.dtype) -> bool:
    """Whether a type is that of texts of any length in HDF5."""
    return kind.kind == "O" and bool(kind.metadata) and "vlen" in (kind.metadata or {})


def _number(values: Array | None, index: int) -> float:
    return nan if values is None or values.dtype.kind not in "iuf" else float(values[index])


def _reason(error: Exception) -> str:
    text = " ".join(f"{error}".split())
    return text if isinstance(error, ImageError) else f"cannot be read ({text[:300]})"


def _ends(name: str, *suffixes: str) -> bool:
    return name.lower().endswith(suffixes)


def _file_of(root: Path, name: str) -> str:
    """A file of a source, as errors name it; it may be the source itself."""
    return str(root) if root.name == name else f"{root}: {name}"


def _refuse_band_sets(root: Path, ids: Collection[str]) -> None:
    """Refuse sets of one band each, whose images would be packed one by one."""
    if bands_of_names([PurePosixPath(id_).stem for id_ in ids]):
        raise ShardError(
            f"{root}: {', '.join(ids)} are named for bands; put the bands of an image into one "
            "array, 'images' (N, C, H, W)"
        )
