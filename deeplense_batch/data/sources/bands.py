"""Bands of one object: files, folders and FITS extensions that are named for filters.

``7_g.npy 7_r.npy``, ``g/7.npy r/7.npy``, ``7/HSC-G.fits 7/HSC-R.fits`` are all one object in two
bands. A name is taken for that of a band only where another file has the same name but for the
band: ``obj_r.npy`` alone is an ordinary name, and so is a class called ``g``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from deeplense_batch.data.formats.counted import counted, counted_of
from deeplense_batch.data.formats.filters import (
    BAND,
    band_as_written,
    band_order,
    differing,
    plain_bands,
    same_filter,
    without_bands,
)
from deeplense_batch.data.formats.masks import NO_LIGHT
from deeplense_batch.data.formats.natural import natural
from deeplense_batch.data.formats.parts import Part, channels_first, plain
from deeplense_batch.data.formats.untrusted import ImageError
from deeplense_batch.data.listing.archive import path_parts, stem
from deeplense_batch.data.listing.layouts import SPLITS, meaning
from deeplense_batch.data.shards import ShardError

__all__ = ["Joined", "join_bands", "with_bands"]

_WORD = re.compile(r"[^\W_]+")
_COLOUR_WORDS = {"red", "green", "blue"}
_MOST_BANDS = 32


class Joined(NamedTuple):
    """Files that belong together."""

    files: Mapping[str, tuple[str, ...]]  # of each object, one a band, by its id
    bands: tuple[str, ...]  # in the order of the files; empty where nothing is to be joined
    warning: str = ""


class _BandFile(NamedTuple):
    """A file whose name says a band."""

    id: str
    split: str
    bands: tuple[str, ...]


def join_bands(
    root: object,
    ids: Mapping[str, str],
    asked: tuple[str, ...] = (),
    missing_band: str = "refuse",
) -> Joined:
    """Group the files that are bands of one object, where that is plain.

    Arguments:
        root: Named in errors.
        ids: Id of each file, by its name.
        asked: The bands that are wanted, in their order; empty for all.
        missing_band: ``refuse`` objects that lack a band; or else "" is its file.

    Returns:
        The files of each object by its id; one each, where no names differ by a band alone.

    Raises:
        ShardError: They are named for bands, but not every object has the same ones, or an object
            is in two splits.
    """
    alone = {id_: (name,) for name, id_ in ids.items()}
    groups = _by_name_without_bands(ids.values())
    several = {key: files for key, files in groups.items() if _are_bands(files)}
    if not several:
        return Joined(alone, ())
    for key in [key for key in groups if _is_companion(key, several)]:
        del groups[key]
        several.pop(key, None)
    others = set(ids.values()) - {file.id for files in groups.values() for file in files}
    words = {word for id_ in others for word in _words_in_place_of_bands(id_, several)}
    if words - NO_LIGHT:
        return Joined(alone, ())  # x_1, y_1, z_1: letters of another kind
    if others and 2 * sum(map(len, several.values())) < len(ids):
        first, second = (file.id for file in next(iter(several.values()))[:2])
        return Joined(
            alone,
            (),
            f"{first} and {second} look like one object in two bands, and are packed as two: if "
            "they are, put the bands into one array, channels first",
        )
    names = {id_: name for name, id_ in ids.items()}
    objects, order = _joined(root, groups, sorted(others, key=natural), asked)
    if missing_band == "refuse":
        _refuse_lacking(root, objects, order)
    files = {
        id_: tuple(names.get(row.get(band.lower(), ""), "") for band in order)
        for id_, row in _object_ids(objects).items()
    }
    return Joined(files, tuple(asked) or plain_bands(order))


def _by_name_without_bands(ids: Iterable[str]) -> dict[str, list[_BandFile]]:
    """Files named for bands, by what is left of their names without band and split."""
    groups: dict[str, list[_BandFile]] = {}
    for id_ in ids:
        key, bands = without_bands(stem(id_))
        if bands:
            split, below = _apart(key)
            groups.setdefault(below, []).append(_BandFile(id_, split, bands))
    return groups


def _joined(
    root: object,
    groups: Mapping[str, Sequence[_BandFile]],
    others: list[str],
    asked: tuple[str, ...],
) -> tuple[list[dict[str, str]], list[str]]:
    """The file of each object by band, of files that `_are_bands`; and the bands in their order.

    Raises:
        ShardError: Other files lie among them, or none has a band that is asked for.
    """
    objects, labels = _objects(root, groups)
    if not 2 <= len(labels) <= _MOST_BANDS:
        raise _refused(root, f"one object would have {counted(len(labels), 'band')}")
    order = band_order(labels.values())
    if others:
        why = f"{others[0]} is of none of these ({len(others)} such)"
        raise _refused(root, why, order)
    written = {band: band_as_written(band, labels.values()) for band in asked}
    if lost := [band for band, name in written.items() if not name]:
        raise ShardError(
            f"{root}: --bands: no file is named for {', '.join(lost)}; there are "
            f"{', '.join(order)}"
        )
    if not asked:
        return objects, order
    wanted = {name.lower(): band.lower() for band, name in written.items() if name}
    chosen = [{wanted[b]: file for b, file in one.items() if b in wanted} for one in objects]
    return [one for one in chosen if one], list(asked)


def _refuse_lacking(root: object, objects: list[dict[str, str]], order: list[str]) -> None:
    """Refuse objects that lack a band, and name the first."""
    lacking = [by_band for by_band in objects if len(by_band) < len(order)]
    if lacking:
        missing = ", ".join(band for band in order if band.lower() not in lacking[0])
        raise _refused(
            root,
            f"{next(iter(lacking[0].values()))} has no counterpart in band {missing} "
            f"({counted_of(len(lacking), len(objects), 'object', 'is', 'are')} not whole; "
            "--missing_band drop leaves them out, zero makes the band zeros)",
            order,
        )


def _objects(
    root: object, groups: Mapping[str, Sequence[_BandFile]]
) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The file of each object by band; and the name of each band as files write it."""
    objects: list[dict[str, str]] = []
    labels: dict[str, str] = {}
    for files in groups.values():
        splits = dict.fromkeys(file.split for file in files)
        if len(splits) > 1 and len({file.bands for file in files}) == len(files):
            one, other = files[0].id, files[-1].id
            raise _refused(root, f"{one} and {other} are one object in two splits")
        for split in splits:
            here = [file for file in files if file.split == split]
            bands = differing([file.bands for file in here])
            by_band = {band.lower(): file.id for band, file in zip(bands, here, strict=True)}
            if len(by_band) < len(here):
                one, other = here[0].id, here[-1].id
                raise _refused(root, f"{one} and {other} are one object twice in one band")
            labels |= {band.lower(): band for band in bands}
            objects.append(by_band)
    return objects, labels


