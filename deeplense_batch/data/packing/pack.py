"""Pack images on disk, in any layout of `sources`, into shards.

Every file is read once, checked, encoded and written, shard by shard. Nothing carries its final
name before the last image is known to be good. Two packings of one source give equal shards, and
so do a folder and its zip.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from math import inf, isfinite, isnan
from pathlib import Path
from typing import Any

import numpy as np

from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.natural import natural
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.formats.untrusted import expansion
from deeplense_batch.data.listing.listing import Sample, Skipped
from deeplense_batch.data.packing.advice import about_labels, mends
from deeplense_batch.data.packing.manifest import (
    Duplicate,
    PackReport,
    SplitReport,
    about_changes,
    about_doubts,
    kinds,
    warnings,
)
from deeplense_batch.data.packing.one_pass import OnePass
from deeplense_batch.data.packing.pair_report import inputs_of_split
from deeplense_batch.data.packing.storage import Storage, first_storage, widened_by_firsts
from deeplense_batch.data.shard_file import half_named, naming, writing
from deeplense_batch.data.shards import ShardError, data_digest, read_splits
from deeplense_batch.data.sources.sources import Source, open_source
from deeplense_batch.data.writer import ShardWriter, make_folder, own_folder, refuse_shards

__all__ = ["PackReport", "pack"]

_CHOICES: dict[str, tuple[str | None, ...]] = {
    "dtype": ("exact", "float16", "float32", "float64"),
    "compression": (None, "gzip", "lzf"),
}

_MOST_SEED = 2**63 - 1  # of an attribute of HDF5
_MOST_IMAGES = 10**9  # of a shard
_MOST_NAMED = 1000  # of what cannot be packed


def pack(
    source: Path | str,
    out: Path | str,
    *,
    shard_size: int = 2048,
    seed: int = 0,
    compression: str | None = None,
    dtype: str = "exact",
    skip_bad: bool = False,
    pixel_scale: float | None = None,
    max_expansion: float = 100,
    **reading: Any,
) -> PackReport:
    """Pack a folder, a zip or an .npz of images into shards.

    Arguments:
        source: The images, in any layout of `sources`.
        out: Folder of the shards; made if needed, and not left behind if the packing fails.
        shard_size: Samples of a shard.
        seed: Seed of the order of samples, and of the 4:1 split where the source has none.
        compression: ``gzip`` or ``lzf``, smaller and slower to read, or None.
        dtype: ``exact``, the smallest form that loses nothing; or ``float16``, ``float32`` or
            ``float64``, whatever that loses.
        skip_bad: Whether images that cannot be packed are left out and listed.
        pixel_scale: arcsec per pixel; None for what FITS headers say, if they do.
        max_expansion: How many times its own size a compressed file may unpack to; what is more,
            and more than 64 MB, is taken for a bomb.
        reading: Of `Reading`: what is not in the files themselves.

    Returns:
        What was done; `str` gives it as text. ``out/manifest.json`` holds the same.

    Raises:
        ShardError: An argument is none of those above, `source` has no images in a known layout,
            `out` holds shards already, or images are bad: all of them are named.
    """
    started = time.monotonic()
    source, out = Path(source), Path(out)
    options: dict[str, Any] = {
        "shard_size": shard_size,
        "compression": compression,
        "dtype": dtype,
        "skip_bad": skip_bad,
        "pixel_scale": pixel_scale,
        "max_expansion": max_expansion,
    }
    asked = Reading(**reading)
    _check(source, out, seed, options)
    with (
        expansion(max_expansion),
        open_source(source, seed=seed, reading=asked) as images,
        _folder(out),
    ):
        return _pack(images, out, seed, options, started)


def _pack(
    source: Source, out: Path, seed: int, options: dict[str, Any], started: float
) -> PackReport:
    """Pass over the source until every image fits the storage, and publish that pass."""
    new_writer = partial(_new_writer, source, out, seed, options)
    asked = None if options["dtype"] == "exact" else np.dtype(options["dtype"])
    _refuse_faults(source, options["skip_bad"])
    storage = widened_by_firsts(source, first_storage(source, asked))
    while True:
        with OnePass(
            source,
            storage,
            new_writer,
            seed=seed,
            skip_bad=options["skip_bad"],
            pixel_scale=options["pixel_scale"],
        ) as one_pass:
            wider = one_pass.run()
            if wider is None:
                _refuse_bad(one_pass)
                if not source.reading.bands:
                    one_pass.sky.refuse_bands(source.root)
                return _publish(one_pass, out, options, started)
        storage = wider


def _new_writer(
    source: Source, out: Path, seed: int, options: dict[str, Any], split: str, storage: Storage
) -> ShardWriter:
    scale, (channels, height, width) = options["pixel_scale"], storage.shape
    return ShardWriter(
        out,
        split=split,
        shape=(channels, height, width),
        stored=storage.stored[split],
        dtype=storage.dtype,
        classes=source.classes,
        source=str(source.root),
        seed=seed,
        pixel_scale=storage.pixel_scale if scale is None else scale,
        shard_size=min(options["shard_size"], max(map(len, source.splits.values()))),
        compression=options["compression"],
        bands=storage.bands,
        group=source.group,
        inputs_dtype=storage.inputs.dtype if storage.inputs else None,
    )


def _publish(one_pass: OnePass, out: Path, options: dict[str, Any], started: float) -> PackReport:
    """Give the shards their names, and write the manifest beside them."""
    with naming(out, one_pass.finish()):
        one_pass.publish()
        report = _report(one_pass, out, options, time.monotonic() - started)
        with writing(out / "manifest.json"):
            report.write(out)
        if report.skipped:
            _write_left_out(out / "left_out.csv", report.skipped)
    return report


def _check(source: Path, out: Path, seed: int, options: dict[str, Any]) -> None:
    """Refuse arguments that make no sense, before anything is read."""
    for name, allowed in _CHOICES.items():
        if options[name] not in allowed:
            raise ShardError(
                f"{name}: got {options[name]!r}; it is one of {', '.join(map(str, allowed))}"
            )
    size, scale = options["shard_size"], options["pixel_scale"]
    if not isinstance(seed, int) or not 0 <= seed <= _MOST_SEED:
        raise ShardError(f"seed: got {seed!r}; it is an integer from 0 to {_MOST_SEED}")
    if not isinstance(size, int) or not 1 <= size <= _MOST_IMAGES:
        raise ShardError(
            f"shard_size: got {size!r}; it is a number of images from 1 to {_MOST_IMAGES}"
        )
    if scale is not None and not (isinstance(scale, int | float) and 0 < scale < inf):
        raise ShardError(
            f"pixel_scale: got {scale!r}; it is a number of arcsec per pixel, above 0"
        )
    most = options["max_expansion"]
    if not (isinstance(most, int | float) and 1 <= most < inf):
        raise ShardError(f"max_expansion: got {most!r}; it is a factor of at least 1")
    inside = Path(os.path.realpath(out)).is_relative_to(os.path.realpath(source))
    if source.is_dir() and inside:
        raise ShardError(f"{out}: lies in {source}, which is packed; name a folder outside of it")
    if not half_named(out):
        refuse_shards(out)


@contextmanager
def _folder(root: Path) -> Iterator[None]:
    """Own the folder of the shards, cleared of what a killed packing left.

    On failure the folders that were made for it are removed.
    """
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        make_folder(root)
        with own_folder(root):
            yield
    except BaseException:
        with suppress(OSError):  # never made, or another program put something there
            for folder in made:
                folder.rmdir()
        raise


def _refuse_faults(source: Source, skip_bad: bool) -> None:
    """Refuse rows and objects that cannot be packed, before an image is read.

    Raises:
        ShardError: There are some, and they are not to be left out; or nothing else is left.
    """
    faults = source.faults
    if not faults or (skip_bad and source.splits):
        return
    total = len(faults) + sum(map(len, source.splits.values()))
    count = f"{len(faults)} of {counted(total, 'object')} cannot be packed"
    kinds_ = kinds([fault.reason for fault in faults])
    advice = "none is left" if skip_bad else "mend or remove them, or leave them out by --skip_bad"
    if any(fault.reason.startswith("band ") for fault in faults):
        advice += "; --missing_band zero makes a missing band zeros, drop leaves out its object"
    raise ShardError(f"{source.root}: {count}:{_listed(faults)}\n{count} ({kinds_}); {advice}")


def _listed(bad: Sequence[Skipped]) -> str:
    """The first few of what cannot be packed, a line each."""
    more = f"\n  and {len(bad) - _MOST_NAMED} more" if len(bad) > _MOST_NAMED else ""
    return "".join(f"\n  {one}" for one in bad[:_MOST_NAMED]) + more


def _left_out(one_pass: OnePass) -> list[Skipped]:
    """All objects that are not in the shards, by their ids."""
    source = one_pass.source
    bad = [Skipped(bad.sample.id, bad.reason, _file_of(bad.sample)) for bad in one_pass.bad]
    return sorted([*bad, *source.faults, *source.dropped], key=lambda one: natural(one.id))


def _file_of(sample: Sample) -> str:
    """The first file of a sample, where that is not its id."""
    first = next(filter(None, sample.files))
    return "" if first.endswith(sample.id) else first


def _only_file_of(sample: Sample) -> str:
    """The file that a reason is about: of several it is named there; a set has many images."""
    return _file_of(sample) if len(sample.files) == 1 and sample.index is None else ""


def _write_left_out(path: Path, left_out: Sequence[Skipped]) -> None:
    """Write the table of what is not in the shards, and why."""
    with writing(path), path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("id", "file", "reason"))
        lines.writerows((one.id, one.file, one.reason) for one in left_out)


def _refuse_bad(one_pass: OnePass) -> None:
    """Refuse bad images unless they are to be skipped, and splits of which nothing is left."""
    root, bad = one_pass.source.root, one_pass.sorted_bad()
    total = sum(map(len, one_pass.source.splits.values()))
    listed = _listed([Skipped(b.sample.id, b.reason, _only_file_of(b.sample)) for b in bad])
    count = f"{len(bad)} of {counted(total, 'image')} cannot be packed"
    last = f"{count} ({kinds([image.reason for image in bad])})"  # the first line may scroll away
    if bad and not one_pass.skip_bad:
        raise ShardError(
            f"{root}: {count}:{listed}\n{last}; mend or remove them, or leave them out by "
            f"--skip_bad{mends(bad, one_pass.storage, one_pass.source.reading)}"
        )
    for split in one_pass.source.splits:
        if split not in one_pass.ranges:
            raise ShardError(
                f"{root}: no image of split {split} can be packed:{listed}\n{last}, and none of "
                f"split {split} is left"
            )


def _report(one_pass: OnePass, out: Path, options: dict[str, Any], seconds: float) -> PackReport:
    source, splits, duplicates = one_pass.source, _splits(one_pass, out), _duplicates(one_pass)
    doubted = about_doubts([(sample.id, doubt) for sample, doubt in one_pass.doubts])
    return PackReport(
        source=str(source.root),
        out=str(out),
        layout=source.layout,
        classes=source.classes,
        seed=one_pass.seed,
        options=options | _as_json(asdict(source.reading)),
        bands=one_pass.storage.bands,
        digest=data_digest(out),
        splits=splits,
        duplicates=duplicates,
        skipped=tuple(_left_out(one_pass)),
        ignored=source.ignored,
        warnings=(
            *source.warnings,
            *warnings(splits, duplicates),
            *about_labels(splits),
            *one_pass.warnings(),
            *doubted,
        ),
        notes=(*source.notes, *_notes(one_pass)),
        seconds=seconds,
    )


def _splits(one_pass: OnePass, out: Path) -> tuple[SplitReport, ...]:
    infos, splits = read_splits(out), []
    for split, (least, most, error) in one_pass.ranges.items():
        info = infos[split]
        splits.append(
            SplitReport(
                name=split,
                samples=len(info),
                class_counts=dict(zip(info.classes, info.class_counts, strict=True)),
                shape=info.shape,
                dtype=info.dtype.name,
                stored=info.stored.name,
                least=least,
                most=most,
                error=error,
                bytes=sum(file.stat().st_size for file in info.files),
                shards={
                    file.name: digest
                    for file, digest in zip(info.files, info.digests, strict=True)
                },
                inputs=inputs_of_split(info),
            )
        )
    return tuple(splits)


def _duplicates(one_pass: OnePass) -> tuple[Duplicate, ...]:
    duplicates = [
        Duplicate(
            tuple(sorted(s.id for s in same)),
            leak=len({s.split for s in same}) > 1,
            contradictory=len({s.target for s in same}) > 1,
        )
        for same in one_pass.same_images.values()
        if len(same) > 1
    ]
    return tuple(
        sorted(duplicates, key=lambda same: (not same.contradictory, not same.leak, same.ids))
    )


def _as_json(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON can hold them, which has no NaN."""
    return {
        name: str(value) if isinstance(value, float) and not isfinite(value) else value
        for name, value in options.items()
    }


