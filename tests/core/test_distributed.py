"""The processes of one run: they meet, they have a device, or they end alike."""

from __future__ import annotations

import json
import socket
import time
from datetime import timedelta

import numpy as np
import pytest
import torch
from conftest import say
from torch import nn
from two_nodes import told_to_two

from deeplense_batch.core import distributed
from deeplense_batch.core.distributed import DeviceError, World, device_of, open_world, processor
from deeplense_batch.models import build
from deeplense_batch.runs.launch import execute
from deeplense_batch.runs.plan import plan

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_processes_that_do_not_meet_say_where_they_waited(job, tmp_path, monkeypatch, rank):
    """At a port that somebody else has, or a host that is not there."""
    (item,) = plan([job], tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        if rank == "1":
            place["MASTER_ADDR"] = "nowhere.invalid"
        say(monkeypatch, RANK=rank, WORLD_SIZE="2", LOCAL_RANK=rank, **place)
        monkeypatch.setattr(distributed, "_TIMEOUT", timedelta(seconds=1))
        with pytest.raises(distributed.DeviceError) as error:
            execute(item, device="cpu")
    sentence = str(error.value)
    where = f"MASTER_ADDR={place['MASTER_ADDR']}, MASTER_PORT={place['MASTER_PORT']} ("
    assert f": process {rank} of 2 cannot meet the others at {where}" in sentence
    assert "\n" not in sentence
    if rank == "0":  # which writes the state
        status = item.run.status()
        assert (status.state, status.reason, status.message) == (
            *("failed", "environment"), sentence
        )  # fmt: skip


def test_a_process_may_end_after_the_first():
    def look(rank, patch):
        with open_world(gpus=0) as world:
            world.barrier()
            time.sleep(rank)

    assert told_to_two(look) == dict.fromkeys((0, 1), "fit")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU on this node")
@pytest.mark.parametrize("without", [0, 1])
def test_one_process_without_a_gpu_ends_all_alike(without):
    """Else the others wait for it until they are killed, and the node is not blamed."""

    def look(rank, patch):
        if rank != without:
            patch.setattr(distributed, "device_of", torch.device)
        with open_world(gpus=2):
            pass

    said = told_to_two(look)
    assert said[0] == said[1]
    assert said[0].startswith(f"n{without}: a GPU is asked for and torch sees none")


def test_norms_over_all_processes_leave_the_network_what_it_is(monkeypatch):
    monkeypatch.setattr(distributed, "DistributedDataParallel", lambda model, device_ids: model)
    model = build("test_efficientnet", channels=1, classes=3, size=48).eval()
    images = torch.randn(10, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    before = model(images)
    shared = World(0, 2, torch.device("cuda", 0)).wrap(model, sync_bn=True).eval()
    assert any(isinstance(module, nn.SyncBatchNorm) for module in shared.modules())
    assert torch.equal(shared(images), before)


def test_several_agree_on_values_and_put_their_rows_together_by_rank():
    def look(rank, patch):
        with open_world(gpus=0) as world:
            rows = world.gather({"of": np.full((rank + 1, 2), rank)})
            said = {
                "most": world.all_reduce_max(10 * rank),
                "sum": world.all_reduce_sum(torch.tensor([1.0, rank])).tolist(),
                "first": world.broadcast(f"of {rank}"),
                "all": world.all_gather(rank),
                "rows": rows and rows["of"].tolist(),
            }
        raise DeviceError(json.dumps(said))  # which is how it is told

    said = {rank: json.loads(text) for rank, text in told_to_two(look).items()}
    assert said[0].pop("rows") == [[0, 0], [1, 1], [1, 1]] and said[1].pop("rows") is None
    assert said[0] == said[1] == {"most": 10, "sum": [2.0, 1.0], "first": "of 0", "all": [0, 1]}


def test_one_process_is_a_world_by_itself():
    with open_world(gpus=0) as world:
        assert world.main and (world.rank, world.size, world.device.type) == (0, 1, "cpu")
        values = np.arange(3)
        assert world.gather({"a": values})["a"] is values and world.all_gather(7) == [7]
        network = nn.Linear(1, 1)
        assert world.wrap(network) is network
        told = world.describe()
    assert (told["type"], told["count"]) == ("cpu", 1) and told["name"].startswith(processor())


def test_a_device_is_a_cpu_or_a_gpu():
    assert device_of("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="device: expected cpu or cuda; got 'tpu'"):
        device_of("tpu")
