"""The report of a packing: as text for a person, and as `manifest.json` beside the shards.

The manifest is for information only: readers go by the shards.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.natural import natural
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.listing.listing import Skipped
from deeplense_batch.data.packing.doubts import Doubt
from deeplense_batch.data.shards import FORMAT

__all__ = [
    "Duplicate",
    "PackReport",
    "SplitReport",
    "about_changes",
    "about_doubts",
    "about_ignored",
    "kinds",
    "warnings",
]

_NUMBERS = re.compile(r"^\d+ of \d+ |from \S+ to \S+ ")  # in the reason of a bad image
# A reason before its details.
_KIND = re.compile(r"shape \(.*?\)|.*?(?=[:;(]|, (?:all|most|those|which) |$)")
# Numbers and quoted values of a kind, in which the reasons of one kind may differ.
_DETAIL = re.compile(r"(?<![\w(.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w)])|'[^']*'")
_KINDS = 6
_DOUBTS = {  # by their kind
    "apart": "a value far from all others",
    "edge": "one value along an edge",
    "repeated": "one value in many pixels",
    "constant": "a constant channel, which no network learns from",
}
_SHOWN = 20  # lines of a list in the text; the manifest has all


@dataclass(frozen=True)
class SplitReport:
    """One split as it was packed."""

    name: str
    samples: int
    class_counts: dict[str, int]
    shape: tuple[int, ...]  # C, H, W
    dtype: str  # of the values
    stored: str
    least: float
    most: float
    error: float  # largest of a float type that was asked for, of an image's range; else 0
    bytes: int
    shards: dict[str, str]  # file name to digest
    inputs: dict[str, Any] | None = None  # of pairs: shape, dtype and stored type

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.class_counts.items())
        exact = "exact" if self.error == 0.0 else f"off by {self.error:.2g} of the range"
        return (
            f"{self.name}: {counted(self.samples, 'image')} ({counts or 'no labels'}), "
            f"{' x '.join(map(str, self.shape))} {self.dtype} in [{self.least:g}, {self.most:g}], "
            f"stored as {self.stored}{' counts' if self.stored == COUNTS.name else ''} ({exact})"
            f"{_inputs_text(self.inputs)}, "
            f"{self.bytes / 1e6:.2f} MB in {counted(len(self.shards), 'shard')}"
        )


@dataclass(frozen=True)
class Duplicate:
    """Samples with equal images."""

    ids: tuple[str, ...]
    leak: bool  # they are in more than one split
    contradictory: bool  # they have more than one label

    def __str__(self) -> str:
        marks = ["CONTRADICTORY LABELS"] * self.contradictory + ["LEAK ACROSS SPLITS"] * self.leak
        return "".join(f"{mark}: " for mark in marks) + " = ".join(self.ids)


@dataclass(frozen=True)
class PackReport:
    """What `pack` did."""

    source: str
    out: str
    layout: str
    classes: tuple[str, ...]
    seed: int
    options: dict[str, Any]
    bands: tuple[str, ...]  # of the channels, where the source names them
    digest: str  # of the whole set
    splits: tuple[SplitReport, ...]
    duplicates: tuple[Duplicate, ...]  # contradictory ones first, then leaks
    skipped: tuple[Skipped, ...]
    ignored: tuple[str, ...]  # files that are no images
    warnings: tuple[str, ...]  # what makes scores wrong or undefined
    notes: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        images = sum(split.samples for split in self.splits)
        rate = images / max(self.seconds, 1e-9)
        classes = ", ".join(f"{name} = {i}" for i, name in enumerate(self.classes))
        lines = [
            f"{self.source} -> {self.out}: {counted(images, 'image')} in {self.seconds:.1f} s "
            f"({rate:.0f} images/s), digest {self.digest}",
            f"layout {self.layout}; classes {classes or 'none'}",
            *map(str, self.splits),
            *(f"note: {note}" for note in self.notes),
            *(f"WARNING: {warning}" for warning in self.warnings),
        ]
        lines += _list("group", "of equal images", self.duplicates)
        reasons = kinds([skipped.reason for skipped in self.skipped])
        lines += _list("file", f"skipped ({reasons})", self.skipped)
        if self.ignored:
            lines.append(about_ignored(self.ignored))
        return "\n".join(lines)

    def write(self, root: Path) -> None:
        """Write `manifest.json`, at once and whole."""
        content = {"format": FORMAT, **asdict(self)}
        temporary = root / ".manifest.tmp.json"
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
        temporary.replace(root / "manifest.json")


def _inputs_text(inputs: dict[str, Any] | None) -> str:
    """The inputs of a split as the end of a line; nothing without pairs."""
    if inputs is None:
        return ""
    counts = " counts" * (inputs["stored"] == COUNTS.name)
    shape = " x ".join(map(str, inputs["shape"]))
    return f"; inputs {shape} {inputs['dtype']}, stored as {inputs['stored']}{counts}"


def about_ignored(names: Sequence[str]) -> str:
    """Say which files were left out, since they are no images."""
    more = ", ..." if len(names) > 3 else ""
    return f"{counted(len(names), 'file')} ignored, no image: {', '.join(names[:3])}{more}"


def warnings(splits: Sequence[SplitReport], duplicates: Sequence[Duplicate]) -> list[str]:
    """What makes the scores of a set wrong or undefined."""
    train = "no model can learn it"
    messages = [
        f"split {split.name} has no sample of class {name}: "
        f"{train if split.name == 'train' else 'its scores will be undefined'}"
        for split in splits
        for name, count in split.class_counts.items()
        if not count
    ]
    if labels := sum(same.contradictory for same in duplicates):
        messages.append(
            f"{counted(labels, 'image')} with contradictory labels: one of them is wrong"
        )
    if leaks := sum(same.leak for same in duplicates):
        messages.append(
            f"{counted(leaks, 'image')} in more than one split: scores will be too good"
        )
    return messages


def about_changes(
    reading: Reading, images: Mapping[str, int], pixels: Mapping[str, int]
) -> list[str]:
    """Say what was done to images so that they could be packed.

    Arguments:
        reading: What was asked for.
        images: How many were changed, by the kind of `Change`.
        pixels: How many of their pixels.
    """
    asked = {
        "mask_value": reading.mask_value is not None and f"the mask value {reading.mask_value:g}",
        "mask_extension": reading.mask_extension and f"a mask in {reading.mask_extension}",
        "fill_nan": reading.fill_nan is not None and "no finite value",
    }
    lines = [
        _about_filled(what, pixels.get(kind, 0), images.get(kind, 0))
        for kind, what in asked.items()
        if what
    ]
    return lines + [
        f"{counted(images[kind], 'image')} {text}"
        for kind, text in {
            "crop": f"cropped to {reading.crop} pixels, around the middle",
            "pad": f"padded to {reading.pad} pixels, with the median of each channel",
            "lossy": "in JPEG, which is lossy: faint light may be lost",
            "alpha": "had a transparency, the same everywhere, which is left out",
        }.items()
        if images.get(kind)
    ]


def _about_filled(what: str, pixels: int, images: int) -> str:
    if not pixels:
        return f"no pixel had {what}"
    are, their = ("it is", "its") if pixels == 1 else ("they are", "their")
    return (
        f"{counted(pixels, 'pixel')} had {what}, in {images} of the images: {are} the median of "
        f"the rest of {their} channel"
    )


def about_doubts(doubts: Sequence[tuple[str, Doubt]]) -> list[str]:
    """Warn of values that are probably no light: how many images have them, and the first.

    Arguments:
        doubts: The id of an image, and the doubt about it.
    """
    lines = []
    for kind, words in _DOUBTS.items():
        if same := sorted((natural(id_), id_, d) for id_, d in doubts if d.kind == kind):
            _, first, doubt = same[0]
            have = "image has" if len(same) == 1 else "images have"
            advice = f"; if it is no light, --mask_value {doubt.value:g} fills such pixels"
            lines.append(
                f"{len(same)} {have} {words}, such as {first}: {doubt.text}"
                f"{'' if kind == 'constant' else advice}"
            )
    return lines


def kinds(reasons: Sequence[str]) -> str:
    """Count the reasons of bad images by kind, the most frequent first."""
    matches = [_KIND.match(_NUMBERS.sub("", reason)) for reason in reasons]
    wordings: dict[str, list[str]] = {}  # by what they have in common
    for wording in (match[0].strip() for match in matches if match):
        kind = wording if wording.startswith("shape") else _DETAIL.sub(_blank, wording)
        wordings.setdefault(kind, []).append(wording)
    counts = Counter({kind: len(same) for kind, same in wordings.items()})
    listed = [
        f"{count} x {kind if len(set(wordings[kind])) > 1 else wordings[kind][0]}"
        for kind, count in counts.most_common(_KINDS)
    ]
    return ", ".join([*listed, "..."] if len(counts) > _KINDS else listed)


def _blank(detail: re.Match[str]) -> str:
    return "'...'" if detail[0][0] == "'" else "N"


def _list(noun: str, description: str, things: Sequence[object]) -> list[str]:
    if not things:
        return []
    more = len(things) - _SHOWN
    rest = [f"  and {more} more, in manifest.json"] if more > 0 else []
    title = f"{counted(len(things), noun)} {description}:"
    return [title, *(f"  {thing}" for thing in things[:_SHOWN]), *rest]
