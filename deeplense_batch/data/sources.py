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

Everything may lie in a zip, which is read in place, and below folders that hold nothing else
(``dataset/``); those are no part of a sample's id, so that a folder and its zip pack to the same
shards. Classes are numbered by name, in natural order, but a lens is always 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.images import (
    SUFFIXES,
    Image,
    ImageError,
    check_image,
    has_fits,
    is_set,
    read_arrays,
    read_image,
    read_labels,
)
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.trees import Tree, open_tree, path_parts

__all__ = ["Sample", "Source", "open_source"]

_KNOWN = (
    "known are {train,val,test}/{class}/, {class}/, {train,test}_{class}/, images side by side, "
    "and {train,val,test}.npz with 'images' and 'labels'"
)
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_AFFIX = re.compile(r"^(?:(train|val|test)_(.+)|(.+)_(train|val|test))$", re.IGNORECASE)
_LENSES = ("nonlenses", "lenses")
_RESOLUTIONS = {"hr", "lr"}


@dataclass(frozen=True, slots=True)
class Sample:
    """Where one image stands, and what it is."""

    id: str
    file: str  # name in the tree
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
    allow_pickle: bool

    _tree: Tree = field(repr=False)
    _sets: dict[str, Array] = field(default_factory=dict, repr=False)

    def hold(self, split: str) -> None:
        """Load the .npz sets of a split, whose images cannot be read singly, and drop others.

        Raises:
            ShardError: A set cannot be read.
        """
        self._sets.clear()
        for name in {s.file for s in self.splits[split] if s.index is not None}:
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
            if sample.index is not None:
                return check_image(self._sets[sample.file][sample.index])
            data = self._tree.read(sample.file)
            return read_image(sample.file, data, allow_pickle=self.allow_pickle)
        except ImageError:
            raise
        except Exception as error:  # a broken file makes its reader raise anything at all
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise ImageError(f"cannot be read ({text})") from error


@contextmanager
def open_source(root: Path, *, seed: int = 0, allow_pickle: bool = False) -> Iterator[Source]:
    """Find out what stands in a folder, a zip or an .npz file; no image is read for it.

    Arguments:
        root: The folder or file.
        seed: Seed of the 4:1 split where the layout gives none.
        allow_pickle: Whether object arrays are unpickled, which runs any code they carry.

    Raises:
        ShardError: There is no such file, it holds no images, or they lie in no known layout.
    """
    with open_tree(root) as tree:
        images = [name for name in tree.names if f".{name.split('.')[-1].lower()}" in SUFFIXES]
        others = sorted(set(tree.names) - set(images), key=_natural)
        if not images:
            found = f"{len(others)} other files, such as {others[0]}" if others else "nothing"
            raise ShardError(
                f"{root}: holds no images but {found}; images are {', '.join(sorted(SUFFIXES))}"
            )
        if not has_fits() and any(name.lower().endswith(".fits") for name in images):
            raise ShardError(
                f"{root}: .fits files need astropy: pip install deeplense-batch[fits]"
            )
        names = _without_common_folders(sorted(images, key=_natural))
        packed = next((name for name in names if name.lower().endswith(".npz")), "")
        if _is_set(tree, packed):
            samples, classes, notes = _read_sets(root, tree, names)
            layout = "{split}.npz"
        else:
            samples, classes, layout = _read_folders(root, names)
            notes = []
        if any(not sample.split for sample in samples):
            samples = _split_four_to_one(samples, seed)
            notes.append(f"no split given: each class split 4:1 into train and val, seed {seed}")
        yield Source(
            root=root,
            layout=layout,
            classes=classes,
            splits=_by_split(samples),
            ignored=tuple(others),
            notes=tuple(notes),
            allow_pickle=allow_pickle,
            _tree=tree,
        )


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sort key: 2.npy before 10.npy."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _without_common_folders(names: Sequence[str]) -> dict[str, str]:
    """Id of each file: its name without the folders that hold all of them and mean nothing."""
    parts = {name: path_parts(name) for name in names}
    folders = {path[:-1] for path in parts.values()}
    skip = 0
    for level in zip(*folders, strict=False):
        last = any(len(path) == skip + 1 for path in folders)
        meant = level[0].lower() in _SPLITS or (last and _AFFIX.match(level[0]))
        if len(set(level)) > 1 or meant:
            break
        skip += 1
    return {name: "/".join(path[skip:]) for name, path in parts.items()}


