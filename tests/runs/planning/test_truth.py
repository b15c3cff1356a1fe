"""Whether labels and truth that a task reads are there, and still those of its images."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from conftest import make_images, make_job
from format_1 import to_format_1
from made_sets import write_set
from made_shards import write_shards
from tiny_networks import UNET

from deeplense_batch.core.job import JobError
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.planning.truth import check_labels
from deeplense_batch.tasks import build_task

REGRESSION = {"name": "regression", "options": {"target": "theta_e"}}
PHYSICS = {"name": "physics_guided"}
_TRUTH = build_task("physics_guided", classes=None).spec.truth_keys


def planned(tmp_path, root, others, **fields):
    """Plan a training on `root` and others."""
    trained_on(tmp_path, root, (root, *others), **fields)


def trained_on(tmp_path, root, folders, **fields):
    """Plan a training on some sets that is scored on slices of `root`."""
    sets = [{"root": str(each)} for each in folders]
    data = {"roots": sets, "augment": {}} | fields.pop("data", {})
    plan([make_job(root, data=data, **fields)], tmp_path / "runs")


def test_a_truth_that_only_some_sets_have_is_refused_with_both(tmp_path):
    a = write_set(tmp_path / "a", truth=("theta_e",))
    b = write_set(tmp_path / "b", seed=1)
    with pytest.raises(ShardError, match=rf"{b}: has no truth/theta_e, which {a} has and the"):
        planned(tmp_path, a, [b], task=REGRESSION)
    planned(tmp_path, a, [write_set(tmp_path / "c", seed=2, truth=("theta_e",))], task=REGRESSION)


def test_lenses_are_not_measured_in_pixels_of_several_widths(tmp_path):
    a = write_set(tmp_path / "a", truth=_TRUTH, pixel_scale=0.1)
    b = write_set(tmp_path / "b", seed=1, truth=_TRUTH, pixel_scale=0.05)
    model = {"name": "lens_pinn"}
    with pytest.raises(JobError, match=r"0.1 arcsec in a, 0.05 arcsec in b.* measures lenses"):
        planned(tmp_path, a, [b], task=PHYSICS, model=model)
    blind = {"name": "physics_guided", "options": {"truth": False}}
    planned(tmp_path, a, [b], task=blind, model=model)
    c = write_set(tmp_path / "c", seed=2, truth=_TRUTH, pixel_scale=0.1)
    planned(tmp_path, a, [c], task=PHYSICS, model=model)
    with pytest.raises(JobError, match=r"data.tta: task physics_guided compares images"):
        planned(tmp_path, a, [c], task=PHYSICS, model=model, data={"tta": True})
    plain = write_set(tmp_path / "plain", seed=3, pixel_scale=0.1)
    with pytest.raises(ShardError, match=r"plain: has no truth/.* task.options.truth: false"):
        planned(tmp_path, a, [plain], task=PHYSICS, model=model)


def test_a_truth_that_is_needed_is_needed_of_what_is_scored_too(tmp_path):
    a = write_set(tmp_path / "a", truth=("theta_e",))
    plain = write_set(tmp_path / "plain", seed=1)
    with pytest.raises(
        ShardError, match=rf"{plain}: val: has no truth/theta_e, which the task le"
    ):
        trained_on(tmp_path, plain, [a], task=REGRESSION)
    with pytest.raises(ShardError, match=rf"{plain}: train: has no truth/theta_e, which the task"):
        planned(tmp_path, plain, [], task=REGRESSION)
    trained_on(tmp_path, write_set(tmp_path / "b", seed=2, truth=("theta_e",)), [a],
               task=REGRESSION)  # fmt: skip


def test_nothing_moves_scored_images_against_their_truth(tmp_path):
    """Those of `root`, though it is not trained on."""
    a, b = (
        write_set(tmp_path / f"{side}", seed=side, shape=(1, side, side), truth=_TRUTH,
                  pixel_scale=0.1)
        for side in (12, 13)
    )  # fmt: skip
    fields = {"task": PHYSICS, "model": {"name": "lens_pinn"}}
    with pytest.raises(JobError, match="crop: 12 of 13 x 13 pixels lie half a pixel off the midd"):
        trained_on(tmp_path, b, [a], data={"crop": 12}, **fields)
    trained_on(tmp_path, a, [write_set(tmp_path / "c", seed=1, truth=_TRUTH, pixel_scale=0.1)],
               data={"crop": 12}, **fields)  # fmt: skip


def test_images_of_which_nothing_is_known_are_scored_as_they_are(tmp_path):
    """Such as real ones, by what was learnt on simulated ones."""
    simulated = write_set(tmp_path / "simulated", truth=_TRUTH, pixel_scale=0.1)
    real = write_set(tmp_path / "real", seed=1, shape=(1, 13, 13), pixel_scale=0.1)
    fields = {"task": PHYSICS, "model": {"name": "lens_pinn"}}
    trained_on(tmp_path, real, [simulated], data={"crop": 12, "tta": True}, **fields)
    moved = {"crop": 12, "augment": {"flips": True}}
    with pytest.raises(JobError, match=r"data.augment.flips: task physics_guided compares"):
        trained_on(tmp_path, real, [simulated], data=moved, **fields)


def test_labels_are_counted_by_the_head_of_the_split(tmp_path):
    labelled = open_split(write_set(tmp_path / "a"), "val")
    check_labels(labelled)
    plain = open_split(write_set(tmp_path / "b", classes=()), "val[:5]")
    with pytest.raises(ShardError, match=r"b: val: 0 of 18 images have a label, which the task"):
        check_labels(plain)


def test_classes_that_are_balanced_are_those_of_labelled_images(tmp_path):
    images, targets = make_images(30, 1)
    truth = {"theta_e": np.arange(30) + 1.0}
    for name, own, classes in (
        ("labelled", targets, ("no", "sphere", "vort")),
        ("plain", np.full(30, -1), ()),
        ("part", np.where(np.arange(30) < 20, targets, -1), ("no", "sphere", "vort")),
    ):
        for split in ("train", "val"):
            write_shards(tmp_path / name, split, images, own, classes=classes, truth=truth)
    fields = {"task": REGRESSION, "train": {"balance": "sampler"}}
    plan([make_job(tmp_path / "labelled", **fields)], tmp_path / "runs")
    plan([make_job(tmp_path / "part", data={"train": "train[:20]"}, **fields)], tmp_path / "runs")
    for name, says in (("plain", "0 of 30 images have"), ("part", "20 of 30 images have")):
        with pytest.raises(
            JobError, match=rf"^small: train.balance: got sampler, .* {says} a label in .*{name}"
        ):
            plan([make_job(tmp_path / name, **fields)], tmp_path / "runs")


def learning(*targets: str, **options: object) -> dict[str, object]:
    return {"name": "regression", "options": {"targets": [*targets], **options}}


@pytest.fixture
def lenses(tmp_path):
    """A set with the truth of lenses, in splits ``train`` and ``val``."""
    images, targets = make_images(24, 3)
    truth = {"theta_e": 1.0 + np.arange(24) / 24, "lens": np.arange(96.0).reshape(24, 4)}
    for split in ("train", "val"):
        write_shards(tmp_path / "lenses", split, images, targets, truth=truth)
    return tmp_path / "lenses"


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (("theta_e", "q"), r"lenses: train: has no truth/q, .* learns; it has lens, theta_e"),
        (("theta_e", "lens"), r"lenses: train: truth/lens has 4 .* expected lens.x, .*, got lens"),
        (("lens.4",), r"expected lens.x, lens.y, lens.q, lens.phi, got lens.4"),
        (("theta_e.0",), "theta_e is one number an image; expected theta_e, got theta_e.0"),
    ],
)
def test_a_list_that_names_no_number_is_refused_with_those_there_are(tmp_path, lenses, targets,
                                                                     says):  # fmt: skip
    with pytest.raises(ShardError, match=says):
        plan([make_job(lenses, task=learning(*targets))], tmp_path / "runs")
    plan([make_job(lenses, task=learning("theta_e", "lens.q"))], tmp_path / "runs")


def test_a_truth_that_one_file_of_a_slice_lacks_is_refused_with_that_file(tmp_path):
    root = write_set(tmp_path / "a", truth=("theta_e", "mass"))  # two files each
    to_format_1(root)  # which nothing keeps from being changed
    path = root / "train-00001-of-00002.h5"
    with h5py.File(path, "r+") as file:
        del file["truth/mass"]
    with pytest.raises(ShardError, match=rf"{path}: has no truth/mass as other files of train"):
        plan([make_job(root, task=learning("theta_e", "mass"))], tmp_path / "runs")
    plan([make_job(root, task=learning("theta_e"))], tmp_path / "runs")
    first = {"train": "train[:12]"}
    plan([make_job(root, task=learning("theta_e", "mass"), data=first)], tmp_path / "runs")


def test_what_a_flip_changes_is_not_learnt_from_flipped_images(tmp_path, lenses):
    flips = {"augment": {"dihedral": True}}
    plan([make_job(lenses, task=learning("lens.q"), data=flips)], tmp_path / "runs")
    with pytest.raises(JobError, match=r"augment.dihedral: .* \(truth/lens\), .* other numbers"):
        plan([make_job(lenses, task=learning("lens.x"), data=flips)], tmp_path / "runs")


def test_a_length_is_not_learnt_from_zoomed_images(tmp_path, lenses):
    zoom = {"augment": {"scale": [0.9, 1.1]}}
    plan([make_job(lenses, task=learning("lens.q"), data=zoom)], tmp_path / "runs")
    plan([make_job(lenses, task=learning("theta_e", "lens.q"))], tmp_path / "runs")
    drawing = {"name": "generation", "options": {"conditions": ["theta_e"]}}
    network = {"model": {"name": "unet", "options": UNET}, "train": {"ema": 0.9}}
    for fields in (
        {"task": REGRESSION},
        {"task": learning("lens.q", "theta_e", log10=["theta_e"])},
        {"task": drawing, **network},
    ):
        with pytest.raises(
            JobError, match=r"scale: got \[0.9, 1.1\], .* of theta_e, a .*; expected \[1, 1\]"
        ):
            plan([make_job(lenses, data=zoom, **fields)], tmp_path / "runs")
