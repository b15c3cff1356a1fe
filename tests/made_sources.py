"""Folders, zips and sets of images that several tests of packing read."""

from __future__ import annotations

import zipfile

import numpy as np
from astropy.io import fits
from conftest import make_images
from hostile_sources import npy

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.sources.sources import open_source

N = 32


def noise(seed=0, shape=(1, N, N)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def fill(root, *names, change=lambda pixels: pixels):
    """Write an image of its own at every name."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".fits"):
            fits.writeto(root / name, change(noise(i)))
        else:
            np.save(root / name, change(noise(i)))
    return root


def told(root):
    """All that is printed about a packing."""
    return str(pack(root, root.parent / f"out-{len(list(root.parent.iterdir()))}"))


def archive(path, *names, method=zipfile.ZIP_STORED):
    """A zip of an image of its own under every name, however odd the name is."""
    with zipfile.ZipFile(path, "w", method) as file:
        for i, name in enumerate(names):
            member = zipfile.ZipInfo()
            member.filename, member.compress_type = name, method
            file.writestr(member, npy(noise(i)))
    return path


SET = [f"data/{split}/{class_}/{i}.npy" for split in ("train", "val")
       for class_ in ("no", "vort") for i in range(2)]  # fmt: skip


def folder(root, *classes):
    """Three images of each class, in split folders."""
    for i, class_ in enumerate(classes or ("no", "vort")):
        (root / "train" / class_).mkdir(parents=True)
        for j in range(3):
            np.save(root / "train" / class_ / f"{j}.npy", noise(10 * i + j))
    return root


def two_unusable(root):
    """Seven images, two of which cannot be used, in the split and the classes of their folders."""
    for i, image in enumerate(make_images(7, seed=5)[0].astype(np.float32)):
        path = root / "test" / ("no", "vort")[i % 2] / f"{i}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, image)
    np.save(root / "test" / "no" / "2.npy", np.full((1, 24, 24), np.nan))
    np.save(root / "test" / "vort" / "5.npy", np.random.default_rng(0).random((1, 24, 20)))
    return root


def a_set(path, **arrays):
    """An .npz of ten images of two classes, with other arrays, or others in their place."""
    images = np.stack([noise(i) for i in range(10)])
    np.savez(path, **({"images": images, "labels": np.arange(10) % 2} | arrays))
    return path


def listing(root, **options):
    """Layout, classes, and (id, class number) of each split."""
    with open_source(root, **options) as source:
        splits = {
            split: [(sample.id, sample.target) for sample in samples]
            for split, samples in source.splits.items()
        }
        return source.layout, source.classes, splits


def each(pattern, bands, objects=range(3)):
    """Names of some objects in each of some bands."""
    return [pattern.format(band, i) for band in bands.split() for i in objects]


def zipped(root, target, prefix=""):
    """A zip of all files of a folder, the last one first."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*"), reverse=True):
            if path.is_file():
                archive.write(path, prefix + path.relative_to(root).as_posix())
    return target
