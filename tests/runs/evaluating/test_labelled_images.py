"""Labelled images that a run is scored on: those that suit it, however large, and no others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_images, make_job
from made_runs import untrained
from made_sets import pixels
from made_shards import write_shards

from deeplense_batch.core.distributed import World
from deeplense_batch.data.shards import ShardError
from deeplense_batch.inference.trained import open_trained
from deeplense_batch.runs.evaluating.labelled_images import answers_of, open_labelled

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def trained(shards, tmp_path):
    """Makes an untrained run of a section `data`."""

    def made(**data):
        return open_trained(untrained(make_job(shards, data=data), tmp_path / "runs").run.path)

    return made


@pytest.fixture
def sky(tmp_path):
    """Images of 24 pixels, and the same with a dark frame around them."""
    images, targets = make_images(12, 5)
    write_shards(tmp_path / "same", "sky", images, targets)
    wide = np.pad(images, ((0, 0), (0, 0), (3, 3), (5, 5)))
    write_shards(tmp_path / "wide", "sky", wide, targets)
    return tmp_path


def test_a_run_that_sees_the_middle_takes_images_of_any_size_that_has_it(trained, sky):
    network = trained(crop=16)
    found = []
    for name in ("same", "wide"):
        split = open_labelled(sky / name, "sky", [network], ALONE)
        outputs, _ = answers_of(network, split, "sky", ALONE, tta=None)
        found.append(outputs["logits"])
    assert np.array_equal(*found)


@pytest.mark.parametrize(
    ("crop", "ends"), [(None, ""), (20, ", or any other size of 20 x 20 pixels or more")]
)
def test_images_that_have_not_what_a_run_sees_are_refused(trained, sky, crop, ends):
    images, targets = make_images(12, 5)
    write_shards(sky / "small", "sky", images[..., :18, :], targets)
    network = trained(crop=crop)
    says = (
        rf"has images of 1 x 18 x 24 \(channels x height x width\), {network.run.path} takes "
        f"1 x 24 x 24{ends}$"
    )
    with pytest.raises(ShardError, match=says):
        open_labelled(sky / "small", "sky", [network], ALONE)


def test_every_network_has_to_take_them(trained, sky):
    networks = [trained(crop=16), trained()]
    assert len(open_labelled(sky / "same", "sky", networks, ALONE)) == 12
    with pytest.raises(ShardError, match=f"{networks[1].run.path} takes 1 x 24 x 24$"):
        open_labelled(sky / "wide", "sky", networks, ALONE)


def test_each_process_needs_an_image(trained, sky):
    with pytest.raises(ShardError, match="has 1 image, less than one for each of 2 processes"):
        open_labelled(sky / "same", "sky[:1]", [trained()], World(0, 2, torch.device("cpu")))


MEASURES = {"task": {"name": "physics_guided"}, "model": {"name": "lens_pinn"}}


def lenses(root, side, pixel_scale, seed):
    """Images of lenses whose truth is known."""
    truth = {"theta_e": np.ones(12), "lens": np.tile([0, 0, 0.8, 0.3], (12, 1))}
    truth["shear"] = np.zeros((12, 2))
    for i, split in enumerate(("train", "val")):
        images = pixels(12, (1, side, side), 2 * seed + i)
        targets = np.arange(12) % 3
        write_shards(root, split, images, targets, truth=truth, pixel_scale=pixel_scale)
    return root


def test_lenses_are_measured_in_pixels_as_wide_as_the_network_sees_them(tmp_path):
    """Resized to 32 pixels: 64 of 0.05 arcsec and 32 of 0.1 are alike, 128 of 0.05 are not."""
    a, b = lenses(tmp_path / "a", 64, 0.05, 0), lenses(tmp_path / "b", 32, 0.1, 1)
    sets = [{"root": str(each)} for each in (a, b)]
    job = make_job(a, **MEASURES, data={"roots": sets, "size": 32, "augment": {}})
    network = open_trained(untrained(job, tmp_path / "runs").run.path)
    for root in (a, b, lenses(tmp_path / "c", 128, 0.025, 2)):
        split = open_labelled(root, "val", [network], ALONE)
        assert "true_lens" in answers_of(network, split, "val", ALONE, tta=None)[0]
    wide = lenses(tmp_path / "wide", 128, 0.05, 3)
    split = open_labelled(wide, "val", [network], ALONE)
    says = (
        rf"wide: has pixels of 0\.2 arcsec, resized to 32; {network.run.path}, which measures "
        r"lenses in pixels, takes those of 0\.1 arcsec$"
    )
    with pytest.raises(ShardError, match=says):
        answers_of(network, split, "val", ALONE, tta=None)


def test_a_crop_half_a_pixel_off_the_middle_is_told_as_such(tmp_path):
    a = lenses(tmp_path / "a", 36, 0.1, 0)
    job = make_job(a, **MEASURES, data={"crop": 32, "augment": {}})
    network = open_trained(untrained(job, tmp_path / "runs").run.path)
    says = f"odd: the middle 32 of 35 x 35 pixels, which {network.run.path} sees, lie half a pixel"
    with pytest.raises(ShardError, match=says):
        open_labelled(lenses(tmp_path / "odd", 35, 0.1, 1), "val", [network], ALONE)
    assert open_labelled(lenses(tmp_path / "even", 34, 0.1, 2), "val", [network], ALONE)


@pytest.mark.parametrize(("per", "doubts"), [("band", 1), ("image", 0)])
def test_another_unit_is_doubted_unless_each_image_is_normalised_by_itself(
    trained, sky, per, doubts
):
    images, targets = make_images(12, 5)
    write_shards(sky / "counts", "sky", images.astype(np.float32) * 1e4, targets)
    network = trained(per=per)
    for name, count in (("same", 0), ("counts", doubts)):
        split = open_labelled(sky / name, "sky", [network], ALONE)
        _, notes = answers_of(network, split, "sky", ALONE, tta=None)
        assert len(notes) == count and all("are they in the same unit?" in n for n in notes)
