"""The benchmark and the doctor tell what they measured; how fast is not tested."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from conftest import CLASSES, make_job, typed

from benchmarks import collect, simulation
from deeplense_batch.data.shards import Split, open_split
from deeplense_batch.runs.bench import _export, _unadapted
from deeplense_batch.runs.preflight import examine
from deeplense_batch.simulation.presets import PRESETS
from deeplense_batch.simulation.rays import render
from deeplense_batch.simulation.scenes import as_batch, draw_scene


def test_bench_tells_ratios_for_every_model_and_the_data_plane(shards, tmp_path, capsys):
    path = tmp_path / "small.yaml"
    recipe = {
        "model": {"name": "test_resnet"},
        "data": {"root": str(shards), "size": 48, "augment": {"flips": True, "degrees": 10}},
        "train": {"batch_size": 16},
        "resources": {"gpus": 0},
        "grid": {"model.name": ["test_resnet", "test_efficientnet"], "train.lr": [0.1, 0.2]},
    }
    path.write_text(yaml.safe_dump(recipe))
    out = tmp_path / "bench.json"
    words = ["bench", path, "--steps=2", "--repeats=3", f"--out={out}"]
    code, shown, _ = typed(capsys, *words)
    assert code == 0 and "step ratio" in shown and "np.load" in shown
    content = json.loads(out.read_text())
    assert content["schema"] == 1
    assert [m["model"] for m in content["models"]] == ["test_resnet", "test_efficientnet"]
    for model in content["models"]:
        ratio = model["step_ratio"]
        assert 0 < ratio["least"] <= ratio["median"] <= ratio["most"]
        assert model["images_per_s"] > 0 and model["gflops"] > 0
    assert content["data"]["loader_ratio"]["median"] > 0
    assert typed(capsys, "bench", path, "--repeats=0")[0] == 2
    recipe["grid"] = {"data.size": [48, 64]}
    path.write_text(yaml.safe_dump(recipe))
    code, _, error = typed(capsys, "bench", path)
    assert code == 3 and error.endswith(
        "bench: test_resnet is to be measured with data.size 48 and 64; a model is measured in "
        "one way, such as --data.size=64\n"
    )


def test_a_model_is_measured_without_adaptation(shards, caplog):
    adapt = {"to": {"root": "nowhere"}, "by": "dann"}
    plain = make_job(shards, task={"options": {"focal": 1.0}})
    job = make_job(shards, task={"options": {"focal": 1.0, "adapt": adapt}})
    assert _unadapted([plain]) == [plain] and not caplog.text
    assert _unadapted([plain, job]) == [plain, plain]
    assert "task.options.adapt is left out" in caplog.text


def test_images_without_labels_are_loaded_and_packed_too(shards, tmp_path):
    class PartlyUnlabelled(Split):
        def targets(self):
            return np.where(np.arange(len(self)) % 2, super().targets(), -1)

    files = _export(PartlyUnlabelled(open_split(shards, "train").info, 0, 8), tmp_path)
    assert {path.parent.name for path in files[::2]} == {"unlabelled"}
    assert {path.parent.name for path in files[1::2]} <= set(CLASSES) and len(files) == 8


def test_the_doctor_finds_this_machine_fit_and_a_bad_folder_not(shards, tmp_path, capsys):
    findings = {f.what: f for f in examine(tmp_path, shards)}
    assert set(findings) == {
        *("processor", "GPUs", "arithmetic", "compiling", "disk", "libraries", "SLURM", "data")
    }
    assert "train 120" in findings["data"].state and findings["arithmetic"].fit
    (tmp_path / "broken").mkdir()
    code, shown, _ = typed(capsys, "doctor", tmp_path, "--data", tmp_path / "broken")
    assert code == 4 and "UNFIT data" in shown and "holds no shards" in shown


@pytest.mark.parametrize("flag", ["--steps=x", "--device=tpu"])
def test_what_is_wrong_is_usage(flag, capsys):
    assert typed(capsys, "bench", flag)[0] == 2


def test_the_simulator_beside_lenstronomy(tmp_path, capsys):
    simulation.main(["--repeats=1", "--images=8", f"--out={tmp_path}/b.json"])
    shown = capsys.readouterr().out
    numbers = json.loads((tmp_path / "b.json").read_text())["numbers"]
    rates = [number for number in numbers if number["unit"] == "images/s"]
    assert len(rates) == 9 and all(rate["value"] > 0 for rate in rates)
    beside = [number["name"] for number in numbers if "times lenstronomy" in number["name"]]
    assert len(beside) == 3 and all(name.startswith("parity, ") for name in beside)
    assert "times lenstronomy" in shown


def test_the_collector_on_made_up_runs():
    made = collect.bench_collect(runs=10, samples=300)
    found = {number["name"]: number["value"] for number in made["numbers"]}
    assert found["collect"] > found["status"] > 0 and found["submit --dry_run of a grid"] > 0
    assert found["collect: peak memory"] > 0 and found["collect: page"] > 0
    assert (found["runs"], found["test samples of each"]) == (10, 300)


@pytest.mark.parametrize("target", range(3))
def test_both_sides_make_the_same_image(target):
    """Rays, source and camera at once; their b_n is 0.6 % another, their vortex a chain."""
    pytest.importorskip("lenstronomy")
    preset = PRESETS["parity"]
    scene = draw_scene(preset, target, np.random.default_rng(5))
    theirs = simulation.their_image(preset, scene)
    ours = render(preset, as_batch([scene]), 150)[0].numpy()
    error = np.abs(ours / ours.max() - theirs / theirs.max())
    assert np.sqrt((error**2).mean()) < 3e-3
    assert np.quantile(error, 0.99) < 0.02
