"""Images in files of their own: split, class and bands are what the folders say."""

from __future__ import annotations

from pathlib import Path

from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.sources.archive import path_parts
from deeplense_batch.data.sources.bands import join_bands
from deeplense_batch.data.sources.companions import refuse_companions
from deeplense_batch.data.sources.layouts import (
    describe,
    meanings,
    number_classes,
    short_ids,
    undoubled,
)
from deeplense_batch.data.sources.listing import Listing, Sample

__all__ = ["read_folders"]


def read_folders(root: Path, ids: dict[str, str], reading: Reading) -> Listing:
    """Split and class of every image, or of every object in several bands, from its folders."""
    refuse_companions(root, ids.values())
    joined = join_bands(root, ids)
    names = short_ids(list(joined.files)) if joined.bands else {id_: id_ for id_ in joined.files}
    doubled = undoubled(root, {path_parts(id_)[:-1] for id_ in names.values()})
    named = meanings(root, set(doubled.values()))
    classes = number_classes(root, {class_ for _, class_ in named.values() if class_})
    samples = []
    for key, id_ in names.items():
        split, class_ = named[doubled[path_parts(id_)[:-1]]]
        target = classes.index(class_) if class_ else -1
        split = split or ("" if class_ else "train")
        samples.append(Sample(id_, joined.files[key], split, target))
    listing = Listing(samples, classes, describe(named), bands=joined.bands)
    listing.warnings += [joined.warning] if joined.warning else []
    folded = sorted("/".join(parts) for parts, plain in doubled.items() if parts != plain)
    if folded:
        more = f" and {len(folded) - 1} more" if len(folded) > 1 else ""
        listing.notes.append(f"doubled folders are read as one: {folded[0]}{more}")
    return listing
