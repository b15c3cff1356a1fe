"""The command line: quick, strict, and nothing before every word is understood."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_job, typed

from deeplense_batch.cli import cluster_verbs, data_verbs, inference_verbs, run_verbs
from deeplense_batch.cli.verbs import GROUPS, VERBS, read
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
            "-s: may be --source or --shard_size or --seed or --skip_bad or --split of pack",
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


def test_of_a_field_given_twice_the_last_one_counts():
    """Scripts add fields to the words of others; a dash or an underscore is the same field."""
    words = ["run", "job.yaml", "--train.lr=1", "--train.batch_size=3", "--train.batch-size=4"]
    verb = read([*words, "--train.lr=2"])
    assert {n: verb.values[n] for n in ("train.lr", "train.batch_size")} == {
        "train.lr": 2,
        "train.batch_size": 4,
    }
