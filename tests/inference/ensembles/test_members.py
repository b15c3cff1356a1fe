"""Which runs are an ensemble, and which are none; what they learnt is only written down here."""

from __future__ import annotations

import pytest
from made_runs import make_run

from deeplense_batch.core.job import JobError
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import Status
from deeplense_batch.inference.ensembles.members import (
    Member,
    by_recipe,
    check_members,
    members_of,
    trainings_in,
)

CLASSES = ["no", "sphere", "vort"]


def made(root, *, classes=CLASSES, learns=None, task=None, init=None, **fields):
    """A run that is done, of these classes."""
    train = fields.pop("train", {}) | ({"init": str(init)} if init else {})
    run = make_run(root, train=train, **fields)
    metrics = run.read_json("metrics.json")
    metrics["learns"], metrics["data"]["classes"] = learns, classes
    run.write_json("metrics.json", metrics)
    if task is not None:
        text = (run.path / "job.yaml").read_text()
        (run.path / "job.yaml").write_text(text.replace("name: classification", f"name: {task}"))
    return run


def test_runs_that_differ_in_their_seed_alone_are_together(tmp_path):
    for model, seeds in (("resnet18", (0, 1, 2)), ("densenet121", (0, 1))):
        for seed in seeds:
            made(tmp_path, model=model, seed=seed)
    found = [Member.at(run.path) for run in trainings_in(tmp_path / "demo")]
    groups = by_recipe(found)
    assert [[member.job.seed for member in group] for group in groups] == [[0, 1], [0, 1, 2]]
    assert {member.job.model.name for member in groups[1]} == {"resnet18"}


def test_each_may_start_from_the_run_of_its_own_seed(tmp_path):
    starts = [made(tmp_path, seed=seed, job="first") for seed in (0, 1)]
    other = made(tmp_path, seed=1, job="other", train={"epochs": 3})
    for seed, start in enumerate(starts):
        made(tmp_path, seed=seed, job="second", init=start.path)
    made(tmp_path, seed=2, job="second", init=other.path)
    groups = by_recipe(Member.at(run.path) for run in trainings_in(tmp_path / "second"))
    assert [[member.job.seed for member in group] for group in groups] == [[0, 1], [2]]


def test_the_runs_of_one_recipe_in_a_folder_are_an_ensemble(tmp_path):
    for seed in (1, 0, 2):
        made(tmp_path, seed=seed)
    assert [member.job.seed for member in members_of([tmp_path / "demo"])] == [0, 1, 2]


def test_a_folder_of_several_recipes_lists_them(tmp_path):
    for model in ("densenet121", "resnet18"):
        for seed in (0, 1):
            made(tmp_path, model=model, seed=seed, place=f"/data/{model}s")
    made(tmp_path, model="resnet18", seed=2, place="/data/resnet18s")
    says = (
        r"runs of 2 recipes, densenet121-s0-\w+ and 1 more seed \(trained on densenet121s\); "
        r"resnet18-s0-\w+ and 2 more seeds \(trained on resnet18s\); name those of"
    )
    with pytest.raises(JobError, match=says):
        members_of([tmp_path / "demo"])
    paths = [run.path for run in trainings_in(tmp_path / "demo")]
    assert len(members_of(paths)) == 5


def test_a_folder_of_several_jobs_is_none_of_a_job(tmp_path):
    for seed, job in enumerate(("one", "two")):
        made(tmp_path, job=job, seed=seed)
    says = f"{tmp_path}: is no job's folder, it holds 2 jobs, one, two; expected a run, the folder"
    with pytest.raises(JobError, match=says):
        members_of([tmp_path])
    assert len(members_of([tmp_path / "one", tmp_path / "two"])) == 2


def test_classes_may_have_another_order(tmp_path):
    runs = [made(tmp_path, seed=0), made(tmp_path, seed=1, classes=CLASSES[::-1])]
    check_members([Member.at(run.path) for run in runs], "here")


def test_members_learn_the_same_things(tmp_path):
    first = Member.at(made(tmp_path, seed=0).path)
    for number, (fields, about) in enumerate(
        (
            ({"classes": ["no", "sphere"]}, r"classification \(classes no, sphere\)"),
            ({"task": "physics_guided"}, r"physics_guided \(classes no, sphere, vort\)"),
            ({"task": "regression", "learns": "theta_e"}, "regression of theta_e"),
        )
    ):
        other = Member.at(made(tmp_path, seed=1, job=f"other{number}", **fields).path)
        says = (
            rf"here: {first.path.name} has learnt classification \(classes no, sphere, vort\), "
            f"{other.path.name} {about}; the members of an ensemble learn the same"
        )
        with pytest.raises(JobError, match=says):
            check_members([first, other], "here")


def test_regressions_of_one_number_need_no_classes_in_common(tmp_path):
    task = {"task": "regression", "learns": "theta_e"}
    runs = [made(tmp_path, seed=0, **task), made(tmp_path, seed=1, classes=[], **task)]
    check_members([Member.at(run.path) for run in runs], "here")


def test_one_alone_or_one_twice_is_no_ensemble(tmp_path):
    run = made(tmp_path, seed=0)
    with pytest.raises(JobError, match=f"{run.path} alone is no ensemble"):
        members_of([run.path])
    with pytest.raises(JobError, match=f"the run {run.path.name} is named twice"):
        members_of([run.path, tmp_path / "demo"])
    with pytest.raises(JobError, match="no run there"):
        members_of([tmp_path / "nothing", tmp_path / "more"])


def test_generators_have_no_mean(tmp_path):
    runs = [made(tmp_path, seed=seed, task="generation") for seed in (0, 1)]
    with pytest.raises(JobError, match="makes images; expected runs that answer with scores"):
        members_of([run.path for run in runs])


def test_a_run_that_is_not_done_is_no_member(tmp_path):
    runs = [made(tmp_path, seed=seed) for seed in (0, 1)]
    runs[1].write_status(Status(state="stopped"))
    with pytest.raises(JobError, match="is stopped, not done"):
        members_of([tmp_path / "demo"])


def test_an_evaluation_is_no_training(tmp_path):
    run = made(tmp_path, seed=0)
    other = tmp_path / "demo" / "evaluation"
    other.mkdir()
    (other / "job.yaml").write_text(f"name: e\nevaluate: {{run: {run.path}}}\n")
    assert load_jobs(other / "job.yaml")
    assert [one.path for one in trainings_in(tmp_path / "demo")] == [run.path]
