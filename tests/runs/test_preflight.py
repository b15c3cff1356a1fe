"""A node that cannot carry out a run is named before anything is read, and blamed for it."""

from __future__ import annotations

import platform
import re
import shutil

import pytest
import torch
from conftest import cli, make_job
from torch import nn
from two_nodes import told_to_two

from deeplense_batch.core.distributed import World, open_world
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.preflight import UnfitError, check_room, preflight
from deeplense_batch.runs.training_run import run

ALONE = World(0, 1, torch.device("cpu"))
NODE = re.escape(platform.node())


def test_on_a_good_node_nothing_is_left(job, tmp_path):
    preflight(tmp_path, job, ALONE)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(job, tmp_path):
    sentence = rf"^{NODE}: .*/gone: cannot be written \(No such file or directory\)$"
    with pytest.raises(UnfitError, match=sentence):
        preflight(tmp_path / "gone", job, ALONE)


def test_a_broken_device_is_named(job, tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(torch, "equal", lambda a, b: False)
        with pytest.raises(UnfitError, match=f"^{NODE}: cpu: a product of matrices is wrong$"):
            preflight(tmp_path, job, ALONE)

    def fail(*_, **__):
        raise RuntimeError("CUDA error: uncorrectable ECC error\nCompile with `TORCH_USE_...`")

    monkeypatch.setattr(torch, "eye", fail)
    with pytest.raises(UnfitError, match=r"cpu: cannot be used \(CUDA error: uncorrectable ECC"):
        preflight(tmp_path, job, ALONE)


def test_a_set_that_this_node_does_not_see_is_named(shards, tmp_path):
    sets = [{"root": str(shards)}, {"root": str(tmp_path / "gone")}]
    with pytest.raises(UnfitError, match=rf"^{NODE}: .*/gone: no such folder of shards"):
        preflight(tmp_path, make_job(shards, data={"roots": sets}), ALONE)


def test_a_disk_without_room_for_the_checkpoints_is_named(shards, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    model = nn.Linear(1000, 1000)  # 4 MB: checkpoints take 40
    for free, held in ((41_000_000, 0), (30_000_000, 11_000_000)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, f=free: usage._replace(free=f))
        (tmp_path / "checkpoint.pt").write_bytes(bytes(held))
        check_room(tmp_path, model, averaged=False)
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(UnfitError, match=rf"^{NODE}: .*: 0.03 GB are free, .* may take 0.04$"):
        check_room(tmp_path, model, averaged=False)
    with pytest.raises(UnfitError, match=r"may take 0.05$"):  # three averages of the weights more
        check_room(tmp_path, model, averaged=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    (item,) = plan([make_job(shards)], tmp_path / "runs")
    with pytest.raises(UnfitError):
        run(item, device="cpu")
    assert (item.run.status().state, item.run.status().reason) == ("failed", "environment")


def test_data_that_this_node_cannot_see_are_exit_4_and_the_run_goes_on_elsewhere(shards, tmp_path):
    root = tmp_path / "shards"
    shutil.copytree(shards, root)
    (item,) = plan([make_job(root, train={"epochs": 1})], tmp_path / "runs")
    item.create()
    root.rename(tmp_path / "unmounted")
    answer = cli("run", item.run.path)
    assert answer.returncode == 4
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"{platform.node()}: {root}: no such folder of shards")
    status = item.run.status()
    assert (status.state, status.reason, status.message) == ("failed", "environment", line)
    (end,) = [e for e in item.run.read_lines("attempts.jsonl") if e["event"] == "end"]
    assert (end["state"], end["reason"]) == ("failed", "environment")
    (tmp_path / "unmounted").rename(root)
    run(item, device="cpu")
    assert item.run.status().state == "done"


@pytest.mark.parametrize("fit", [True, False])
def test_every_process_is_told_which_node_is_unfit(job, tmp_path, fit):
    folders = (tmp_path, tmp_path if fit else tmp_path / "gone")

    def look(rank, patch):
        with open_world(gpus=0) as world:
            preflight(folders[rank], job, world)

    unfit = f"n1: {tmp_path}/gone: cannot be written (No such file or directory)"
    assert told_to_two(look) == dict.fromkeys((0, 1), "fit" if fit else unfit)
