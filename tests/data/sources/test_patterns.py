"""Files by a pattern: what its fields say, in whatever folders they are."""

import numpy as np
import pandas as pd
import pytest
from made_catalogues import header, pixels, samples, write

from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.sources.patterns import read_pattern


def read(names, pattern, **reading):
    return read_pattern("set", names, Reading(pattern=pattern, **reading))


def test_every_field_is_read():
    names = [f"{split}/{class_}/t{i}/x-{i}_v2_{band}.fits"
             for split, class_ in (("train", "a"), ("validation", "b"))
             for i in range(2) for band in "ri"]  # fmt: skip
    found = read(names, "{split}/{class}/{group}/*-{id}_{band}.fits", bands=("i", "r"))
    assert found.classes == ("a", "b") and found.bands == ("i", "r") and found.group == "group"
    ids = [(s.id, s.split, s.target, found.columns["group"][s.row]) for s in found.samples]
    assert ids == [
        ("train/a/t0/0_v2", "train", 0, "t0"),
        ("train/a/t1/1_v2", "train", 0, "t1"),
        ("validation/b/t0/0_v2", "val", 1, "t0"),
        ("validation/b/t1/1_v2", "val", 1, "t1"),
    ]
    assert found.samples[0].files == ("train/a/t0/x-0_v2_i.fits", "train/a/t0/x-0_v2_r.fits")


def test_bands_that_are_not_named_are_ordered_and_others_left_out_are_told():
    names = ["1/HSC-R.fits", "1/HSC-I.fits", "1/HSC-G.fits", "1/mask.npy"]
    found = read(names, "{id}/{band}.fits")
    assert found.bands == ("g", "r", "i") and found.samples[0].id == "1"
    assert found.samples[0].files == ("1/HSC-G.fits", "1/HSC-R.fits", "1/HSC-I.fits")
    assert found.warnings == ["1 image does not fit the pattern; left out: 1/mask.npy"]


@pytest.mark.parametrize(
    ("name", "pattern", "given", "stored"),
    [
        ("2-cutout-HSC-{}-9813-pdr3_wide.fits", "{id}-cutout-HSC-{band}-*.fits", "IRG", "gri"),
        ("2-cutout-HSC-{}-9813-pdr3_wide.fits", "{id}-cutout-{band}-*.fits", "IRG", "gri"),
        ("2_HSC.{}-coadd.fits", "{id}_{band}*.fits", "IRG", "gri"),
        ("2_{}-drz.fits", "{id}_{band}-*.fits", ["F160W", "F814W"], ["F814W", "F160W"]),
        ("2_{}.fits", "{id}_{band}.fits", ["b-2", "b-10"], ["b-2", "b-10"]),
        ("2_{}-x.fits", "{id}_{band}-*.fits", ["hi", "lo"], ["hi", "lo"]),
    ],
)
def test_a_band_is_a_filter_or_a_word_before_it_is_several(name, pattern, given, stored):
    found = read([name.format(band) for band in given], pattern)
    assert found.bands == tuple(stored) and [sample.id for sample in found.samples] == ["2"]


def test_bands_that_are_no_filters_are_doubted_unless_they_are_asked_for():
    names = [f"{i}_{band}.fits" for i in range(2) for band in ("lo", "hi", "g")]
    assert read(names, "{id}_{band}.fits").warnings == [
        "--pattern {id}_{band}.fits: {band} is hi, lo, no known filters, and the channels are in "
        "the order of their names; --bands says which to take"
    ]
    assert read(names, "{id}_{band}.fits", bands=("lo", "hi", "g")).warnings == []
    names = [f"{i}-HSC-{band}-9813-pdr3.fits" for i in range(2) for band in "GR"]
    found = read(names, "{id}-{band}-*.fits")  # which are four objects of one band
    assert found.warnings == [
        "--pattern {id}-{band}-*.fits: {band} is 9813, no known filter; --bands says which to take"
    ]


def test_another_writing_of_one_object_is_read_unless_there_are_two():
    names = ["1_HSC-G.fits", "2_g.fits", "3_HSC-g.fits", "3_DES-g.fits"]
    found = read(names, "{id}_{band}.fits", bands=("g",))
    assert [sample.files for sample in found.samples] == [("1_HSC-G.fits",), ("2_g.fits",)]
    assert [(fault.id, fault.reason) for fault in found.faults] == [
        ("3", "several files may be its band: hsc-g, des-g")
    ]
    with pytest.raises(ShardError, match="of band g; there are"):
        read(names[2:], "{id}_{band}.fits", bands=("g",))


def test_one_filter_of_two_instruments_is_two_bands():
    found = read(["1_HSC-g.fits", "1_DES-g.fits"], "{id}_{band}.fits")
    assert found.bands == ("DES-g", "HSC-g")
    assert found.samples[0].files == ("1_DES-g.fits", "1_HSC-g.fits")


def test_two_files_of_one_object_are_a_fault():
    found = read(["a/7_g.npy", "b/7_g.npy"], "*/{id}_{band}.npy", bands=("g",))
    assert [(fault.id, fault.file) for fault in found.faults] == [("7", "b/7_g.npy")]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("{name}.npy", r"the field \{name\}; known are \{split\}, \{class\}, \{group\}, \{id\}"),
        ("{class}/*.npy", r"has no \{id\}, which names objects"),
        ("{id}.fits", r"none of its 1 image fits --pattern \{id\}.fits, such as a/1_g.npy"),
        ("{split}/{id}_{band}.npy", r"1 is in split a; known are train, val"),
    ],
)
def test_what_makes_no_sense_is_refused(pattern, why):
    with pytest.raises(ShardError, match=why):
        read(["a/1_g.npy"], pattern)


