"""The slices of a job: none shares an image, or a group, with another."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_job
from made_groups import tiles, write_groups

from deeplense_batch.core.job import JobError
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.shards import open_split


def test_slices_by_number_that_share_a_group_are_refused(tmp_path):
    write_groups(tmp_path, tiles())
    slices = {"train": "train[:6]", "valid": "train[6:12]", "test": "train[12:]"}
    with pytest.raises(JobError, match=r"share group 't2' \(column tile\); a percentage, such as"):
        open_slices(make_job(tmp_path, data=slices))
    whole = {"train": "train[:4]", "valid": "train[4:12]", "test": "train[60%:]"}
    lengths = {use: len(s) for use, s in open_slices(make_job(tmp_path, data=whole)).items()}
    assert lengths == {"train": 4, "valid": 8, "test": 8}
    # Of t2 the last four images are in no other slice, so that none is learnt from and scored.
    cut = {"train": "train[:6]", "valid": "train[10:12]", "test": "train[12:]"}
    assert len(open_slices(make_job(tmp_path, data=cut))["train"]) == 6


def test_folds_share_nothing_and_other_slices_beside_them_what_they_do(tmp_path):
    values = [f"t{i // 2}" for i in range(20)]
    for folder, group in (("alone", ""), ("grouped", "tile")):
        root = write_groups(tmp_path / folder, np.array(values, object), group=group)
        slices = open_slices(make_job(root, data={"fold": "2/3"}))
        assert sum(map(len, slices.values())) == 20
    with pytest.raises(JobError, match="share samples; no image may be in two of them"):
        open_slices(make_job(root, data={"train": "train[:8]", "valid": "train[fold 1/3]",
                                         "test": "train[fold 2/3]"}))  # fmt: skip
    cut = int(open_split(root, "train[fold 1/3]").places[0])  # the first of a group of two
    for name in (f"train[{cut}:{cut + 1}]", f"train[{cut + 1}:{cut + 2}]"):
        own = {"train": name, "valid": "train[fold 2/3]", "test": "train[fold 1/3]"}
        with pytest.raises(JobError, match=r"'train\[fold 1/3\]' share samples"):
            open_slices(make_job(root, data=own))
