"""What a submission will take, before anything happens."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import make_job, typed, write_split
from slurm_programs import profile

from deeplense_batch.cluster.estimate import _images
from deeplense_batch.runs.planning.validate import Memo


def test_hours_are_told_by_past_runs_or_bench_or_are_unknown(recipe, capsys):
    words = ["submit", "--grid", recipe, "--dry_run", "--cluster=slurm"]
    assert "hours of 2 runs unknown: none like it ran here" in typed(capsys, *words)[1]
    done = ["submit", "--grid", recipe, "--cluster=debug", "--seeds=[7]"]
    assert typed(capsys, *done)[0] == 0
    shown = typed(capsys, *words)[1]
    assert "CPU-hours will be used" in shown and "unknown" not in shown
    speed = {"model": "test_resnet", "images_per_s": 120 * 2 * 2 / 7200}
    bench = {"device": {"type": "cuda"}, "models": [speed]}
    Path("bench.json").write_text(json.dumps(bench))
    profile(gpu_hour_price=0.5)
    shown = typed(capsys, *words, "--resources.gpus=1", "--bench=bench.json")[1]
    assert "about 2 GPU-hours will be used; at 0.5 EUR each, 1.00" in shown
    write_split(Path("other"), "train", 30, seed=5)
    adapt = "--task.options.adapt={to: {root: other}, by: dann}"
    shown = typed(capsys, *words, "--resources.gpus=1", "--bench=bench.json", adapt)[1]
    assert "about 4 GPU-hours will be used" in shown  # as many images of the other set
    Path("bench.json").write_text("{}")
    code, _, error = typed(capsys, *words, "--bench=bench.json")
    assert code == 3 and "is not what 'bench --out' wrote" in error


def test_the_images_of_all_epochs_are_those_of_each_set(shards):
    """120 in train, 107 in val; 4 epochs."""
    assert _images(make_job(shards), Memo()) == 4 * 120
    first = {"root": str(shards), "epochs": 3, "train": "train[:10]"}
    job = make_job(shards, data={"curriculum": [first]})
    assert _images(job, Memo()) == 3 * 10 + 120
    new = {"curriculum": [first], "simulate": {"images": 1000}}
    assert _images(make_job(shards, data=new), Memo()) == 3 * 10 + 1000
    both = [{"root": str(shards)}, {"root": str(shards), "train": "val"}]
    job = make_job(shards, data={"curriculum": [first], "roots": both})
    assert _images(job, Memo()) == 3 * 10 + 120 + 107
