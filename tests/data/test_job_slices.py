"""The slices of a job: none shares an image, or a group, with another."""

from __future__ import annotations

import pytest
from conftest import make_job
from made_groups import tiles, write_groups

from deeplense_batch.core.job import JobError
from deeplense_batch.data.job_slices import open_slices


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