def test_a_band_that_no_file_has_is_refused():
    with pytest.raises(ShardError, match=r"of band z; there are g"):
        read(["1_g.npy"], "{id}_{band}.npy", bands=("g", "z"))
    with pytest.raises(ShardError, match=r"is of band i, z; there are HSC-G"):
        read(["1_HSC-G.npy"], "{id}_{band}.npy", bands=("i", "z"))


@pytest.mark.parametrize("bands", [("r", "g"), ("HSC-R", "HSC-G"), ("R", "G")])
def test_bands_are_found_however_they_are_written(tmp_path, bands):
    """HSC as it comes, by a pattern, by a catalogue and by the names of files alone."""
    for i in range(5):
        for band in "GR":
            cards = header(150 + i, 2, band=f"HSC-{band}")
            write(tmp_path / f"s/a/J{i}_HSC-{band}.fits", pixels(i, ord(band)), cards=cards)
    pd.DataFrame({"id": [f"J{i}" for i in range(5)]}).to_csv(tmp_path / "t.csv", index=False)
    asked = {"bands": bands}
    pack(tmp_path / "s", tmp_path / "pattern", pattern="{group}/{id}_{band}.fits", **asked)
    pack(tmp_path / "t.csv", tmp_path / "table", pattern="a/{id}_{band}.fits",
         images=tmp_path / "s", **asked)  # fmt: skip
    pack(tmp_path / "s", tmp_path / "plain", **asked)
    for name in ("pattern", "table", "plain"):
        assert open_split(tmp_path / name, "train").info.bands == bands
        found = {
            key.removesuffix(".fits"): one[0] for key, one in samples(tmp_path / name).items()
        }
        assert len(found) == 5
        for i in range(5):
            key = next(key for key in found if f"J{i}" in key)
            np.testing.assert_array_equal(found[key], [pixels(i, ord(band)) for band in "RG"])


@pytest.mark.parametrize("how", ["zero", "drop"])
def test_a_missing_band_of_files_and_of_patterns(tmp_path, how):
    for i in range(5):
        for band in "gri":
            if (i, band) != (2, "r"):
                write(tmp_path / f"s/obj{i}_{band}.npy", pixels(i, ord(band)))
    with pytest.raises(ShardError, match=r"--missing_band drop leaves them out"):
        pack(tmp_path / "s", tmp_path / "out")
    plain = pack(tmp_path / "s", tmp_path / "plain", missing_band=how, bands="i,r")
    by_pattern = pack(tmp_path / "s", tmp_path / "pattern", missing_band=how, bands="i,r",
                      pattern="obj{id}_{band}.npy")  # fmt: skip
    assert open_split(tmp_path / "plain", "train").info.bands == ("i", "r")
    found, other = samples(tmp_path / "plain"), samples(tmp_path / "pattern")
    assert set(other) == {id_.removeprefix("obj").removesuffix(".npy") for id_ in found}
    assert len(found) == (5 if how == "zero" else 4)
    assert len(plain.skipped) == len(by_pattern.skipped) == (how == "drop")
    if how == "zero":
        image, _, kept = found["obj2.npy"]
        np.testing.assert_array_equal(image, [pixels(2, ord("i")), 0 * pixels(0)])
        assert kept["missing_bands"] == "r"


def test_a_missing_band_has_the_name_that_is_stored(tmp_path):
    for i in range(5):
        for band in "GRI":
            if (i, band) != (2, "R"):
                write(tmp_path / f"s/obj{i}-HSC-{band}.npy", pixels(i, ord(band)))
    pack(tmp_path / "s", tmp_path / "plain", missing_band="zero")
    pack(tmp_path / "s", tmp_path / "pattern", missing_band="zero",
         pattern="{id}-HSC-{band}.npy")  # fmt: skip
    for name, id_ in (("plain", "obj2.npy"), ("pattern", "obj2")):
        assert open_split(tmp_path / name, "train").info.bands == ("g", "r", "i")
        image, _, kept = samples(tmp_path / name)[id_]
        assert (image.any((1, 2)) == [True, False, True]).all() and kept["missing_bands"] == "r"


def test_bands_of_a_cube_are_named_and_counted(tmp_path):
    for i in range(3):
        write(tmp_path / f"s/{i}.npy", np.stack([pixels(i, c) for c in range(2)]))
    pack(tmp_path / "s", tmp_path / "out", bands=("g", "r"))
    assert open_split(tmp_path / "out", "train").info.bands == ("g", "r")
    with pytest.raises(ShardError, match=r"2 channels, and 3 bands: g, r, i"):
        pack(tmp_path / "s", tmp_path / "three", bands=("g", "r", "i"))


def test_classes_in_an_order_of_ones_own(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"s/{name}/1.npy", pixels(ord(name)))
    assert pack(tmp_path / "s", tmp_path / "out", classes="b,a").classes == ("b", "a")
    with pytest.raises(ShardError, match=r"--classes are b, but there is a class a"):
        pack(tmp_path / "s", tmp_path / "two", classes="b")
