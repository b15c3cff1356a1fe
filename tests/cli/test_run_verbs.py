"""The verbs of one run, as they are typed."""

from __future__ import annotations

import pytest
from conftest import typed
from made_runs import make_run

from deeplense_batch.runs import preflight
from deeplense_batch.runs.preflight import Finding


def test_models_lists_names_and_sizes(capsys):
    _, shown, _ = typed(capsys, "models")
    assert "resnet18" in shown and "11.172 M" in shown


def test_a_run_name_that_looks_like_a_number_stays_a_name(capsys):
    code, _, error = typed(capsys, "run", "12e45678")
    assert code == 3 and "12e45678: cannot be read" in error


SIMULATION = """name: made
simulate: {kind: diffusion, images: 4, out: OUT}
resources: {gpus: 0}
"""


@pytest.fixture
def simulation(tmp_path):
    """A recipe that simulates."""
    path = tmp_path / "made.yaml"
    path.write_text(SIMULATION.replace("OUT", str(tmp_path / "data")))
    return path


@pytest.mark.parametrize("flag", ["--device=cpu", "--processes=2"])
def test_a_simulation_is_carried_out_by_one_process_of_its_own_kind(simulation, capsys, flag):
    code, shown, error = typed(capsys, "run", simulation, flag)
    says = f"{simulation}: simulates, by one process; no --device, --processes\n"
    assert (code, shown, error) == (2, "", says)
    assert [path.name for path in simulation.parent.iterdir()] == ["made.yaml"]


def test_only_trainings_are_measured(simulation, recipe, capsys):
    code, shown, error = typed(capsys, "bench", recipe, simulation)
    assert (code, shown) == (2, "")
    assert error == "bench: measures trainings, and a recipe given simulates\n"


def test_fields_and_folder_of_a_run_directory_are_fixed(tmp_path, capsys):
    run = make_run(tmp_path / "runs", state="planned")
    for word in ("--train.epochs=3", f"--out={tmp_path}"):
        code, _, error = typed(capsys, "run", run.path, word)
        assert code == 2 and error.startswith(f"{run.path}: is a run directory; its job and")


def test_runs_are_compared_and_missing_ones_are_an_exit_code(tmp_path, capsys):
    make_run(tmp_path / "runs")
    words = ["collect", tmp_path / "runs", "--out", tmp_path / "report"]
    assert typed(capsys, *words)[0] == 0
    make_run(tmp_path / "runs", seed=1, state="planned")
    assert typed(capsys, *words)[0] == 5
    code, _, error = typed(capsys, *words, "--classes=no,vort")
    assert (code, error) == (2, "--classes: names those of --predictions, which are not given\n")


def test_what_is_unfit_on_this_machine_is_an_exit_code(tmp_path, capsys, monkeypatch):
    found = [Finding("disk", "9 GB free"), Finding("GPUs", "none")]
    monkeypatch.setattr(preflight, "examine", lambda runs, data: found)
    code, shown, _ = typed(capsys, "doctor", tmp_path)
    assert code == 0 and len(shown.splitlines()) == 2
    found.append(Finding("data", "no such folder", fit=False))
    assert typed(capsys, "doctor", tmp_path)[0] == 4
