"""Shards: what is written is read, slices are what they name, and broken sets are refused."""

from itertools import pairwise
from unittest.mock import patch

import h5py
import numpy as np
import pytest
from conftest import CLASSES
from hypothesis import given, settings
from hypothesis import strategies as st
from made_shards import write

from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.shards import (
    FORMAT,
    ShardError,
    Split,
    SplitInfo,
    open_split,
    read_splits,
)


def test_what_is_written_is_read(tmp_path):
    images = write(tmp_path, 10, pixel_scale=0.05)
    split = open_split(tmp_path, "train")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"train-{i:05d}-of-00003.h5" for i in range(3)
    ]
    values = images / 899.0
    assert split.images().dtype == np.float64
    assert split.images().tobytes() == values.tobytes()
    stored, scale = split.stored()
    assert (stored == images).all() and (scale == 899).all() and scale.shape == (10, 1)
    assert split.targets().tolist() == [i % 3 for i in range(10)]
    assert split.ids() == [f"train/ü{i}.npy" for i in range(10)]
    assert split.truth("theta_e").tolist() == [i / 8 for i in range(10)]
    info = split.info
    assert (info.counts, info.shape, info.stored) == ((4, 4, 2), (1, 4, 5), COUNTS)
    assert (info.classes, info.class_counts) == (CLASSES, (4, 3, 3))
    assert (info.source, info.seed, info.pixel_scale) == ("here", 3, 0.05)
    assert info.mean == pytest.approx((values.mean(),), rel=1e-12)
    assert info.sd == pytest.approx((values.std(),), rel=1e-12)


def test_a_file_has_every_attribute_of_the_specification(tmp_path):
    write(tmp_path, 6)
    with h5py.File(tmp_path / "train-00001-of-00002.h5") as file:
        assert set(file.attrs) == {
            *("format", "split", "shard", "shards", "samples", "classes", "class_counts"),
            *("dtype", "mean", "sd", "pixel_scale", "source", "seed", "digest", "digests"),
            "content",
        }
        assert file.attrs["format"] == FORMAT
        assert (file.attrs["shard"], file.attrs["shards"], file.attrs["samples"]) == (1, 2, 6)
        assert file.attrs["digest"] == file.attrs["digests"][1]
        assert file["images"].chunks is None  # contiguous
        assert np.isnan(file.attrs["pixel_scale"])


def split_of(n):
    """A split that is only counted."""
    nothing = {"files": (), "shape": (1, 1, 1), "stored": COUNTS, "dtype": COUNTS, "classes": ()}
    nothing |= {"class_counts": (), "mean": (), "sd": (), "pixel_scale": 1.0, "source": ""}
    return SplitInfo(name="train", counts=(n,), seed=0, digests=(), content="", **nothing)


@given(n=st.integers(1, 300), cuts=st.lists(st.integers(0, 100), max_size=4))
@settings(deadline=None, max_examples=60)
def test_complementary_slices_partition_a_split(n, cuts):
    for unit, limit in (("%", 100), ("", n)):
        edges = [0, *sorted(min(cut, limit) for cut in cuts), limit]
        names = [f"train[{a}{unit}:{b}{unit}]" for a, b in pairwise(edges)]
        parts = []
        with patch("deeplense_batch.data.shards.read_splits", lambda _: {"train": split_of(n)}):
            for name in names:
                try:
                    parts.append(open_split("root", name))
                except ShardError as error:  # only an empty slice may be refused
                    assert "holds none" in str(error)
        assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
        assert all(isinstance(part, Split) and len(part) > 0 for part in parts)


@pytest.mark.parametrize(
    ("slice_", "message"),
    [
        ("val", r"has no split 'val' .*; it has train"),
        ("train[5:5]", "holds none of the 10 samples"),
        ("train[:1%]", "holds none of the 10 samples"),
        ("train[90%]", "is not a split or a slice of one"),
        ("train[:150%]", r"'train\[:150%\]' goes to 150%; percentages end at 100%"),
        ("train[101%:]", "goes to 101%; percentages end at 100%"),
        ("train[-1:]", "is not a split or a slice of one"),
        ("", "is not a split or a slice of one"),
    ],
)
def test_slices_that_mean_nothing_are_refused(tmp_path, slice_, message):
    write(tmp_path)
    with pytest.raises(ShardError, match=message):
        open_split(tmp_path, slice_)
    with pytest.raises(ShardError, match="has no 'truth/mass'"):
        open_split(tmp_path, "train").truth("mass")


def test_broken_sets_are_refused(tmp_path):
    with pytest.raises(ShardError, match="no such folder of shards; make one with 'pack"):
        read_splits(tmp_path / "nowhere")
    with pytest.raises(ShardError, match="holds no shards"):
        read_splits(tmp_path)
    write(tmp_path, 10)
    second = tmp_path / "train-00001-of-00003.h5"
    whole = second.read_bytes()

    second.unlink()
    with pytest.raises(ShardError, match=r"2 of 3 shards; train-00001-of-00003.h5 is missing"):
        read_splits(tmp_path)
    second.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ShardError, match=r"00001-of-00003.h5: has \d+ bytes of \d+ written"):
        read_splits(tmp_path)
    write(tmp_path / "other", 10, seed=1)
    second.write_bytes((tmp_path / "other" / second.name).read_bytes())
    with pytest.raises(ShardError, match="belongs to another packing"):
        read_splits(tmp_path)
    second.write_bytes(whole)
    write(tmp_path / "one", 10, shard_size=10)
    (tmp_path / "one" / "train-00000-of-00001.h5").rename(tmp_path / "train-00000-of-00001.h5")
    with pytest.raises(ShardError, match="has split train twice, in two packings"):
        read_splits(tmp_path)
