"""Evaluations that cannot be carried out are refused before anything runs."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_images, make_job
from made_runs import untrained
from made_sets import write_set
from made_shards import write_shards

from deeplense_batch.core.job import Evaluation, JobError
from deeplense_batch.runs.planning.plan import plan


def evaluation(run, **section):
    return Evaluation.model_validate({"name": "e", "evaluate": {"run": str(run), **section}})


@pytest.fixture
def trained(shards, tmp_path):
    return untrained(make_job(shards), tmp_path / "runs").run.path


def test_an_unknown_class_is_refused_by_both_lists(trained, tmp_path):
    images, targets = make_images(12, 1)
    write_shards(tmp_path / "d", "sky", images, targets, classes=("no", "sphere", "arc"))
    says = (
        f"e: {tmp_path / 'd'}: has the classes no, sphere, arc, and {trained} has learnt no, "
        "sphere, vort; it does not know arc$"
    )
    with pytest.raises(JobError, match=says):
        plan([evaluation(trained, data={"root": str(tmp_path / "d")})], tmp_path)


def test_fewer_classes_than_the_run_knows_are_fine(trained, tmp_path):
    images, _ = make_images(12, 1)
    write_shards(tmp_path / "d", "sky", images, np.arange(12) % 2, classes=("vort", "no"))
    (item,) = plan([evaluation(trained, data={"root": str(tmp_path / "d")})], tmp_path)
    assert item.job.evaluate.data.slice == "sky"


def test_images_without_labels_are_refused_where_classes_are_scored(trained, tmp_path):
    images, targets = make_images(12, 1)
    write_shards(tmp_path / "plain", "sky", images, np.full(12, -1), classes=())
    write_shards(tmp_path / "part", "sky", images, np.where(np.arange(12) < 8, targets, -1))
    for data, count in (
        ({"root": str(tmp_path / "plain")}, 0),
        ({"root": str(tmp_path / "part")}, 8),
        ({"root": str(tmp_path / "part"), "slice": "sky[3:]"}, 8),
    ):
        says = f"e: {data['root']}: sky: {count} of 12 images have a label, which the task learns"
        with pytest.raises(JobError, match=says):
            plan([evaluation(trained, data=data)], tmp_path)
    data = {"root": str(tmp_path / "part"), "slice": "sky[:8]"}
    assert plan([evaluation(trained, data=data)], tmp_path)


def test_images_without_the_truth_that_is_scored_are_refused(tmp_path):
    a = write_set(tmp_path / "a", truth=("theta_e",))
    task = {"name": "regression", "options": {"target": "theta_e"}}
    run = untrained(make_job(a, task=task), tmp_path / "runs").run.path
    plain = write_set(tmp_path / "plain", seed=1, classes=())
    with pytest.raises(JobError, match=f"e: {plain}: val: has no truth/theta_e, which the task"):
        plan([evaluation(run, data={"root": str(plain), "slice": "val"})], tmp_path)
    known = write_set(tmp_path / "known", seed=2, classes=(), truth=("theta_e",))
    assert plan([evaluation(run, data={"root": str(known), "slice": "val"})], tmp_path)


def test_symmetries_do_not_move_what_is_compared_with_its_truth(tmp_path):
    images, targets = make_images(12, 1)
    lens, shear = np.tile([0.0, 0.0, 0.8, 0.3], (12, 1)), np.zeros((12, 2))
    truth = {"theta_e": np.ones(12), "lens": lens, "shear": shear}
    for split in ("train", "val"):
        write_shards(tmp_path / "d", split, images, targets, truth=truth, pixel_scale=0.1)
    job = make_job(
        tmp_path / "d", task={"name": "physics_guided"}, data={"augment": {"dihedral": False}}
    )
    run = untrained(job, tmp_path / "runs").run.path
    with pytest.raises(
        JobError, match=r"evaluate.tta: .* measures lenses, which symmetries would"
    ):
        plan([evaluation(run, tta=True)], tmp_path)
    assert plan([evaluation(run, tta=False)], tmp_path)
