"""What users have on disk: folders or archives of images, in every layout that is known.

===============================================  ================================================
layout                                           becomes
===============================================  ================================================
``{train,val,test}/{class}/`` or ``{split}/``    these splits
``{class}/``                                     each class split 4:1 into train and val
``{train,test}_{class}/`` or ``{class}_test/``   these splits; the rest as ``{class}/``
images side by side                              one split, train, without labels
``{split}.npz`` with `images` and `labels`       these splits
===============================================  ================================================

A file, folder or FITS extension for each band of an object is no image of its own (`bands`): they
are joined, channels by wavelength. Doubled folders, ``lens/lens/``, are one.

Everything may lie in a zip, which is read in place, and below folders that hold nothing else
(``dataset/``); those are no part of a sample's id, so that a folder and its zip pack to the same
shards. Classes are numbered by name, in natural order, but of two of which one is
named ``lens`` or ``lenses`` that is always 1.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.sources.archive import Tree, alike, open_tree, path_parts
from deeplense_batch.data.sources.bands import bands_of_names, join_bands, named_for_bands
from deeplense_batch.data.sources.beside import (
    about_folders,
    about_hidden,
    about_sets,
    left_out,
    no_images,
)
from deeplense_batch.data.sources.companions import refuse_companions
from deeplense_batch.data.sources.images import (
    SUFFIXES,
    Image,
    ImageError,
    Part,
    array_names,
    check_image,
    has_fits,
    join_images,
    read_array,
    read_arrays,
    read_labels,
)
from deeplense_batch.data.sources.labels import classes_of_sets
from deeplense_batch.data.sources.layouts import (
    KNOWN,
    describe,
    is_lens,
    meaning,
    meanings,
    natural,
    short_ids,
    undoubled,
)

__all__ = ["Sample", "Source", "open_source"]

# A catalogue's number, or coordinates such as J1234+5678; images in a row have smaller numbers.
_OBJECT = re.compile(r"(?<!\d)[1-9]\d{5,}|\d{4}(?:\.\d+)?[+-]\d{2}")
_LENSES = ("nonlenses", "lenses")
_READ = ("images", "labels", "classes")  # arrays of a set


@dataclass(frozen=True, slots=True)
class Sample:
    """One image: its files, its split and its class."""

    id: str
    files: tuple[str, ...]  # names in the tree, one a band where bands are files
    split: str
    target: int  # class number, or -1
    index: int | None = None  # in an .npz set


@dataclass
class Source:
    """Images in a known layout."""

    root: Path
    layout: str
    classes: tuple[str, ...]
    splits: dict[str, tuple[Sample, ...]]
    ignored: tuple[str, ...]  # files that are no images
    notes: tuple[str, ...]  # what was decided that the layout does not say
    warnings: tuple[str, ...]  # what is probably not meant so
    bands: tuple[str, ...]  # channels of images whose bands are files; else empty
    allow_pickle: bool
    mask_value: float | None

    _tree: Tree = field(repr=False)
    _sets: dict[str, Array] = field(default_factory=dict, repr=False)

    def hold(self, split: str) -> None:
        """Load the .npz sets of a split, whose images cannot be read singly, and drop others.

        Raises:
            ShardError: A set cannot be read.
        """
        self._sets.clear()
        for name in {s.files[0] for s in self.splits[split] if s.index is not None}:
            try:
                with self._tree.open(name) as file:
                    self._sets[name] = read_arrays(file, only={"images"})["images"]
            except Exception as error:
                raise ShardError(f"{self.root}: {name}: 'images': {error}") from error

    def read(self, sample: Sample) -> Image:
        """Read one image; one of an .npz set only while its split is held.

        Raises:
            ImageError: The image cannot be packed.
        """
        try:
            parts = [self._part(sample, name) for name in sample.files]
            part = join_images(parts, self.bands) if len(parts) > 1 else parts[0]
            return check_image(part, self.mask_value)
        except ImageError:
            raise
        except Exception as error:  # a broken file makes its reader raise anything at all
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise ImageError(f"cannot be read ({text})") from error

    def paths(self) -> list[Path]:
        """All files that images are read from, on disk; the archive itself, if it is one."""
        files = {name for members in self.splits.values() for s in members for name in s.files}
        return sorted({self._tree.path(name) for name in files})

    def _part(self, sample: Sample, name: str) -> Part:
        if sample.index is not None:
            return Part(self._sets[name][sample.index])
        try:
            return read_array(name, self._tree.read(name), allow_pickle=self.allow_pickle)
        except ImageError as error:
            if len(sample.files) == 1:
                raise
            raise ImageError(f"{error} ({PurePosixPath(name).name})") from error


@contextmanager
def open_source(
    root: Path, *, seed: int = 0, allow_pickle: bool = False, mask_value: float | None = None
) -> Iterator[Source]:
    """Find out what a folder, a zip or an .npz file holds; no image is read for it.

    Arguments:
        root: The folder or file.
        seed: Seed of the 4:1 split where the layout gives none.
        allow_pickle: Whether object arrays are unpickled, which runs any code they carry.
        mask_value: Value of pixels that hold no light, if there is one; they become the median of
            the rest of their channel.

    Raises:
        ShardError: There is no such file, it holds no images, or they lie in no known layout.
    """
    with open_tree(root) as tree:
        images, others = _images_and_others(root, tree)
        listing = _list_samples(root, tree, images, seed)
        yield Source(
            root=root,
            layout=listing.layout,
            classes=listing.classes,
            splits=_by_split(listing.samples),
            ignored=tuple(others),
            notes=(*listing.notes, *about_hidden(tree.hidden)),
            warnings=(
                *listing.warnings,
                *_about_names(images, listing),
                *about_folders(tree, images),
                *left_out(tree, others, len(images), labelled=bool(listing.classes)),
            ),
            bands=listing.bands,
            allow_pickle=allow_pickle,
            mask_value=mask_value,
            _tree=tree,
        )


def _list_samples(root: Path, tree: Tree, images: Sequence[str], seed: int) -> _Listing:
    """All samples with their splits and classes."""
    ids = short_ids(images)
    read = _read_sets if _hold_sets(root, tree, ids) else _read_folders
    listing = read(root, tree, ids)
    if any(not sample.split for sample in listing.samples):
        listing.samples = _split_four_to_one(listing.samples, seed)
        listing.notes.append(
            f"no split given: each class split 4:1 into train and val, seed {seed}"
        )
    return listing


def _images_and_others(root: Path, tree: Tree) -> tuple[list[str], list[str]]:
    """Names of the files that are images, and of the others.

    Raises:
        ShardError: There is no image, or there are some that cannot be read here.
    """
    images = sorted((n for n in tree.names if n.lower().endswith(SUFFIXES)), key=natural)
    others = sorted(set(tree.names) - set(images), key=natural)
    if not images:
        raise ShardError(f"{root}: {no_images(others, tree.hidden)}")
    if not has_fits() and any(n.lower().endswith((".fits", ".fits.gz")) for n in images):
        raise ShardError(f"{root}: .fits files need astropy: pip install deeplense-batch[fits]")
    tree.check(images)
    return images, others


def _in_two_splits(samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """Pairs of samples of two splits with the name of one object, not a number in a row."""
    first: dict[str, Sample] = {}
    pairs = []
    for sample in samples:
        name = PurePosixPath(sample.id).name
        if sample.index is None and _OBJECT.search(name):
            other = first.setdefault(name, sample)
            pairs += [(other.id, sample.id)] if other.split != sample.split else []
    return pairs


@dataclass
class _Listing:
    """The samples of a source and their classes, as the names of its files say."""

    samples: list[Sample]
    classes: tuple[str, ...]
    layout: str
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    bands: tuple[str, ...] = ()


def _about_names(images: Sequence[str], listing: _Listing) -> list[str]:
    """Warn of names that look the same, objects in two splits, and classes that may be none."""
    warnings = []
    if same := alike(images):
        warnings.append(
            f"{' and '.join(map(repr, same[0]))} differ by case, spaces or the writing of letters "
            f"alone ({len(same)} such): is that one image twice?"
        )
    if pairs := _in_two_splits(listing.samples):
        warnings.append(
            f"{' and '.join(pairs[0])} are one object by their names, in two splits "
            f"({len(pairs)} such): scores will be too good"
        )
    if named_for_bands(listing.classes):
        warnings.append(
            f"the classes {', '.join(listing.classes)} are named as bands are: if they are bands, "
            "put those of an object into one array, channels first"
        )
    if 2 < len(listing.classes) == len(listing.samples):
        warnings.append("every class has one image: are the folders those of objects?")
    return warnings


def _hold_sets(root: Path, tree: Tree, ids: dict[str, str]) -> bool:
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


def _read_folders(root: Path, tree: Tree, ids: dict[str, str]) -> _Listing:
    """Split and class of every image, or of every object in several bands, from its folders."""
    refuse_companions(root, ids.values())
    joined = join_bands(root, ids)
    names = short_ids(list(joined.files)) if joined.bands else {id_: id_ for id_ in joined.files}
    doubled = undoubled(root, {path_parts(id_)[:-1] for id_ in names.values()})
    named = meanings(root, set(doubled.values()))
    classes = tuple(sorted({class_ for _, class_ in named.values() if class_}, key=natural))
    for name, other in alike(classes):
        raise ShardError(
            f"{root}: its classes {name!r} and {other!r} differ by case, spaces or the writing of "
            "letters alone; give one class one name"
        )
    if classes and set(classes) <= set(_LENSES):
        classes = _LENSES
    elif len(classes) == 2 and is_lens(classes[0]) and not is_lens(classes[1]):
        classes = classes[::-1]
    samples = []
    for key, id_ in names.items():
        split, class_ = named[doubled[path_parts(id_)[:-1]]]
        target = classes.index(class_) if class_ else -1
        split = split or ("" if class_ else "train")
        samples.append(Sample(id_, joined.files[key], split, target))
    listing = _Listing(samples, classes, describe(named), bands=joined.bands)
    listing.warnings += [joined.warning] if joined.warning else []
    folded = sorted("/".join(parts) for parts, plain in doubled.items() if parts != plain)
    if folded:
        more = f" and {len(folded) - 1} more" if len(folded) > 1 else ""
        listing.notes.append(f"doubled folders are read as one: {folded[0]}{more}")
    return listing


def _refuse_band_sets(root: Path, ids: Collection[str]) -> None:
    """Refuse .npz sets of one band each, whose images would be packed one by one."""
    if bands_of_names([PurePosixPath(id_).stem for id_ in ids]):
        raise ShardError(
            f"{root}: {', '.join(ids)} are named for bands; put the bands of an image into one "
            "array, 'images' (N, C, H, W)"
        )


def _read_sets(root: Path, tree: Tree, ids: dict[str, str]) -> _Listing:
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
                labels, classes = read_labels(file)
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
    return _Listing(samples, classes, "{split}.npz", notes, warnings)


def _split_four_to_one(samples: Iterable[Sample], seed: int) -> list[Sample]:
    """Give every fifth sample of each class without a split to val, drawn by the seed."""
    members: dict[int, list[Sample]] = {}
    done: list[Sample] = []
    for sample in samples:
        if sample.split:
            done.append(sample)
        else:
            members.setdefault(sample.target, []).append(sample)
    for same in members.values():
        order = np.random.default_rng(seed).permutation(len(same))
        valid = set(order[: round(len(same) / 5)].tolist())
        done += [replace(s, split="val" if i in valid else "train") for i, s in enumerate(same)]
    return done


def _by_split(samples: Sequence[Sample]) -> dict[str, tuple[Sample, ...]]:
    names = ("train", "val", "test")
    splits = {name: tuple(sample for sample in samples if sample.split == name) for name in names}
    return {name: members for name, members in splits.items() if members}
