"""Run directories and shards that an earlier commit wrote can be used as if they were of today.

`fixtures/ad7dd9b/README.md` says how they were made.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, typed

OLD = REPOSITORY / "tests" / "fixtures" / "ad7dd9b"
DONE = Path("runs/tiny/densenet121-s0-bb1f517d0b")
STOPPED = Path("runs/tiny/densenet121-s1-299d2481a5")
DRAWS = Path("runs/drawn/unet-s0-d7e6baa270")
RUN_NAME = re.compile(r"\S+-s\d+-[0-9a-f]{10}\b")


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy of the old runs, in which the process stands."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("DEEPLENSE_RUNS", raising=False)
    return tmp_path


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def names(output: str) -> list[str]:
    """The run directories of a table of runs, in order."""
    return RUN_NAME.findall(output)


@pytest.mark.parametrize("run", [DONE, STOPPED, DRAWS], ids=str)
def test_the_identity_of_an_old_job_is_the_name_of_its_directory(old, capsys, run):
    code, output, _ = typed(capsys, "submit", run / "job.yaml", "--dry_run")
    assert (code, names(output)) == (0, [run.name])


def test_an_old_recipe_finds_its_run_and_does_nothing(old, capsys):
    before = {path: path.stat().st_mtime_ns for path in DONE.rglob("*")}
    code, output, _ = typed(capsys, "submit", "tiny.yaml", "drawn.yaml")
    assert (code, names(output)) == (0, [DONE.name, DRAWS.name])
    assert "2 runs (2 done), nothing to do" in output
    assert {path: path.stat().st_mtime_ns for path in DONE.rglob("*")} == before


def test_status_shows_old_runs(old, capsys):
    code, output, _ = typed(capsys, "status", "--check")
    rows = {(words := line.split())[1]: words[2:4] for line in output.splitlines()[1:4]}
    assert code == 5  # not every run is done
    assert rows == {
        DRAWS.name: ["done", "1/1"],
        DONE.name: ["done", "2/2"],
        STOPPED.name: ["stopped", "4/12"],
    }


def test_collect_compares_old_runs(old, capsys):
    code, output, _ = typed(capsys, "collect")
    assert code == 5 and "incomplete: 2 of 3 runs done" in output
    rows = read(old / "report" / "results.json")["rows"]
    states = {(row["job"], row["seed"]): row["state"] for row in rows}
    assert states == {("tiny", 0): "done", ("tiny", 1): "stopped", ("drawn", 0): "done"}
    scores = read(DONE / "metrics.json")["test"]["scores"]
    assert scores["auc"] in [row["auc"] for row in rows]
    assert f"test AUC {scores['auc']:.4f}" in output


def test_predictions_of_an_old_run_are_those_it_was_tested_by(old, capsys):
    code, _, _ = typed(
        capsys, "predict", DONE, "data", "--slice", "val[50%:]", "--out", "table.csv"
    )
    assert code == 0
    table = np.genfromtxt("table.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    with np.load(DONE / "outputs.npz") as outputs:
        logits = outputs["logits"].astype(np.float64)
        ids, classes = outputs["ids"].tolist(), outputs["classes"].tolist()
    assert [id_.strip('"') for id_ in table["id"]] == ids
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = np.stack([table[f"score_{name}"] for name in classes], 1)
    # Another processor or version of torch rounds otherwise.
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize("format", ["safetensors", "json", "onnx"])
def test_an_old_run_is_exported(old, capsys, format):
    if format == "onnx" and importlib.util.find_spec("onnx") is None:
        pytest.skip("the extra 'export' is not installed: nothing to write ONNX with")
    assert typed(capsys, "export", DONE, "network", "--format", format)[0] == 0
    name = {"safetensors": "weights.safetensors", "json": "weights.json", "onnx": "model.onnx"}
    assert (old / "network" / name[format]).stat().st_size > 4 * 3803  # float32 weights
    assert DONE.name in (old / "network" / "README.md").read_text()


def test_an_old_run_that_was_cut_off_goes_on_to_its_end(old, capsys):
    begun = (STOPPED / "history.jsonl").read_text()
    words = ("submit", "tiny.yaml", "--seed=1", "--train.epochs=12")
    code, output, _ = typed(capsys, *words)
    assert (code, names(output)[0]) == (0, STOPPED.name)
    assert read(STOPPED / "status.json")["state"] == "done"
    history = (STOPPED / "history.jsonl").read_text()
    assert history.startswith(begun), "epochs that were done are not done again"
    assert [json.loads(line)["epoch"] for line in history.splitlines()] == [*range(1, 13)]
    assert "going on after epoch 4, step 1" in (STOPPED / "log.txt").read_text()
    metrics = read(STOPPED / "metrics.json")
    assert metrics["identity"] == STOPPED.name.rpartition("-")[2]
    assert metrics["cost"]["attempts"] == 2
    assert typed(capsys, "status", "--check")[0] == 0
    assert typed(capsys, "collect")[0] == 0


def test_an_old_generator_is_sampled_and_judged(old, capsys):
    words = ("--images", "8", "--steps", "2", "--device", "cpu")
    assert typed(capsys, "sample", DRAWS, *words, "--out", "samples")[0] == 0
    assert read(old / "samples" / "manifest.json")["counts"] == {"train": {"": 8}}
    assert typed(capsys, "judge", DRAWS, *words, "--out", "judged")[0] == 0
    (judged,) = (old / "judged").glob("*/*/metrics.json")
    assert "power_spectrum" in json.dumps(read(judged))
