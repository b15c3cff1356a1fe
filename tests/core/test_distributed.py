"""The processes of one run: they meet, they have a device, or they end alike."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import socket
import subprocess
import sys
import time
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PATIENCE, say
from torch import nn
from two_nodes import told_to_two

from deeplense_batch.core import distributed
from deeplense_batch.core.distributed import DeviceError, World, device_of, open_world, processor
from deeplense_batch.models import build
from deeplense_batch.runs.launch import execute
from deeplense_batch.runs.planning.plan import plan

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


class Card:
    """What torch tells of a GPU."""

    uuid = "1b2c"


@pytest.mark.parametrize("theirs", [{0: 0, 1: 0}, {0: 0, 1: 1}])
def test_two_processes_on_one_gpu_are_refused(theirs):
    """NCCL would say nothing of it, or wait."""

    def look(rank, patch):
        card = Card()
        card.uuid = f"1b2c-{theirs[rank]}"
        patch.setattr(platform, "node", lambda: "n")
        patch.setattr(torch.cuda, "get_device_properties", lambda device: card)
        patch.setattr(distributed, "device_of", lambda kind: torch.device("cuda", theirs[rank]))
        patch.setattr(torch.cuda, "set_device", lambda device: None)
        kept = {}
        patch.setattr(
            distributed.dist, "init_process_group", lambda *_, **asked: kept.update(asked)
        )
        patch.setattr(distributed.dist, "destroy_process_group", lambda: None)
        with open_world(gpus=2):
            kept["store"].set(f"met/{rank}", "")
            if rank == 0:  # it holds the store: as NCCL does, it waits for the other one
                kept["store"].wait(["met/1"], timedelta(seconds=PATIENCE))

    said = told_to_two(look)
    assert said[0] == said[1]
    if theirs[1] == 1:
        assert said[0] == "fit"
    else:
        assert said[0].startswith("n: GPU-1b2c-0: processes 0 and 1 of 2 have this one GPU; ")


SLICED = """GPU 0: NVIDIA A100 (UUID: GPU-aa)
  MIG 1g.5gb Device 0: (UUID: MIG-b1)
  MIG 1g.5gb Device 1: (UUID: MIG-b2)"""


BESIDE = f"""{SLICED}
GPU 1: NVIDIA A100 (UUID: GPU-cc)
GPU 2: NVIDIA A100 (UUID: GPU-dd)"""


@pytest.mark.parametrize(
    ("visible", "listed", "process", "chosen"),
    [
        ("", SLICED, 1, "MIG-b2"),
        ("0", SLICED, 0, "MIG-b1"),
        ("MIG-c1,MIG-c2", SLICED, 1, "MIG-c2"),
        ("MIG-c1", SLICED, 1, "MIG-c1"),
        ("1,2", BESIDE, 1, "1,2"),
        ("GPU-cc,GPU-dd", BESIDE, 1, "GPU-cc,GPU-dd"),
        ("0", BESIDE, 1, "MIG-b2"),
        ("", BESIDE, 1, ""),
        ("0,1", "GPU 0: NVIDIA A100 (UUID: GPU-aa)", 1, "0,1"),
        ("0", SLICED, 2, "process 2 of this node has no GPU: there are 2 slices (MIG) for 3"),
    ],
)
def test_each_process_has_its_own_slice_of_a_gpu(monkeypatch, visible, listed, process, chosen):
    """CUDA shows only the first of those that it may see; whole GPUs need no such choice."""
    say(
        monkeypatch, RANK=str(process), WORLD_SIZE="3", LOCAL_RANK=str(process),
        LOCAL_WORLD_SIZE="3", CUDA_VISIBLE_DEVICES=visible, MASTER_ADDR="h", MASTER_PORT="1",
    )  # fmt: skip
    monkeypatch.setattr(distributed, "nvidia_smi", lambda: " ".join(listed.split()))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    if "slices" in chosen:
        with pytest.raises(DeviceError, match=re.escape(chosen)):
            device_of("cuda")
        return
    assert device_of("cuda") == torch.device("cuda", 0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == chosen


@pytest.mark.parametrize(("backend", "fails", "left"), [
    ("nccl", True, False), ("nccl", False, True), ("gloo", True, True), ("gloo", False, True),
])  # fmt: skip
def test_what_failed_does_not_wait_for_the_others(monkeypatch, backend, fails, left):
    """NCCL leaves together or not at all: a process that failed goes alone."""
    kind = "cuda" if backend == "nccl" else "cpu"
    seen = {"destroyed": False}
    store = SimpleNamespace(set=lambda *_: None)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "_meet", lambda size: store)
    chosen = torch.device(kind, 0) if kind == "cuda" else torch.device("cpu")
    monkeypatch.setattr(distributed, "_agree_on_devices", lambda *_: chosen)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(
        distributed.dist, "init_process_group", lambda *_, **asked: seen.update(asked)
    )
    monkeypatch.setattr(
        distributed.dist, "destroy_process_group", lambda: seen.update(destroyed=True)
    )
    with contextlib.suppress(ZeroDivisionError), open_world(gpus=2 * (kind == "cuda")):
        if fails:
            raise ZeroDivisionError
    assert seen["destroyed"] == left
    assert seen["device_id"] == (chosen if kind == "cuda" else None)


def test_a_process_that_failed_beside_others_keeps_its_exit_code():
    program = """
import atexit
from types import SimpleNamespace
from deeplense_batch.core import distributed
atexit.register(lambda: print("waits for the others"))
distributed.dist = SimpleNamespace(
    is_available=lambda: True, is_initialized=lambda: True, get_backend=lambda: "nccl"
)
print("said")
distributed.end_connected(6, ZeroDivisionError("why"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (6, "said\n") and "why" in done.stderr


GRADIENTS = """
import json
import sys
import torch
from deeplense_batch.core import distributed
from deeplense_batch.models import build
real, options = distributed.DistributedDataParallel, json.loads(sys.argv[1])
distributed.DistributedDataParallel = lambda model, **asked: real(model, **(asked | options))
with distributed.open_world(gpus=0) as world:
    torch.manual_seed(0)
    shared = world.wrap(build("test_resnet", channels=1, classes=3, size=48))
    images = torch.randn(8, 1, 48, 48, generator=torch.Generator().manual_seed(world.rank))
    for _ in range(2):
        shared.zero_grad(set_to_none=True)
        shared(images).square().mean().backward()
    found = [float(p.grad.double().sum()) for p in shared.parameters()]
    world.broadcast_buffers(shared)
    print(json.dumps(found + [float(b.double().sum()) for b in shared.buffers()]))
"""


def gradients(**options) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", GRADIENTS, json.dumps(options)], stdout=subprocess.PIPE,
            text=True, env=os.environ | place | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    return [process.communicate(timeout=PATIENCE)[0].splitlines()[-1] for process in processes]


def test_options_of_the_wrapper_change_no_gradient():
    """Buffers are not shared in each step; gradients, and buffers once shared, are the same."""
    ours = gradients()
    assert ours[0] == ours[1] and len(json.loads(ours[0])) > 10
    assert ours == gradients(broadcast_buffers=True, gradient_as_bucket_view=False)


def test_norms_over_all_processes_leave_the_network_what_it_is(monkeypatch):
    monkeypatch.setattr(distributed, "DistributedDataParallel", lambda model, **_: model)
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
