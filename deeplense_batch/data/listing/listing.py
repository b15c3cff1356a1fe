"""The samples of a source, and what their names or their rows in a catalogue say of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.counted import counted, counted_of
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.slices.edges import group_numbers, without_group
from deeplense_batch.data.writer import usual_class

__all__ = [
    "Listing",
    "Sample",
    "Skipped",
    "about_share",
    "about_ungrouped",
    "by_split",
    "groups_of_samples",
    "missing_bands",
    "refuse_torn_groups",
    "split_four_to_one",
]

_LEAST_SHARE, _MOST_SHARE = 0.1, 0.3  # of val, split 4:1 by groups, without a warning


@dataclass(frozen=True, slots=True)
class Sample:
    """One image: its files, its split and its class."""

    id: str
    files: tuple[str, ...]  # names in the tree, one a band where bands are files; "" where missing
    split: str
    target: int  # class number, or -1
    index: int | None = None  # in an .npz set
    row: int = -1  # in the columns of its source, if that has any


@dataclass(frozen=True, slots=True)
class Skipped:
    """An object that is left out, and why."""

    id: str
    reason: str
    file: str = ""  # what it would be read from, where that is not its id

    def __str__(self) -> str:
        return f"{self.id}{f' ({self.file})' if self.file else ''}: {self.reason}"


@dataclass
class Listing:
    """The samples of a source and their classes, as the names of its files or a table say.

    Columns and truths are held once for all samples, (rows,), and a sample knows its row.
    """

    samples: list[Sample]
    classes: tuple[str, ...]
    layout: str
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    bands: tuple[str, ...] = ()
    columns: Mapping[str, Array] = field(default_factory=dict)  # int64, float64 or texts
    truth: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    group: str = ""  # the column whose equal values name images of one split
    faults: list[Skipped] = field(default_factory=list)  # what cannot be packed as it is
    faulty: dict[Sample, Skipped] = field(default_factory=dict)  # the faults that are samples
    dropped: list[Skipped] = field(default_factory=list)  # left out as it was asked
    inputs: dict[str, tuple[str, ...]] | None = None  # of pairs: files of inputs by id

    def groups(self, samples: Sequence[Sample]) -> NDArray[np.int64] | None:
        """Number of the group of each sample, (N,), where there are groups."""
        return groups_of_samples(self.columns, self.group, samples)

    def put(self, sample: Sample, missing_band: str) -> None:
        """Take a sample; one that lacks a band is taken, left out or a fault, as it was asked.

        Arguments:
            sample: Its files are "" for bands that are missing.
            missing_band: ``refuse``, ``zero`` or ``drop``.
        """
        lacks = self.lacks(sample)
        if not lacks or missing_band == "zero":
            self.samples.append(sample)
            return
        first = next(filter(None, sample.files))
        if missing_band == "drop":
            self.dropped.append(Skipped(sample.id, lacks, first))
        else:
            self.refuse(sample, lacks, first)

    def lacks(self, sample: Sample) -> str:
        """Say which bands a sample lacks; nothing where it has all."""
        lacking = [band for band, name in zip(self.bands, sample.files, strict=False) if not name]
        return f"band {', '.join(lacking)} is missing" if lacking else ""

    def refuse(self, sample: Sample, reason: str, file: str) -> None:
        """Count a sample among the faults.

        Arguments:
            sample: Its files are "" where they are missing.
            reason: Why it cannot be packed.
            file: What it would be read from.
        """
        self.faulty[sample] = Skipped(sample.id, reason, file)
        self.faults.append(self.faulty[sample])

    def refuse_input(self, file: str, reason: str) -> None:
        """Count the input of a pair without an image among the faults."""
        self.faults.append(Skipped(file, reason))


def missing_bands(bands: Sequence[str], files: Iterable[Sequence[str]]) -> NDArray[np.object_]:
    """The bands that each of some objects lacks, as text with commas, (N,).

    Arguments:
        bands: Their names.
        files: Those of each object, one a band; "" where it is missing.
    """
    lacking = (",".join(b for b, n in zip(bands, row, strict=True) if not n) for row in files)
    return np.array(list(lacking), object)


def groups_of_samples(
    columns: Mapping[str, Array], group: str, samples: Sequence[Sample]
) -> NDArray[np.int64] | None:
    """Number of the group of each sample, (N,), from the column `group`; None without one."""
    if not group:
        return None
    rows = np.array([sample.row for sample in samples], np.int64)
    return group_numbers(columns[group][rows])


def split_four_to_one(
    samples: Sequence[Sample], seed: int, groups: NDArray[np.int64] | None = None
) -> list[Sample]:
    """Give every fifth sample of each class without a split to val, drawn by the seed.

    With `groups`, (N,), it is whole groups, and of the groups of each most frequent class.
    """
    if groups is not None:
        return _split_groups(samples, seed, groups)
    members: dict[int, list[Sample]] = {}
    done: list[Sample] = []
    for sample in samples:
        if sample.split:
            done.append(sample)
        else:
            members.setdefault(sample.target, []).append(sample)
    for same in members.values():
        order = np.random.default_rng(seed).permutation(len(same))
        valid = set(order[: round(len(same) / 5)].tolist())
        done += [replace(s, split="val" if i in valid else "train") for i, s in enumerate(same)]
    return done


def _split_groups(samples: Sequence[Sample], seed: int, groups: NDArray[np.int64]) -> list[Sample]:
    """Whole groups to val, about a fifth of the samples of the groups of each class."""
    classes = usual_class(groups, np.array([sample.target for sample in samples]))
    sizes = np.bincount(groups)
    random = np.random.default_rng(seed)
    valid = np.zeros(len(sizes), bool)
    for class_ in np.unique(classes):
        order = random.permutation(np.flatnonzero(classes == class_))
        valid[order[_about_a_fifth(sizes[order])]] = True
    return [
        s if s.split else replace(s, split="val" if in_val else "train")
        for s, in_val in zip(samples, valid[groups].tolist(), strict=True)
    ]


def _about_a_fifth(sizes: NDArray[np.int64]) -> list[int]:
    """Places of groups that have together about a fifth of all samples, (G,) sizes.

    These are the first that go in, and the smallest of the others where that is nearer; of two
    groups or more at least one.
    """
    wanted = round(int(sizes.sum()) / 5)
    chosen: list[int] = []
    for place, size in enumerate(sizes.tolist()):
        if size <= wanted:
            chosen.append(place)
            wanted -= size
    others = np.setdiff1d(np.arange(len(sizes)), chosen)
    smallest = int(others[sizes[others].argmin()])  # there is one: all are more than a fifth
    if len(sizes) > 1 and (not chosen or sizes[smallest] - wanted < wanted):
        chosen.append(smallest)
    return chosen


def about_ungrouped(listing: Listing) -> list[str]:
    """Count the images without a group, where others have one."""
    if not listing.group:
        return []
    rows = np.array([sample.row for sample in listing.samples], np.int64)
    alone = int(without_group(listing.columns[listing.group][rows]).sum())
    images = "1 image has" if alone == 1 else f"{alone} images have"
    what = f"no {listing.group}, and {'is' if alone == 1 else 'each is'} a group of its own"
    return [f"{images} {what}"] if alone else []


def about_share(listing: Listing) -> list[str]:
    """Warn of a val that is far from a fifth of the images, which were split by groups."""
    groups = listing.groups(listing.samples)
    val, total = sum(s.split == "val" for s in listing.samples), len(listing.samples)
    if groups is None or _LEAST_SHARE <= val / total <= _MOST_SHARE:
        return []
    return [
        f"val has {val} of {total} images ({val / total:.0%}), not a fifth: the groups by "
        f"{listing.group} stay whole, and of {len(np.unique(groups))} the largest has "
        f"{counted(int(np.bincount(groups).max()), 'image')}"
    ]


def refuse_torn_groups(root: object, listing: Listing) -> None:
    """Refuse groups whose samples are in several of the splits that were given.

    Raises:
        ShardError: There are some; they are counted, and the first is named.
    """
    groups = listing.groups(listing.samples)
    if groups is None:
        return
    first: dict[int, Sample] = {}
    torn: dict[int, tuple[Sample, Sample]] = {}
    for number, sample in zip(groups.tolist(), listing.samples, strict=True):
        other = first.setdefault(number, sample)
        if other.split != sample.split:
            torn.setdefault(number, (other, sample))
    if torn:
        one, other = next(iter(torn.values()))
        name = listing.columns[listing.group][one.row]
        some = counted_of(len(torn), len(first), "group", "is", "are")
        raise ShardError(
            f"{root}: by {listing.group} {some} in several splits, such as {name} "
            f"({one.id} in {one.split}, {other.id} in {other.split}); a group belongs in one"
        )


def by_split(samples: Iterable[Sample]) -> dict[str, tuple[Sample, ...]]:
    """Samples of each split, in the order train, val, test."""
    splits: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    for sample in samples:
        splits[sample.split].append(sample)
    return {name: tuple(members) for name, members in splits.items() if members}
