"""A task that learns from pairs is given pairs, and a recipe that parts them is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import make_job
from made_pairs import write_pairs
from made_shards import write

from deeplense_batch.core.job import JobError
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.runs.planning.pairs import check_pairs
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.tasks.task import TaskSpec

SPEC = TaskSpec(monitor="psnr", num_outputs=1, needs_labels=False, needs_inputs=True)


def check(root, *, spec=SPEC, others=(), **data):
    splits = [open_split(each, "train") for each in (root, *others)]
    check_pairs(make_job(root, data={"augment": {}} | data), spec, splits)


@pytest.fixture
def pairs(tmp_path):
    write_pairs(tmp_path / "pairs", 4)
    return tmp_path / "pairs"


@pytest.mark.parametrize(
    "data",
    [{}, {"crop": 8}, {"per": "set"}, {"register": True},
     {"augment": {"flips": True, "dihedral": True}}],
)  # fmt: skip
def test_what_changes_both_alike_is_taken(pairs, data):
    check(pairs, **data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"size": 8}, "data.size: got 8, which would .* expected null; data.crop keeps"),
        ({"per": "image"}, "data.per: got image, .* expected band or set"),
        ({"tta": True}, "data.tta: got True, .* expected false"),
        ({"augment": {"degrees": 5.0}}, r"data.augment.degrees: got 5.0, .* expected 0; flips"),
        ({"augment": {"translate": 0.1}}, "data.augment.translate: got 0.1"),
        (
            {"augment": {"scale": [0.9, 1.0]}},
            r"augment.scale: got .* expected \[1.0, 1.0\]; flips",
        ),
        ({"augment": {"blur": 1.0}}, "data.augment.blur: got 1.0"),
        ({"augment": {"noise": 1.0}}, "data.augment.noise: got 1.0"),
    ],
)
def test_what_would_part_pairs_is_refused(pairs, data, said):
    with pytest.raises(JobError, match=said):
        check(pairs, **data)


def test_a_crop_within_a_pixel_of_the_inputs_is_refused(pairs):
    with pytest.raises(ShardError, match="expected a crop such as 8 or 12"):
        check(pairs, crop=10)


def test_a_set_without_inputs_and_one_of_another_ratio_are_refused(tmp_path, pairs):
    write(tmp_path / "plain", 4)
    with pytest.raises(
        ShardError, match=r"plain: train: has no inputs, of which task .*HR and LR"
    ):
        check(tmp_path / "plain")
    write_pairs(tmp_path / "four", 4, ratio=4)
    with pytest.raises(ShardError, match=r"four: train: has 4 .*pairs: train has 2; expected one"):
        check(pairs, others=[tmp_path / "four"])


def test_tasks_of_single_images_take_pairs_for_images_but_do_not_register_them(pairs, tmp_path):
    single = replace(SPEC, needs_inputs=False)
    for spec in (None, single):
        check(pairs, spec=spec, size=8, tta=True)
        with pytest.raises(JobError, match=r"data.register: finds the shift .* leave it out"):
            check(pairs, spec=spec, register=True)
    regression = {"name": "regression", "options": {"target": "theta_e"}}
    data = {"register": True, "valid": "train[:2]", "test": "train[2:3]", "train": "train[3:]"}
    write(tmp_path / "one", 6)
    job = make_job(tmp_path / "one", data={"augment": {}} | data, task=regression)
    with pytest.raises(JobError, match=r"data.register"):
        plan([job], tmp_path / "runs")
