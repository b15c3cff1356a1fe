"""Tables of every kind say the same, and whole numbers stay what they are."""

import codecs
import gzip

import numpy as np
import pandas as pd
import pytest
from astropy.table import MaskedColumn, Table

from deeplense_batch.data.catalogues.table import (
    about_comma,
    is_table,
    kept,
    lost_digits,
    numbers,
    read_table,
    texts,
    without_points,
)
from deeplense_batch.data.shards import ShardError

IDS = [1237648720693755918, 1237648720693755919, 7]


def written(root, name):
    """The same three rows in a file of the kind that its name says."""
    path = root / name
    plain = pd.DataFrame({"id": IDS, "mag": [20.5, np.nan, 19.0], "name": ["a", "b c", ""]})
    table = Table({"id": IDS, "mag": [20.5, np.nan, 19.0], "name": ["a", "b c", ""]})
    if name.endswith((".csv", ".csv.gz")):
        plain.to_csv(path, index=False)
    elif name.endswith(".tsv"):
        path.write_text("# from a survey\n" + plain.to_csv(None, sep="\t", index=False))
    elif name.endswith(".parquet"):
        plain.to_parquet(path)
    elif name.endswith(".jsonl"):
        plain.to_json(path, orient="records", lines=True)
    elif name.endswith(".json"):
        plain.to_json(path, orient="records")
    else:
        kinds = {"fits": "fits", "vot": "votable", "ecsv": "ascii.ecsv"}
        table.write(path, format=kinds[name.rpartition(".")[2]])
    return path


@pytest.mark.parametrize(
    "name",
    ["t.csv", "t.csv.gz", "t.tsv", "t.parquet", "t.jsonl", "t.json", "t.fits", "t.vot", "t.ecsv"],
)
def test_every_kind_says_the_same(tmp_path, name):
    path = written(tmp_path, name)
    assert is_table(path)
    table = read_table(path)
    assert list(table.columns) == ["id", "mag", "name"]
    assert texts(table["id"]).tolist() == list(map(str, IDS))
    assert texts(table["name"]).tolist() == ["a", "b c", ""]
    ids, mag = kept(table["id"]), kept(table["mag"])
    assert ids.dtype == np.int64 and ids.tolist() == IDS
    np.testing.assert_array_equal(mag, [20.5, np.nan, 19.0])


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "  "])
def test_separators(tmp_path, separator):
    (tmp_path / "t.csv").write_text(f"id{separator}z\n007{separator}0.5\n")
    table = read_table(tmp_path / "t.csv")
    assert texts(table["id"]).tolist() == ["007"] and kept(table["id"]).tolist() == ["007"]
    assert kept(table["z"]).tolist() == [0.5]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("name", ["t.csv", "t.txt", "t.txt.gz"])
def test_text_in_any_unicode(tmp_path, encoding, name):
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    data = mark + "id note\n1 Señor\n".encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert is_table(tmp_path / name)
    assert read_table(tmp_path / name).to_dict("records") == [{"id": "1", "note": "Señor"}]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", r"is empty"),
        (b" \n", r"is empty"),
        (
            "id,note\n1,a\n2,Señor\n".encode("latin-1"),
            r"line 3 is no text in UTF-8, but perhaps in Latin-1; save the table as UTF-8",
        ),
        (
            b"# from a survey\nid,note\n1,a\n2,b,c\n",
            r"row 2 ends in a surplus value 'c', but only 2 columns have names; a text with a sep",
        ),
        (b"id note\n1 a b\n", r"row 1 ends in a surplus value 'b', but only 2 columns have names"),
    ],
)
def test_why_text_is_no_table_and_what_to_do(tmp_path, data, why):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(ShardError, match=rf"t.csv: {why}"):
        read_table(tmp_path / "t.csv")


def test_whole_numbers_with_gaps(tmp_path):
    gaps = MaskedColumn([1, 2**60, 3], mask=[False, False, True])
    Table({"big": gaps, "small": MaskedColumn([1, 2, 3], mask=[False, True, False])}).write(
        tmp_path / "t.fits"
    )
    table = read_table(tmp_path / "t.fits")
    assert kept(table["big"]).tolist() == ["1", str(2**60), ""]
    np.testing.assert_array_equal(kept(table["small"]), [1.0, np.nan, 3.0])


