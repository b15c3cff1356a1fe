"""Networks and data that do not go with a task that makes images."""

from __future__ import annotations

import pytest
from conftest import make_job
from made_pairs import write_pairs

from deeplense_batch.core.job import JobError
from deeplense_batch.data.shards import ShardError
from deeplense_batch.models import ModelError
from deeplense_batch.runs.planning.plan import plan

RESTORING = {"task": {"name": "restoration"}, "model": {"name": "edsr", "options": {"width": 8}}}


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs") / "set"
    for split in ("train", "val"):
        write_pairs(root, 12, split=split, side=16)
    return root


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model": {"name": "edsr"}, "task": {"name": "classification"}},
         "model.name: edsr gives a better image for an image, which task.name restoration learns"),
        ({"model": {"name": "test_resnet", "options": {}}},
         "model.name: test_resnet gives no better images, which task.name restoration learns; "
         "these do: swinir_light, edsr, restoring_unet, rcan"),
        ({"model": {"name": "unet", "options": {}}}, "model.name: unet takes noise from images"),
        ({"data": {"stretch": "asinh"}}, "data.stretch asinh, expected linear: restored images"),
        ({"data": {"clip": [1, 99]}}, r"data.clip \[1.0, 99.0\], expected null: restored images"),
        ({"data": {"tta": True}}, "data.tta: got True"),
        ({"train": {"mixup": 0.2}}, "train.mixup: got 0.2"),
        ({"task": {"name": "restoration", "options": {"loss": "l9"}}}, "task.options.loss: got"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_in_one_sentence(paired, tmp_path, fields, says):
    job = make_job(paired, **(RESTORING | fields))
    with pytest.raises(JobError, match=f"small: .*{says}"):
        plan([job], tmp_path)


DRAWING = {
    "task": {"name": "generation", "options": {"conditions": ["input"]}},
    "model": {"name": "unet", "options": {"inputs": True, "width": 8}},
    "train": {"ema": 0.9},
}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model": {"name": "unet", "options": {"width": 8}}},
         "model.options.inputs: got false, and task.options.conditions has input; expected true"),
        ({"task": {"name": "generation", "options": {}}},
         "model.options.inputs: got true, and task.options.conditions lacks input; expected fal"),
        ({"model": {"name": "edsr"}}, "model.name: edsr gives no images.*; these do: unet"),
        ({"data": {"stretch": "asinh"}}, "data.stretch asinh, expected linear: restored images"),
        ({"data": {"size": 8}}, "data.size: got 8, which would not change an image and its input"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_drawing_images_of_inputs(paired, tmp_path, fields, says):
    with pytest.raises(JobError, match=f"small: .*{says}"):
        plan([make_job(paired, **(DRAWING | fields))], tmp_path)


def test_drawing_images_of_inputs_needs_pairs(shards, paired, tmp_path):
    assert plan([make_job(paired, **DRAWING)], tmp_path)
    with pytest.raises(ShardError, match="has no inputs, of which task generation makes images"):
        plan([make_job(shards, **DRAWING)], tmp_path)


@pytest.mark.parametrize(("crop", "side"), [(None, 8), (8, 4)])
def test_a_patch_larger_than_an_input_is_refused(paired, tmp_path, crop, side):
    model = {"name": "restoring_vit", "options": {"encoder": "test_vit", "patch": 4}}
    job = make_job(paired, **RESTORING | {"model": model, "data": {"crop": crop}})
    plan([job], tmp_path)
    options = model["options"] | {"patch": 9}
    job = make_job(
        paired, **RESTORING | {"model": model | {"options": options}, "data": {"crop": crop}}
    )
    with pytest.raises(
        ModelError, match=rf"patch: expected from 1 to the {side} pixels of a side of an input"
    ):
        plan([job], tmp_path)


def test_what_goes_together_is_planned(paired, tmp_path):
    (item,) = plan([make_job(paired, **RESTORING)], tmp_path)
    assert item.run.name.startswith("small/edsr-s0-")
