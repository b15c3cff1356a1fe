"""Packing: exact, repeatable, all or nothing."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_catalogues import N, stamps

from deeplense_batch.core import pieces
from deeplense_batch.data.digest import verify
from deeplense_batch.data.packing import one_pass
from deeplense_batch.data.packing.manifest import kinds
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, data_digest, open_split, read_splits
from deeplense_batch.data.writer import ShardWriter
from deeplense_batch.simulation.simulate import simulate

REAL = os.environ.get("DEEPLENSE_REAL_DATA")
real = pytest.mark.skipif(not REAL, reason="DEEPLENSE_REAL_DATA names no folder of real images")


def counts_image(seed=0, shape=(1, 8, 9), levels=700):
    """Integer counts with their minimum subtracted, divided by their maximum."""
    counts = np.random.default_rng(seed).integers(0, levels + 1, shape)
    counts.flat[:3] = 0, 1, levels
    return counts / levels


def noise(seed=0, shape=(1, 8, 9), dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def fill(root, images):
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, image, allow_pickle=True)
    return root


def common_test(root, per_class=5, image=counts_image):
    """A small Common Test I; its images by their ids."""
    names = [
        f"{split}/{class_}/{i}.npy"
        for split in ("train", "val")
        for class_ in ("no", "sphere", "vort")
        for i in range(1, per_class + 1)
    ]
    images = {name: image(seed) for seed, name in enumerate(names)}
    fill(root, images)
    return images


def zipped(root, target, prefix=""):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.npy"), reverse=True):
            archive.write(path, prefix + path.relative_to(root).as_posix())
    return target


def assert_packed(out, images):
    """Every image is there once, bit for bit, under its id."""
    packed = {}
    for split in read_splits(out):
        opened = open_split(out, split)
        packed |= dict(zip(opened.ids(), opened.images(), strict=True))
    assert set(packed) == set(images)
    for name, image in images.items():
        assert packed[name].dtype == image.dtype
        assert packed[name].tobytes() == image.tobytes(), name


def test_a_set_is_packed_bit_for_bit(tmp_path):
    images = common_test(tmp_path / "source")
    report = pack(tmp_path / "source", tmp_path / "out", shard_size=4, pixel_scale=0.05)
    assert_packed(tmp_path / "out", images)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.json",
        *(f"{split}-{i:05d}-of-00004.h5" for split in ("train", "val") for i in range(4)),
    ]
    train = open_split(tmp_path / "out", "train")
    assert train.info.stored == np.uint16 and train.info.dtype == np.float64
    assert (train.info.pixel_scale, train.info.seed) == (0.05, 0)
    assert train.info.classes == ("no", "sphere", "vort")
    number = {"no": 0, "sphere": 1, "vort": 2}
    assert train.targets().tolist() == [number[name.split("/")[1]] for name in train.ids()]
    every = np.stack([images[name] for name in train.ids()])
    assert train.info.mean == pytest.approx((every.mean(),))
    assert train.info.sd == pytest.approx((every.std(),))
    assert report.digest == data_digest(tmp_path / "out")


def test_slices_are_stratified_and_the_order_is_the_seeds(tmp_path):
    common_test(tmp_path / "source", per_class=10)
    ids = {}
    for seed in (0, 0, 1):
        out = tmp_path / f"out{len(ids)}"
        pack(tmp_path / "source", out, seed=seed)
        ids[out.name] = open_split(out, "train").ids()
        half = np.bincount(open_split(out, "train[:50%]").targets())
        assert half.sum() == 15 and (abs(half - 5) <= 1).all()
    assert ids["out0"] == ids["out1"] != ids["out2"]
    assert ids["out0"] != sorted(ids["out0"])


@pytest.mark.parametrize("prefix", ["", "dataset/"])
@pytest.mark.parametrize("image", [counts_image, noise])
def test_a_folder_its_zip_and_another_time_give_the_same_shards(tmp_path, prefix, image):
    images = common_test(tmp_path / "source" / "dataset", image=image)
    archive = zipped(tmp_path / "source" / "dataset", tmp_path / "set.zip", prefix)
    reports = [
        pack(source, tmp_path / f"out{i}", shard_size=6)
        for i, source in enumerate(
            [tmp_path / "source", tmp_path / "source" / "dataset", archive, archive]
        )
    ]
    assert len({report.digest for report in reports}) == 1
    assert_packed(tmp_path / "out2", images)
    other = pack(archive, tmp_path / "seed", shard_size=6, seed=1)
    assert other.digest != reports[0].digest


def test_class_folders_and_their_zip_are_split_alike(tmp_path):
    source = fill(
        tmp_path / "source",
        {f"{c}/{i}.npy": counts_image(i + 50 * (c == "b")) for c in "ab" for i in range(11)},
    )
    report = pack(source, tmp_path / "out")
    again = pack(zipped(source, tmp_path / "set.zip", "x/"), tmp_path / "again")
    assert report.digest == again.digest
    assert [split.class_counts for split in report.splits] == [{"a": 9, "b": 9}, {"a": 2, "b": 2}]
    assert "each class split 4:1 into train and val, seed 0" in str(report)


def test_all_images_without_a_split_may_go_into_one(tmp_path):
    for name in ("no", "vort"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(6):
            np.save(tmp_path / "own" / name / f"{i}.npy", counts_image(i))
    pack(tmp_path / "own", tmp_path / "test", all_in="test")
    (info,) = read_splits(tmp_path / "test").values()
    assert (info.name, info.class_counts) == ("test", (6, 6))
    pack(tmp_path / "own", tmp_path / "fifths")
    assert {n: len(i) for n, i in read_splits(tmp_path / "fifths").items()} == {
        "train": 10, "val": 2,
    }  # fmt: skip


def test_processes_and_chunks_change_nothing(tmp_path, monkeypatch):
    images = common_test(tmp_path / "source", per_class=30)
    archive = zipped(tmp_path / "source", tmp_path / "set.zip")
    digests = set()
    for processes, chunk in ((1, 1), (3, 7), (8, 1000)):
        monkeypatch.setattr(one_pass, "_CHUNK", chunk)
        monkeypatch.setattr(one_pass, "cores", lambda n=processes: n)
        for source in (tmp_path / "source", archive):
            out = tmp_path / f"{processes}-{source.name}"
            digests.add(pack(source, out, shard_size=32).digest)
            assert_packed(out, images)
    assert len(digests) == 1


def test_unlabelled_images(tmp_path):
    images = {f"{i}.npy": noise(i) for i in range(5)}
    report = pack(fill(tmp_path / "source", images), tmp_path / "out")
    split = open_split(tmp_path / "out", "train")
    assert split.info.classes == () and split.targets().tolist() == [-1] * 5
    assert_packed(tmp_path / "out", images)
    assert "5 images (no labels)" in str(report) and "classes none" in str(report)


def test_an_npz_set(tmp_path):
    images = np.stack([counts_image(i) for i in range(6)])
    (tmp_path / "source").mkdir()
    np.savez(tmp_path / "source" / "train.npz", images=images[:4], labels=[0, 1, 1, 0])
    np.savez(tmp_path / "source" / "val.npz", images=images[4:], labels=[1, 0])
    pack(tmp_path / "source", tmp_path / "out")
    assert_packed(
        tmp_path / "out",
        {f"train.npz[{i}]": images[i] for i in range(4)}
        | {f"val.npz[{i}]": images[4 + i] for i in range(2)},
    )
    val = open_split(tmp_path / "out", "val")
    assert dict(zip(val.ids(), val.targets(), strict=True)) == {"val.npz[0]": 1, "val.npz[1]": 0}


# What images are stored as


@given(
    images=hnp.arrays(
        st.sampled_from(["u1", "i2", "u2", "i4", "i8", "f2", "f4", "f8"]),
        (4, 1, 3, 3),
        elements={"allow_nan": False, "allow_infinity": False},
    )
    | st.integers(1, 65535).flatmap(
        lambda levels: hnp.arrays(np.int64, (4, 2, 3, 3), elements=st.integers(0, levels)).map(
            lambda counts: counts / levels
        )
    )
)
@settings(deadline=None, max_examples=25)
def test_whatever_is_packed_comes_back_bit_for_bit(tmp_path_factory, images):
    root = tmp_path_factory.mktemp("pack")
    named = {f"{i}.npy": image for i, image in enumerate(images)}
    fill(root / "source", named)
    try:
        with np.errstate(all="raise", under="ignore"):
            report = pack(root / "source", root / "out", skip_bad=True)
    except ShardError as error:
        assert "no image of split train can be packed" in str(error)
        report = None
    bad = {skipped.id: skipped.reason for skipped in report.skipped} if report else named
    constant = {
        name
        for name, image in named.items()
        if image.min() == image.max() or len(set(image.astype(np.float32).ravel().tolist())) == 1
    }
    largest = {name: abs(image.astype(float)).max() for name, image in named.items()}
    huge = {name for name, most in largest.items() if most > np.finfo(np.float32).max}
    beyond = {name for name, most in largest.items() if most > 2**53}
    possible = beyond if images.dtype == np.int64 else set()
    assert constant | huge <= set(bad) <= constant | huge | possible
    if report:
        assert_packed(
            root / "out", {name: image for name, image in named.items() if name not in bad}
        )


@pytest.mark.filterwarnings("error")
def test_no_warning_of_numpy_reaches_a_person(tmp_path):
    images = {f"{i}.npy": noise(i) * np.float32(1e38) for i in range(3)}
    images["huge.npy"] = noise(3, dtype=np.float64) * 1e300
    report = pack(fill(tmp_path / "source", images), tmp_path / "out", skip_bad=True)
    assert "1 file skipped (1 x values do not fit float32)" in str(report)
    (split,) = report.splits
    assert split.samples == 3 and np.isfinite(read_splits(tmp_path / "out")["train"].sd).all()


def stored(tmp_path, images, **options):
    """Pack images; the stored type and the type of the values of each split."""
    number = len(list(tmp_path.iterdir()))
    report = pack(fill(tmp_path / f"source{number}", images), tmp_path / f"out{number}", **options)
    return report, {split.name: (split.stored, split.dtype) for split in report.splits}


def test_the_smallest_exact_form_of_each_split(tmp_path):
    images = {f"train/a/{i}.npy": counts_image(i) for i in range(40)}
    images |= {f"val/a/{i}.npy": counts_image(100 + i) for i in range(40)}
    images["val/a/17.npy"] = noise(1).astype(np.float64)
    report, forms = stored(tmp_path, images)
    assert forms == {"train": ("uint16", "float64"), "val": ("float64", "float64")}
    assert_packed(Path(report.out), images)
    assert "--dtype float32 would halve it" in str(report)  # counts / 700 need float64

    images = {f"{i}.npy": noise(i).astype(np.float64) for i in range(40)}
    report, forms = stored(tmp_path, images)
    assert forms == {"train": ("float32", "float64")}
    assert_packed(Path(report.out), images)
    assert "halve" not in str(report)

    images["20.npy"] = noise(20, dtype=np.float64)
    report, forms = stored(tmp_path, images)
    assert forms == {"train": ("float64", "float64")}
    assert_packed(Path(report.out), images)


def test_value_types_that_differ_are_promoted_without_loss(tmp_path):
    a, b = np.arange(12, dtype="u1").reshape(1, 3, 4), counts_image(1, (1, 3, 4))
    report, forms = stored(tmp_path, {"1.npy": a, "2.npy": b, "3.npy": b.astype(np.float32)})
    assert forms == {"train": ("float64", "float64")}  # the float32 of k / L is no k / L
    assert_packed(
        Path(report.out), {"1.npy": a * 1.0, "2.npy": b, "3.npy": b.astype("f4").astype("f8")}
    )
    report, forms = stored(tmp_path, {"1.npy": a, "2.npy": -a.astype("i2")})
    assert forms == {"train": ("float32", "int16")}
    assert_packed(Path(report.out), {"1.npy": a.astype("i2"), "2.npy": -a.astype("i2")})
    report, forms = stored(tmp_path, {"1.npy": a, "2.npy": a.astype(">f4") * 2})
    assert forms == {"train": ("uint16", "float32")}


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_pictures_of_8_bits_are_kept_as_bytes(tmp_path, compression):
    random = np.random.default_rng(0)
    images = {
        f"{split}/{name}/{i}.npy": random.integers(0, 256, (3, 8, 9)).astype("u1")
        for split in ("train", "val") for name in "ab" for i in range(3)
    }  # fmt: skip
    images["val/b/2.npy"] = images["train/b/0.npy"]
    report, forms = stored(tmp_path, images, compression=compression)
    assert forms == dict.fromkeys(("train", "val"), ("uint8", "uint8"))
    assert "stored as uint8 (exact)" in str(report)
    assert [(same.leak, len(same.ids)) for same in report.duplicates] == [(True, 2)]
    assert_packed(Path(report.out), images)
    for name, info in read_splits(report.out).items():
        verify(info)
        split = open_split(report.out, name)
        assert split.scale() is None and split.stored()[0].dtype == np.uint8
        assert np.allclose(info.mean, split.images().mean((0, 2, 3)))
    assert stored(tmp_path, images, dtype="float32")[1]["val"] == ("float32", "uint8")

    images["val/a/2.npy"] = images["val/a/2.npy"].astype("u2") * 200  # a set is of one type
    report, forms = stored(tmp_path, images)
    assert forms == dict.fromkeys(("train", "val"), ("uint16", "uint16"))
    assert_packed(Path(report.out), {name: i.astype("u2") for name, i in images.items()})


def test_pictures_of_8_bits_that_were_packed_as_counts_are_read(tmp_path):
    images = np.arange(240, dtype="u1").reshape(4, 3, 4, 5)
    with ShardWriter(
        tmp_path, split="train", shape=(3, 4, 5), stored=np.dtype("u2"), dtype=np.dtype("u1"),
        classes=("a",), source="here", seed=0,
    ) as writer:  # fmt: skip
        writer.append(
            images.astype("u2"), targets=[0] * 4, ids=list("abcd"), scale=np.ones((4, 3))
        )
        writer.publish()
    given = open_split(tmp_path, "train").images()
    assert given.dtype == np.uint8 and (given == images).all()


def test_integers_that_no_stored_type_holds_are_bad(tmp_path):
    images = {
        "1.npy": np.arange(9).reshape(1, 3, 3),
        "2.npy": np.arange(9).reshape(1, 3, 3) * 2**57 + 2**60 + 1,
    }
    with pytest.raises(ShardError, match=r"1 of 2 images .*\n  2.npy: int64 values beyond 2\^53"):
        stored(tmp_path, images)
    images["3.npy"] = noise()[:, :3, :3]
    with pytest.raises(ShardError, match=r"2.npy: int64 values beyond 2\^53, beside float64"):
        stored(tmp_path, images)


def test_a_type_by_name_may_lose_and_says_how_much(tmp_path):
    images = {f"{i}.npy": counts_image(i) for i in range(3)}
    report, forms = stored(tmp_path, images, dtype="float16")
    assert forms == {"train": ("float16", "float64")}
    split = open_split(report.out, "train")
    values = np.stack([images[name] for name in split.ids()])
    error = abs(split.images() - values).max()
    assert 0 < error < 1e-3
    assert report.splits[0].error == error
    assert f"stored as float16 (off by {error:.2g} of the range)" in str(report)
    report, forms = stored(tmp_path, images, dtype="float64")
    assert forms == {"train": ("float64", "float64")} and report.splits[0].error == 0.0
    with pytest.raises(ShardError, match=r"3.npy: values from .* to 70000.0 do not fit float16"):
        stored(tmp_path, images | {"3.npy": images["0.npy"] * 70000}, dtype="float16")


def test_axion_masses_are_kept_as_truth(tmp_path):
    axion = np.empty(2, object)
    axion[:] = [noise(1)[0], 2.5e-23]
    source = fill(tmp_path / "source", {"axion/1.npy": axion, "cdm/1.npy": noise(2)[0]})
    with pytest.raises(ShardError, match=r"axion/1.npy: a pickled object, .*--allow_pickle"):
        pack(source, tmp_path / "out")
    report = pack(source, tmp_path / "out", allow_pickle=True)
    split = open_split(tmp_path / "out", "train")
    masses = dict(zip(split.ids(), split.truth("axion_mass_ev"), strict=True))
    assert masses["axion/1.npy"] == 2.5e-23 and np.isnan(masses["cdm/1.npy"])
    assert str(report).count("can run any code") == 1


# Bad images


def spoil(root):
    """One bad file of each kind, with a word of its reason."""
    nan, inf = noise(1), noise(2)
    nan[0, 1, 1], inf[0, 1, 1] = np.nan, np.inf
    fill(
        root / "train" / "no",
        {
            "nan.npy": nan,
            "inf.npy": inf,
            "shape.npy": noise(3, (1, 4, 4)),
            "constant.npy": np.zeros((1, 8, 9)),
            "complex.npy": noise(4) + 1j,
            "pickle.npy": np.array([None, 1]),
        },
    )
    whole = (root / "train/no/nan.npy").read_bytes()
    (root / "train/no/cut.npy").write_bytes(whole[:-8])
    (root / "train/no/empty.npy").write_bytes(b"")
    (root / "train/no/broken.png").write_bytes(b"no picture")
    words = {"nan": "NaN", "inf": "infinite", "shape": r"shape \(1, 4, 4\), most images have"}
    words |= {"constant": "constant", "complex": "complex", "pickle": "--allow_pickle"}
    words |= {"cut": "cut short", "empty": "empty file", "broken": "cannot be read"}
    return words


def test_every_bad_file_is_named_and_nothing_is_written(tmp_path):
    images = common_test(tmp_path / "source", image=noise)
    words = spoil(tmp_path / "source")
    out = tmp_path / "new" / "out"
    with pytest.raises(ShardError, match="9 of 39 images cannot be packed") as caught:
        pack(tmp_path / "source", out, shard_size=4)
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    for name, word in words.items():
        assert any(re.match(rf"  train/no/{name}\.\w+: .*{word}", line) for line in lines)
    assert not out.parent.exists()

    report = pack(tmp_path / "source", out, skip_bad=True)
    assert_packed(out, images)
    assert {Path(skipped.id).stem for skipped in report.skipped} == set(words)
    manifest = json.loads((out / "manifest.json").read_text())
    assert [entry["id"] for entry in manifest["skipped"]] == [bad.id for bad in report.skipped]
    assert "9 files skipped (2 x pixels are NaN or infinite, 1 x" in str(report)


def test_the_last_line_sums_up_what_may_have_scrolled_away(tmp_path):
    fill(tmp_path / "source", {f"{i}.npy": noise(i) for i in range(60)})
    for i in range(40):
        path = tmp_path / "source" / f"{i}.npy"
        path.write_bytes(path.read_bytes()[: -1 - i])
    fill(tmp_path / "source", {"50.npy": noise(50, (2, 3, 3)), "51.npy": np.ones((8, 9))})
    with pytest.raises(ShardError) as caught:
        pack(tmp_path / "source", tmp_path / "out")
    head, *named, last = str(caught.value).splitlines()
    assert head == f"{tmp_path / 'source'}: 42 of 60 images cannot be packed:"
    assert len(named) == 42
    assert last == (
        "42 of 60 images cannot be packed (40 x cut short, 1 x shape (2, 3, 3), "
        "1 x constant image); mend or remove them, or leave them out by --skip_bad"
    )
    assert kinds([f"shape ({i}, 1)" for i in range(9)]).endswith("1 x shape (5, 1), ...")


def test_skipping_gives_what_packing_without_the_bad_ones_holds(tmp_path):
    images = {f"{i}.npy": noise(i) for i in range(9)}
    fill(tmp_path / "source", images | {"0.npy": noise(0, (1, 5, 5)).astype(np.float64)})
    report = pack(tmp_path / "source", tmp_path / "out", skip_bad=True)
    del images["0.npy"]
    assert_packed(tmp_path / "out", images)
    assert report.skipped[0].reason == "shape (1, 5, 5), most images have (1, 8, 9)"


@pytest.mark.parametrize("odd", ["0.npy", "4.npy", "8.npy"])
def test_the_odd_shape_is_blamed_wherever_it_stands(tmp_path, odd):
    images = {f"{i}.npy": noise(i) for i in range(9)} | {odd: noise(0, (1, 5, 5))}
    with pytest.raises(ShardError, match=r"1 of 9 images") as caught:
        pack(fill(tmp_path / "source", images), tmp_path / "out")
    assert f"\n  {odd}: shape (1, 5, 5), most images have (1, 8, 9)" in str(caught.value)


def test_a_split_of_which_nothing_is_left(tmp_path):
    source = fill(tmp_path / "source", {"train/a/1.npy": noise(), "val/a/1.npy": np.zeros((8, 9))})
    with pytest.raises(ShardError, match=r"no image of split val can be packed:\n  val/a/1.npy"):
        pack(source, tmp_path / "out", skip_bad=True)
    np.save(source / "train/a/1.npy", np.ones((8, 9)))
    with pytest.raises(
        ShardError,
        match=r"train can be packed:(?s:.*)2 x constant image\), and none of split train is left$",
    ):
        pack(source, tmp_path / "out", skip_bad=True)
    with pytest.raises(ShardError, match="2 of 2 images cannot be packed"):
        pack(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_else_lies_there_is_left_alone(tmp_path):
    common_test(tmp_path / "source", image=noise)
    (tmp_path / "source" / "README.md").write_text("x")
    (tmp_path / "source" / "train" / "labels.csv").write_text("x")
    spoil(tmp_path / "source")
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ShardError, match="cannot be packed"):
        pack(tmp_path / "source", out)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    report = pack(tmp_path / "source", out, skip_bad=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert report.ignored == ("README.md", "train/labels.csv")
    assert "2 files ignored, no image: README.md, train/labels.csv" in str(report)


# Duplicates


def test_equal_images_are_found_whatever_they_are_stored_as(tmp_path):
    same, twice = counts_image(100), noise(200).astype(np.float64)
    images = {f"{split}/a/{i}.npy": counts_image(i + 50 * (split == "val"))
              for split in ("train", "val") for i in range(9)}  # fmt: skip
    images |= {"train/a/3.npy": same, "val/a/4.npy": same}
    images |= {"val/a/5.npy": twice, "val/a/6.npy": twice}  # so val is floats, train is counts
    images["train/a/7.npy"] = same / 2  # another scale is another image
    report = pack(fill(tmp_path / "source", images), tmp_path / "out")
    assert [split.stored for split in report.splits] == ["uint16", "float64"]
    assert [(d.ids, d.leak, d.contradictory) for d in report.duplicates] == [
        (("train/a/3.npy", "val/a/4.npy"), True, False),
        (("val/a/5.npy", "val/a/6.npy"), False, False),
    ]
    text = str(report)
    assert "WARNING: 1 image in more than one split" in text
    assert "  LEAK ACROSS SPLITS: train/a/3.npy = val/a/4.npy" in text
    assert "  val/a/5.npy = val/a/6.npy" in text
    assert_packed(tmp_path / "out", images)


def test_equal_images_of_two_classes_contradict_each_other(tmp_path):
    images = {f"{s}/{c}/{i}.npy": noise(len(s) * 100 + len(c) * 10 + i)
              for s in ("train", "val") for c in ("no", "sphere") for i in range(3)}  # fmt: skip
    images["train/sphere/1.npy"] = images["train/no/0.npy"]
    images["val/sphere/0.npy"] = images["train/no/2.npy"]
    images["val/no/0.npy"] = images["train/no/1.npy"]
    report = pack(fill(tmp_path / "source", images), tmp_path / "out")
    text = str(report)
    assert "WARNING: 2 images with contradictory labels: one of them is wrong" in text
    assert "WARNING: 2 images in more than one split" in text
    marked = [line for line in text.splitlines() if ".npy = " in line]
    assert marked == [
        "  CONTRADICTORY LABELS: LEAK ACROSS SPLITS: train/no/2.npy = val/sphere/0.npy",
        "  CONTRADICTORY LABELS: train/no/0.npy = train/sphere/1.npy",
        "  LEAK ACROSS SPLITS: train/no/1.npy = val/no/0.npy",
    ]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [d["contradictory"] for d in manifest["duplicates"]] == [True, True, False]
    assert manifest["warnings"] == list(report.warnings) and len(report.warnings) == 2


def test_a_class_without_a_sample_is_told(tmp_path):
    source = fill(tmp_path / "source", {
        "train/no/1.npy": noise(1), "train/sphere/1.npy": noise(2), "val/no/1.npy": noise(3),
        "val/vort/1.npy": noise(4),
    })  # fmt: skip
    (source / "val" / "sphere").mkdir()
    report = pack(source, tmp_path / "out")
    assert report.warnings == (
        "folder val/sphere holds no images: if it is a class or a split, the set lacks it",
        "split train has no sample of class vort: no model can learn it",
        "split val has no sample of class sphere: its scores will be undefined",
    )
    for warning in report.warnings:
        assert f"WARNING: {warning}" in str(report).splitlines()


def test_the_text_shows_twenty_duplicates_and_the_manifest_all(tmp_path):
    images = {f"{i}-{copy}.npy": noise(i) for i in range(25) for copy in "ab"}
    report = pack(fill(tmp_path / "source", images), tmp_path / "out")
    assert str(report).count(".npy = ") == 20
    assert "and 5 more, in manifest.json" in str(report)
    assert len(json.loads((tmp_path / "out" / "manifest.json").read_text())["duplicates"]) == 25
    assert "WARNING" not in str(report)


# What stands beside the shards, and what does not


def test_the_digest_does_not_depend_on_the_size_of_the_shards(tmp_path):
    common_test(tmp_path / "source")
    reports = [pack(tmp_path / "source", tmp_path / f"{n}", shard_size=n) for n in (3, 7, 2048)]
    assert len({report.digest for report in reports}) == 1
    assert len({len(report.splits[0].shards) for report in reports}) == 3


def test_the_manifest(tmp_path):
    common_test(tmp_path / "source")
    report = pack(tmp_path / "source", tmp_path / "out", shard_size=9, compression="gzip", seed=4)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["format"], manifest["seed"], manifest["layout"]) == (2, 4, "{split}/{class}/")
    assert manifest["options"]["compression"] == "gzip"
    for entry, (name, info) in zip(
        manifest["splits"], read_splits(tmp_path / "out").items(), strict=True
    ):
        assert (entry["name"], entry["samples"]) == (name, 15)
        assert entry["class_counts"] == {"no": 5, "sphere": 5, "vort": 5}
        assert (entry["stored"], entry["dtype"], entry["shape"]) == (
            "uint16",
            "float64",
            [1, 8, 9],
        )
        assert (entry["least"], entry["most"]) == (0.0, 1.0)
        assert entry["shards"] == {
            file.name: digest for file, digest in zip(info.files, info.digests, strict=True)
        }
        assert entry["bytes"] == sum(file.stat().st_size for file in info.files)
    assert manifest["digest"] == report.digest


def test_compression_keeps_content_and_digest(tmp_path):
    images = common_test(tmp_path / "source")
    digests = set()
    for compression in (None, "gzip", "lzf"):
        out = tmp_path / f"{compression}"
        digests.add(pack(tmp_path / "source", out, compression=compression).digest)
        assert_packed(out, images)
        with h5py.File(out / "train-00000-of-00001.h5") as file:
            assert file["images"].compression == compression
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype: got 'int8'; it is one of exact, float16, float32, float64"),
        ({"compression": "zip"}, "compression: got 'zip'; it is one of None, gzip, lzf"),
        ({"shard_size": 0}, "shard_size: got 0; it is a number of images from 1"),
        ({"shard_size": "many"}, "shard_size: got 'many'"),
        ({"pixel_scale": -0.05}, "pixel_scale: got -0.05; it is a number of arcsec per pixel"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path, options, message):
    common_test(tmp_path / "source", per_class=1)
    with pytest.raises(ShardError, match=message):
        pack(tmp_path / "source", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_where_shards_cannot_go(tmp_path):
    source = tmp_path / "source"
    common_test(source, per_class=1)
    for out in (source, source / "train", source / ".." / "source" / "out"):
        with pytest.raises(
            ShardError, match=r"lies in .*, which is packed; name a folder outside"
        ):
            pack(source, out)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ShardError, match="is a file; shards need a folder"):
        pack(source, tmp_path / "file")
    pack(source, tmp_path / "out")
    before = (tmp_path / "out" / "train-00000-of-00001.h5").read_bytes()
    with pytest.raises(ShardError, match="holds shards already, and they are never written over"):
        pack(source, tmp_path / "out", seed=1)
    assert (tmp_path / "out" / "train-00000-of-00001.h5").read_bytes() == before
    with pytest.raises(ShardError, match="no such folder or file"):
        pack(tmp_path / "nowhere", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", ["file/sub", "file/sub/deeper", "/proc/nope/x", "/proc/self"])
def test_where_nothing_can_be_written(tmp_path, place):
    common_test(tmp_path / "source", per_class=1)
    (tmp_path / "file").write_text("x")
    out = tmp_path / place
    for act in (lambda: pack(tmp_path / "source", out), lambda: simulate("substructure", out)):
        with pytest.raises(ShardError, match="no shards can be written there") as caught:
            act()
        assert str(caught.value).startswith(f"{out}: ") and "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "source"]


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    common_test(tmp_path / "source", per_class=30)
    monkeypatch.setattr(one_pass, "_CHUNK", 4)
    take, taken = one_pass.OnePass._take, []

    def interrupted(self, split, *chunk):
        taken.append(split)
        if len(taken) == 12:
            assert list((tmp_path / "deep" / "out").glob(".train-*.tmp.h5"))
            raise KeyboardInterrupt
        take(self, split, *chunk)

    monkeypatch.setattr(one_pass.OnePass, "_take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(tmp_path / "source", tmp_path / "deep" / "out", shard_size=8)
    assert not (tmp_path / "deep").exists()


def test_a_killed_packing_leaves_nothing_final_and_the_next_one_cleans_up(tmp_path):
    images = common_test(tmp_path / "source", per_class=60)
    out = tmp_path / "out"
    code = (
        "import sys, time\n"
        "from deeplense_batch.data.packing import one_pass\n"
        "from deeplense_batch.data.packing.pack import pack\n"
        "take = one_pass.OnePass._take\n"
        "def slow(*chunk):\n"
        "    take(*chunk)\n"
        "    time.sleep(0.05)\n"
        "one_pass.OnePass._take, one_pass._CHUNK, one_pass.cores = slow, 4, lambda: 2\n"
        "pack(sys.argv[1], sys.argv[2], shard_size=8)\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "source", out]
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 300  # a guard against hangs
    while len(list(out.glob(".train-*.tmp.h5"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):  # the processes that it forked end by themselves
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.01)
    left = [path.name for path in out.iterdir()]
    left.remove(".packing")
    assert len(left) >= 2 and all(name.endswith(".tmp.h5") for name in left)
    with pytest.raises(ShardError, match="holds no shards"):
        read_splits(out)
    (out / ".test-00000.tmp.h5").write_bytes(b"of a split that is no more")
    pack(tmp_path / "source", out)
    assert_packed(out, images)
    assert not [path for path in out.iterdir() if ".tmp" in path.name]


def test_progress_goes_to_the_log_where_there_is_no_terminal(tmp_path, monkeypatch, caplog):
    common_test(tmp_path / "source", per_class=30)
    monkeypatch.setattr(pieces, "_LOG_SECONDS", 0.0)
    monkeypatch.setattr(one_pass, "_CHUNK", 30)
    with caplog.at_level(logging.INFO, logger="deeplense_batch"):
        pack(tmp_path / "source", tmp_path / "out")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 6
    assert re.fullmatch(r"packed 180 of 180 images, \d+/s", lines[-1])


# Real images


def test_the_file_of_a_bad_image_is_named_beside_the_id_of_its_row(tmp_path):
    table = stamps(tmp_path)
    np.save(tmp_path / "cut/3.npy", np.full((N, N), np.nan))
    with pytest.raises(ShardError, match=rf"\n  {table.id_str[3]} \(cut/3.npy\): 144 of 144 pix"):
        pack(tmp_path / "objects.csv", tmp_path / "out")


@real
def test_real_common_test_images_are_exact_in_a_quarter(tmp_path):
    folder = Path(REAL) / "common_test_1"
    images = {f"train/{p.relative_to(folder)}": np.load(p) for p in folder.rglob("*.npy")}
    report = pack(fill(tmp_path / "source", images), tmp_path / "out")
    assert len(images) == 18
    assert_packed(tmp_path / "out", images)
    assert report.splits[0].stored == "uint16"
    assert report.splits[0].bytes / 18 < 47_000  # the file's own tables are shared by 18
    levels = open_split(tmp_path / "out", "train").stored()[1]
    assert levels.min() > 600 and levels.max() < 1000
    gzip = pack(tmp_path / "source", tmp_path / "gzip", compression="gzip")
    assert gzip.digest == report.digest and gzip.splits[0].bytes / 18 < 20_000


@real
def test_real_lens_finding_images_are_exact(tmp_path):
    folder = Path(REAL) / "lens_finding"
    images = {p.relative_to(folder).as_posix(): np.load(p) for p in folder.rglob("*.npy")}
    assert len(images) == 24
    report = pack(folder, tmp_path / "out")
    assert_packed(tmp_path / "out", images)
    assert [split.name for split in report.splits] == ["train", "test"]
    assert report.classes == ("nonlenses", "lenses")
    for split in ("train", "test"):
        opened = open_split(tmp_path / "out", split)
        assert opened.targets().tolist() == [int("_lenses/" in name) for name in opened.ids()]
