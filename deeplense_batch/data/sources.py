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
shards. Classes are numbered by name, in natural order, but of two of which one is
named ``lens`` or ``lenses`` that is always 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.images import (
    SUFFIXES,
    Image,
    ImageError,
    array_names,
    check_image,
    has_fits,
    read_arrays,
    read_image,
    read_labels,
)
from deeplense_batch.data.layouts import (
    KNOWN,
    describe,
    empty_folders,
    is_lens,
    meaning,
    natural,
    places,
    short_ids,
)
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.trees import Tree, open_tree, path_parts

__all__ = ["Sample", "Source", "open_source"]

_LENSES = ("nonlenses", "lenses")
_PICTURES = {".jpg", ".jpeg", ".gif", ".bmp", ".webp"}  # known, but not read: most lose values


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
    warnings: tuple[str, ...]  # what is probably not meant so
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
        images = [name for name in tree.names if name.lower().endswith(SUFFIXES)]
        others = sorted(set(tree.names) - set(images), key=natural)
        if not images:
            raise ShardError(f"{root}: {_no_images(others)}")
        if not has_fits() and any(n.lower().endswith((".fits", ".fits.gz")) for n in images):
            raise ShardError(
                f"{root}: .fits files need astropy: pip install deeplense-batch[fits]"
            )
        names = short_ids(sorted(images, key=natural))
        if _hold_sets(root, tree, names):
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
            warnings=tuple(
                f"folder {name} holds no images: if it is a class or a split, the set lacks it"
                for name in empty_folders(tree.folders, images)
            ),
            allow_pickle=allow_pickle,
            _tree=tree,
        )


def _no_images(others: Sequence[str]) -> str:
    """Say what is there in place of images, what is expected, and what can be done."""
    expected = f"images are {', '.join(SUFFIXES)}"
    if not others:
        return f"is empty; {expected}, in a known layout; {KNOWN}"
    count = f"{len(others)} other file" + ("s" if len(others) > 1 else "")
    suffixes = {PurePosixPath(name).suffix.lower() for name in others}
    pictures = ", ".join(sorted(suffixes & _PICTURES))
    convert = f"; convert the {pictures} files to .png or .npy" if pictures else ""
    return f"holds no images, only {count}, such as {others[0]}; {expected}{convert}"


def _hold_sets(root: Path, tree: Tree, ids: dict[str, str]) -> bool:
    """Whether the .npz files are sets of images, not images: all of them or none.

    A folder may hold thousands of .npz images, so that only the first is opened; but one that
    cannot be an image, being the whole source or named as a split, must be a set.
    """
    packed = [name for name in ids if name.lower().endswith(".npz")]
    alone = not root.is_dir() and root.name in packed
    must = [name for name in packed if alone or meaning(PurePosixPath(name).stem)[1] == ""]
    with suppress(ShardError):  # a damaged image among others is told when it is read
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
        raise ShardError(f"{root}: {name}: {error}") from error


def _read_folders(root: Path, ids: dict[str, str]) -> tuple[list[Sample], tuple[str, ...], str]:
    """Split and class of every image from its folders; the classes; the layout in words."""
    folders = {name: path_parts(id_)[:-1] for name, id_ in ids.items()}
    found = places(root, set(folders.values()))
    classes = tuple(sorted({class_ for _, class_ in found.values() if class_}, key=natural))
    if classes and set(classes) <= set(_LENSES):
        classes = _LENSES
    elif len(classes) == 2 and is_lens(classes[0]) and not is_lens(classes[1]):
        classes = classes[::-1]
    samples = []
    for name, id_ in ids.items():
        split, class_ = found[folders[name]]
        target = classes.index(class_) if class_ else -1
        samples.append(Sample(id_, name, split or ("" if class_ else "train"), target))
    return samples, classes, describe(found)


def _read_sets(
    root: Path, tree: Tree, ids: dict[str, str]
) -> tuple[list[Sample], tuple[str, ...], list[str]]:
    """Samples of .npz sets, their classes, and what was decided about them."""
    samples: list[Sample] = []
    named: set[tuple[str, ...]] = set()
    for name, id_ in ids.items():
        if not name.lower().endswith(".npz"):
            raise ShardError(
                f"{root}: unknown layout, .npz sets beside other images such as {id_}; {KNOWN}"
            )
        try:
            with tree.open(name) as file:
                labels, classes = read_labels(file)
        except ImageError as error:
            raise ShardError(f"{root}: {id_}: {error}") from error
        named.add(classes)
        split = meaning(PurePosixPath(id_).stem)[0]
        if not split and (labels < 0).all():
            split = "train"
        samples += [
            Sample(f"{id_}[{i}]", name, split, t, i) for i, t in enumerate(labels.tolist())
        ]
    if len(named) > 1:
        raise ShardError(f"{root}: its .npz files name different classes")
    splits = {sample.split for sample in samples}
    if ("" in splits and len(splits) > 1) or not splits:
        raise ShardError(f"{root}: unknown layout, {', '.join(list(ids.values())[:6])}; {KNOWN}")
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
