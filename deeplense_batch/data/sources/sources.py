"""What users have on disk: folders or archives of images, in every layout that is known.

===============================================  ================================================
layout                                           becomes
===============================================  ================================================
``{train,val,test}/{class}/`` or ``{split}/``    these splits
``{class}/``                                     each class split 4:1 into train and val
``{train,test}_{class}/`` or ``{class}_test/``   these splits; the rest as ``{class}/``
images side by side                              one split, train, without labels
``{split}.npz`` or HDF5, with `images`, `labels`  these splits
===============================================  ================================================

A file, folder or FITS extension for each band of an object is no image of its own (`bands`): they
are joined, channels by wavelength. Doubled folders, ``lens/lens/``, are one.

Everything may lie in a zip, which is read in place, and below folders that hold nothing else
(``dataset/``); those are no part of a sample's id, so that a folder and its zip pack to the same
shards. Classes are numbered by name, in natural order, but of two of which one is
named ``lens`` or ``lenses`` that is always 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.catalogues.catalogue import Catalogue
from deeplense_batch.data.catalogues.fits_tables import fits_tables
from deeplense_batch.data.catalogues.table import is_table
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.filters import named_for_bands
from deeplense_batch.data.formats.images import (
    SUFFIXES,
    Image,
    ImageError,
    Part,
    check_image,
    has_fits,
    join_images,
    needs_fits,
    read_array,
)
from deeplense_batch.data.formats.natural import natural
from deeplense_batch.data.formats.parts import NO_HEADER, Header
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.listing.archive import Tree, alike, open_tree
from deeplense_batch.data.listing.listing import (
    Listing,
    Sample,
    Skipped,
    about_share,
    about_ungrouped,
    by_split,
    groups_of_samples,
    refuse_torn_groups,
    split_four_to_one,
)
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.sources.bands import with_bands
from deeplense_batch.data.sources.beside import (
    about_folders,
    about_hidden,
    left_out,
    no_images,
    previews,
)
from deeplense_batch.data.sources.listed import (
    KEYS,
    list_samples,
    refuse_flags_of_tables,
    refuse_names_of_arrays,
)
from deeplense_batch.data.sources.pair_folders import refuse_edges
from deeplense_batch.data.sources.sets.sets import ImageSet
from deeplense_batch.data.sources.sets.stacks import HDF5

__all__ = ["Source", "open_source"]

# A catalogue's number, or coordinates such as J1234+5678; images in a row have smaller numbers.
_OBJECT = re.compile(r"(?<!\d)[1-9]\d{5,}|\d{4}(?:\.\d+)?[+-]\d{2}")


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
    bands: tuple[str, ...]  # channels of images whose bands are files; else empty
    reading: Reading
    columns: Mapping[str, Array] = field(default_factory=dict, repr=False)  # by `Sample.row`
    truth: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)
    group: str = ""  # the column whose equal values name images of one split
    faults: tuple[Skipped, ...] = ()  # rows and objects that cannot be packed as they are
    faulty: Mapping[Sample, Skipped] = field(default_factory=dict, repr=False)  # of these, samples
    dropped: tuple[Skipped, ...] = ()  # left out as it was asked
    scales_from: str = "the headers"  # what says the pixel scale, where something does
    inputs: Source | None = None  # of pairs: the images that a network is given

    _tree: Tree = field(kw_only=True, repr=False)
    _sets: Mapping[str, ImageSet] = field(default_factory=dict, repr=False)
    _inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def input_of(self, sample: Sample) -> Sample:
        """The input of a pair, as `inputs` reads it; of a set it has the place of its image."""
        return replace(sample, files=self._inputs.get(sample.id, sample.files))

    def read(self, sample: Sample) -> Image:
        """Read one image.

        Raises:
            ImageError: The image cannot be packed.
        """
        try:
            return self._checked(sample, self._parts(sample))
        except ImageError:
            raise
        except Exception as error:  # a broken file makes its reader raise anything at all
            raise _unreadable(error) from error

    def header(self, sample: Sample) -> Header:
        """What the header of an image says, even if the image cannot be packed; or nothing."""
        with suppress(Exception):  # a broken file makes its reader raise anything at all
            headers = [part.header for part in self._parts(sample)]
            return next((header for header in headers if not isnan(header.ra)), headers[0])
        return NO_HEADER

    def paths(self) -> list[Path]:
        """All files that images are read from, on disk; the archive itself, if it is one."""
        files = {name for members in self.splits.values() for s in members for name in s.files}
        files |= {name for names in self._inputs.values() for name in names}
        files.discard("")
        return sorted({self._tree.path(name) for name in files})

    def groups(self, samples: Sequence[Sample]) -> NDArray[np.int64] | None:
        """Number of the group of each sample, (N,), where there are groups."""
        return groups_of_samples(self.columns, self.group, samples)

    def _parts(self, sample: Sample) -> list[Part]:
        """The files of an object; a missing one is zeros, as the others are large."""
        known = {name: self._part(sample, name) for name in sample.files if name}
        zeros = Part(np.zeros_like(next(iter(known.values())).array))
        return [known[name] if name else zeros for name in sample.files]

    def _part(self, sample: Sample, name: str) -> Part:
        if sample.index is not None:
            return self._sets[name].part(sample.index)
        try:
            return read_array(name, self._tree.read(name), self.reading)
        except Exception as error:  # a broken file makes its reader raise anything at all
            if len(sample.files) == 1:
                raise
            reason = error if isinstance(error, ImageError) else _unreadable(error)
            raise ImageError(f"{reason} ({PurePosixPath(name).name})") from error

    def _checked(self, sample: Sample, parts: Sequence[Part]) -> Image:
        try:
            part = join_images(parts, self.bands) if len(parts) > 1 else parts[0]
            return check_image(with_bands(part, self.reading.bands), self.reading)
        except ImageError as error:
            if files := self._at_fault(sample, parts):
                raise ImageError(f"{error} ({', '.join(files)})") from error
            raise

    def _at_fault(self, sample: Sample, parts: Sequence[Part]) -> list[str]:
        """The files of an object of several that are no images, but for constant ones."""
        files = []
        for name, part in zip(sample.files, parts, strict=True) if len(parts) > 1 else ():
            try:
                check_image(part, self.reading)
            except ImageError as error:
                if name and not str(error).startswith("constant"):  # good beside other bands
                    files.append(PurePosixPath(name).name)
        return files


def _unreadable(error: Exception) -> ImageError:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return ImageError(f"cannot be read ({text})")


_AS_FILES_SAY = Reading()


@contextmanager
def open_source(
    root: Path, *, seed: int = 0, reading: Reading = _AS_FILES_SAY
) -> Iterator[Source]:
    """Find out what a folder, a zip or an .npz file holds; no image is read for it.

    Arguments:
        root: The folder or file.
        seed: Seed of the 4:1 split where the layout gives none.
        reading: What is not in the files themselves.

    Raises:
        ShardError: There is no such file, it holds no images, or they lie in no known layout.
    """
    if is_table(root):
        refuse_names_of_arrays(root, reading, KEYS, "is a catalogue")
        catalogue = Catalogue(root, reading)
        with open_tree(catalogue.place) as tree:
            listing = _split(root, catalogue.listing(tree), seed, reading.all_in)
            del catalogue  # the whole table, while images are packed
            yield _source(root, tree, listing, reading, (), {})
        return
    refuse_flags_of_tables(root, reading)
    with open_tree(root) as tree:
        images, others = _images_and_others(root, tree)
        listing, sets, of_inputs = list_samples(root, tree, images, reading)
        listing = _split(root, listing, seed, reading.all_in)
        listing.notes += about_hidden(tree.hidden)
        listing.warnings += [
            *_about_names(images, listing),
            *about_folders(tree, images),
            *left_out(root, tree, others, images, labelled=bool(listing.classes)),
        ]
        yield _source(root, tree, listing, reading, others, sets, of_inputs)


def _source(
    root: Path,
    tree: Tree,
    listing: Listing,
    reading: Reading,
    ignored: Sequence[str],
    sets: Mapping[str, ImageSet],
    of_inputs: Mapping[str, ImageSet] | None = None,
) -> Source:
    source = Source(
        root=root,
        layout=listing.layout,
        classes=listing.classes,
        splits=by_split(listing.samples),
        ignored=tuple(ignored),
        notes=tuple(listing.notes),
        warnings=tuple(listing.warnings),
        bands=listing.bands,
        reading=reading,
        columns=listing.columns,
        truth=listing.truth,
        group=listing.group,
        faults=tuple(listing.faults),
        faulty=listing.faulty,
        dropped=tuple(listing.dropped),
        scales_from=next((s.scales_from for s in sets.values() if s.scales_from), "the headers"),
        _tree=tree,
        _sets=sets,
    )
    if listing.inputs is not None:
        refuse_edges(root, reading)
        source._inputs = listing.inputs
        splits = {k: tuple(map(source.input_of, own)) for k, own in source.splits.items()}
        source.inputs = replace(
            source, splits=splits, columns={}, truth={}, _sets=of_inputs or {}, faults=()
        )
    return source


def _split(root: Path, listing: Listing, seed: int, all_in: str) -> Listing:
    """Give samples without a split one, groups whole; or all of them `all_in`, if it is named."""
    if all_in:
        _put_all_in(listing, all_in)
    if any(not sample.split for sample in listing.samples):
        groups = listing.groups(listing.samples)
        listing.samples = split_four_to_one(listing.samples, seed, groups)
        whole = "" if groups is None else f", the groups by {listing.group} whole"
        listing.notes.append(
            f"no split given: each class split 4:1 into train and val{whole}, seed {seed}"
        )
        listing.warnings += about_share(listing)
    listing.notes += about_ungrouped(listing)
    refuse_torn_groups(root, listing)
    return listing


def _put_all_in(listing: Listing, split: str) -> None:
    """Put every sample into one split, and say of how many folders or columns say another."""
    others = Counter(s.split for s in listing.samples if s.split not in ("", split))
    if others:
        listing.notes.append(
            f"--all_in puts every image into {split}; without it "
            + ", ".join(f"{count} would be in {name}" for name, count in others.items())
        )
    if pairs := _in_two_splits(listing.samples):
        listing.warnings.append(
            f"{' and '.join(pairs[0])} are one object by their names, in two splits that --all_in "
            f"joins ({len(pairs)} such): it counts twice"
        )
    listing.samples = [replace(sample, split=split) for sample in listing.samples]


def _images_and_others(root: Path, tree: Tree) -> tuple[list[str], list[str]]:
    """Names of the files that are images, and of the others.

    Raises:
        ShardError: There is no image, or there are some that cannot be read here.
    """
    names = [name for name in tree.names if name.lower().endswith(SUFFIXES)]
    names = names or [name for name in tree.names if name.lower().endswith(HDF5)]
    out = {*previews(names), *fits_tables(tree, names)}
    images = sorted(set(names) - out, key=natural)
    others = sorted(set(tree.names) - set(images), key=natural)
    if not images:
        raise ShardError(f"{root}: {no_images(others, tree.hidden)}")
    if not has_fits() and any(map(needs_fits, images)):
        raise ShardError(f"{root}: FITS files need astropy: pip install deeplense-batch[fits]")
    tree.check(images)
    return images, others


def _in_two_splits(samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """Pairs of samples of two splits with the name of one object, not a number in a row."""
    first: dict[str, Sample] = {}
    pairs = []
    for sample in samples:
        name = PurePosixPath(sample.id).name
        if sample.index is None and _OBJECT.search(name):
            other = first.setdefault(name, sample)
            pairs += [(other.id, sample.id)] if other.split != sample.split else []
    return pairs


def _about_names(images: Sequence[str], listing: Listing) -> list[str]:
    """Warn of names that look the same, objects in two splits, and classes that may be none."""
    warnings = []
    if same := alike(images):
        warnings.append(
            f"{' and '.join(map(repr, same[0]))} differ by case, spaces or the writing of letters "
            f"alone ({len(same)} such): is that one image twice?"
        )
    if pairs := _in_two_splits(listing.samples):
        warnings.append(
            f"{' and '.join(pairs[0])} are one object by their names, in two splits "
            f"({len(pairs)} such): scores will be too good"
        )
    if named_for_bands(listing.classes):
        warnings.append(
            f"the classes {', '.join(listing.classes)} are named as bands are: if they are bands, "
            "put those of an object into one array, channels first"
        )
    if 2 < len(listing.classes) == len(listing.samples):
        warnings.append("every class has one image: are the folders those of objects?")
    return warnings
