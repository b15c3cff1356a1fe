"""The command line: quick, strict, and nothing before every word is understood."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_job, typed

from deeplense_batch.core.rundir import RunDir, Status

VERBS = ("simulate", "pack", "run", "submit", "status", "collect", "models")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for i in range(3):
        job = make_job(tmp_path, name="job", model={"name": "resnet18"}, seed=i)
        RunDir.create(tmp_path / "runs" / "job" / f"resnet18-s{i}-012345678{i}", job.to_yaml())
    RunDir(tmp_path / "runs" / "job" / "resnet18-s0-0123456780").write_status(
        Status(state="failed", reason="error", message="ValueError: broken")
    )
    return tmp_path / "runs"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["submit", "--help"],
        ["predict", "--help"],
        ["models"],
        ["status", "RUNS"],
        ["collect", "RUNS"],
    ],
)
def test_light_verbs_do_not_load_torch(runs, words, tmp_path):
    words = [str(runs) if word == "RUNS" else word for word in words]
    code = (
        "import sys\nfrom deeplense_batch.__main__ import main\n"
        f"sys.argv = ['deeplense-batch', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print('code', end.code)\n"
        "print('torch' in sys.modules)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert answer.stdout.splitlines()[-1] == "False", answer.stdout + answer.stderr


def test_status_shows_every_run_and_its_cause(runs, capsys):
    code, shown, _ = typed(capsys, "status", runs)
    assert code == 0
    assert shown.count("resnet18-s") == 3 and "ValueError: broken" in shown
    assert typed(capsys, "status", runs, "--check")[0] == 5
    assert typed(capsys, "status", runs.parent / "nowhere")[0] == 3


@pytest.mark.parametrize(
    "words", [["status", "RUNS", "--chek"], ["status", "RUNS", "a"], ["stats"], ["models", "x"]]
)
def test_a_misspelt_word_is_usage_and_nothing_happens(runs, words, capsys):
    code, shown, _ = typed(capsys, *(str(runs) if w == "RUNS" else w for w in words))
    assert (code, shown) == (2, "")


@pytest.mark.parametrize(
    "words",
    [
        [],
        *(
            [v, "--help"]
            for v in ["simulate", "pack", "run", "submit", "status", "collect", "models"]
        ),
    ],
    ids=str,
)
def test_every_verb_describes_itself(words, capsys):
    code, shown, also = typed(capsys, *words)
    assert code == 0 and "SYNOPSIS" in shown + also
    assert "FIRE" not in shown + also


def test_a_misspelt_flag_names_the_nearest(capsys):
    code, shown, error = typed(capsys, "pack", "a", "b", "--skip_bat")
    assert (code, shown) == (2, "") and "no such flag of pack; did you mean '--skip_bad'?" in error


def test_an_unset_variable_is_no_folder(capsys):
    code, _, error = typed(capsys, "pack", "somewhere", "")
    assert code == 2 and "an unset variable?" in error


def test_the_version_is_told(capsys):
    assert typed(capsys, "--version")[:2] == (0, "0.1.0\n")


def test_models_lists_names_and_sizes(capsys):
    _, shown, _ = typed(capsys, "models")
    assert "resnet18" in shown and "11.172 M" in shown


def test_a_run_name_that_looks_like_a_number_stays_a_name(capsys):
    code, _, error = typed(capsys, "run", "12e45678")
    assert code == 3 and "12e45678: cannot be read" in error


def test_run_takes_one_run_only(tmp_path, capsys):
    path = tmp_path / "two.yaml"
    path.write_text("model: {name: resnet18}\ndata: {root: d}\nseeds: [0, 1]\n")
    code, _, error = typed(capsys, "run", path)
    assert code == 2 and "holds 2 runs" in error
    code, _, error = typed(capsys, "run", path, "--seed=0")
    assert code == 3 and "no such folder of shards" in error


def test_the_reader_may_leave_early(runs):
    command = f"{sys.executable} -m deeplense_batch models | head -1"
    answer = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=os.environ
    )
    assert "Traceback" not in answer.stderr and "BrokenPipe" not in answer.stderr
