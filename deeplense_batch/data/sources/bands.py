"""Bands of one object: files, folders and FITS extensions that are named for filters.

``7_g.npy 7_r.npy``, ``g/7.npy r/7.npy``, ``7/HSC-G.fits 7/HSC-R.fits`` are all one object in two
bands. A name is taken for that of a band only where another file has the same name but for the
band: ``obj_r.npy`` alone is an ordinary name, and so is a class called ``g``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.sources.archive import path_parts, stem
from deeplense_batch.data.sources.companions import COMPANIONS
from deeplense_batch.data.sources.layouts import SPLITS, meaning, natural

__all__ = ["Joined", "band_order", "bands_of_names", "join_bands", "named_for_bands"]

_INSTRUMENTS = (
    "HSC|SDSS|DES|DECam|PS1?|LSST|Rubin|KiDS|CFHT|CFHTLS|CFIS|Euclid|EUC|NISP|NIR|VISTA|VIRCAM|"
    "VIKING|UltraVISTA|UKIDSS|2MASS|GALEX|WISE|unWISE|ZTF|HST|WFC3|ACS|JWST|NIRCam|MegaCam|Roman|"
    "WFI|band|filter"
)
_FILTERS = (
    "(?-i:[ugrizyjhkbUGRIZYJHKBV])|Ks|[RI]2|W[1-4]|[NF]UV|VIS|NIR|F[0-9]{3,4}(?:W2|LP|[WMNX])|"
    "F(?:062|087|106|129|146|158|184|213)|red|green|blue"
)
_BAND = re.compile(
    rf"(?<![^\W_])(?:(?:(?:{_INSTRUMENTS})[-_. ]?)?({_FILTERS})|"
    r"((?:band|filter|channel|chan|ch)[-_. ]?[0-9]{1,2}))(?![^\W_])",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+")
_COLOURS = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2}
_COLOUR_WORDS = {"red", "green", "blue"}
_BLUE_TO_RED = (
    "fuv", "nuv", "u", "b", "g", "v", "r", "r2", "vis", "i", "i2", "z", "y", "nir", "j", "h", "k",
    "ks", "w1", "w2", "w3", "w4",
)  # fmt: skip
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


def band_order(bands: Iterable[str]) -> list[str]:
    """Bands in the order of channels: red, green, blue; else by wavelength; else by name."""
    names = list(bands)
    lower = [_filter(name) for name in names]
    for known in (_COLOURS, {name: i for i, name in enumerate(_BLUE_TO_RED)}):
        if set(lower) <= set(known) and (known is not _COLOURS or len(names) == 3):
            return [name for _, name in sorted(zip(map(known.get, lower), names, strict=True))]
    return sorted(names, key=natural)


def bands_of_names(names: Sequence[str]) -> dict[str, str] | None:
    """The band of each name, where names differ by their bands alone and no two are one band.

    Arguments:
        names: Such as those of the extensions of a FITS file.
    """
    split_names = {name: _without_bands(name) for name in names}
    keys = {key for key, _ in split_names.values()}
    if len(names) < 2 or len(keys) > 1 or not all(bands for _, bands in split_names.values()):
        return None
    bands = _differing([bands for _, bands in split_names.values()])
    one_each = len({band.lower() for band in bands}) == len(names) == len(split_names)
    return dict(zip(names, bands, strict=True)) if one_each else None


def join_bands(root: object, ids: Mapping[str, str]) -> Joined:
    """Group the files that are bands of one object, where that is plain.

    Arguments:
        root: Named in errors.
        ids: Id of each file, by its name.

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
    if words - COMPANIONS:
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
    return _joined(root, groups, sorted(others, key=natural), names)


def _by_name_without_bands(ids: Iterable[str]) -> dict[str, list[_BandFile]]:
    """Files named for bands, by what is left of their names without band and split."""
    groups: dict[str, list[_BandFile]] = {}
    for id_ in ids:
        key, bands = _without_bands(stem(id_))
        if bands:
            split, below = _apart(key)
            groups.setdefault(below, []).append(_BandFile(id_, split, bands))
    return groups


