"""All samples of a source without a table, as the names of its files and arrays say them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deeplense_batch.data.catalogues.table import TABLES
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.listing.archive import Tree
from deeplense_batch.data.listing.layouts import short_ids
from deeplense_batch.data.listing.listing import Listing
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.sources.folders import read_folders
from deeplense_batch.data.sources.pair_folders import (
    add_inputs,
    halves_of,
    pair_of_set,
    without_split,
)
from deeplense_batch.data.sources.patterns import read_pattern
from deeplense_batch.data.sources.sets.sets import ImageSet, hold_sets, read_sets

__all__ = ["KEYS", "list_samples", "refuse_flags_of_tables", "refuse_names_of_arrays"]

KEYS = ("images_key", "labels_key")  # flags that name arrays of sets, and nothing else
_OF_SETS = (*KEYS, "id", "truth", "split", "keep", "group")

Sets = Mapping[str, ImageSet]


def list_samples(
    root: Path, tree: Tree, images: Sequence[str], reading: Reading
) -> tuple[Listing, Sets, Sets]:
    """All samples with their inputs, where there are pairs; and the sets that hold each."""
    if not reading.pattern and (halves := halves_of(root, images, reading)):
        short = short_ids([path for half in halves for path in half.values()])
        ids, inputs = ({name: short[path] for name, path in half.items()} for half in halves)
        listing, _ = _of_one(root, tree, ids, reading)
        if listing.bands:
            raise ShardError(f"{root}: bands of pairs are channels of one file; these are files")
        add_inputs(listing, inputs)
        if left := len(images) - len(ids) - len(inputs):
            listing.warnings.append(
                f"{counted(left, 'image')} in folders clean left out: images without noise come "
                "from 'simulate' alone"
            )
        return listing, {}, {}
    ids = short_ids(images)
    if hold_sets(root, tree, ids, reading) and (pair := pair_of_set(tree, images[0], reading)):
        both = replace(reading, images_key=pair[0], pair=pair)
        listing, sets = _of_one(root, tree, ids, both)
        _, of_inputs = read_sets(root, tree, ids, Reading(images_key=pair[1], pair=pair))
        for name, own in of_inputs.items():
            if (count := len(own.images)) != (wanted := len(sets[name].images)):
                raise ShardError(
                    f"{root}: array '{pair[0]}' of {ids[name]} holds {counted(wanted, 'image')}, "
                    f"'{pair[1]}' {count}; expected one input for each image"
                )
        listing.inputs = {}
        if listing.layout.startswith("set of images") and not reading.split:
            without_split(listing)
        listing.notes.append(f"inputs are those of the array '{pair[1]}'")
        return listing, sets, of_inputs
    if reading.pair:
        raise ShardError(
            f"{root}: --pair {','.join(reading.pair)}: there are no two such folders, nor a set "
            "with two such arrays"
        )
    return *_of_one(root, tree, ids, reading), {}


def _of_one(root: Path, tree: Tree, ids: dict[str, str], reading: Reading) -> tuple[Listing, Sets]:
    """All samples as the names of files say them, and the sets that hold them; `ids` by name."""
    if reading.pattern:
        refuse_names_of_arrays(root, reading, _OF_SETS, "is read by --pattern")
        return read_pattern(root, list(ids), reading), {}
    if hold_sets(root, tree, ids, reading):
        return read_sets(root, tree, ids, reading)
    refuse_names_of_arrays(root, reading, _OF_SETS, "holds images in files of their own")
    return read_folders(root, ids, reading), {}


def refuse_flags_of_tables(root: Path, reading: Reading) -> None:
    """Refuse columns where there is no table to find them in.

    Raises:
        ShardError: Some are named.
    """
    named = [flag for flag in reading.of_catalogue if flag not in _OF_SETS]
    if named and root.exists():
        raise ShardError(
            f"{root}: --{', --'.join(named)} {_name(named)} columns or files of a catalogue, "
            f"which ends in {', '.join(TABLES)} (those of text in .gz too) or is a FITS table of "
            "one value a column; this is none (arrays of a set of images are named by "
            f"--{', --'.join(_OF_SETS)})"
        )


def refuse_names_of_arrays(root: Path, reading: Reading, flags: Sequence[str], what: str) -> None:
    """Refuse names of arrays where there is no set of images to find them in.

    Raises:
        ShardError: Some are named.
    """
    if named := [flag for flag in flags if getattr(reading, flag)]:
        columns = "" if set(named) <= set(KEYS) else ", or columns of a catalogue"
        raise ShardError(
            f"{root}: --{', --'.join(named)} {_name(named)} arrays of a set of images in one file "
            f"(.npz, HDF5, or a FITS table of images){columns}; {root.name} {what}"
        )


def _name(flags: Sequence[str]) -> str:
    return "names" if len(flags) == 1 else "name"
