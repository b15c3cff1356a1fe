"""Loaders of every slice are normalised by what is trained on, and checked by their place."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from conftest import make_images, make_job
from made_restoration import write_rings
from made_sets import pixels, write_set
from made_shards import write_shards
from torch.nn import functional

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import JobError
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.mixed_sets import open_curriculum, open_training_sets
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.tasks import build_task
from deeplense_batch.training.images.loaders import check_needed_truth, frame_of, open_loaders

ALONE = World(0, 1, torch.device("cpu"))


def opened(job):
    slices = open_slices(job)
    sets, first = open_training_sets(job, slices), open_curriculum(job, slices)
    return open_loaders(job, ALONE, slices, sets, first)


def test_all_are_normalised_by_the_training_images(tmp_path):
    a = write_set(tmp_path / "a", level=2.0)
    b = write_set(tmp_path / "b", seed=1, level=9.0)
    job = make_job(a, data={"curriculum": [{"root": str(b), "epochs": 1}]})
    _, loaders = opened(job)
    values = pixels(24, (1, 12, 12), 0, 2.0)
    (first,) = loaders["curriculum"]
    for loader in (loaders["train"], loaders["valid"], loaders["test"], first):
        assert loader.transform.mean == pytest.approx([values.mean()], rel=1e-5)
        assert loader.transform.sd == pytest.approx([values.std()], rel=1e-5)


def test_what_is_learnt_is_scaled_by_the_training_images(tmp_path):
    """Those that are scored have other numbers."""
    root = write_set(tmp_path / "a", truth=("theta_e",))
    task = {"name": "regression", "options": {"target": "theta_e"}}
    made, _ = opened(make_job(root, task=task, data={"train": "train[:6]"}))
    known = np.log10(np.linspace(0.5, 1.5, 24)[:6])
    assert made.state_dict() == pytest.approx({"mean": known.mean(), "sd": known.std()})


def test_what_teaches_nothing_is_a_sentence(tmp_path):
    """Lenses in arcsec, of images of which no pixel scale is known."""
    root = write_set(
        tmp_path / "a", truth=build_task("physics_guided", classes=None).spec.truth_keys
    )
    job = make_job(root, task={"name": "physics_guided"}, model={"name": "lens_pinn"})
    with pytest.raises(JobError, match=r"^small: the data hold lenses in arcsec and no pixel sc"):
        opened(job)


def test_how_many_images_are_learnt_from_is_in_the_log(tmp_path, caplog):
    images, targets = make_images(24, 3)
    masses = np.where(np.arange(24) % 3, np.nan, np.arange(24) + 1.0)
    for split in ("train", "val"):
        write_shards(tmp_path, split, images, targets, truth={"mass": masses})
    task = {"name": "regression", "options": {"targets": ["mass"]}}
    with caplog.at_level(logging.INFO):
        opened(make_job(tmp_path, task=task))
    assert "regression of mass, learnt from 8 of 24 images; the others lack what" in caplog.text


def test_a_restoration_is_fitted_to_the_training_images(tmp_path):
    """The bicubic image, the range and the noise: of those that are scored they are others."""
    root, found = write_rings(tmp_path / "pairs"), {}
    for name in ("train", "val"):
        split = open_split(root, name)
        images, clean, inputs = (
            torch.from_numpy(part.images()).double()
            for part in (split, split.of("clean"), split.of("inputs"))
        )
        larger = functional.interpolate(inputs, scale_factor=2, mode="bicubic", antialias=True)
        gain, offset = np.polyfit(larger.flatten(), images.flatten(), 1)
        noise = np.median((images - clean).square().mean((1, 2, 3)).sqrt())
        found[name] = np.array([gain, offset, noise, images.max() - images.min()])
    model = {"name": "edsr", "options": {"width": 4, "blocks": 1}}
    task, loaders = opened(make_job(root, task={"name": "restoration"}, model=model))
    (mean,), (sd,) = loaders["train"].transform.mean, loaders["train"].transform.sd
    (gain,), (offset,) = task.fitted.gain, task.fitted.offset  # of normalised values
    fitted = [gain, offset * sd + mean * (1 - gain), task.noise_sd, task.data_range]
    np.testing.assert_allclose(fitted, found["train"], rtol=1e-4, atol=1e-5)
    assert (np.abs(found["val"] - found["train"]) > 1e-4).all()


def test_a_fault_is_named_by_folder_and_slice(tmp_path):
    a = write_set(tmp_path / "a", truth=("theta_e",))
    task = {"name": "regression", "options": {"target": "theta_e"}}
    b = write_set(tmp_path / "b", seed=1)
    sets = {"roots": [{"root": str(a)}, {"root": str(b)}]}
    with pytest.raises(ShardError, match=r"b.*has no truth/theta_e"):
        opened(make_job(a, task=task, data=sets))


def test_truth_is_a_number_of_the_right_shape():
    spec = build_task("regression", classes=None, target="theta_e").spec
    check_needed_truth(spec, {"theta_e": ()}, "a: val")
    with pytest.raises(ShardError, match=r"a: val: has no truth/theta_e, .* it has other"):
        check_needed_truth(spec, {"other": ()}, "a: val")
    with pytest.raises(ShardError, match=r"a: val: .*theta_e"):
        check_needed_truth(spec, {"theta_e": (2,)}, "a: val")


def test_the_frame_is_that_after_crop_and_size(tmp_path):
    root = write_set(tmp_path / "a", pixel_scale=0.1)
    job = make_job(root, data={"crop": 8, "size": 16})
    frame = frame_of(job, open_slices(job)["train"].info)
    assert (frame.channels, frame.size) == (1, 16)
    assert frame.pixel_scale == pytest.approx(0.05)
