"""One number behind an image: a truth of the shards, or one of several numbers of a truth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NAMED", "Quantity", "read_quantities", "wrong_number"]

# Names of the numbers of a truth that `simulate` keeps, in their order (docs/physics.md).
NAMED = {
    "lens": ("x", "y", "q", "phi"),
    "shear": ("g1", "g2"),
    "source": ("x", "y", "radius", "n", "q", "phi"),
    "vortex": ("mass", "x", "y", "angle", "length"),
    "los": ("kappa", "g1", "g2"),
    "place": ("x", "y"),
    "galaxy": ("radius", "n", "q", "phi"),
}
# Of these, what a flip or a turn of the image changes, and what a zoom does.
_MOVED = {"x", "y", "phi", "g1", "g2", "angle"}
_LENGTHS = {"x", "y", "radius", "length"}
# Truths of one number that are angles on the sky, arcsec, which a zoom changes too.
_ARCSEC = {"theta_e", "seeing"}


@dataclass(frozen=True)
class Quantity:
    """A number of an image."""

    text: str  # as the recipe names it
    truth: str  # name of the array in the shards
    place: int | None = None  # which number of it; None where it has one an image
    log10: bool = False  # whether its logarithm is meant

    @classmethod
    def read(cls, text: str, *, log10: bool = False) -> Quantity:
        """Read ``theta_e``, ``lens.q``, or ``lens.2``, as `collect --by` calls that.

        Raises:
            ValueError: There is no number of that name.
        """
        truth, _, name = text.rpartition(".")
        if truth and name.isdigit():
            return cls(text, truth, int(name), log10)
        if truth not in NAMED:
            return cls(text, text, None, log10)
        if name not in NAMED[truth]:
            allowed = ", ".join(f"{truth}.{one}" for one in NAMED[truth])
            raise ValueError(
                f"task.options.targets: there is no number {text}; allowed: {allowed}"
            )
        return cls(text, truth, NAMED[truth].index(name), log10)

    @property
    def label(self) -> str:
        """What it is called in a sentence: ``log10 theta_e``."""
        return f"log10 {self.text}" if self.log10 else self.text

    @property
    def name(self) -> str:
        """What it is called in a table, and at the end of the name of a score."""
        return re.sub(r"[ .]", "_", self.label)

    @property
    def unit(self) -> str:
        """The unit of its errors; empty where that is the one in the shards."""
        return "dex" if self.log10 else ""

    @property
    def moves(self) -> bool:
        """Whether it is another number once the image is flipped or turned."""
        return self._named in _MOVED

    @property
    def is_length(self) -> bool:
        """Whether it is a length or a place in the image, another number once that is zoomed."""
        return self._named in _LENGTHS or (self.place is None and self.truth in _ARCSEC)

    @property
    def _named(self) -> str | None:
        """Its name among those of its truth, if they have names."""
        if self.place is None or self.place >= len(NAMED.get(self.truth, ())):
            return None
        return NAMED[self.truth][self.place]

    def values(self, truth: Tensor) -> Tensor:
        """The number of each image, (B,), NaN or infinite where it is unknown.

        Arguments:
            truth: The array of the shards, (B,) or (B, n).
        """
        values = self._stored(truth)
        return torch.log10(values) if self.log10 else values

    def below_zero(self, truth: Tensor) -> int:
        """How many images have a number without the logarithm that is meant.

        A 0 is none of them: such as the mass of no vortex, which is unknown.

        Arguments:
            truth: As of `values`.
        """
        return int((self._stored(truth) < 0).sum()) if self.log10 else 0

    def _stored(self, truth: Tensor) -> Tensor:
        """The number of each image as it is in the shards, (B,)."""
        values = truth if self.place is None else truth[:, self.place]
        if values.ndim != 1:
            raise ValueError(
                f"task.options.target: {self.truth} has {truth[0].numel()} numbers an image; "
                "expected one"
            )
        return values


def read_quantities(texts: Sequence[str], log10: bool | Sequence[str]) -> tuple[Quantity, ...]:
    """Read the targets of a recipe.

    Arguments:
        texts: Names (`Quantity.read`).
        log10: Which of them are learnt as logarithms; or whether all are.

    Raises:
        ValueError: There is none, one is no text or comes twice, or `log10` names another.
    """
    listed = isinstance(texts, list | tuple) and texts
    if not listed or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(
            f"task.options.targets: got {texts!r}; expected a list of names of truth, such as "
            "[theta_e, lens.q]"
        )
    if twice := [text for text in texts if [*texts].count(text) > 1]:
        raise ValueError(f"task.options.targets: {twice[0]} is named twice")
    if isinstance(log10, bool):
        logs = [*texts] if log10 else []
    elif isinstance(log10, list | tuple):
        logs = [*log10]
    else:
        raise ValueError(
            f"task.options.log10: got {log10!r}; expected true, false or a list of targets"
        )
    if unknown := [str(name) for name in logs if name not in texts]:
        raise ValueError(
            f"task.options.log10: {unknown[0]} is none of the targets, {', '.join(texts)}"
        )
    return tuple(Quantity.read(text, log10=text in logs) for text in texts)


def wrong_number(truth: str, place: int | None, shape: tuple[int, ...]) -> str:
    """Why a truth has no such number, a sentence without its end; empty where it has.

    Arguments:
        truth: Name of the array.
        place: Which of its numbers of an image; None where it should have one.
        shape: Of its numbers of an image.
    """
    if place is None and not shape:
        return ""
    if place is not None and len(shape) == 1 and place < shape[0]:
        return ""
    got = truth if place is None else f"{truth}.{place}"
    if not shape:
        return f"truth/{truth} is one number an image; expected {truth}, got {got}"
    count = " x ".join(map(str, shape))
    if len(shape) > 1:
        return f"truth/{truth} has {count} numbers an image, of which none can be learnt"
    named = NAMED.get(truth, ())
    names = [f"{truth}.{name}" for name in named] if len(named) == shape[0] else []
    allowed = ", ".join(names) or f"{truth}.0 to {truth}.{shape[0] - 1}"
    return f"truth/{truth} has {count} numbers an image; expected {allowed}, got {got}"
