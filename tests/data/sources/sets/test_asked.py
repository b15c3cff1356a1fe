"""Arrays that a user names: truth, split, group and kept columns of sets in one file."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split

N = 20
COLUMNS = {
    "z": np.arange(N) / 10,
    "mag": 20 + np.arange(N) / 10,
    "ra": np.arange(N) * 1.0,
    "tile": np.arange(N) // 2,
    "part": np.array([b"training", b"test"] * (N // 2)),
}


@pytest.fixture
def packed(tmp_path):
    """The splits of a set of one file, packed with some flags."""

    def pack_it(skip_bad=False, changes=None, **flags):
        with h5py.File(tmp_path / "set.h5", "w") as file:
            file["images"] = np.random.default_rng(0).random((N, 1, 6, 6), np.float32)
            for name, values in (COLUMNS | (changes or {})).items():
                file[name] = values
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        report = pack(tmp_path / "set.h5", out, skip_bad=skip_bad, id="none", **flags)
        return {one.name: open_split(out, one.name) for one in report.splits}, report

    return pack_it


def rows(split):
    return [int(id_[7:-1]) for id_ in split.ids()]


def test_a_truth_is_learnt_and_a_split_is_given(packed):
    splits, _ = packed(truth="z", split="part")
    assert set(splits) == {"train", "test"}
    for split, first in ((splits["train"], 0), (splits["test"], 1)):
        assert sorted(rows(split)) == list(range(first, N, 2))
        assert (split.truth("z") == COLUMNS["z"][rows(split)]).all()
        assert set(split.columns()) == set(COLUMNS) - {"tile"}  # which are the labels


def test_groups_stay_whole_and_only_the_columns_asked_for_are_kept(packed):
    splits, _ = packed(group="tile", keep="mag", truth="z")
    tiles = [{row // 2 for row in rows(split)} for split in splits.values()]
    assert set(splits) == {"train", "val"} and not tiles[0] & tiles[1]
    assert [len(split) for split in splits.values()] == [16, 4]
    for split in splits.values():
        assert split.info.group == "tile" and set(split.columns()) == {"mag", "ra", "tile"}
        assert list(split.catalogue("tile")) == [row // 2 for row in rows(split)]


def test_an_array_that_is_asked_for_is_not_taken_for_the_labels(packed):
    (split, *_), report = packed(group="tile", keep="ra")[0].values(), packed(group="tile")[1]
    assert set(split.targets()) == {-1} and report.classes == ()


def test_what_is_no_truth_or_no_split_is_named_or_left_out(packed):
    z, part = COLUMNS["z"].copy(), COLUMNS["part"].copy()
    z[2:4], part[4] = (np.nan, np.inf), b"other"
    changes = {"z": z, "part": part}
    with pytest.raises(ShardError, match="2 of 20 objects cannot be packed") as error:
        packed(changes=changes, truth="z", split="part")
    assert "set.h5[3]: z is 'inf', and networks learn numbers" in str(error.value)
    assert "set.h5[4]: column part is 'other', and no split: train" in str(error.value)
    splits, report = packed(skip_bad=True, changes=changes, truth="z", split="part")
    assert [one.id for one in report.skipped] == ["set.h5[3]", "set.h5[4]"]
    assert sum(map(len, splits.values())) == N - 2
    truth = np.concatenate([split.truth("z") for split in splits.values()])
    assert np.isnan(truth).sum() == 1 and "z is unknown in 1 of 20 rows: NaN there" in report.notes


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"group": "field"},
            r"set.h5: --group: there is no array 'field' .*; there are mag, part",
        ),
        ({"truth": "z,w"}, r"set.h5: --truth: there is no array 'w' with a value for each image"),
        ({"truth": "part"}, r"--truth: part holds no numbers, but values such as 'training'"),
        ({"split": "z"}, r"--split: z is '0' in the first row, and no row of it is one of train"),
        ({"label": "z"}, r"--label names columns or files of a catalogue"),
        ({"group": "part", "split": "tile"}, r"--split: tile is '0' in the first row"),
    ],
)
def test_bad_names_are_one_sentence(packed, flags, message):
    with pytest.raises(ShardError, match=message):
        packed(**flags)


def test_a_group_in_two_given_splits_is_refused(packed):
    with pytest.raises(ShardError, match="by tile 10 of 10 groups are in several splits"):
        packed(group="tile", split="part")
