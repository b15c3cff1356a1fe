"""How files are read, as a user may say it: one value for `pack` and for `predict` on files."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from deeplense_batch.data.header import ShardError

__all__ = ["FIELDS", "Reading", "flags_in"]

FIELDS = ("split", "class", "group", "id", "band")  # of a pattern
_LISTS = ("extensions", "path", "truth", "bands", "keep", "classes", "pair")
_TEXTS = (
    "mask_extension",
    "images_key",
    "labels_key",
    "id",
    "label",
    "split",
    "all_in",
    "group",
    "images",
    "pattern",
    "inputs",
)
_MISSING = ("refuse", "zero", "drop")
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Reading:
    """What is not in the files themselves.

    Arguments:
        allow_pickle: Whether object arrays are unpickled, which runs any code they carry.
        mask_value: Value of pixels that hold no light, such as 100, -99 or NaN, if there is one;
            they become the median of the rest of their channel.
        fill_nan: Largest share of the pixels of a channel, 0 to 1, that may be NaN or infinite;
            they become the median of the rest of their channel. None: none may.
        extensions: Extensions of a FITS file, by number or name, that are the channels.
        mask_extension: Extension of a FITS file that is not 0 where pixels hold no light; they
            become the median of the rest of their channel.
        crop: Pixels along an edge to which larger images are cut, around their middle.
        pad: Pixels along an edge to which smaller images are filled up, around them, with the
            median of their channel.
        images_key: Name of the array of a file of many images that holds them.
        labels_key: Name of the one that holds their class numbers.
        bands: Names of the channels in their order: of files or extensions that are named for
            bands, these alone are read; of a cube they are names.
        pattern: How files are called, such as ``{class}/*/{id}_{band}.fits``; beside a catalogue
            a field may be any of its columns.
        missing_band: Of an object that lacks a band: ``refuse``; ``zero``, the band is zeros; or
            ``drop``, the object is left out.
        path: Columns of a catalogue that hold file names, one, or one a band; ``{band}`` in a
            column's name or in its values stands for each of the bands.
        id: Column, or array of a set, that names objects.
        label: Column of class names or class numbers.
        classes: Class names in the order of their numbers.
        truth: Columns of numbers that networks are to learn.
        split: Column of train, val or test.
        all_in: Split of all images, whatever their folders, files or columns say; none: of those
            that have no split of their own a fifth is val.
        keep: Columns that are kept beside the images.
        group: Column whose equal values name images that must be in one split.
        images: Folder or archive that file names are relative to; by default the table's folder.
        pair: Of pairs, the two folders or arrays that hold images and inputs; none: HR and LR, or
            the usual names of arrays.
        inputs: Column of a catalogue of pairs that holds the file names of the inputs.

    Raises:
        ShardError: A value is none of those allowed.
    """

    allow_pickle: bool = False
    mask_value: float | None = None
    fill_nan: float | None = None
    extensions: tuple[str, ...] = ()
    mask_extension: str = ""
    crop: int | None = None
    pad: int | None = None
    images_key: str = ""
    labels_key: str = ""
    bands: tuple[str, ...] = ()
    pattern: str = ""
    missing_band: str = "refuse"
    path: tuple[str, ...] = ()
    id: str = ""
    label: str = ""
    classes: tuple[str, ...] = ()
    truth: tuple[str, ...] = ()
    split: str = ""
    all_in: str = ""
    keep: tuple[str, ...] = ()
    group: str = ""
    images: str = ""
    pair: tuple[str, ...] = ()
    inputs: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.mask_value, int | float | None):
            raise ShardError(f"mask_value: got {self.mask_value!r}; it is a number")
        share = self.fill_nan
        if share is not None and not (isinstance(share, int | float) and 0 <= share <= 1):
            raise ShardError(f"fill_nan: got {share!r}; it is a share of the pixels, from 0 to 1")
        for name in ("crop", "pad"):
            size = getattr(self, name)
            if size is not None and not (type(size) is int and size > 0):
                raise ShardError(f"{name}: got {size!r}; it is a number of pixels above 0")
        if self.crop and self.pad and self.crop != self.pad:
            raise ShardError(
                f"crop: got {self.crop}, and pad {self.pad}; where both are given they are equal"
            )
        for name in _LISTS:
            given = getattr(self, name)
            object.__setattr__(self, name, _names(name, given))
        for name in _TEXTS:
            object.__setattr__(self, name, str(getattr(self, name) or ""))
        if self.missing_band not in _MISSING:
            raise ShardError(
                f"missing_band: got {self.missing_band!r}; it is one of {', '.join(_MISSING)}"
            )
        if self.all_in and self.all_in not in _SPLITS:
            raise ShardError(f"all_in: got {self.all_in!r}; it is one of {', '.join(_SPLITS)}")
        if self.all_in and self.split not in ("", "none"):
            raise ShardError(
                f"all_in puts all images into {self.all_in}, and split {self.split} into those of "
                "a column; give one of them"
            )
        if self.pair and len(self.pair) != 2:
            raise ShardError(
                f"pair: got {','.join(self.pair)}; it is two names, that of the images first"
            )
        if self.pattern and self.path:
            raise ShardError("path and pattern both say where the files are; give one of them")

    @property
    def of_catalogue(self) -> tuple[str, ...]:
        """Names of the flags given that only a catalogue can answer."""
        names = ("path", "id", "label", "truth", "split", "keep", "group", "images", "inputs")
        return tuple(name for name in names if getattr(self, name))

    def pattern_parts(self) -> list[str]:
        """The pattern as text, field, text, field, ..., text."""
        return re.split(r"\{([^{}]+)\}", self.pattern)


def flags_in(sentence: str) -> list[str]:
    """The flags of reading that a sentence names as `pack` has them, such as --path."""
    known = {field.name for field in fields(Reading)}
    return [name for name in re.findall(r"--(\w+)", sentence) if name in known]


def _names(flag: str, given: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Several names, from one text with commas too."""
    parts = given.split(",") if isinstance(given, str) else (given or ())
    names = tuple(str(part).strip() for part in parts)
    twice = [name for name in names if names.count(name) > 1]
    if "" in names or twice:
        why = f"has {twice[0]!r} twice" if twice else "has an empty name"
        raise ShardError(f"{flag}: got {','.join(names)!r}, which {why}")
    return names
