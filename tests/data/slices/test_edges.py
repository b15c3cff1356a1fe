"""Slices of grouped splits: no group is cut, and complementary slices leave nothing out."""

from __future__ import annotations

import numpy as np
import pytest
from made_groups import SIZES, tiles, write_groups

from deeplense_batch.data.shards import ShardError, data_digest, open_split
from deeplense_batch.data.slices.edges import group_numbers


@pytest.mark.parametrize("kind", [int, str])
def test_percentages_end_where_a_group_does_and_partition_the_split(tmp_path, kind):
    write_groups(tmp_path, tiles(kind))
    for percent in range(1, 100):
        parts = []
        for asked in (f"train[:{percent}%]", f"train[{percent}%:]"):
            try:
                split = open_split(tmp_path, asked)
            except ShardError as error:  # the nearest border is that of the split itself
                assert "holds none" in str(error)
                continue
            parts.append((split.start, split.stop))
            assert {split.start, split.stop} <= {0, *np.cumsum(SIZES).tolist()}
        assert parts[0][0] == 0 and parts[-1][1] == 20
        assert len(parts) == 1 or parts[0][1] == parts[1][0]
    assert open_split(tmp_path, "train[:30%]").stop == 4  # 6 lies between 4 and 10
    assert len(open_split(tmp_path, "train[2:5]")) == 3  # numbers are taken as they are


def test_without_groups_percentages_are_exact_whatever_the_catalogue(tmp_path):
    write_groups(tmp_path, tiles(), group="")
    assert [open_split(tmp_path, f"train[:{p}%]").stop for p in (7, 30, 99)] == [1, 6, 19]


def test_a_group_that_lies_apart_is_refused_by_name(tmp_path):
    write_groups(tmp_path, np.array(["a", "a", "b", "a"], object))
    with pytest.raises(ShardError, match=r"group 'a' \(column tile\) lie apart"):
        open_split(tmp_path, "train[:50%]")


@pytest.mark.parametrize("none", ["", np.nan])
def test_images_without_a_group_are_each_their_own(tmp_path, none):
    kind, one, two = (object, "a", "b") if none == "" else (float, 1.0, 2.0)
    write_groups(
        tmp_path, np.array([none, none, one, one, none, two, two, none, none, none], kind)
    )
    stops = [open_split(tmp_path, f"train[:{percent}%]").stop for percent in range(10, 100, 10)]
    assert stops == [1, 2, 2, 4, 5, 5, 7, 8, 9]


def test_a_column_that_is_not_there_is_named(tmp_path):
    write_groups(tmp_path, tiles(), group="field")
    assert len(open_split(tmp_path, "train")) == 20
    with pytest.raises(ShardError, match="is grouped by 'field', a column that it lacks"):
        open_split(tmp_path, "train[:50%]")


def test_the_grouping_of_a_set_is_part_of_its_name(tmp_path):
    digests = {
        group: data_digest(write_groups(tmp_path / (group or "none"), tiles(), group=group))
        for group in ("", "tile")
    }
    assert digests[""] != digests["tile"]


def test_files_that_changed_are_read_again(tmp_path):
    for name in ("a", "b"):
        (group,) = open_split(
            write_groups(tmp_path, np.array([name] * 3, object)), "train"
        ).info.groups().names  # fmt: skip
        assert group == name


@pytest.mark.parametrize(
    "values",
    [np.array(["b", "", "a", "b", ""], object), np.array([7, np.nan, -1, 7, np.nan])],
)
def test_groups_are_numbered_and_an_image_without_one_is_one_of_its_own(values):
    assert group_numbers(values).tolist() == [1, 2, 0, 1, 3]