def _refused(root: object, why: str, bands: Sequence[str] = ()) -> ShardError:
    named = f" ({', '.join(bands)})" if bands else ""
    return ShardError(
        f"{root}: its files are named for bands{named}, but {why}; give every object the same "
        "bands, in one split, or one array of all its bands, channels first; if these are no "
        "bands, rename them"
    )


def _are_bands(files: Sequence[_BandFile]) -> bool:
    """Whether files of equal names differ by their bands, in one split or across two."""
    words = {tuple(band.lower() for band in file.bands) for file in files}
    colours = {word for one in words for word in one} & _COLOUR_WORDS
    return len(words) > 1 and colours in (set(), _COLOUR_WORDS)  # red and blue may be classes


def _is_companion(key: str, groups: Mapping[str, object]) -> bool:
    """Whether a name is that of the mask or the like of others: 7_*_mask of 7_*."""
    words = (word for word in _WORD.finditer(key) if word[0].lower() in NO_LIGHT)
    bare = ((key[: word.start()], key[word.end() :]) for word in words)
    return any(
        start.rstrip("-_. ") + end in groups or start + end.lstrip("-_. /") in groups
        for start, end in bare
    )


def _words_in_place_of_bands(id_: str, groups: Mapping[str, object]) -> list[str]:
    """Words of a name which, taken for a band, would make it one of the groups."""
    name = stem(id_)
    return [
        word[0].lower()
        for word in _WORD.finditer(name)
        if _apart(f"{name[: word.start()]}*{name[word.end() :]}")[1] in groups
    ]


