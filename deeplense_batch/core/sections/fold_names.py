"""Names of the folds of a split: ``train[fold 3/5]`` is the third of five parts of ``train``.

In k-fold cross-validation a set is cut into k parts, and k networks are trained, each tested on a
part that it has not seen. ``train[folds 1,2,5/5]`` is several of them together. Which image is in
which fold `data.slices.folds` says.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["FoldName", "Folded", "as_given", "fold_of", "place_of"]

_FEWEST, _MOST = 3, 100  # folds: one for testing, one for validation, and some for training
_FOLD = re.compile(r"(\d{1,3})/(\d{1,3})")
_NAME = re.compile(r"(\w+)\[folds? (\d{1,3}(?:,\d{1,3})*)/(\d{1,3})\]")


class FoldName(NamedTuple):
    """Some folds of a split: numbers 1, 2 and 5 of 5 in ``train[folds 1,2,5/5]``."""

    split: str
    numbers: tuple[int, ...]  # rising, from 1
    of: int

    def __str__(self) -> str:
        word = "fold" if len(self.numbers) == 1 else "folds"
        return f"{self.split}[{word} {','.join(map(str, self.numbers))}/{self.of}]"

    @classmethod
    def parse(cls, text: str) -> FoldName | None:
        """Read such a name; None where it is none, which may be another slice.

        Raises:
            ValueError: It names folds that there cannot be, or in another spelling than `str`
                gives: one and the same run has one name.
        """
        match = _NAME.fullmatch(text)
        if not match:
            return None
        numbers, of = tuple(map(int, match[2].split(","))), int(match[3])
        if not _FEWEST <= of <= _MOST:
            raise ValueError(f"'{text}' has {of} folds; allowed are {_FEWEST} to {_MOST}")
        if sorted({*numbers}) != [*numbers] or not 1 <= numbers[0] <= numbers[-1] <= of:
            raise ValueError(f"'{text}': expected numbers of folds from 1 to {of} that rise")
        name = cls(match[1], numbers, of)
        if str(name) != text:
            raise ValueError(f"'{text}': expected {name}")
        return name


class Folded(NamedTuple):
    """The slices of a training by folds."""

    train: str
    valid: str
    test: str

    @classmethod
    def of(cls, split: str, fold: int, folds: int) -> Folded:
        """Test on a fold, validate on the next one, train on the others.

        Arguments:
            split: That is cut into folds.
            fold: The one for testing, from 1.
            folds: How many there are.
        """
        following = fold % folds + 1
        others = tuple(k for k in range(1, folds + 1) if k not in (fold, following))
        names = (FoldName(split, some, folds) for some in (others, (following,), (fold,)))
        return cls(*map(str, names))


def fold_of(text: str) -> tuple[int, int]:
    """Read ``3/5``, the third of five folds.

    Raises:
        ValueError: It is something else, or there cannot be such a fold.
    """
    match = _FOLD.fullmatch(text)
    fold, folds = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (_FEWEST <= folds <= _MOST and 1 <= fold <= folds):
        raise ValueError(
            f"expected K/N, the K-th of N folds, such as 3/5; N is from {_FEWEST} to {_MOST}"
        )
    return fold, folds


def place_of(root: object, sets: Sequence[Any]) -> int | None:
    """Which of some sets to train on lies in a folder; None unless exactly one does.

    Arguments:
        root: The folder.
        sets: Fields of each set by name, as a recipe has them: perhaps with faults.
    """
    folders = [each.get("root") if isinstance(each, Mapping) else None for each in sets]
    places = [
        place
        for place, folder in enumerate(folders)
        if isinstance(root, str) and isinstance(folder, str)
        and os.path.normpath(folder) == os.path.normpath(root)
    ]  # fmt: skip
    return places[0] if len(places) == 1 else None


def as_given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a job by dotted name, with a fold and its split in place of its three slices.

    Whether a recipe has named the fold or its slices, it is one training: ``data.fold`` is ``3/5``
    of both.
    """
    sets = fields.get("data.roots") or []
    place = place_of(fields.get("data.root"), sets)
    train = fields.get("data.train") if place is None else sets[place].get("train")
    tested = _tested(train, fields.get("data.valid"), fields.get("data.test"))
    if tested is None:
        return dict(fields)
    own = {n: value for n, value in fields.items() if n not in ("data.valid", "data.test")}
    own["data.fold"] = f"{tested.numbers[0]}/{tested.of}"
    if place is None:
        return own | {"data.train": tested.split}
    whole = {**sets[place], "train": tested.split}
    return own | {"data.roots": [*sets[:place], whole, *sets[place + 1 :]]}


def _tested(*slices: object) -> FoldName | None:
    """The fold that slices test on, where they are those of a training by folds."""
    try:
        names = [FoldName.parse(str(one)) for one in slices]
    except ValueError:
        return None
    tested = names[-1]
    if tested is None or len(tested.numbers) > 1:
        return None
    expected = Folded.of(tested.split, tested.numbers[0], tested.of)
    return tested if [*map(str, names)] == [*expected] else None
