"""The recipes of a command line: one run of several, and all of jobs/ with what they lack."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import REPOSITORY, typed

from deeplense_batch.cli.verbs import read
from deeplense_batch.cluster.recipes import one_of_several, runs_folder
from deeplense_batch.core.recipe import load_jobs


def test_submit_without_a_recipe_takes_all_of_jobs(recipe, capsys):
    (recipe.parent / "jobs").mkdir()
    recipe.rename(recipe.parent / "jobs" / "small.yaml")
    code, shown, _ = typed(capsys, "submit", "--grid", "--dry_run")
    assert code == 0 and "2 runs, 2 to do" in shown
    assert typed(capsys, "submit")[0] == 2
    Path("jobs/other.yaml").write_text("model: {name: lcnet_050}\ndata: {root: nowhere}\n")
    code, shown, _ = typed(capsys, "submit", "--grid", "--dry_run")
    assert code == 0 and "2 runs, 2 to do" in shown
    assert "left out, lacking what 'pack', 'simulate' or another job makes" in shown
    assert shown.index("to do") < shown.index("nowhere (other)")
    Path("jobs/small.yaml").unlink()
    code, shown, error = typed(capsys, "submit", "--grid", "--dry_run")
    assert (code, error) == (3, "no recipe in jobs/ has what it needs here\n")
    assert "nowhere (other)" in shown
    Path("jobs/other.yaml").unlink()
    assert "there are no recipes here" in typed(capsys, "submit", "--grid")[2]


def test_run_takes_one_run_only(tmp_path, capsys):
    path = tmp_path / "two.yaml"
    path.write_text("model: {name: resnet18}\ndata: {root: d}\nseeds: [0, 1]\n")
    code, _, error = typed(capsys, "run", path)
    says = (
        f"{path}: holds 2 runs; add --seed=0 to take one, or type 'submit --grid {path}' for all\n"
    )
    assert (code, error) == (2, says)
    code, _, error = typed(capsys, "run", path, "--seed=0")
    assert code == 3 and "no such folder of shards" in error
    code, _, error = typed(capsys, "submit", path)
    says = f"{path}: holds 2 runs; add --grid to take them all, or --seed=0 to take one\n"
    assert (code, error) == (2, says)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "jobs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_flags_that_take_one_run_of_a_recipe_do(path):
    jobs = load_jobs(path)
    if len(jobs) > 1:
        verb = read(["run", str(path), *shlex.split(one_of_several(path, jobs, {}))])
        fields = {name: value for name, value in verb.values.items() if name != "job"}
        one, *same = load_jobs(path, fields)
        assert one in jobs and all(other == one for other in same)


def test_all_jobs_of_a_fresh_clone_lead_with_what_brings_most(tmp_path, monkeypatch, capsys):
    """Nothing is there: one sentence with one command, then a line for each thing that lacks."""
    shutil.copytree(REPOSITORY / "jobs", tmp_path / "jobs")
    monkeypatch.chdir(tmp_path)
    for verb in ("submit", "sbatch"):
        code, shown, error = typed(capsys, verb, "--grid")
        assert code == 3 and error.startswith(
            "no recipe in jobs/ has what it needs here; 'submit jobs/simulate.yaml' brings "
            "data/common_test_1, which "
        )
        assert error.count("\n") == 1 and len(shown.splitlines()) <= 6
        recipes = [path for path in Path("jobs").glob("*.yaml") if path.stem != "simulate"]
        assert f"of {len(recipes)} lack" in error
        for path in recipes:
            assert re.search(rf"\b{path.stem}\b", shown), path
    assert not (tmp_path / "runs").exists()


def test_recipes_that_are_named_are_planned_together(recipe, capsys):
    """A run that two have is one, and two sets are not made into one folder."""
    text = recipe.read_text()
    Path("other.yaml").write_text(f"{text}name: small\n")
    code, shown, error = typed(capsys, "submit", "--grid", "--dry_run", recipe, "other.yaml")
    assert code == 0 and "2 runs, 2 to do; at most 2 CPU-hours asked for" in shown, error
    for seed in (0, 1):
        made = f"simulate: {{kind: substructure, out: set}}\nseed: {seed}\n"
        Path(f"set{seed}.yaml").write_text(made)
    code, shown, error = typed(capsys, "submit", "--dry_run", "set0.yaml", "set1.yaml")
    assert (code, shown) == (3, "") and "two different sets in" in error


def test_the_folder_of_runs_is_the_named_one_or_that_of_the_environment(monkeypatch):
    for value, folder in (("elsewhere", "elsewhere"), ("", "runs"), (None, "runs")):
        monkeypatch.delenv("DEEPLENSE_RUNS", raising=False)
        if value is not None:
            monkeypatch.setenv("DEEPLENSE_RUNS", value)
        assert runs_folder(None) == Path(folder) and runs_folder(Path("named")) == Path("named")
