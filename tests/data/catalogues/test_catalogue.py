"""Surveys as they come, each packed by one command, read back and joined to its table."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from made_catalogues import SCALE, header, packed, pixels, refused, samples, sky, stamps, write

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split, read_splits


def joins(found, table):
    """Whether every sample is at the place of its row, by the nearest position on the sky."""
    ids = list(found)
    own = SkyCoord([found[i][2]["ra"] for i in ids], [found[i][2]["dec"] for i in ids], unit="deg")
    rows, apart, _ = own.match_to_catalog_sky(SkyCoord(table.ra, table.dec, unit="deg"))
    return list(table.id.iloc[rows]) == ids and (apart < 0.1 * units.arcsec).all()


def test_hsc_a_file_a_band_with_headers_in_a_folder_an_object(tmp_path, capsys):
    table = sky(10)
    for row in table.itertuples():
        for band in "GRI":
            cards = header(row.ra, row.dec, band=f"HSC-{band}", name=row.id)
            file = tmp_path / "hsc" / row.kind / row.id / f"cutout-HSC-{band}-9813-pdr2_wide.fits"
            write(file, pixels(row.Index, ord(band)), cards=cards)
    pattern = "{class}/{id}/cutout-HSC-{band}-*-pdr2_wide.fits"
    shown = packed(capsys, tmp_path / "hsc", tmp_path / "out", "--pattern", pattern,
                   "--bands", "I,R,G")  # fmt: skip
    assert f"pixel scale {SCALE:g} arcsec, by the headers" in shown
    found = samples(tmp_path / "out")
    assert set(found) == set(table.id) and joins(found, table)
    for row in table.itertuples():
        image, target, kept = found[row.id]
        for channel, band in enumerate("IRG"):
            np.testing.assert_array_equal(image[channel], pixels(row.Index, ord(band)))
        assert target == (row.kind == "lens") and kept["object"] == row.id
    info = read_splits(tmp_path / "out")["train"]
    assert info.bands == ("I", "R", "G") and info.pixel_scale == SCALE
    assert info.classes == ("other", "lens")


def test_kids_a_folder_a_band_and_a_fits_table(tmp_path, capsys):
    table = sky(8)
    for row in table.itertuples():
        for band in "ugri":
            write(tmp_path / "kids" / band / f"{row.id}.fits", pixels(row.Index, ord(band)))
    Table.from_pandas(table).write(tmp_path / "kids.fits")
    packed(capsys, tmp_path / "kids.fits", tmp_path / "out", "--images", tmp_path / "kids",
           "--pattern", "{band}/{id}.fits", "--bands", "r,g,i", "--label", "kind")  # fmt: skip
    found = samples(tmp_path / "out")
    assert set(found) == set(table.id) and joins(found, table)
    for row in table.itertuples():
        image, target, kept = found[row.id]
        for channel, band in enumerate("rgi"):
            np.testing.assert_array_equal(image[channel], pixels(row.Index, ord(band)))
        assert target == (row.kind == "lens")
        assert (kept["ra"], kept["dec"]) == (row.ra, row.dec)


def test_legacy_survey_an_extension_a_band(tmp_path, capsys):
    table = sky(8)
    for row in table.itertuples():
        parts = [
            fits.ImageHDU(
                pixels(row.Index, ord(band)), header(row.ra, row.dec), name=f"IMAGE_{band}"
            )
            for band in "GRZ"
        ]
        path = tmp_path / "legacy" / row.kind / f"{row.id}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path)
    packed(capsys, tmp_path / "legacy", tmp_path / "out", "--pattern", "{class}/{id}.fits")
    found = samples(tmp_path / "out")
    assert joins(found, table)
    for row in table.itertuples():
        for channel, band in enumerate("GRZ"):
            np.testing.assert_array_equal(found[row.id][0][channel], pixels(row.Index, ord(band)))
    assert read_splits(tmp_path / "out")["train"].bands == ("g", "r", "z")


def test_galaxy_zoo_a_table_and_stamps_need_no_flag(tmp_path, capsys):
    table = stamps(tmp_path, 10, ra=np.linspace(10, 20, 10), mag=[20.5] * 9 + [np.nan])
    shown = packed(capsys, tmp_path / "objects.csv", tmp_path / "out", "--keep", "mag")
    for words in ("id_str is taken for the id", "file_loc is taken for the path", "called 0, 1"):
        assert words in shown
    found = samples(tmp_path / "out")
    for row in table.itertuples():
        image, target, kept = found[row.id_str]
        np.testing.assert_array_equal(image[0], pixels(row.Index))
        assert target == row.label and kept["ra"] == row.ra
        np.testing.assert_equal(kept["mag"], row.mag)


def test_a_column_of_paths_for_each_band_and_a_regression(tmp_path, capsys):
    table = stamps(tmp_path, 10, theta_e=np.linspace(0.5, 2, 10)).drop(columns="label")
    for band in "gr":
        table[f"path_{band}"] = [f"cut/{i}_{band}.npy" for i in range(10)]
        for i in range(10):
            write(tmp_path / f"cut/{i}_{band}.npy", pixels(i, ord(band)))
    table.to_parquet(tmp_path / "objects.parquet")
    packed(capsys, tmp_path / "objects.parquet", tmp_path / "out", "--path", "path_{band}",
           "--bands", "r,g", "--truth", "theta_e")  # fmt: skip
    split = open_split(tmp_path / "out", "val")
    assert len(split) == 2  # a fifth, as of classes
    for id_, image, theta in zip(split.ids(), split.images(), split.truth("theta_e"), strict=True):
        i = int(id_) - 10**18
        assert theta == table.theta_e[i]
        np.testing.assert_array_equal(image, [pixels(i, ord("r")), pixels(i, ord("g"))])


def test_tables_beside_the_images_are_not_taken_for_images_without_a_row(tmp_path, capsys):
    table = stamps(tmp_path, 6)
    table.to_csv(tmp_path / "objects.csv", index=False)
    for name in ("objects.fits", "cut/groups.fit.gz"):
        Table.from_pandas(table).write(tmp_path / name, format="fits")
    assert "no row" not in packed(capsys, tmp_path / "objects.csv", tmp_path / "out")
    write(tmp_path / "other.fits", pixels(7, 1))
    shown = packed(capsys, tmp_path / "objects.csv", tmp_path / "out2")
    assert "1 image in " in shown and "left out: other.fits" in shown


def test_faults_of_rows_are_refused_together_or_left_out_in_a_table(tmp_path, capsys):
    table = stamps(tmp_path, 12, theta_e=["1.5"] * 12).astype({"label": object})
    table.loc[1, "file_loc"] = "cut/none.npy"
    table.loc[2, "id_str"] = table.id_str[0]
    table.loc[3, "label"] = "7.5"
    table.loc[4, "theta_e"] = "large"
    table.loc[5, "label"] = ""
    table.to_csv(tmp_path / "objects.csv", index=False)
    words = [tmp_path / "objects.csv", tmp_path / "out", "--truth", "theta_e"]
    said = refused(capsys, *words)
    assert "5 of 12 objects cannot be packed" in said and not (tmp_path / "out").exists()
    for why in ("there is no such file", "rows 1 and 3 have one id, but differ in file",
                "'7.5' is no class", "theta_e is 'large'"):  # fmt: skip
        assert why in said
    shown = packed(capsys, *words, "--skip_bad")
    assert (
        "1 image in " in shown and "has no row in objects.csv; left out:" in shown
    )  # the stamp whose row names another
    with (tmp_path / "out/left_out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [table.id_str[i] for i in (0, 0, 1, 3, 4)]
    assert rows[2]["file"] == "cut/none.npy" and rows[2]["reason"] == "there is no such file"
    found = samples(tmp_path / "out")
    assert len(found) == 7 and found[table.id_str[5]][1] == -1
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["skipped"] == rows


@pytest.mark.parametrize("name", ["objects.csv", "objects.parquet", "objects.jsonl"])
def test_numbers_to_learn_may_be_unknown(tmp_path, name):
    table = stamps(tmp_path, 10, theta_e=[1.25, np.nan] * 5)
    if name.endswith(".parquet"):
        table.to_parquet(tmp_path / name)
    elif name.endswith(".jsonl"):
        table.to_json(tmp_path / name, orient="records", lines=True)
    report = pack(tmp_path / name, tmp_path / "out", truth="theta_e")
    assert "theta_e is unknown in 5 of 10 rows: NaN there" in report.notes
    for split in (open_split(tmp_path / "out", split) for split in ("train", "val")):
        expected = [1.25 if int(id_) % 2 == 0 else np.nan for id_ in split.ids()]
        np.testing.assert_array_equal(split.truth("theta_e"), expected)


def test_numbers_to_learn_are_finite_and_some_are_known(tmp_path):
    stamps(tmp_path, 4, theta_e=["1.25", "inf", "large", ""], none=[""] * 4)
    with pytest.raises(ShardError, match=r"2 of 4 objects") as caught:
        pack(tmp_path / "objects.csv", tmp_path / "out", truth="theta_e")
    assert "theta_e is 'inf'" in str(caught.value) and "'large'" in str(caught.value)
    with pytest.raises(ShardError, match=r"none holds no numbers, it is empty"):
        pack(tmp_path / "objects.csv", tmp_path / "out", truth="none")


def test_decimal_commas_are_named(tmp_path):
    table = stamps(tmp_path, 4, ra=["150,5"] * 4, dec=[2.5] * 4, mag=["20,5", "21", "", "-1,5"])
    table.assign(z=["0,5", "0.7", "1", "2"], tiles=["1,2", "a", "b", "c"]).to_csv(
        tmp_path / "objects.csv", sep=";", index=False
    )
    point = r"\(a number has a decimal point, not a comma: "
    with pytest.raises(ShardError, match=rf"z is '0,5', and networks learn numbers {point}0.5\)"):
        pack(tmp_path / "objects.csv", tmp_path / "out", truth="z")
    table.mag = "20,5"
    table.to_csv(tmp_path / "all.csv", sep=";", index=False)
    with pytest.raises(ShardError, match=rf"no numbers, but values such as '20,5' {point}20.5\)"):
        pack(tmp_path / "all.csv", tmp_path / "out", truth="mag")
    ra, mag = pack(tmp_path / "objects.csv", tmp_path / "out", keep="mag,tiles").warnings
    assert "such as '150,5' in row 1 (a number has a decimal point, not a comma: 150.5): the" in ra
    assert mag == (
        "column mag is kept as text, such as '20,5' "
        "(a number has a decimal point, not a comma: 20.5)"
    )


def test_of_rows_of_one_id_that_differ_none_is_kept_and_of_equal_ones_the_first(tmp_path):
    table = stamps(tmp_path, 8, mag=[20.5, np.nan] * 4, comment=list("abcdefgh"))
    other = table[1:4].assign(comment="again")
    other.loc[2, "label"], other.loc[3, "mag"] = 1, 9.5
    pd.concat([table, other]).to_csv(tmp_path / "objects.csv", index=False)
    report = pack(tmp_path / "objects.csv", tmp_path / "out", keep="mag", skip_bad=True)
    assert {(one.id, one.reason) for one in report.skipped} == {
        (table.id_str[1], "rows 2 and 9 have one id, and the first is taken"),
        (table.id_str[2], "rows 3 and 10 have one id, but differ in label"),
        (table.id_str[3], "rows 4 and 11 have one id, but differ in mag"),
    }
    assert len(report.skipped) == 5
    assert set(samples(tmp_path / "out")) == {table.id_str[i] for i in (0, 1, 4, 5, 6, 7)}


@pytest.mark.parametrize("name", ["objects.csv", "objects.parquet"])
def test_ids_that_pandas_made_floats_are_whole_numbers_again(tmp_path, name):
    table = stamps(tmp_path, 6)
    table["id_str"] = [7.0, np.nan, 1.2376e18, 9.0, 10.0, 11.0]
    write_table = table.to_csv if name.endswith("csv") else table.to_parquet
    write_table(tmp_path / name, index=False)
    report = pack(tmp_path / name, tmp_path / "out", skip_bad=True)
    assert set(samples(tmp_path / "out")) == {"7", "1.2376e+18", "9", "10", "11"}
    assert [warning for warning in report.warnings if "id_str" in warning] == [
        "column id_str was saved as floats, which lost the last digits in 1 row, such as "
        "1.2376e+18: no other table calls an object so; save it as whole numbers or as text"
    ]


@pytest.mark.parametrize("how", ["refuse", "zero", "drop"])
def test_a_missing_band_of_a_row(tmp_path, capsys, how):
    for i in range(6):
        for band in "gr":
            if (i, band) != (4, "g"):
                write(tmp_path / f"{i}_{band}.npy", pixels(i, ord(band)))
    pd.DataFrame({"id": range(6)}).to_csv(tmp_path / "t.csv", index=False)
    words = [tmp_path / "t.csv", tmp_path / "out", "--pattern", "{id}_{band}.npy",
             "--bands", "g,r", "--missing_band", how]  # fmt: skip
    if how == "refuse":
        assert "4 (4_r.npy): band g is missing" in refused(capsys, *words)
        return
    shown, found = packed(capsys, *words), samples(tmp_path / "out")
    assert "1 object lacks a band" in shown
    assert ("4" in found) is (how == "zero")
    if how == "zero":
        np.testing.assert_array_equal(found["4"][0], [0 * pixels(0), pixels(4, ord("r"))])
        assert {id_: kept["missing_bands"] for id_, (_, _, kept) in found.items()} == {
            id_: "g" if id_ == "4" else "" for id_ in found
        }


def test_groups_stay_in_one_split_and_side_by_side(tmp_path):
    stamps(tmp_path, 40, tile=[f"t{i // 4}" for i in range(40)])
    pack(tmp_path / "objects.csv", tmp_path / "out", group="tile")
    splits = {name: open_split(tmp_path / "out", name) for name in ("train", "val")}
    tiles = {name: list(split.catalogue("tile")) for name, split in splits.items()}
    assert not set(tiles["train"]) & set(tiles["val"]) and len(set(tiles["val"])) == 2
    for values in tiles.values():
        runs = [tile for i, tile in enumerate(values) if not i or values[i - 1] != tile]
        assert len(runs) == len(set(runs))
    assert splits["train"].info.group == "tile"


def test_groups_in_two_given_splits_are_refused(tmp_path):
    stamps(tmp_path, 6, split=["train", "val"] * 3, tile=["a", "a", "b", "b", "c", "d"])
    with pytest.raises(ShardError, match=r"by tile 2 of 4 groups are in several splits, such"):
        pack(tmp_path / "objects.csv", tmp_path / "out", group="tile")


def test_one_odd_value_of_a_split_is_a_fault_and_the_others_are_heeded(tmp_path):
    split = ["training"] * 6 + ["Validation", "valid", "testing", "test", "", "dev2"]
    stamps(tmp_path, 12, split=split)
    with pytest.raises(ShardError, match=r"2 of 12 objects cannot") as caught:
        pack(tmp_path / "objects.csv", tmp_path / "out")
    assert "column split is '', and no split: train, val" in str(caught.value)
    report = pack(tmp_path / "objects.csv", tmp_path / "out", skip_bad=True)
    assert {s.name: s.samples for s in report.splits} == {"train": 6, "val": 2, "test": 2}
    assert len(report.skipped) == 2


def test_a_split_of_no_known_word_is_refused_unless_it_is_left_out(tmp_path):
    stamps(tmp_path, 10, split=["a", "b"] * 5)
    with pytest.raises(ShardError, match=r"split is 'a' in the first row, .* --split none"):
        pack(tmp_path / "objects.csv", tmp_path / "out")
    report = pack(tmp_path / "objects.csv", tmp_path / "out", split="none")
    assert {s.name: s.samples for s in report.splits} == {"train": 8, "val": 2}


def test_all_rows_go_into_one_split_whatever_their_column_says(tmp_path):
    stamps(tmp_path, 10, split=["train", "val"] * 5)
    report = pack(tmp_path / "objects.csv", tmp_path / "out", all_in="val")
    assert {s.name: s.samples for s in report.splits} == {"val": 10}
    assert "--all_in puts every image into val; without it 5 would be in train" in str(report)
    report = pack(tmp_path / "objects.csv", tmp_path / "none", all_in="test", split="none")
    assert {s.name: s.samples for s in report.splits} == {"test": 10}
    assert "without it" not in str(report)


def test_a_catalogue_is_needed_for_columns(tmp_path):
    stamps(tmp_path)
    with pytest.raises(ShardError, match=r"--label names columns or files of a catalogue, which"):
        pack(tmp_path / "cut", tmp_path / "out", label="kind")
