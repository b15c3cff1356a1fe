"""Bands of one object, in files, folders or extensions: one image, or a refusal."""

import numpy as np
import pytest
from astropy.io import fits
from made_sources import each

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split, read_splits
from deeplense_batch.data.sources.bands import join_bands


def image(seed, shape=(9, 8)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def fill(root, names):
    """An image of its own at every name, and all of them."""
    images = {name: image(i) for i, name in enumerate(names)}
    for name, pixels in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".fits"):
            fits.writeto(root / name, pixels)
        else:
            np.save(root / name, pixels)
    return images


def joined(*names):
    return join_bands("set", {name: name for name in names})


@pytest.mark.parametrize(
    ("pattern", "bands", "first"),
    [
        ("{1}_{0}.npy", "g r i", "0.npy"),
        ("{0}_{1}.fits", "g r i", "0.fits"),
        ("obj{1}-HSC-{0}.npy", "G R I Z Y", "obj0.npy"),
        ("HSC-{0}/{1}.npy", "G R I", "0.npy"),
        ("Band{0}/{1}.npy", "1 2 3 4", "0.npy"),
        ("{1}/{0}.fits", "F606W F814W", "0.fits"),
        ("{1}/{1}_{0}.fits", "g r", "0.fits"),
        ("{0}/a{1}.npy", "red green blue", "a0.npy"),
        ("train/lens/{1}_{0}.npy", "u g r", "train/lens/0.npy"),
        ("train_{0}/{1}.npy", "g r", "train/0.npy"),
        ("lens_{0}/{1}.npy", "g r", "lens/0.npy"),
        ("g/obj_{0}_{1}.npy", "g r", "g/obj_0.npy"),  # the class is g, the bands are in the names
    ],
)
def test_files_of_one_object_are_found(pattern, bands, first):
    found = joined(*each(pattern, bands))
    assert found.bands == tuple(bands.split()) or found.bands == tuple(
        f"Band{band}" for band in bands.split()
    )
    assert len(found.files) == 3
    assert found.files[first] == tuple(pattern.format(band, 0) for band in bands.split())


@pytest.mark.parametrize(
    "names",
    [
        each("{}/{}.npy", "no sphere vort"),
        each("{}/{}.npy", "g star"),  # a class called g
        each("{}/{}.npy", "red blue"),  # galaxies
        each("{1}_{0}.npy", "x y z"),  # projections
        each("{1}_{0}.npy", "1 2 3"),
        each("{0}.npy", "a b c d e f g h i j k l m n o p q r s t u v w x y z"),
        each("model_{}/{}.npy", "I II III IV"),
        ["1_r.npy", "2_r.npy", "ab_r.npy"],
        ["1_g.npy", "2_r.npy", "3_i.npy"],
        ["train/1_r.npy", "val/1_r.npy"],
        [f"no_sub_sim_{i * 12345678901234567890123}.npy" for i in range(9)],
    ],
)
def test_ordinary_names_are_those_of_images(names):
    found = joined(*names)
    assert not found.bands and not found.warning
    assert found.files == {name: (name,) for name in names}


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["1_g.npy", "1_r.npy", "2_g.npy"], r"2_g.npy has no counterpart in band r \(1 of 2"),
        (["g/1.npy", "r/1.npy", "i/1.npy", "i/2.npy"], r"i/2.npy has no counterpart in band g, r"),
        (["train/1_g.npy", "val/1_r.npy"], "are one object in two splits"),
        (["train/a/1_g.npy", "train/a/1_r.npy", "val/a/1_i.npy"], "are one object in two splits"),
        (["1_g.npy", "1_r.npy", "1_mask.npy"], r"1_mask.npy is of none of these \(1 such"),
        (each("{1}_{0}.npy", "g r g_weight r_weight"), r"0_g_weight.npy is of none .* \(6 such"),
        (each("{1}_{0}.npy", "g r mask_g mask_r"), r"0_mask_g.npy is of none of these \(6 such"),
        (["1_g.npy", "1_r.npy", "1_g.fits"], "1_g.npy and 1_.* are one object twice in one band"),
        (["1_g.npy", "1_r.npy", "1_G.npy"], "are one object twice in one band"),
    ],
)
def test_what_cannot_be_joined_is_refused(names, says):
    with pytest.raises(ShardError, match=says) as caught:
        joined(*names)
    assert "\n" not in str(caught.value) and "rename them" in str(caught.value)


def test_a_pair_among_many_names_is_doubted_alone():
    found = joined("7_g.npy", "7_r.npy", *(f"{i}.npy" for i in range(9)))
    assert not found.bands and "7_g.npy and 7_r.npy look like one object" in found.warning


