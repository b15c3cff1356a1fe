"""Files that belong to an image but are no image: its mask, weights, noise or PSF.

``7.npy 7_mask.npy``, ``images/7.npy masks/7.npy`` and ``7_sci.fits 7_wht.fits`` are all one image
and what is known about it. A name is taken for that of a companion only where the image is there
too: ``mask_3.npy`` alone is an ordinary name, and so is a class called ``noise``. A file called
``7_sci.fits`` is the image among others of ``7``, whatever these are called: ``7_xyz.fits``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from deeplense_batch.data.formats.masks import NO_LIGHT
from deeplense_batch.data.listing.archive import stem
from deeplense_batch.data.shards import ShardError

__all__ = ["refuse_companions"]

_SCIENCE = frozenset({"sci", "science", "drz", "drc"})  # names that only such others call for
_IMAGES = _SCIENCE | {
    "image", "img", "data", "flux", "cutout", "coadd", "stack", "mosaic", "flt", "flc"
}  # fmt: skip
_WORD = re.compile(r"[^\W_]+")


def refuse_companions(root: object, ids: Iterable[str]) -> None:
    """Make sure that no mask, noise map or the like would be packed as an image of its own.

    Arguments:
        root: Named in errors.
        ids: Names of all files that are images.

    Raises:
        ShardError: One would.
    """
    names = {stem(id_): id_ for id_ in ids}
    images = {bare: id_ for name, id_ in names.items() for bare in _without(name, _IMAGES)} | names
    companions = {
        id_: images[bare]
        for name, id_ in names.items()
        for bare in _without(name, NO_LIGHT)
        if bare in images
    } | _beside_science(names)
    if companions:
        companion, image = next(iter(companions.items()))
        raise ShardError(
            f"{root}: {companion} is named as the mask, noise or the like of {image} "
            f"({len(companions)} such), and would be an image of its own; move these elsewhere, "
            "or rename them if they are images"
        )


def _beside_science(names: Mapping[str, str]) -> dict[str, str]:
    """Ids of files that have another word in the place of ``sci``, each with that of its image."""
    science = {
        place: id_
        for name, id_ in names.items()
        for word, place in _words_of_file(name)
        if word in _SCIENCE
    }
    return {
        id_: science[place]
        for name, id_ in names.items()
        for word, place in _words_of_file(name)
        if place in science and word not in _IMAGES
    }


def _words_of_file(name: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each word of the last part of a name, and what is before and after it."""
    for word in _WORD.finditer(name, name.rfind("/") + 1):
        yield word[0].lower(), (name[: word.start()], name[word.end() :])


def _without(name: str, words: frozenset[str]) -> Iterator[str]:
    """A name after removal of one of some words, or its plural, with the separator."""
    for word in _WORD.finditer(name):
        if word[0].lower() in words or word[0].lower().removesuffix("s") in words:
            start, end = name[: word.start()], name[word.end() :]
            yield start.rstrip("-_. ") + end
            yield start + end.lstrip("-_. /")
