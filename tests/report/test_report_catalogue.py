"""The catalogue of a test slice, kept beside the outputs of a run."""

from __future__ import annotations

import h5py
import made_shards
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from format_1 import to_format_1
from made_shards import write_catalogue, write_shards

from deeplense_batch.data.shards import open_split
from deeplense_batch.data.slices.edges import group_numbers
from deeplense_batch.report.catalogue import (
    FILE,
    TRUTH,
    DamagedCatalogueError,
    Known,
    arrow_columns,
    keep,
    kept,
    kept_grouping,
    kept_rows,
    known_of,
    without_clashes,
)

BIG = 2**53 + 1  # no float64
COLUMNS = {
    "ra": np.array([150.1, np.nan, 150.3]),
    "object_id": np.array([BIG, 2, 3]),
    "tile": np.array(["=t1", "", "t2"], object),
}


@pytest.fixture
def split(tmp_path):
    write_catalogue(tmp_path / "set", "val", COLUMNS, group="tile")
    return open_split(tmp_path / "set", "val")


def test_types_are_kept_and_what_is_unknown_is_null(split):
    columns = arrow_columns(split, split.columns())
    assert {name: str(column.type) for name, column in columns.items()} == {
        "ra": "double", "object_id": "int64", "tile": "string"
    }  # fmt: skip
    assert columns["object_id"].to_pylist() == [BIG, 2, 3]
    assert columns["ra"].to_pylist() == [150.1, None, 150.3]
    assert columns["tile"].to_pylist() == ["=t1", None, "t2"]


def test_a_run_keeps_the_catalogue_of_its_test_slice(split, tmp_path):
    keep(tmp_path, split)
    table = pd.read_parquet(tmp_path / FILE)
    assert table["id"].tolist() == split.ids() == ["val/0", "val/1", "val/2"]
    assert table["object_id"].tolist() == [BIG, 2, 3]
    ids = np.array(split.ids())
    grouping = kept_grouping(tmp_path, ids)
    assert (grouping.column, grouping.number) == ("tile", 3)
    assert kept_rows(tmp_path, ["val/2", "none"]) == {
        "val/2": {"ra": 150.3, "object_id": 3, "tile": "t2"}
    }
    with pytest.raises(DamagedCatalogueError, match="is not of the samples"):
        kept_grouping(tmp_path, ids[::-1])


@pytest.mark.parametrize(
    "tiles",
    [
        np.array(["b", "", "a", "b", "", "None"], object),
        np.array([7, np.nan, -1, 7, np.nan, 8]),
        np.array(["", "", "", "", "", ""], object),
        np.full(6, np.nan),
        np.array([BIG, 2, BIG - 1, BIG, 3, 4]),
    ],
)
def test_the_groups_that_a_run_keeps_are_those_of_its_slice(tiles, tmp_path):
    """Each sample without a tile is a group of its own, and so its intervals do not collapse."""
    write_catalogue(tmp_path / "set", "val", {"tile": tiles}, group="tile")
    split = open_split(tmp_path / "set", "val")
    keep(tmp_path, split)
    grouping = kept_grouping(tmp_path, np.array(split.ids()))
    assert grouping.values.tolist() == group_numbers(split.catalogue("tile")).tolist()
    known = tiles[tiles != ""] if tiles.dtype == object else tiles[np.isfinite(tiles)]
    assert grouping.number == len(set(known)) + len(tiles) - len(known)


def test_names_that_clash_are_prefixed_until_they_are_free():
    columns = dict.fromkeys(("ra", "label", "catalogue_label", "score_lens"), None)
    named = without_clashes(columns, {"id", "label", "score_lens"})
    assert list(named) == [
        "ra", "catalogue_catalogue_label", "catalogue_label", "catalogue_score_lens"
    ]  # fmt: skip


def test_a_column_called_id_is_kept_beside_the_names_of_samples(tmp_path):
    """Of a table whose images have names of their own, and ``id`` is the object of several."""
    objects = np.array([4, 4, 6, 6, 6])
    write_catalogue(tmp_path / "set", "val", {"id": objects}, group="id")
    split = open_split(tmp_path / "set", "val")
    keep(tmp_path, split)
    grouping = kept_grouping(tmp_path, np.array(split.ids()))
    assert (grouping.column, grouping.values.tolist()) == ("catalogue_id", [0, 0, 1, 1, 1])
    assert kept_rows(tmp_path, ["val/2"]) == {"val/2": {"catalogue_id": 6}}