def test_the_bands_of_a_challenge_are_channels(tmp_path):
    """Band1/imageSDSS_R-100002.npy: the word in the name says which band it is."""
    names = [f"Band{j + 1}/imageSDSS_{b}-{i}.npy" for j, b in enumerate("RIGU") for i in range(3)]
    images = fill(tmp_path / "set", names)
    report = pack(tmp_path / "set", tmp_path / "out")
    assert report.bands == ("U", "G", "R", "I") and report.classes == ()
    assert "the channels are the bands U, G, R, I, in this order" in str(report)
    split = open_split(tmp_path / "out", "train")
    packed = dict(zip(split.ids(), split.images(), strict=True))
    assert set(packed) == {f"imageSDSS-{i}.npy" for i in range(3)}
    for i in range(3):
        folders = zip((4, 3, 1, 2), "UGRI", strict=True)
        bands = [images[f"Band{j}/imageSDSS_{b}-{i}.npy"] for j, b in folders]
        assert (packed[f"imageSDSS-{i}.npy"] == np.stack(bands)).all()


def test_objects_keep_their_class_and_stay_whole_when_a_set_is_divided(tmp_path):
    names = [f"{c}/{i}_{b}.fits" for c in ("lenses", "nonlenses") for i in range(10) for b in "rg"]
    images = fill(tmp_path / "set", names)
    report = pack(tmp_path / "set", tmp_path / "out")
    assert [split.class_counts for split in report.splits] == [
        {"nonlenses": 8, "lenses": 8},
        {"nonlenses": 2, "lenses": 2},
    ]
    for name in read_splits(tmp_path / "out"):
        split = open_split(tmp_path / "out", name)
        for id_, target, pixels in zip(split.ids(), split.targets(), split.images(), strict=True):
            assert target == id_.startswith("lenses/")
            stem = id_.removesuffix(".fits")
            assert (pixels == np.stack([images[f"{stem}_{b}.fits"] for b in "gr"])).all()


def test_bands_of_two_sizes_or_several_channels_are_bad(tmp_path):
    fill(tmp_path / "set", each("{1}_{0}.npy", "g r"))
    np.save(tmp_path / "set" / "1_r.npy", image(1, (5, 5)))
    np.save(tmp_path / "set" / "2_r.npy", image(1, (3, 9, 8)))
    (tmp_path / "set" / "0_g.npy").write_bytes(b"none")
    with pytest.raises(ShardError) as caught:
        pack(tmp_path / "set", tmp_path / "out")
    assert "  0.npy: not a .npy file (0_g.npy)" in str(caught.value)
    assert "  1.npy: bands of one object differ in size: g 9 x 8, r 5 x 5" in str(caught.value)
    assert "  2.npy: band r holds 3 channels, a band is one" in str(caught.value)


def write_extensions(path, bands, extra=()):
    path.parent.mkdir(exist_ok=True)
    names = [*bands, *extra]
    parts = [fits.ImageHDU(image(i), name=name) for i, name in enumerate(names)]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path)
    return {name: image(i) for i, name in enumerate(names)}


def test_extensions_named_for_bands_are_channels_whatever_their_order(tmp_path):
    first = write_extensions(tmp_path / "set" / "1.fits", ["G", "R", "I"], ["MASK", "WHT_G"])
    second = write_extensions(tmp_path / "set" / "2.fits", ["I", "G", "R"])
    report = pack(tmp_path / "set", tmp_path / "out")
    split = open_split(tmp_path / "out", "train")
    packed = dict(zip(split.ids(), split.images(), strict=True))
    for id_, bands in (("1.fits", first), ("2.fits", second)):
        assert (packed[id_] == np.stack([bands[band] for band in "GRI"])).all()
    assert report.bands == ("G", "R", "I")
    write_extensions(tmp_path / "set" / "3.fits", ["R", "I", "Z"])
    with pytest.raises(ShardError, match=r"fits: bands .*, most images have "):
        pack(tmp_path / "set", tmp_path / "again")


def test_npz_sets_of_a_band_each_are_refused(tmp_path):
    for band in "gr":
        np.savez(tmp_path / f"train_{band}.npz", images=image(0, (4, 9, 8)), labels=[0, 1, 0, 1])
    with pytest.raises(ShardError, match=r"train_g.npz, train_r.npz are named for bands; put"):
        pack(tmp_path, tmp_path.parent / "out")


def test_classes_named_as_bands_without_common_objects_are_doubted(tmp_path):
    fill(tmp_path / "set", ["g/1.npy", "g/2.npy", "r/3.npy", "r/4.npy"])
    report = pack(tmp_path / "set", tmp_path / "out")
    assert report.classes == ("g", "r")
    assert any("named as bands are" in warning for warning in report.warnings)