def _joined(
    root: object,
    groups: Mapping[str, Sequence[_BandFile]],
    others: list[str],
    names: dict[str, str],
) -> Joined:
    """Join the files that `_are_bands`.

    Raises:
        ShardError: Not every object has the same bands, or other files lie among them.
    """
    objects, labels = _objects(root, groups)
    if not 2 <= len(labels) <= _MOST_BANDS:
        raise _refused(root, f"one object would have {len(labels)} bands")
    order = band_order(labels.values())
    if others:
        why = f"{others[0]} is of none of these ({len(others)} such files)"
        raise _refused(root, why, order)
    if lacking := [by_band for by_band in objects if set(by_band) != set(labels)]:
        missing = ", ".join(band for band in order if _filter(band) not in lacking[0])
        raise _refused(
            root,
            f"{next(iter(lacking[0].values()))} has no counterpart in band {missing} "
            f"({len(lacking)} of {len(objects)} objects are not whole)",
            order,
        )
    rows = [tuple(by_band[_filter(band)] for band in order) for by_band in objects]
    files = {id_: tuple(names[one] for one in row) for id_, row in _object_ids(rows).items()}
    return Joined(files, tuple(order))


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
            bands = _differing([file.bands for file in here])
            by_band = {_filter(band): file.id for band, file in zip(bands, here, strict=True)}
            if len(by_band) < len(here):
                one, other = here[0].id, here[-1].id
                raise _refused(root, f"{one} and {other} are one object twice in one band")
            labels |= {_filter(band): band for band in bands}
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
    words = {tuple(map(_filter, file.bands)) for file in files}
    colours = {word for one in words for word in one} & _COLOUR_WORDS
    return len(words) > 1 and colours in (set(), _COLOUR_WORDS)  # red and blue may be classes


def _is_companion(key: str, groups: Mapping[str, object]) -> bool:
    """Whether a name is that of the mask or the like of others: 7_*_mask of 7_*."""
    words = (word for word in _WORD.finditer(key) if word[0].lower() in COMPANIONS)
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


def _without_bands(name: str) -> tuple[str, tuple[str, ...]]:
    """A name with '*' for each band, and these."""
    return _BAND.sub("*", name), tuple(match[1] or match[2] for match in _BAND.finditer(name))


def _differing(bands: Sequence[tuple[str, ...]]) -> list[str]:
    """The one word of each name that tells them apart, if there is one; else all of them."""
    if len({len(words) for words in bands}) > 1:
        return ["-".join(words) for words in bands]
    if len(bands) == 1:
        return [bands[0][-1]]
    for column in reversed(list(zip(*bands, strict=True))):
        if len({_filter(word) for word in column}) == len(bands):
            return list(column)
    return ["-".join(words) for words in bands]


def _filter(band: str) -> str:
    """A band as it is compared with others: G and g are one."""
    return band.lower()


def _apart(key: str) -> tuple[str, str]:
    """The split that a name says, and the rest of it."""
    first, slash, rest = key.partition("/")
    if not slash:
        return "", key
    if first.lower() in SPLITS:
        return SPLITS[first.lower()], rest
    split, class_ = meaning(first)
    return split, f"{class_}/{rest}"


def _object_ids(rows: Sequence[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Rows by the id of their object: the name without the bands, as long as these are unique."""
    plain, marked = {}, {}
    for row in rows:
        ending, key = row[0].removeprefix(stem(row[0])), _shared(row)
        marked[key + ending] = row
        plain[(*(part for part in map(_tidied, path_parts(key)) if part), ending)] = row
    if _a_folder_each(list(plain)):
        plain = {(*parts[:-1], ending): row for (*parts, ending), row in plain.items()}
    if len(plain) < len(rows) or any(len(parts) == 1 for parts in plain):
        return marked
    return {"/".join(parts) + ending: row for (*parts, ending), row in plain.items()}


def _shared(row: tuple[str, ...]) -> str:
    """The name that files share, with '*' where their bands differ."""
    stems = [stem(id_) for id_ in row]
    columns = zip(*([match[0] for match in _BAND.finditer(one)] for one in stems), strict=True)
    same = iter([words[0] if len(set(words)) == 1 else "*" for words in columns])
    return _BAND.sub(lambda _: next(same), stems[0])


def _a_folder_each(names: Sequence[tuple[str, ...]]) -> bool:
    """Whether every object has a folder of its own, which names it: obj1/obj1_g.fits."""
    folders = {parts[:-2] for parts in names}
    called_alike = all(len(parts) > 2 and parts[-2] == parts[-3] for parts in names)
    return len(folders) == len(names) and called_alike


def _tidied(part: str) -> str:
    """A part of a name without the mark of a band and what joined it to the rest."""
    return re.sub(r"^\*[-_. ]*|[-_. ]*\*", "", part)


def named_for_bands(names: Sequence[str]) -> bool:
    """Whether all of several names are those of bands."""
    return len(names) > 1 and all(_without_bands(name)[0] == "*" for name in names)
