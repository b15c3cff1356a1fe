"""What is known of some images of a slice has to be known of all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_sets import write_set

from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.slices.truth_files import check_truth_files


def test_a_truth_that_only_some_files_have_is_refused_with_two_of_them(tmp_path):
    a = open_split(write_set(tmp_path / "a", truth=("theta_e",)), "train")
    b = open_split(write_set(tmp_path / "b", seed=1), "train")
    joined = replace(a, info=replace(a.info, files=(a.info.files[0], b.info.files[1])))
    for slices, sets, lacking in (
        ({"train": joined}, (), b.info.files[1]),
        ({"test": a}, (a, b), b.info.files[0]),
    ):
        with pytest.raises(ShardError) as refused:
            check_truth_files(("theta_e",), slices, sets)
        assert str(refused.value).startswith(
            f"{lacking}: has no truth/theta_e, which {a.info.files[0]} has and the task reads"
        )
    check_truth_files(("theta_e",), {"train": a, "test": b}, (a,))  # each by itself