def _place(folders: tuple[str, ...]) -> tuple[str, str] | None:
    """Split and class that folders name, "" where they do not; None where they make no sense."""
    if not folders:
        return "", ""
    split = _SPLITS.get(folders[0].lower(), "")
    if len(folders) == 2 and split:
        return split, folders[1]
    if len(folders) > 1:
        return None
    if split:
        return split, ""
    if match := _AFFIX.match(folders[0]):
        return (match[1] or match[4]).lower(), match[2] or match[3]
    return "", folders[0]


def _read_folders(root: Path, ids: dict[str, str]) -> tuple[list[Sample], tuple[str, ...], str]:
    """Split and class of every image from its folders; the classes; the layout in words."""
    folders = {name: path_parts(id_)[:-1] for name, id_ in ids.items()}
    places = _places(root, set(folders.values()))
    classes = tuple(sorted({class_ for _, class_ in places.values() if class_}, key=_natural))
    if classes and set(classes) <= set(_LENSES):
        classes = _LENSES
    samples = []
    for name, id_ in ids.items():
        split, class_ = places[folders[name]]
        target = classes.index(class_) if class_ else -1
        samples.append(Sample(id_, name, split or ("" if class_ else "train"), target))
    depth = max(map(len, places))
    layout = {0: "images side by side", 1: "{class}/", 2: "{split}/{class}/"}[depth]
    if depth == 1 and any(split for split, _ in places.values()):
        layout = "{split}_{class}/" if classes else "{split}/"
    return samples, classes, layout


def _places(root: Path, folders: set[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, str]]:
    """What every folder stands for, if that makes sense together."""
    places = {parts: place for parts in folders if (place := _place(parts)) is not None}
    splits = {split for split, _ in places.values()}
    labelled = {bool(class_) for _, class_ in places.values()}
    half_split = "" in splits and bool({"train", "val"} & splits)
    pairs = {parts[-1].lower() for parts in folders if parts} >= _RESOLUTIONS
    if len(places) < len(folders) or len(labelled) > 1 or half_split or pairs:
        found = sorted(("/".join(parts) or "." for parts in folders), key=_natural)
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        names = ", ".join(found[:6]) + more + (" (pairs for super-resolution)" if pairs else "")
        raise ShardError(f"{root}: unknown layout, images in the folders {names}; {_KNOWN}")
    return places


def _is_set(tree: Tree, name: str) -> bool:
    if not name.lower().endswith(".npz"):
        return False
    with tree.open(name) as file:
        return is_set(file)


def _read_sets(
    root: Path, tree: Tree, ids: dict[str, str]
) -> tuple[list[Sample], tuple[str, ...], list[str]]:
    """Samples of .npz sets, their classes, and what was decided about them."""
    samples: list[Sample] = []
    named: set[tuple[str, ...]] = set()
    for name, id_ in ids.items():
        if not _is_set(tree, name):
            raise ShardError(
                f"{root}: unknown layout, .npz sets beside other images such as {id_}; {_KNOWN}"
            )
        try:
            with tree.open(name) as file:
                labels, classes = read_labels(file)
        except ImageError as error:
            raise ShardError(f"{root}: {id_}: {error}") from error
        named.add(classes)
        split = (_place((PurePosixPath(id_).stem,)) or ("", ""))[0]
        if not split and (labels < 0).all():
            split = "train"
        samples += [
            Sample(f"{id_}[{i}]", name, split, t, i) for i, t in enumerate(labels.tolist())
        ]
    if len(named) > 1:
        raise ShardError(f"{root}: its .npz files name different classes")
    splits = {sample.split for sample in samples}
    if ("" in splits and len(splits) > 1) or not splits:
        raise ShardError(f"{root}: unknown layout, {', '.join(list(ids.values())[:6])}; {_KNOWN}")
    classes, most = named.pop(), max(sample.target for sample in samples)
    if classes and most >= len(classes):
        raise ShardError(f"{root}: has label {most}, but names only {len(classes)} classes")
    if classes or most < 0:
        return samples, classes, []
    numbers = tuple(str(i) for i in range(most + 1))
    note = (
        f"the .npz files name no classes (array 'classes'): called {', '.join(numbers)}; "
        "GravLensNet's own order was no, vort, sphere"
    )
    return samples, numbers, [note]


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
