"""Images in files of their own: split, class and bands are what the folders say."""

from __future__ import annotations

from pathlib import Path

from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.listing.archive import path_parts
from deeplense_batch.data.listing.layouts import (
    describe,
    meanings,
    number_classes,
    short_ids,
    undoubled,
)
from deeplense_batch.data.listing.listing import Listing, Sample, missing_bands
from deeplense_batch.data.sources.bands import join_bands
from deeplense_batch.data.sources.companions import refuse_companions

__all__ = ["read_folders"]


def read_folders(root: Path, ids: dict[str, str], reading: Reading) -> Listing:
    """Split and class of every image, or of every object in several bands, from its folders.

    Arguments:
        root: Named in errors.
        ids: Id of each file, by its name.
        reading: Bands, classes, and what becomes of objects that lack a band.

    Raises:
        ShardError: They are in no known layout.
    """
    refuse_companions(root, ids.values())
    joined = join_bands(root, ids, reading.bands, reading.missing_band)
    names = short_ids(list(joined.files)) if joined.bands else {id_: id_ for id_ in joined.files}
    doubled = undoubled(root, {path_parts(id_)[:-1] for id_ in names.values()})
    named = meanings(root, set(doubled.values()))
    classes = number_classes(
        root, {class_ for _, class_ in named.values() if class_}, reading.classes
    )
    listing = Listing([], classes, describe(named), bands=joined.bands)
    if reading.missing_band == "zero" and joined.bands:
        listing.columns = {"missing_bands": missing_bands(joined.bands, joined.files.values())}
    for row, (key, id_) in enumerate(names.items()):
        split, class_ = named[doubled[path_parts(id_)[:-1]]]
        target = classes.index(class_) if class_ else -1
        split = split or ("" if class_ else "train")
        listing.put(Sample(id_, joined.files[key], split, target, None, row), reading.missing_band)
    listing.warnings += [joined.warning] if joined.warning else []
    folded = sorted("/".join(parts) for parts, plain in doubled.items() if parts != plain)
    if folded:
        more = f" and {len(folded) - 1} more" if len(folded) > 1 else ""
        listing.notes.append(f"doubled folders are read as one: {folded[0]}{more}")
    return listing
