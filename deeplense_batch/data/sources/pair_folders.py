"""Sources of pairs: which of two folders, or two arrays, holds the images, and which their inputs.

========================================  =====================================================
layout                                    joined by
========================================  =====================================================
``HR/``, ``LR/``, with folders of splits  path and name, without the folder and the ending; where
or classes above or below                 no names agree, by the numbers in them
a set with arrays ``hr`` and ``lr``, or   place in the arrays
``images`` and ``inputs``
========================================  =====================================================

``--pair`` gives the two other names, images first.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.listing.archive import Tree, path_parts, stem
from deeplense_batch.data.listing.listing import Listing
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.sources.sets.stacks import open_stack

__all__ = ["add_inputs", "halves_of", "pair_of_set", "refuse_edges", "without_split"]

_FOLDERS = ("hr", "lr")
_CLEAN = "clean"  # folder of `unpack` beside them, of simulated images without noise
_ARRAYS = (("hr", "lr"), ("images", "inputs"))  # in the order in which they are looked for

Key = tuple[str, ...]


def halves_of(
    root: Path, names: Sequence[str], reading: Reading
) -> tuple[dict[str, str], dict[str, str]] | None:
    """The files of images and of inputs, each with its path as it were without the two folders.

    Arguments:
        root: Named in errors.
        names: Of all files that may be images.
        reading: Names the folders, unless they are HR and LR.

    Returns:
        By name, for images and for inputs; None where there are no such two folders. Those in
        folders ``clean`` are left out.

    Raises:
        ShardError: Files lie beside the two folders, or two in one place, or there is no folder of
            one that is asked for.
    """
    asked = tuple(name.casefold() for name in reading.pair) or _FOLDERS
    halves: tuple[dict[str, str], dict[str, str]] = ({}, {})
    others = []
    for name in names:
        *folders, file = path_parts(name)
        places = [(i, asked.index(f.casefold())) for i, f in enumerate(folders)
                  if f.casefold() in asked]  # fmt: skip
        if len(places) == 1:
            at, half = places[0]
            halves[half][name] = "/".join([*folders[:at], *folders[at + 1 :], file])
        elif _CLEAN not in folders:
            others.append(name)
    if not all(halves):
        return None
    if others:
        both = " and ".join(reading.pair or ("HR", "LR"))
        raise ShardError(
            f"{root}: {others[0]} lies beside the folders {both} of pairs ({len(others)} such); "
            "expected every image in one of them"
        )
    return halves


def add_inputs(listing: Listing, inputs: Mapping[str, str]) -> None:
    """Give each sample of a listing the file of its input; those that have none are faults.

    Arguments:
        listing: Of the images, whose ids are their paths without the folders of pairs.
        inputs: Paths of the inputs, likewise, by file name.
    """
    found = _joined([sample.id for sample in listing.samples], inputs)
    used = set(found.values())
    listing.inputs = {id_: (name,) for id_, name in found.items()}
    samples, listing.samples = listing.samples, []
    for sample in samples:
        if sample.id in found:
            listing.samples.append(sample)
        else:
            listing.refuse(sample, "its input is missing", sample.files[0])
    lost = [name for name in inputs if name not in used]
    for name in lost:
        listing.refuse_input(name, "the image of this input is missing")
    if listing.layout == "images side by side":
        without_split(listing)
    listing.layout = f"pairs, {listing.layout}"


def without_split(listing: Listing) -> None:
    """Leave to what split pairs belong, of which nothing says it: a fifth becomes ``val``.

    Single images without labels are all trained on, since nothing is scored by them.
    """
    listing.samples = [
        sample if sample.target >= 0 else replace(sample, split="") for sample in listing.samples
    ]


def pair_of_set(tree: Tree, name: str, reading: Reading) -> tuple[str, str] | None:
    """Names of the arrays of images and of inputs in a file of a set; None where it has no pairs.

    Arguments:
        tree: Holds the file.
        name: Of the file.
        reading: Names them, unless they have the usual names.
    """
    if reading.pair:
        return reading.pair[0], reading.pair[1]
    with suppress(Exception), tree.open(name) as file, open_stack(name, file) as stack:
        known = {array.casefold(): array for array, (shape, _) in stack.forms.items()
                 if len(shape) in (3, 4)}  # fmt: skip
        return next(((known[a], known[b]) for a, b in _ARRAYS if {a, b} <= set(known)), None)
    return None  # a broken file is reported when it is read


def refuse_edges(root: Path, reading: Reading) -> None:
    """Refuse to cut or fill up pairs, of which both images would become one size.

    Raises:
        ShardError: It was asked for.
    """
    for flag in ("crop", "pad"):
        if size := getattr(reading, flag):
            raise ShardError(
                f"{root}: --{flag} {size}: images and inputs of pairs have sizes of their own; "
                "leave it out, data.crop in a recipe keeps the middle of both"
            )


def _joined(ids: Sequence[str], inputs: Mapping[str, str]) -> dict[str, str]:
    """File of the input of each image, by its id; those without are left out."""
    found: dict[str, str] = {}
    images, others = _by_folder({id_: id_ for id_ in ids}), _by_folder(inputs)
    for folder, own in images.items():
        theirs = others.get(folder, {})
        found |= _matched(own, theirs) or _matched(_by_number(own), _by_number(theirs))
    return found


def _matched(own: Mapping[Any, str], theirs: Mapping[Any, str]) -> dict[str, str]:
    """Names of `theirs` by those of `own` with the same key."""
    return {own[key]: theirs[key] for key in own if key in theirs}


def _by_folder(paths: Mapping[str, str]) -> dict[Key, dict[str, str]]:
    """Names by the stem of their paths, by folder."""
    folders: dict[Key, dict[str, str]] = defaultdict(dict)
    for name, path in paths.items():
        *above, _ = path_parts(path)
        folders[tuple(above)][path_parts(stem(path))[-1]] = name
    return folders


def _by_number(names: Mapping[str, str]) -> dict[tuple[int, ...], str]:
    """Names by the numbers in their stems; nothing where two have the same, or one has none.

    Zeros before a number say nothing: ``hst_007`` and ``hsc_7`` have the same.
    """
    numbers = [tuple(map(int, re.findall(r"\d+", stem_))) for stem_ in names]
    if () in numbers or len(set(numbers)) < len(numbers):
        return {}
    return dict(zip(numbers, names.values(), strict=True))
