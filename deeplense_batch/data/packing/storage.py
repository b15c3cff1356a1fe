"""What the images of a set are stored as, found out while they are packed.

Whether images are integer counts, and what type and shape they share, is not known beforehand. So
packing starts with the type and form of the first image and the smallest storage; the first image
that does not fit says which storage it needs, and packing begins again with that. Storage only
ever widens (uint8, uint16 counts, float32, float64), so that real sets need one or two passes.
Where more images have another form (shape, bands, pixel scale), that one is taken.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from deeplense_batch.data.encoding import BYTES, COUNTS, Array, encode_counts, is_exact
from deeplense_batch.data.formats.images import Change, Image, ImageError
from deeplense_batch.data.formats.parts import Header, same_scale
from deeplense_batch.data.header import ratio_of
from deeplense_batch.data.listing.listing import Sample
from deeplense_batch.data.packing.doubts import Doubt, doubts
from deeplense_batch.data.packing.sky import known_columns, plain_scale
from deeplense_batch.data.sources.sources import Source

__all__ = [
    "BadImage",
    "Form",
    "ImageRecord",
    "Packed",
    "Shape",
    "Storage",
    "convert",
    "first_storage",
    "widened_by_firsts",
]

Shape = tuple[int, ...]  # C, H, W

_MOST_ERROR = 0.01  # of an image's range, by a type that was asked for: fewer than 50 levels
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Form(NamedTuple):
    """What all images of a set share besides their type."""

    shape: Shape
    bands: tuple[str, ...] = ()  # of the channels, where names say them
    pixel_scale: float | None = None  # arcsec; None where it is unknown, or may be any

    def unlike(self, usual: Form) -> str:
        """Why an image of this form is none of another; "" where it is."""
        if self.shape != usual.shape:
            return f"shape {self.shape}, most images have {usual.shape}"
        if self.bands != usual.bands:
            own, most = (", ".join(b) or "without names" for b in (self.bands, usual.bands))
            return f"bands {own}, those of most images are {most}"
        scale, most_have = self.pixel_scale, usual.pixel_scale
        if scale and most_have and scale != most_have:
            return f"pixel scale {scale:.4g} arcsec, most images have {most_have:.4g}"
        return ""


@dataclass(frozen=True)
class Storage:
    """What every image of a set is, and how those of each split are stored."""

    shape: Shape
    dtype: np.dtype  # of the values, wide enough for all files
    stored: dict[str, np.dtype]  # by split
    asked: np.dtype | None = None  # the stored type, where one was asked for, exact or not
    has_masses: bool = False  # whether some image comes with an axion mass
    bands: tuple[str, ...] = ()  # of the channels, where names say them
    pixel_scale: float = math.nan  # arcsec, of the headers
    columns: frozenset[str] = frozenset()  # what headers say that no table does: ra, dec, object
    inputs: Storage | None = None  # of pairs

    def form(self, *, one_scale: bool) -> Form:
        """The form of its images; with or without their pixel scale."""
        known = one_scale and not math.isnan(self.pixel_scale)
        return Form(self.shape, self.bands, self.pixel_scale if known else None)


class ImageRecord(NamedTuple):
    """What is known about a packed image besides its pixels."""

    form: Form
    scale: tuple[float, ...] | None  # counts of value 1 of each channel
    least: float
    most: float
    error: float  # largest difference from the values read, in units of their range
    axion_mass_ev: float
    digest: bytes  # sha256 of what is stored
    content: bytes  # equal for equal images, whatever they are stored as
    changes: tuple[Change, ...]  # what was done so that it could be packed
    doubts: tuple[Doubt, ...]
    header: Header
    inputs: ImageRecord | None = None  # of a pair


class Packed(NamedTuple):
    """One image as it is stored."""

    stored: Array  # (C, H, W)
    record: ImageRecord
    inputs: Array | None = None  # of a pair, (C, h, w)


@dataclass(frozen=True)
class BadImage:
    """One image that cannot be packed."""

    sample: Sample
    reason: str
    form: Form | None = None  # None where it could not be read


def first_storage(source: Source, asked: np.dtype | None, *, form: Form | None = None) -> Storage:
    """Suggest the storage of the first good image, or of the first of a form.

    Arguments:
        source: The images.
        asked: Type in which they shall be stored; None for the smallest that is exact.
        form: Which one, or None for any.

    Returns:
        The storage; if no image is good, one of an empty shape, which none has.
    """
    for samples in source.splits.values():
        for sample in samples:
            with suppress(ImageError):
                image = source.read(sample)
                pixels, scale = image.pixels, plain_scale(image.header.pixel_scale)
                if form is None or not _form_of(image, form).unlike(form):
                    smallest = BYTES if pixels.dtype == BYTES else COUNTS
                    return Storage(
                        pixels.shape,
                        pixels.dtype,
                        dict.fromkeys(source.splits, smallest if asked is None else asked),
                        asked,
                        bands=image.bands,
                        pixel_scale=(form.pixel_scale if form else None) or scale,
                        columns=known_columns(image.header, source.columns),
                        inputs=first_storage(source.inputs, asked) if source.inputs else None,
                    )
    return Storage((), COUNTS, dict.fromkeys(source.splits, COUNTS), asked)


def widened_by_firsts(source: Source, storage: Storage) -> Storage:
    """The storage that the first image of each split needs: a pass that meets it begins again."""
    for samples in source.splits.values():
        outcome = convert(source, samples[0], storage)
        while isinstance(outcome, Storage):
            storage, outcome = outcome, convert(source, samples[0], outcome)
    return storage


def convert(
    source: Source, sample: Sample, storage: Storage, *, one_scale: bool = True
) -> Packed | BadImage | Storage:
    """Read one image, and of a pair its input, and bring them to their stored form.

    Arguments:
        source: Holds the image.
        sample: Which one.
        storage: What all images so far fit into.
        one_scale: Whether an image of another pixel scale is bad.

    Returns:
        The stored image; or why it is bad; or the storage it needs, where that is wider.
    """
    made = _convert(source, sample, storage, one_scale)
    if source.inputs is None or storage.inputs is None or not isinstance(made, Packed):
        return made
    partner = source.input_of(sample)
    own = _convert(source.inputs, partner, storage.inputs, one_scale)
    if isinstance(own, Storage):
        return replace(storage, inputs=own)
    record, file = made.record, f" ({partner.files[0]})" * (partner.index is None)
    if isinstance(own, BadImage):
        return BadImage(sample, f"input {own.reason}{file}", record.form)
    (channels, *sides), (theirs, *smaller) = made.stored.shape, own.stored.shape
    fault = None
    if channels != theirs:
        fault = "another number of channels than the input"
    elif tuple(smaller) > tuple(sides):
        fault = "an input that is larger than it (--pair names the images first)"
    elif ratio_of(sides, smaller) is None:
        fault = "sides that are no whole number of times those of the input"
    if fault:
        shapes = f"{made.stored.shape}, input {own.stored.shape}{file}"
        return BadImage(sample, f"{fault}: {shapes}", record.form)
    both = record._replace(inputs=own.record, changes=record.changes + own.record.changes)
    return Packed(made.stored, both, own.stored)


def _convert(
    source: Source, sample: Sample, storage: Storage, one_scale: bool
) -> Packed | BadImage | Storage:
    """Read one image and bring it to its stored form, as `convert`."""
    form = None
    try:
        image, usual = source.read(sample), storage.form(one_scale=one_scale)
        form = _form_of(image, usual, one_scale=one_scale)
        if why := form.unlike(usual):
            raise ImageError(why)
        wider = _widened(source, image, storage)
        if wider != storage:
            return wider
        return _encode(sample, image, form, storage, _missing_channels(source, sample, image))
    except ImageError as error:
        return BadImage(sample, str(error), form)


def _form_of(image: Image, usual: Form, *, one_scale: bool = True) -> Form:
    """The form of an image, with the usual pixel scale where the two count as one."""
    scale = image.header.pixel_scale
    if not one_scale or math.isnan(scale):
        return Form(image.pixels.shape, image.bands)
    near = usual.pixel_scale is not None and same_scale(usual.pixel_scale, scale)
    return Form(image.pixels.shape, image.bands, usual.pixel_scale if near else plain_scale(scale))


def _widened(source: Source, image: Image, storage: Storage) -> Storage:
    """The storage with room for what an image has besides its pixels, and for their type."""
    unknown = math.isnan(storage.pixel_scale) and not math.isnan(image.header.pixel_scale)
    dtype = np.result_type(storage.dtype, image.pixels.dtype)
    stored = storage.stored
    if dtype != BYTES:
        stored = {split: COUNTS if form == BYTES else form for split, form in stored.items()}
    return replace(
        storage,
        dtype=dtype,
        stored=stored,
        has_masses=storage.has_masses or not math.isnan(image.axion_mass_ev),
        pixel_scale=plain_scale(image.header.pixel_scale) if unknown else storage.pixel_scale,
        columns=storage.columns | known_columns(image.header, source.columns),
    )


def _missing_channels(source: Source, sample: Sample, image: Image) -> frozenset[int]:
    """Channels that are zeros as it was asked, since the object lacks the files of their bands."""
    if all(sample.files):
        return frozenset()
    lacking = {band for band, name in zip(source.bands, sample.files, strict=True) if not name}
    return frozenset(i for i, band in enumerate(image.bands) if band in lacking)


def _encode(
    sample: Sample, image: Image, form: Form, storage: Storage, missing: frozenset[int]
) -> Packed | Storage:
    """Bring one image to its stored form; or give the wider storage that it needs.

    Arguments:
        sample: Which one.
        image: As it was read.
        form: Of the image.
        storage: What all images so far fit into.
        missing: Channels that it lacks.

    Raises:
        ImageError: No stored type is exact for it, or the one asked for loses too much.
    """
    if image.pixels.dtype != storage.dtype and not is_exact(image.pixels, storage.dtype):
        raise ImageError(f"{image.pixels.dtype} values beyond 2^53, beside {storage.dtype} images")
    values = image.pixels.astype(storage.dtype, copy=False)
    kind = storage.stored[sample.split]
    counts = None if kind == BYTES else encode_counts(values)
    content = _sha256(values) if counts is None else _sha256(counts[0]) + counts[1].tobytes()
    scale, error = None, 0.0
    if kind == BYTES:  # then all values of the set are
        stored = values
    elif kind == COUNTS and counts is not None:
        stored, scale = counts[0], tuple(counts[1].tolist())
    elif storage.asked is not None:
        stored, error = _cast(values, kind)
    else:
        exact = next((wide for wide in _FLOATS if is_exact(values, wide)), None)
        if exact is None:
            raise ImageError(
                f"{storage.dtype} values beyond 2^53, which no stored type is exact for"
            )
        if exact.itemsize > kind.itemsize or kind == COUNTS:
            return replace(storage, stored=storage.stored | {sample.split: exact})
        stored = values.astype(kind, copy=False)
    hashed = scale is not None or (counts is None and stored.dtype == values.dtype)
    digest = content[:32] if hashed else _sha256(stored)
    filled = any(c.pixels or c.kind == "pad" for c in image.changes)
    record = ImageRecord(
        form,
        scale,
        image.least,
        image.most,
        error,
        image.axion_mass_ev,
        digest,
        content,
        image.changes,
        tuple(
            d
            for d in doubts(values, but=missing)
            if not (filled and d.kind in ("edge", "repeated"))
        ),
        image.header,
    )
    return Packed(stored, record)


def _sha256(values: Array) -> bytes:
    return hashlib.sha256(values.data).digest()


def _cast(values: Array, dtype: np.dtype) -> tuple[Array, float]:
    """Cast to the type asked for; gives the largest error too, as a share of the image's range.

    Raises:
        ImageError: Values become infinite or zero, or nearly all of their range is lost.
    """
    with np.errstate(over="ignore", under="ignore"):
        stored = values.astype(dtype)
    least, most = values.min(), values.max()
    if not np.isfinite(stored).all():
        raise ImageError(f"values from {least} to {most} do not fit {dtype}")
    wide = np.float64 if values.dtype.kind == "f" else np.longdouble  # int64 has 63 bits
    exact: Array = values.astype(wide)
    spread = exact.max() - exact.min()
    error = float(np.abs(stored.astype(wide) - exact).max() / spread)
    if error > _MOST_ERROR:
        raise ImageError(
            f"values from {least} to {most} would be off by {error:.0%} of that in {dtype}"
        )
    light, lost = np.count_nonzero(values), np.count_nonzero((stored == 0) & (values != 0))
    if lost > light / 2:
        raise ImageError(f"{lost} of {light} pixels above or below 0 become 0 in {dtype}")
    return stored, error
