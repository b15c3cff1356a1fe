"""The catalogue of a test slice, kept beside the outputs of a run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from made_shards import write_catalogue

from deeplense_batch.data.shards import open_split
from deeplense_batch.data.slices.edges import group_numbers
from deeplense_batch.report.catalogue import (
    FILE,
    DamagedCatalogueError,
    arrow_columns,
    keep,
    kept_grouping,
    kept_rows,
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