def _lack_a_band(count: int) -> str:
    return "1 object lacks a band" if count == 1 else f"{count} objects lack a band"


def _notes(one_pass: OnePass) -> list[str]:
    """Remarks about how the values were read and stored."""
    storage, reading, notes = one_pass.storage, one_pass.source.reading, []
    if storage.bands == ("red", "green", "blue"):
        notes.append("the channels are red, green, blue, as in a picture: not g, r, i")
    elif storage.bands:
        notes.append(f"the channels are the bands {', '.join(storage.bands)}, in this order")
    if one_pass.pixel_scale is None and not isnan(storage.pixel_scale):
        notes.append(
            f"pixel scale {storage.pixel_scale:g} arcsec, by {one_pass.source.scales_from}"
        )
    if storage.columns:
        notes.append(f"kept as columns, from the headers: {', '.join(sorted(storage.columns))}")
    if columns := sorted(one_pass.source.columns):
        notes.append(f"columns kept beside the images: {', '.join(columns)}")
    if "missing_bands" in columns:
        lacking = one_pass.source.columns["missing_bands"]
        lack = _lack_a_band(sum(map(bool, lacking.tolist())))
        notes.append(f"{lack}, which is zeros (column missing_bands)")
    if dropped := one_pass.source.dropped:
        lack = _lack_a_band(len(dropped))
        notes.append(f"{lack}: left out (--missing_band drop)")
    notes += about_changes(reading, one_pass.changes, one_pass.changed_pixels)
    if storage.asked is None and np.float64 in storage.stored.values():
        notes.append("no smaller type than float64 is exact; --dtype float32 would halve it")
    if reading.allow_pickle:
        notes.append("--allow_pickle was given: a pickled file can run any code when it is read")
    if storage.has_masses:
        notes.append("axion masses are kept as truth 'axion_mass_ev', NaN where there is none")
    return notes
