"""The command line: quick, strict, and nothing before every word is understood."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, make_job, typed

from deeplense_batch.cli import cluster_verbs, data_verbs, inference_verbs, run_verbs
from deeplense_batch.cli.parse import describe
from deeplense_batch.cli.verbs import GROUPS, VERBS, read
from deeplense_batch.cluster.recipes import one_of_several
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import RunDir, Status


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


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]], ids=str)
def test_the_bare_program_lists_every_verb_by_what_it_is_for(words, capsys):
    code, shown, error = typed(capsys, *words)
    assert (code, error) == (0, "")
    for group, verbs in GROUPS.items():
        section = shown.split(f"{group}\n")[1].split("\n\n")[0]
        names = [line.split()[0] for line in section.splitlines() if line[2] != " "]
        assert names == [verb.__name__ for verb in verbs]


def test_every_verb_has_its_row():
    """A function that a file of verbs offers, and that no group has, could not be typed."""
    offered = {
        getattr(module, name)
        for module in (cluster_verbs, data_verbs, inference_verbs, run_verbs)
        for name in module.__all__
    }
    listed = [verb for verbs in GROUPS.values() for verb in verbs]
    assert (
        set(listed) == offered and len(listed) == len(offered) == len(VERBS) - 1
    )  # judge is evaluate


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("width", [50, 90])
def test_every_verb_describes_itself_with_an_example(name, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    code, shown, error = typed(capsys, name, "--help")
    assert (code, error) == (0, "") and shown.isascii()
    known = describe(VERBS[name])
    example = shown.split("Example:\n")[1].splitlines()[0]
    for line in shown.splitlines()[1:]:
        assert len(line) <= width or line == example, line
    flat = " ".join(shown.split())
    for parameter in known.parameters:
        assert parameter.about and parameter.about in flat and parameter.typed in flat, parameter
    program, words = example.strip().split(known.name, 1)
    assert program == "python -m deeplense_batch "
    verb = read([known.name, *shlex.split(words)])
    assert verb.function is VERBS[name]
    for word in shlex.split(words):
        assert not word.startswith("jobs/") or (REPOSITORY / word).is_file(), word


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("stats", "stats: no such verb; did you mean 'status'?"),
        ("--out x status", "--out: a verb comes first; --help lists them"),
        ("predict RUN RUN DATA", "predict: takes RUN DATA; 'DATA' is one word too many"),
        ("models x", "models: takes no words; 'x' is one word too many"),
        ("export RUN", "export: OUT is missing, folder that is made; 'export --help' shows an"),
        ("export RUN out --run other", "RUN: is given twice, as 'RUN' and by its flag"),
        ("export RUN out --format json --format onnx", "--format: is given twice, as 'json' and"),
        ("pack a b --seed", "--seed: needs a value, N"),
        ("pack a b --seed --skip_bad", "--seed: needs a value, N"),
        (
            "pack a b -s 3",
            "-s: may be --source or --shard_size or --seed or --skip_bad of pack; write it",
        ),
        ("pack a b --skip_bad=perhaps", "--skip_bad: expected true or false, got 'perhaps'"),
        ("pack a b --dtype=float8", "--dtype: got 'float8'; allowed: exact, float16, float32"),
        ("pack a b --seed=-1", "--seed: expected a whole number, 0 or more, got '-1'"),
        ("bench --repeats=0", "--repeats: expected a whole number, 1 or more, got '0'"),
        ("clean --older=old", "--older: expected a number, got 'old'"),
        ("cancel --state queued,done", "--state: got 'done'; allowed: queued, running"),
        ("collect --predictions a", "--predictions: expected NAME=FOLDER, got 'a'"),
        ("collect --out=", "--out: expected a path (an unset variable?), got ''"),
        ("collect --predictions a=x --predictions a=y", "--predictions: 'a' is given twice"),
        ("explain RUN --out a.jpg", "--out: expected a name that ends in .png, got 'a.jpg'"),
        ("submit --epochs=3", "--epochs: no such flag of submit; did you mean"),
    ],
)
def test_what_is_wrong_with_a_line_is_one_sentence(line, says, capsys):
    code, shown, error = typed(capsys, *line.split())
    assert (code, shown) == (2, "") and error.startswith(says) and error.count("\n") == 1


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


def test_the_reader_may_leave_early(runs):
    command = f"{sys.executable} -m deeplense_batch models | head -1"
    answer = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=os.environ
    )
    assert "Traceback" not in answer.stderr and "BrokenPipe" not in answer.stderr


def test_of_a_field_given_twice_the_last_one_counts():
    """Scripts add fields to the words of others; a dash or an underscore is the same field."""
    words = ["run", "job.yaml", "--train.lr=1", "--train.batch_size=3", "--train.batch-size=4"]
    verb = read([*words, "--train.lr=2"])
    assert {n: verb.values[n] for n in ("train.lr", "train.batch_size")} == {
        "train.lr": 2,
        "train.batch_size": 4,
    }
