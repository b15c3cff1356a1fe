"""Shards written as files again, and packed once more."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from astropy.io import fits

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.packing.unpack import unpack
from deeplense_batch.data.shards import ShardError, open_split, read_splits
from deeplense_batch.simulation.simulate import simulate


def images(root):
    """Every image by split, class and value."""
    found = set()
    for name, info in read_splits(root).items():
        split = open_split(root, name)
        for target, image in zip(split.targets(), split.images(), strict=True):
            found.add((name, info.classes[target], image.dtype.str, image.tobytes()))
    return found


@pytest.mark.parametrize("out", ["tree", "set.zip"])
def test_packed_again_it_is_the_same(out, tmp_path):
    simulate("substructure", tmp_path / "a", images=30, size=32, shard_size=7)
    assert unpack(tmp_path / "a", tmp_path / out) == 30
    if out == "set.zip":
        names = zipfile.ZipFile(tmp_path / out).namelist()
    else:
        names = [str(p.relative_to(tmp_path / out)) for p in (tmp_path / out).rglob("*.npy")]
        image = np.load(tmp_path / out / "val" / "vort" / "0.npy")
        assert (image.shape, image.dtype) == ((1, 32, 32), np.float64)
    assert "train/no/0.npy" in names and len(names) == 30
    pack(tmp_path / out, tmp_path / "b")
    assert images(tmp_path / "a") == images(tmp_path / "b")
    assert not list(tmp_path.glob(".*"))


def test_what_was_packed_from_files_keeps_their_names(tmp_path):
    for name in ("train_lenses/1", "train_nonlenses/7", "test_lenses/1", "test_nonlenses/2"):
        file = tmp_path / "source" / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.random.default_rng(len(name)).random((3, 16, 16), np.float32))
    pack(tmp_path / "source", tmp_path / "a")
    unpack(tmp_path / "a", tmp_path / "again")
    for file in (tmp_path / "source").rglob("*.npy"):
        again = tmp_path / "again" / file.relative_to(tmp_path / "source")
        assert again.read_bytes() == file.read_bytes()


def test_every_ending_of_an_image_gives_way_to_npy(tmp_path):
    (tmp_path / "source").mkdir()
    for i, name in enumerate(("1.fits.gz", "2.FITS")):
        pixels = np.random.default_rng(i).random((16, 16), np.float32)
        fits.PrimaryHDU(pixels).writeto(tmp_path / "source" / name)
    pack(tmp_path / "source", tmp_path / "a")
    unpack(tmp_path / "a", tmp_path / "again")
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == ["1.npy", "2.npy"]


def test_the_four_folders_of_lens_finding(tmp_path):
    report = simulate("lens_finding", tmp_path / "a", images=60)
    assert report.counts == {
        "train": {"nonlenses": 34, "lenses": 2},
        "test": {"nonlenses": 23, "lenses": 1},
    }
    unpack(tmp_path / "a", tmp_path / "out")
    folders = {f"{s}_{c}" for s in ("train", "test") for c in ("lenses", "nonlenses")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == folders
    image = np.load(tmp_path / "out" / "test_lenses" / "0.npy")
    assert (image.shape, image.dtype) == ((3, 64, 64), np.float32)
    pack(tmp_path / "out", tmp_path / "b")
    assert images(tmp_path / "a") == images(tmp_path / "b")


def test_the_flat_folder_of_the_diffusion_set(tmp_path):
    simulate("diffusion", tmp_path / "a", images=9, size=32)
    split = open_split(tmp_path / "a", "train")
    assert (split.targets() == -1).all() and split.info.classes == ()
    vortex = split.truth("vortex")[:, 0] > 0
    assert vortex.sum() == 3 and (split.truth("index")[vortex] % 3 == 2).all()
    unpack(tmp_path / "a", tmp_path / "out")
    names = {str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("out/**/*.npy")}
    assert names == {f"Samples/{i}.npy" for i in range(9)}
    pack(tmp_path / "out" / "Samples", tmp_path / "b")
    info = read_splits(tmp_path / "b")
    assert sum(map(len, info.values())) == 9 and all(i.classes == () for i in info.values())


def test_classes_without_a_split(tmp_path):
    for name in ("no", "vort"):
        (tmp_path / "source" / name).mkdir(parents=True)
        for i in range(5):
            image = np.random.default_rng([i, len(name)]).random((1, 16, 16))
            np.save(tmp_path / "source" / name / f"train_{i}.npy", image)
    pack(tmp_path / "source", tmp_path / "a")
    unpack(tmp_path / "a", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "val"}
    pack(tmp_path / "out", tmp_path / "b")
    assert images(tmp_path / "a") == images(tmp_path / "b")


def test_nothing_is_written_over(tmp_path):
    simulate("substructure", tmp_path / "a", images=6, size=32)
    (tmp_path / "out").mkdir()
    with pytest.raises(ShardError, match="is there already"):
        unpack(tmp_path / "a", tmp_path / "out")
    with pytest.raises(ShardError, match="no such folder"):
        unpack(tmp_path / "none", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "out"]
