"""The verbs that make data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from deeplense_batch.cli.values import Device, Positive

__all__ = ["pack", "simulate", "truth", "unpack"]


def simulate(
    # What to make: substructure (classes no, sphere, vort), lens_finding (lenses among galaxies,
    # as a survey sees them), diffusion (unlabelled lenses) or super_resolution (pairs: images, and
    # as inputs poorer ones of the same sky).
    kind: str,
    out: Path,  # Folder of the shards, made here.
    *,
    # common_test_1, like the real set and the default of substructure; benchmark, parity, varied
    # (the default of the last two), physical, null, model_2 or model_3. Of super_resolution also
    # iii_a, iii_a_substructure and hsc_hst, a stand-in for two telescopes. Of lens_finding:
    # hsc, the default, ps1, kids, des, lsst, euclid_vis or hst.
    preset: str = "",
    images: int = 600,  # Images in the whole set; of substructure, the classes in equal parts.
    seed: int = 0,  # The same seed gives the same images.
    # Pixels along a side, by default 150; of lens_finding those of the survey, 64 for hsc; of
    # hsc_hst 128.
    size: Positive | None = None,
    shard_size: int = 2048,  # Images in a file.
    part: int = 0,  # Which part of the files to make, from 0; the last to end completes the set.
    parts: int = 1,  # Into how many parts they are divided.
    # A field of the preset; may be given again. VALUE is a number, [low, high], or {law: Normal,
    # mean: 0, sd: 0.5}; of a survey also bands=[g,r,i], or camera.fwhm.g=0.9 of one band.
    set_: dict[str, Any] | None = None,
    # Of lens_finding: real galaxies that are lensed in place of simulated ones, a folder, shards,
    # an archive or a table.
    sources: str = "",
    # Of lens_finding: folder of shards of galaxies that arcs are painted on, half of them.
    onto: str = "",
    # Of substructure and diffusion: images with noise; or clean, expected counts, from which
    # data.augment.photon_noise draws new noise in every epoch.
    keep: Literal["observed", "clean"] = "observed",
    # cpu, the default, by one core; or cuda, by a GPU and every core. A lens_finding set is made
    # on the CPU alone.
    device: Device | None = None,
) -> None:
    """Make lens images by ray tracing, as shards; go on with them if it was cut off.

    Example: simulate substructure data/common_test_1 --images 37500
    """
    import torch

    from deeplense_batch.core.processes import signals
    from deeplense_batch.simulation.simulate import simulate

    asked = {
        "preset": preset or None, "size": size, "set_": set_, "sources": sources or None,
        "onto": onto or None, "device": device, "keep": None if keep == "observed" else keep,
    }  # fmt: skip
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    torch.set_num_threads(1)  # batches fit a core's cache; two threads are slower
    with signals() as interrupt:
        report = simulate(
            kind, out, images=images, seed=seed, shard_size=shard_size, part=part, parts=parts,
            on_batch=interrupt.check, **options,
        )  # fmt: skip
    print(report)


def pack(
    # Folder, zip or npz of images; or a catalogue, which is a table: .csv, .parquet, .vot, .ecsv,
    # .jsonl, or .fits without an image.
    source: Path,
    out: Path,  # Folder of the shards, made here.
    *,
    shard_size: int = 2048,  # Images in a file.
    seed: int = 0,  # Seed of the order, and of the split where the source has none.
    # none; gzip or lzf for an archive, slower to read.
    compression: Literal["none", "gzip", "lzf"] = "none",
    # exact keeps every bit; float32 or float16 may round.
    dtype: Literal["exact", "float16", "float32", "float64"] = "exact",
    pixel_scale: float | None = None,  # Arcsec per pixel, where known.
    # How many times its size a compressed file may unpack to, beyond 64 MB.
    max_expansion: float = 100.0,
    # Load object arrays, which can run code: only for files you trust.
    allow_pickle: bool = False,
    skip_bad: bool = False,  # Leave bad files out and list them, instead of stopping.
    # Value of pixels without light, such as 100, -99 or nan: they are filled with the median of
    # the rest of their channel, and counted.
    mask_value: float | None = None,
    # Share of the pixels of a channel, 0 to 1, that may be NaN or infinite: they are filled alike.
    fill_nan: float | None = None,
    # Extensions of FITS files that are the channels, in this order: numbers or names.
    extensions: tuple[str, ...] = (),
    # FITS extension that is not 0 where pixels hold no light: they are filled alike.
    mask_extension: str = "",
    crop: Positive | None = None,  # Cut larger images to this many pixels, around their middle.
    # Fill smaller images up to this many pixels, with the median of each channel.
    pad: Positive | None = None,
    # Array of an HDF5 or .npz file that holds the images, (N, C, H, W), (N, H, W, C) or (N, H, W).
    images_key: str = "",
    labels_key: str = "",  # And the one that holds their class numbers, (N,).
    # Names of the channels, in their order: of files, folders or extensions that are named for
    # bands these are read, of cubes they are names.
    bands: tuple[str, ...] = (),
    # How files are called, such as {id}_{band}.fits; fields are {class}, {split} and {group} too,
    # * is one folder or part of a name. With a catalogue a field is any column.
    pattern: str = "",
    # What becomes of an object that lacks a band: it is refused; the band is zeros; or the object
    # is left out.
    missing_band: Literal["refuse", "zero", "drop"] = "refuse",
    path: tuple[str, ...] = (),  # Column of the file names, or one a band, such as 'path_{band}'.
    id_: str = "",  # Column, or array of a set, of the ids, which tables of results have.
    label: str = "",  # Column of class names or numbers; none: no labels.
    classes: tuple[str, ...] = (),  # Class names in the order of their numbers.
    truth: tuple[str, ...] = (),  # Columns of numbers to be learnt by regression.
    split: str = "",  # Column of train, val or test.
    # train, val or test: the split that all images go into, whatever their folders, files or
    # columns say, such as test for a small set to be scored on, or train for one that is used by
    # folds; by default a fifth of the images that have no split of their own is val.
    all_in: str = "",
    keep: tuple[str, ...] = (),  # Columns that go into the shards and into every table.
    group: str = "",  # Column whose equal values, such as a tile, stay in one split.
    images: str = "",  # Folder, zip or tar that file names are relative to, not the table's.
    # Of pairs, the two folders, or arrays of a set, that hold the images and what a network is
    # given to make them of; by default HR and LR.
    pair: tuple[str, ...] = (),
    inputs: str = "",  # Column of the file names of these inputs, beside --path.
) -> None:
    """Pack images, in any of the usual layouts, into shards; a zip is read in place.

    Example: pack dataset.zip data/common_test_1 --pixel_scale 0.05
    """
    from deeplense_batch.data.packing.pack import pack

    report = pack(
        source, out, shard_size=shard_size, seed=seed, dtype=dtype, pixel_scale=pixel_scale,
        compression=None if compression == "none" else compression, max_expansion=max_expansion,
        allow_pickle=allow_pickle, skip_bad=skip_bad, mask_value=mask_value, bands=bands,
        fill_nan=fill_nan, extensions=extensions, mask_extension=mask_extension, crop=crop,
        pad=pad, images_key=images_key, labels_key=labels_key,
        pattern=pattern, missing_band=missing_band, path=path, id=id_, label=label,
        classes=classes, truth=truth, split=split, all_in=all_in, keep=keep, group=group,
        images=images, pair=pair, inputs=inputs,
    )  # fmt: skip
    print(report)


def unpack(
    data: Path,  # Folder of shards.
    out: Path,  # Folder that is made, or a .zip.
) -> None:
    """Write shards as .npy files again, in the public layout, for other programs.

    Example: unpack data/common_test_1 images/
    """
    from deeplense_batch.data.packing.unpack import unpack

    print(f"{out}: {unpack(data, out)} images")


def truth(
    data: Path,  # Folder of simulated shards.
    out: Path,  # HDF5 file that is made, a group for each image.
    *,
    slice_: str = "",  # Of which images, by default the first 100 of the first split.
    # Only numbers, such as delta chi^2, and no maps; written to DATA/truth.h5, they let tests and
    # evaluations of runs say how well what can be seen is found.
    numbers: bool = False,
) -> None:
    """Write the truth behind simulated images: deflection, potential, source, detectability.

    Example: truth data/common_test_1 truth.h5 --slice "val[:100]"
    """
    from deeplense_batch.simulation.truth.maps import write_truth

    print(f"{out}: {write_truth(data, slice_, out, maps=not numbers)} images")
