"""The recipes in jobs/: each says what it is, can be planned, and trains."""

from __future__ import annotations

import json
import re

import pytest
from conftest import REPOSITORY, typed

from deeplense_batch.core.job import Job
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.models import check_name
from deeplense_batch.report.run_table import read_rows
from deeplense_batch.simulation.simulate import simulate
from deeplense_batch.tasks import TASKS, build_task

JOBS = sorted((REPOSITORY / "jobs").glob("*.yaml"))
CLASSES = {"lens_finding": ("nonlenses", "lenses")}


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_recipe_tells_what_it_is_and_can_be_built(path):
    head = re.match(r"(# .*\n)+", path.read_text()).group()
    assert f"jobs/{path.name}" in head or "scripts/demo.sh" in head, "how to run it"
    listed = (REPOSITORY / "docs" / "jobs.md").read_text()
    assert f"`{path.name}`" in listed, "it stands in the table of recipes"
    jobs = load_jobs(path)
    assert {job.name for job in jobs} == {path.stem}
    for job in jobs:
        if isinstance(job, Job):
            check_name(job.model.name)
            classes = CLASSES.get(job.data.root.rpartition("/")[2], ("no", "sphere", "vort"))
            build_task(job.task.name, classes=classes, **job.task.options)


def test_every_task_has_a_recipe():
    named = {job.task.name for path in JOBS for job in load_jobs(path) if isinstance(job, Job)}
    assert named == set(TASKS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as a user has it, with small data in the places that recipes name."""
    root = tmp_path_factory.mktemp("place")
    (root / "jobs").symlink_to(REPOSITORY / "jobs")
    simulate("substructure", root / "data/common_test_1", images=60, size=64)
    simulate("substructure", root / "data/varied", preset="varied", images=120, size=64)
    simulate("lens_finding", root / "data/lens_finding", images=120)
    return root


SMALL = ("--seeds=[0]", "--train.epochs=2", "--data.size=32", "--data.crop=48", "--device=cpu")


@pytest.mark.slow
def test_small_jobs_train_through_submit_and_stand_in_one_report(place, monkeypatch, capsys):
    """Of each task one, and one that goes on from another's weights."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    wrong = ("jobs/lens_finder_cnn.yaml", "--task.options.positive=rings", *SMALL)
    code, _, error = typed(capsys, "submit", "--grid", *wrong)
    assert code == 3 and "expected the class that is searched for, nonlenses or lenses" in error
    names = ("lens_finder_cnn", "mass_regression", "resnet20", "resnet20_continued")
    recipes = [f"jobs/{name}.yaml" for name in names]
    code, _, error = typed(capsys, "submit", "--grid", recipes[-1], *SMALL)
    assert code == 3 and "train.init: runs/resnet20: no weights there" in error
    assert typed(capsys, "submit", "--grid", *recipes[:-1], *SMALL)[0] == 0
    assert typed(capsys, "submit", "--grid", recipes[-1], *SMALL)[0] == 0
    rows = read_rows(place / "runs")
    assert {(row["job"], row["state"]) for row in rows} == {(name, "done") for name in names}
    by_job = {row["job"]: row for row in rows}
    assert {"average_precision", "tpr10", "threshold"} <= set(by_job["lens_finder_cnn"]["more"])
    assert by_job["mass_regression"]["more"]["mae"] > 0
    assert typed(capsys, "collect")[0] == 0
    report = (place / "report" / "report.md").read_text()
    assert r"test slice test, validated on train\[85%:\], detection of lenses" in report
    assert ", regression of log10 axion" in report and " nonlenses, " in report
    assert "R2 " in typed(capsys, "status")[1]
    assert "average precision" in report and "mae" in report
    metrics = json.loads(next((place / "runs/mass_regression").glob("*/metrics.json")).read_text())
    assert any("have no true value" in note for note in metrics["test"]["notes"])
