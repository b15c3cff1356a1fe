"""From simulated images to real ones, as docs/to_the_sky.md says it: small, and by the program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY, typed

from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.data.shards import open_split

HEAVIER = (
    "--set", "vort.mass=[1.17e11,1.755e11]",
    "--set", "sphere.mass={law: PowerLaw, exponent: -0.9, low: 3.9e6, high: 3.9e10}",
)  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch, capsys) -> Path:
    """A folder with small sets of the recipe's names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    clean = ("--keep", "clean", "--images", "30")
    for name, more in (("small", ()), ("small_heavier", HEAVIER)):
        words = ("simulate", "substructure", f"sky/{name}", *clean, *more)
        assert typed(capsys, *words)[0] == 0
    return tmp_path


def test_the_small_recipe_trains_and_its_network_reads_real_images(place, real_data, capsys):
    recipe = REPOSITORY / "jobs" / "to_the_sky_small.yaml"
    (job,) = load_jobs(recipe)
    content = yaml.safe_load(recipe.read_text())
    content["data"]["curriculum"][0]["epochs"] = content["train"]["epochs"] = 1
    content["train"]["epochs"] += 1
    Path("to_the_sky_small.yaml").write_text(yaml.safe_dump(content))
    assert typed(capsys, "run", "to_the_sky_small.yaml")[0] == 0
    (run,) = (place / "runs" / job.name).iterdir()
    pack = ("pack", real_data / "common_test_1", "sky/real", "--pixel_scale", "0.05")
    assert typed(capsys, *pack, "--all_in", "test")[0] == 0
    tested = {
        "evaluate": {"run": f"runs/{job.name}", "data": {"root": "sky/real", "slice": "test"}}
    }
    Path("tested.yaml").write_text(yaml.safe_dump(tested | {"resources": {"gpus": 0}}))
    code, shown, errors = typed(capsys, "run", "tested.yaml")
    assert code == 0, shown + errors
    (evaluation,) = (place / "runs" / "tested").iterdir()
    metrics = json.loads((evaluation / "metrics.json").read_text())
    assert metrics["test"]["scored"] == len(open_split("sky/real", "test")) == 18
    assert metrics["data"]["classes"] == ["no", "sphere", "vort"]
    assert np.load(evaluation / "outputs.npz")["logits"].shape == (18, 3)
    assert json.loads((run / "metrics.json").read_text())["data"]["curriculum"][0]["epochs"] == 1