def test_without_a_catalogue_there_is_no_file_nor_that_of_an_earlier_attempt(split, tmp_path):
    keep(tmp_path, split)
    write_catalogue(tmp_path / "bare", "val", {}, samples=3)
    keep(tmp_path, open_split(tmp_path / "bare", "val"))
    assert not (tmp_path / FILE).exists()
    assert kept_grouping(tmp_path, np.array(["val/0"])) is None
    assert kept_rows(tmp_path, ["val/0"]) == {}


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / FILE).write_bytes(b"PAR1, cut off")
    with pytest.raises(DamagedCatalogueError, match=f"{FILE} is damaged"):
        kept_rows(tmp_path, ["val/0"])
    pa.parquet.write_table(pa.table({"id": ["a"]}), tmp_path / FILE)
    assert kept_grouping(tmp_path, np.array(["a"])) is None


TRUTHS = {
    "theta_e": np.array([1.5, np.nan, 0.0]),
    "one": np.array([[1.0], [2.0], [3.0]]),
    "shear": np.array([[0.1, 0.2], [0.3, 0.4], [0.5, np.nan]]),
    "halos": np.zeros((3, 5, 3)),
    "list": np.zeros((3, 9)),
    "ra": np.array([7.0, 8.0, 9.0]),
}


@pytest.fixture
def with_truth(tmp_path):
    images = np.ones((3, 1, 4, 5), np.uint16)
    write_shards(tmp_path / "set", "val", images, [0, 1, 2], truth=TRUTHS, catalogue=COLUMNS)
    return open_split(tmp_path / "set", "val")


def test_a_run_keeps_the_truth_of_its_test_slice_in_columns(with_truth, tmp_path):
    keep(tmp_path, with_truth)
    table = pd.read_parquet(tmp_path / TRUTH)
    assert [*table] == ["id", "one", "truth_ra", "shear.0", "shear.1", "theta_e"]
    assert table["id"].tolist() == with_truth.ids()
    np.testing.assert_array_equal(table["theta_e"], TRUTHS["theta_e"])
    np.testing.assert_array_equal(table["shear.1"], TRUTHS["shear"][:, 1])
    assert table["one"].tolist() == [1, 2, 3]
    known, complete = kept(tmp_path, np.array(with_truth.ids()))
    assert complete and known.lacking == {}
    assert set(known.columns) == {*COLUMNS, "truth_ra", "one", "shear.0", "shear.1", "theta_e"}
    assert known.columns["tile"].tolist() == ["=t1", "", "t2"]
    np.testing.assert_array_equal(known.columns["ra"], COLUMNS["ra"])
    of_shards = known_of(with_truth)
    assert of_shards.columns.keys() == known.columns.keys()
    for name, values in known.columns.items():
        np.testing.assert_array_equal(of_shards.columns[name], values)


def test_what_a_run_kept_of_other_samples_is_refused(with_truth, tmp_path):
    keep(tmp_path, with_truth)
    ids = np.array(with_truth.ids())
    with pytest.raises(DamagedCatalogueError, match=f"{FILE} is not of the samples"):
        kept(tmp_path, ids[::-1])
    (tmp_path / FILE).unlink()
    with pytest.raises(DamagedCatalogueError, match=f"{TRUTH} is not of the samples"):
        kept(tmp_path, ids[::-1])
    (tmp_path / TRUTH).unlink()
    assert kept(tmp_path, ids) == (Known({}, {}), False)  # as earlier versions left it


def test_a_truth_that_one_file_lacks_is_not_kept_but_named(tmp_path):
    made_shards.write(tmp_path / "set", 10)
    to_format_1(tmp_path / "set")  # which nothing keeps from being changed
    split = open_split(tmp_path / "set", "train")
    lacks = split.info.files[1]
    with h5py.File(lacks, "r+") as file:
        del file["truth/theta_e"]
    keep(tmp_path, split)
    known, _ = kept(tmp_path, np.array(split.ids()))
    assert known == Known({}, {"theta_e": str(lacks)})
