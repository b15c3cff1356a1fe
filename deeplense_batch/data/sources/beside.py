"""Warnings about files beside the images that are not read: pictures, archives, links."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from deeplense_batch.data.formats.images import LOSSY, SUFFIXES
from deeplense_batch.data.listing.archive import Tree, stem
from deeplense_batch.data.listing.layouts import KNOWN, empty_folders
from deeplense_batch.data.sources.tables import about_tables

__all__ = ["about_folders", "about_hidden", "about_unread", "left_out", "no_images", "previews"]

_PICTURES = (".jfif", ".gif", ".bmp", ".webp", ".jp2", ".avif", ".heic", ".ppm",
             ".pgm")  # fmt: skip
_ARRAYS = (".h5", ".hdf5", ".hdf", ".mat", ".pt", ".pth", ".pkl", ".pickle",
           ".asdf", ".nii", ".raw", ".tfrecord", ".npy.gz")  # fmt: skip
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_LONGER = re.compile(rf"({'|'.join(map(re.escape, SUFFIXES))})[^/\w]", re.IGNORECASE)
_BEGINNINGS = (b"\x93NUMPY", b"\x89PNG", b"SIMPLE  ", b"II*\0", b"MM\0*")
_MOST_OPENED = 20  # files without an ending, which may be large

_ADVICE = {
    _PICTURES: "values may be lost in them; convert them to .png or .npy",
    _ARRAYS: "they may hold images; convert them to .fits or .npy",
    _ARCHIVES: "they may hold images; unpack them",
}


def no_images(others: Sequence[str], hidden: Sequence[str]) -> str:
    """Say what was found in place of images, what is expected, and what can be done."""
    expected = f"images are {', '.join(SUFFIXES)}"
    if not others:
        but = f" but for {len(hidden)} hidden, such as {hidden[0]}" if hidden else ""
        return f"is empty{but}; {expected}, in a known layout; {KNOWN}"
    count = f"{len(others)} other file" + ("s" if len(others) > 1 else "")
    suffixes = {PurePosixPath(name).suffix.lower() for name in others}
    pictures = ", ".join(sorted(suffixes & set(_PICTURES)))
    convert = f"; convert the {pictures} files to .png or .npy" if pictures else ""
    return f"holds no images, only {count}, such as {others[0]}; {expected}{convert}"


def previews(images: Sequence[str]) -> list[str]:
    """Pictures with losses that have the name of another image beside them: its previews."""
    exact = {stem(name) for name in images if not name.lower().endswith(LOSSY)}
    return [name for name in images if name.lower().endswith(LOSSY) and stem(name) in exact]


def left_out(
    root: Path, tree: Tree, others: Sequence[str], images: Sequence[str], *, labelled: bool
) -> list[str]:
    """Warn of all that is left out although it may hold images or labels.

    Arguments:
        root: The source, as a command names it.
        tree: Holds the files.
        others: Names of those that are not read.
        images: Names of those that are.
        labelled: Whether the images have labels.
    """
    warnings = [
        *about_others(others, len(images)),
        *about_previews(others),
        *about_links(tree, others),
        *about_disguised(tree, others),
    ]
    return warnings if labelled else [*warnings, *about_tables(root, tree, others, images)]


def about_others(others: Sequence[str], images: int) -> list[str]:
    """Warn of files that are left out although they may hold images.

    Arguments:
        others: Names of the files that are not read.
        images: How many files are.
    """
    warnings = []
    for endings, advice in _ADVICE.items():
        if lost := [name for name in others if name.lower().endswith(endings)]:
            kinds = Counter(PurePosixPath(name).suffix.lower() for name in lost)
            listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(kinds.items()))
            warnings.append(
                f"{listed} beside {images} image{'s' * (images > 1)} left out, such as "
                f"{lost[0]}: {advice}, or the set lacks them"
            )
    return warnings


def about_previews(others: Sequence[str]) -> list[str]:
    """Warn of pictures with losses that are left out, since an image has their name."""
    lost = [name for name in others if name.lower().endswith(LOSSY)]
    more = f" ({len(lost)} such)" if len(lost) > 1 else ""
    says = "has the name of another image, and is left out as its preview"
    return [f"{lost[0]} {says}{more}"] if lost else []


def about_disguised(tree: Tree, others: Sequence[str]) -> list[str]:
    """Warn of images whose names do not end as those of images: 7.npy.part, or a bare 7.

    Arguments:
        tree: Holds the files.
        others: Names of those that are not read.
    """
    reported = tuple(ending for endings in _ADVICE for ending in endings)  # by `about_others`
    longer = [n for n in others if _LONGER.search(n) and not n.lower().endswith(reported)]
    bare = [name for name in others if not PurePosixPath(name).suffix]
    images = longer + [name for name in bare[:_MOST_OPENED] if _begins_as_image(tree, name)]
    if not images:
        return []
    more = f" ({len(images)} such, or more)" if len(images) > 1 else ""
    return [
        f"{images[0]} seems to be an image under another name{more}, and is left out: end its "
        f"name with {', '.join(SUFFIXES)}, or copy or unpack it again, or the set lacks it"
    ]


def _begins_as_image(tree: Tree, name: str) -> bool:
    with suppress(Exception), tree.open(name) as file:  # it may be anything, or not be there
        return file.read(8).startswith(_BEGINNINGS)
    return False


def about_links(tree: Tree, others: Sequence[str]) -> list[str]:
    """Warn of links to nothing: what they should hold is missing.

    Arguments:
        tree: Holds the files.
        others: Names of those that are no images.
    """
    lost = [name for name in others if not tree.path(name).exists()]
    more = f" ({len(lost)} such)" if len(lost) > 1 else ""
    warning = f"is a link to nothing{more}: what it should hold is missing"
    return [f"{lost[0]} {warning}"] if lost else []


def about_folders(tree: Tree, images: Sequence[str]) -> list[str]:
    """Warn of folders without images, and of links to folders that are read already."""
    empty = [
        f"folder {name} holds no images: if it is a class or a split, the set lacks it"
        for name in empty_folders(tree.folders, images)
    ]
    return empty + [
        f"folder {name} is a link to one that is read already, and is left out"
        for name in tree.repeated
    ]


def about_hidden(names: Sequence[str]) -> list[str]:
    """Warn of hidden files that may be images; ._x and __MACOSX/ of a Mac never are."""
    lost = [n for n in names if n.lower().endswith(SUFFIXES) and "/._" not in f"/{n}"]
    if not lost:
        return []
    count = "1 file" if len(lost) == 1 else f"{len(lost)} files"
    return [f"{count} left out, hidden by a name or folder that begins with '.': {lost[0]}"]


def about_unread(unread: Sequence[str], read: Sequence[str]) -> list[str]:
    """Warn of arrays of sets that are not read.

    Arguments:
        unread: Their names.
        read: Names of those that are.
    """
    if not unread:
        return []
    more = f" and {len(unread) - 6} more" if len(unread) > 6 else ""
    return [f"arrays {', '.join(unread[:6])}{more} are not read: a set is {', '.join(read)}"]
