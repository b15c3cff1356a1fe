"""Evaluations that cannot be carried out are refused before anything runs."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_images, make_job
from made_runs import untrained
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
