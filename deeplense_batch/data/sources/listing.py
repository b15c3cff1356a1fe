"""The samples of a source, and what their names say: split and class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

__all__ = ["Listing", "Sample", "by_split", "split_four_to_one"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image: its files, its split and its class."""

    id: str
    files: tuple[str, ...]  # names in the tree, one a band where bands are files
    split: str
    target: int  # class number, or -1
    index: int | None = None  # in an .npz set


@dataclass
class Listing:
    """The samples of a source and their classes, as the names of its files say."""

    samples: list[Sample]
    classes: tuple[str, ...]
    layout: str
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    bands: tuple[str, ...] = ()


def split_four_to_one(samples: Iterable[Sample], seed: int) -> list[Sample]:
    """Give every fifth sample of each class without a split to val, drawn by the seed."""
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


def by_split(samples: Sequence[Sample]) -> dict[str, tuple[Sample, ...]]:
    names = ("train", "val", "test")
    splits = {name: tuple(sample for sample in samples if sample.split == name) for name in names}
    return {name: members for name, members in splits.items() if members}
