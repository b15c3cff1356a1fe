"""A node that cannot carry out a run is named before anything is read, and blamed for it."""

from __future__ import annotations

import multiprocessing
import platform
import re
import shutil
import socket
import time
from pathlib import Path

import pytest
import torch
from conftest import cli, make_job
from torch import nn

from deeplense_batch.distributed import World, open_world
from deeplense_batch.plan import plan
from deeplense_batch.preflight import UnfitError, check_room, preflight
from deeplense_batch.run import run

ALONE = World(0, 1, torch.device("cpu"))
NODE = re.escape(platform.node())


def test_a_good_node_costs_little_and_keeps_nothing(job, tmp_path):
    started = time.process_time()
    preflight(tmp_path, job, ALONE)
    assert time.process_time() - started < 1
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


def test_a_disk_without_room_for_the_checkpoints_is_named(shards, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    model = nn.Linear(1000, 1000)  # 4 MB: checkpoints take 40
    for free, held in ((41_000_000, 0), (30_000_000, 11_000_000)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, f=free: usage._replace(free=f))
        (tmp_path / "checkpoint.pt").write_bytes(bytes(held))
        check_room(tmp_path, model)
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(UnfitError, match=rf"^{NODE}: .*: 0.03 GB are free, .* may take 0.04$"):
        check_room(tmp_path, model)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    (item,) = plan([make_job(shards)], tmp_path / "runs")
    with pytest.raises(UnfitError):
        run(item, device="cpu")
    assert (item.run.status().state, item.run.status().reason) == ("failed", "environment")


def test_data_that_this_node_cannot_see_are_exit_4_and_the_run_goes_on_elsewhere(shards, tmp_path):
    root = tmp_path / "shards"
    shutil.copytree(shards, root)
    (item,) = plan([make_job(root, train={"epochs": 1})], tmp_path / "runs")
    item.make()
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


def _one_of_two(rank: int, port: int, directory: Path, job, told) -> None:
    with pytest.MonkeyPatch.context() as patch:
        words = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in words.items():
            patch.setenv(name, str(value))
        patch.setattr(platform, "node", lambda: f"n{rank}")
        with open_world(gpus=0) as world:
            try:
                preflight(directory, job, world)
                told.put((rank, "fit"))
            except UnfitError as error:
                told.put((rank, str(error)))


@pytest.mark.parametrize("fit", [True, False])
def test_every_process_is_told_which_node_is_unfit(job, tmp_path, fit):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    folders = (tmp_path, tmp_path if fit else tmp_path / "gone")
    processes = [
        context.Process(target=_one_of_two, args=(rank, port, folders[rank], job, told))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    sentences = dict(told.get() for _ in processes)
    unfit = f"n1: {tmp_path}/gone: cannot be written (No such file or directory)"
    assert sentences == dict.fromkeys((0, 1), "fit" if fit else unfit)