def _apart(key: str) -> tuple[str, str]:
    """The split that a name says, and the rest of it."""
    first, slash, rest = key.partition("/")
    if not slash:
        return "", key
    if first.lower() in SPLITS:
        return SPLITS[first.lower()], rest
    split, class_ = meaning(first)
    return split, f"{class_}/{rest}"


def _object_ids(objects: Sequence[dict[str, str]]) -> dict[str, dict[str, str]]:
    """Objects by their ids: the names without the bands, as long as these are unique."""
    plain, marked = {}, {}
    for by_band in objects:
        first = next(iter(by_band.values()))
        ending, key = first.removeprefix(stem(first)), _shared(by_band)
        marked[key + ending] = by_band
        plain[(*(part for part in map(_tidied, path_parts(key)) if part), ending)] = by_band
    if _a_folder_each(list(plain)):
        plain = {(*parts[:-1], ending): row for (*parts, ending), row in plain.items()}
    if len(plain) < len(objects) or any(len(parts) == 1 for parts in plain):
        return marked
    return {"/".join(parts) + ending: row for (*parts, ending), row in plain.items()}


def _shared(by_band: dict[str, str]) -> str:
    """The name that files share, with '*' where their bands differ."""
    stems = [stem(id_) for id_ in by_band.values()]
    if len(stems) == 1:  # the others are missing
        band = next(iter(by_band))
        return BAND.sub(lambda m: "*" if same_filter(m[1] or m[2], band) else m[0], stems[0])
    columns = zip(*([match[0] for match in BAND.finditer(one)] for one in stems), strict=True)
    same = iter([words[0] if len(set(words)) == 1 else "*" for words in columns])
    return BAND.sub(lambda _: next(same), stems[0])


def _a_folder_each(names: Sequence[tuple[str, ...]]) -> bool:
    """Whether every object has a folder of its own, which names it: obj1/obj1_g.fits."""
    folders = {parts[:-2] for parts in names}
    called_alike = all(len(parts) > 2 and parts[-2] == parts[-3] for parts in names)
    return len(folders) == len(names) and called_alike


def _tidied(part: str) -> str:
    """A part of a name without the mark of a band and what joined it to the rest."""
    return re.sub(r"^\*[-_. ]*|[-_. ]*\*", "", part)


def with_bands(part: Part, asked: Sequence[str]) -> Part:
    """Name the channels of an image, or choose and order them where the file names them.

    Where nothing is asked, names of the file are made plain: g for HSC-G.

    Raises:
        ImageError: It lacks a band, or has another number of channels.
    """
    if not asked:
        return part._replace(bands=plain_bands(part.bands))
    if part.bands == tuple(asked):
        return part
    pixels = channels_first(plain(part.array))
    if not part.bands and len(pixels) != len(asked):
        raise ImageError(
            f"{counted(len(pixels), 'channel')}, and {counted(len(asked), 'band')}: "
            f"{', '.join(asked)}"
        )
    known = list(part.bands or asked)
    written = {band: band_as_written(band, known) for band in asked}
    if lost := [band for band, name in written.items() if not name]:
        raise ImageError(f"has the bands {', '.join(part.bands)}, and not {', '.join(lost)}")
    order = [known.index(name) for name in written.values() if name]
    return part._replace(array=np.ascontiguousarray(pixels[order]), bands=tuple(asked))
