"""Whether the truth that a task reads is there, and still that of its images, before a run."""

from __future__ import annotations

import pytest
from conftest import make_job
from made_sets import write_set

from deeplense_batch.core.job import JobError
from deeplense_batch.data.shards import ShardError
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.tasks import build_task

REGRESSION = {"name": "regression", "options": {"target": "theta_e"}}
PHYSICS = {"name": "physics_guided"}
_TRUTH = build_task("physics_guided", classes=None).spec.truth_keys


def planned(tmp_path, root, others, **fields):
    sets = [{"root": str(each)} for each in (root, *others)]
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