def test_text_where_numbers_are_needed():
    values, others = numbers(pd.Series(["1.5", "", "large", "nan"]))
    np.testing.assert_array_equal(values, [1.5, np.nan, np.nan, np.nan])
    assert others.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (["4.0", "", "-5.0", "0.0"], ["4", "", "-5", "0"]),
        (["4.0", "1.2376e+18"], ["4", "1.2376e+18"]),
        (["4.0", "4.5"], ["4.0", "4.5"]),
        (["4.0", "J5"], ["4.0", "J5"]),
        (["007", "4.0"], ["007", "4.0"]),
        ([str(IDS[0]), "4.0"], [str(IDS[0]), "4"]),
    ],
)
def test_whole_numbers_lose_their_points(written, plain):
    assert without_points(np.array(written, object)).tolist() == plain


def test_lost_digits_are_seen():
    assert all(map(lost_digits, ("1.2376e+18", "1e+06", "9007199254740994.0")))
    assert not any(map(lost_digits, ("4.0", str(IDS[0]), "9007199254740990.0", "J1e+06", "")))


def test_a_decimal_comma_is_told_from_other_text():
    assert about_comma("-20,5") == " (a number has a decimal point, not a comma: -20.5)"
    assert not any(map(about_comma, ("20.5", "1,2,3", "a,b", "", ",5")))


def test_dates_and_truths_are_kept():
    dates = pd.to_datetime(pd.Series(["2024-01-02"]))
    assert kept(dates).tolist() == ["2024-01-02 00:00:00"]
    assert kept(pd.Series([True, False])).tolist() == [1, 0]


def test_what_is_no_table_is_one_sentence(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(ShardError, match=r"t.parquet: cannot be read as a table \("):
        read_table(tmp_path / "t.parquet")
    (tmp_path / "t.json").write_text('[{"a": 1, "a": 2}]')
    with pytest.raises(ShardError, match=r"t.json: a record has 'a' more than once"):
        read_table(tmp_path / "t.json")
    Table({"abcd": [1], "wxyz": [2]}).write(tmp_path / "t.fits")
    twice = (tmp_path / "t.fits").read_bytes().replace(b"wxyz", b"abcd")
    (tmp_path / "t.fits").write_bytes(twice)
    with pytest.raises(ShardError, match=r"t.fits: has more than one column named 'abcd'"):
        read_table(tmp_path / "t.fits")
    (tmp_path / "u.csv").write_text("a,b\n")
    with pytest.raises(ShardError, match=r"u.csv: has no row, only the columns a, b"):
        read_table(tmp_path / "u.csv")
    assert not is_table(tmp_path)


@pytest.mark.parametrize("kind", [f"{sign}int{bits}" for sign in "u " for bits in (8, 16, 32, 64)])
def test_whole_numbers_of_parquet_stay_exact_where_some_are_missing(tmp_path, kind):
    most = np.iinfo(kind.strip()).max
    column = pd.array([most, None, most - 1], kind.strip().replace("i", "I").replace("u", "U"))
    pd.DataFrame({"id": column}).to_parquet(tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")["id"]
    assert texts(found).tolist() == [str(most), "", str(most - 1)]
    assert (kept(found)[0] == str(most)) if most > 2**53 else (kept(found)[0] == most)


@pytest.mark.parametrize("listed", [True, False])
def test_records_of_json_keep_texts_of_dates_and_what_only_later_ones_have(tmp_path, listed):
    lines = ['{"id": "2020-01-01", "z": 1}', '{"id": "2020-01-02T00:00:00", "z": 1.5, "s": true}']
    text = f"[{','.join(lines)}]" if listed else "\n\n".join(lines)
    (tmp_path / "t.json").write_text(text)
    table = read_table(tmp_path / "t.json")
    assert texts(table["id"]).tolist() == ["2020-01-01", "2020-01-02T00:00:00"]
    assert kept(table["z"]).tolist() == [1.0, 1.5]
    assert texts(table["s"]).tolist() == ["", "True"]


def test_json_that_is_no_record_is_refused(tmp_path):
    (tmp_path / "t.jsonl").write_text("1\n2\n")
    with pytest.raises(ShardError, match=r"t\.jsonl: expected JSON records, such as"):
        read_table(tmp_path / "t.jsonl")


@pytest.mark.parametrize("name", ["t.fit", "t.fts", "t.FTS.gz"])
def test_a_fits_table_has_any_ending_of_fits_images(tmp_path, name):
    written(tmp_path, "t.fits")
    data = (tmp_path / "t.fits").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert is_table(tmp_path / name)
    assert kept(read_table(tmp_path / name)["id"]).tolist() == IDS


def test_records_of_json_may_take_several_lines_and_have_numbers_of_any_size(tmp_path):
    (tmp_path / "t.json").write_text('{"id": 18446744073709551615,\n "z": 1}\n{"id": 7}\n')
    table = read_table(tmp_path / "t.json")
    assert texts(table["id"]).tolist() == ["18446744073709551615", "7"]
    assert texts(table["z"]).tolist() == ["1", ""]
