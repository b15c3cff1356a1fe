"""Files by a pattern that the user gives, such as ``{class}/*/{id}_{band}.fits``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.filters import (
    BAND,
    band_as_written,
    band_order,
    plain_bands,
    writings,
)
from deeplense_batch.data.formats.reading import FIELDS, Reading
from deeplense_batch.data.listing.layouts import SPLITS, number_classes
from deeplense_batch.data.listing.listing import Listing, Sample, Skipped, missing_bands
from deeplense_batch.data.shards import ShardError

__all__ = ["read_pattern"]

_NAMING = ("split", "class", "group", "id")  # the fields that an id may be made of
_SHOWN = 3  # files that a sentence names

Fields = dict[str, str]


def read_pattern(root: Path, names: Sequence[str], reading: Reading) -> Listing:
    """Samples from the names of files that fit a pattern, and what its fields say of them.

    Arguments:
        root: Named in errors.
        names: All images, relative to `root`.
        reading: With the pattern; fields are ``{split} {class} {group} {id} {band}``, and ``*``
            is one folder, or part of a name.

    Raises:
        ShardError: The pattern makes no sense, no file fits it, or one has an unknown split.
    """
    found = _matches(root, names, reading, reading.bands)
    if not found and reading.bands:
        found = _matches(root, names, reading, ())  # so that _bands names those that there are
    if not found:
        raise ShardError(
            f"{root}: none of its {counted(len(names), 'image')} fits --pattern "
            f"{reading.pattern}, such as {names[0]}; names begin below {root}, and * is one "
            "folder or part of a name"
        )
    bands = _bands(root, reading, [fields for _, fields in found])
    objects: dict[tuple[str, ...], dict[str, str]] = {}  # files by band
    twice: list[tuple[tuple[str, ...], str]] = []
    for name, fields in found:
        key = tuple(fields.get(field, "") for field in _NAMING)
        files, band = objects.setdefault(key, {}), fields.get("band", "").lower()
        if files.setdefault(band, name) != name:
            twice.append((key, name))
    listing = _listing(root, objects, bands, reading)
    ids = dict(zip(objects, _ids(list(objects)), strict=True))
    listing.faults += [
        Skipped(ids[key], "several files are this object, of which one is read", name)
        for key, name in twice
    ]
    if not reading.bands and (said := _about_unknown(bands)):
        listing.warnings.append(f"--pattern {reading.pattern}: {said}")
    lost = len(names) - len(found)
    if lost:
        fit = {name for name, _ in found}
        others = [name for name in names if name not in fit][:_SHOWN]
        listing.warnings.append(
            f"{'1 image does' if lost == 1 else f'{lost} images do'} not fit the pattern; left "
            f"out: {', '.join(others)}{', ...' if lost > _SHOWN else ''}"
        )
    return listing


def _listing(
    root: Path,
    objects: dict[tuple[str, ...], dict[str, str]],
    bands: tuple[str, ...],
    reading: Reading,
) -> Listing:
    """The objects as samples."""
    classes = number_classes(root, {key[1] for key in objects} - {""}, reading.classes)
    listing = Listing([], classes, reading.pattern, bands=bands)
    rows = [_files_of_bands(files, bands) for files in objects.values()]
    if any(key[2] for key in objects):
        listing.columns, listing.group = (
            {"group": np.array([k[2] for k in objects], object)},
            "group",
        )
    if reading.missing_band == "zero" and bands:
        listing.columns = {**listing.columns, "missing_bands": missing_bands(bands, rows)}
    ids = _ids(list(objects))
    for row, (key, id_, files) in enumerate(zip(objects, ids, rows, strict=True)):
        split, class_, _, _ = key
        if split and split.lower() not in SPLITS:
            raise ShardError(f"{root}: {id_} is in split {split}; known are {', '.join(SPLITS)}")
        unsplit = "" if classes else "train"
        target = classes.index(class_) if class_ else -1
        sample = Sample(id_, files, SPLITS.get(split.lower(), unsplit), target, None, row)
        if any(files):
            listing.put(sample, reading.missing_band)
        else:
            several = ", ".join(objects[key])
            reason = f"several files may be its band: {several}"
            listing.refuse(sample, reason, next(iter(objects[key].values())))
    return listing


def _files_of_bands(files: dict[str, str], bands: Sequence[str]) -> tuple[str, ...]:
    """The file of each band of an object, by band as names write it; "" where there is none."""
    if not bands:
        return (files[""],)
    return tuple(
        files.get(band, "") or files.get(band_as_written(band, files) or "", "") for band in bands
    )


def _matches(
    root: Path, names: Sequence[str], reading: Reading, bands: Sequence[str]
) -> list[tuple[str, Fields]]:
    """The names that fit the pattern, with one of these bands if there are any; their fields."""
    form = _form(root, reading, bands)
    return [(name, match.groupdict()) for name in names if (match := form.fullmatch(name))]


def _form(root: Path, reading: Reading, bands: Sequence[str]) -> re.Pattern[str]:
    """The pattern as a regular expression with a group for each field."""
    parts = reading.pattern_parts()
    fields = parts[1::2]
    if unknown := [field for field in fields if field not in FIELDS]:
        raise ShardError(
            f"{root}: --pattern has the field {{{unknown[0]}}}; known are "
            f"{{{'}, {'.join(FIELDS)}}}, and any column beside a catalogue"
        )
    if "id" not in fields:
        raise ShardError(f"{root}: --pattern {reading.pattern} has no {{id}}, which names objects")
    known = "|".join(map(writings, sorted(bands, key=len, reverse=True)))
    text, seen = "", set[str]()
    for i, part in enumerate(parts):
        if i % 2 == 0:
            text += re.escape(part).replace(r"\*", "[^/]*")
        elif part in seen:
            text += f"(?P={part})"
        else:
            text += f"(?P<{part}>{known if part == 'band' and known else _any(part)})"
            seen.add(part)
    return re.compile(text)


def _any(field: str) -> str:
    """What a field may be.

    A band is a known filter, or one word, or else several, so that {id}_{band} ends at the last _
    and {band}-* at the first hyphen.
    """
    word = r"[^\W_]+(?![^\W_])"
    return rf"(?i:{BAND.pattern})|{word}|[^/_.]+" if field == "band" else r"[^/]+"


def _about_unknown(bands: Sequence[str]) -> str:
    """Doubt bands that are no filters, as their order is not known; nothing where all are."""
    unknown = [band for band in bands if not BAND.fullmatch(band)]
    if not unknown:
        return ""
    shown = f"{', '.join(unknown[:_SHOWN])}{', ...' * (len(unknown) > _SHOWN)}"
    order = ", and the channels are in the order of their names" * (len(bands) > 1)
    filters = "filter" if len(unknown) == 1 else "filters"
    return f"{{band}} is {shown}, no known {filters}{order}; --bands says which to take"


def _bands(root: Path, reading: Reading, found: Sequence[Fields]) -> tuple[str, ...]:
    """The bands that are read, in their order; none where files are no bands."""
    if "band" not in found[0]:
        return ()
    names = {fields["band"].lower(): fields["band"] for fields in found}
    if lost := [band for band in reading.bands if not band_as_written(band, names)]:
        raise ShardError(
            f"{root}: no file that fits --pattern {reading.pattern} is of band {', '.join(lost)}; "
            f"there are {', '.join(band_order(names.values()))}"
        )
    return reading.bands or plain_bands(band_order(names.values()))


def _ids(keys: Sequence[tuple[str, ...]]) -> list[str]:
    """Ids of objects: what {id} is where that is unique, else with class, group and split."""
    counts = Counter(key[-1] for key in keys)
    if len(counts) == len(keys):
        return [key[-1] for key in keys]
    return ["/".join(filter(None, key)) for key in keys]
