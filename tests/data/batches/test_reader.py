"""Stored images by index: where they are kept, how they are read, and the memory there is."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from conftest import readers, wait_for
from made_shards import write

from deeplense_batch.data.batches import reader
from deeplense_batch.data.batches.reader import Reader, Rows, ahead, choose, free_memory
from deeplense_batch.data.shards import ShardError, open_split

CPU = torch.device("cpu")


def test_a_reader_that_cannot_start_says_why(monkeypatch):
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    with pytest.raises(ChildProcessError, match=r"that reads images could not be started \(can't"):
        next(ahead(str, range(3)))


def test_one_task_is_done_ahead_and_no_more():
    begun: list[int] = []
    results = ahead(lambda task: begun.append(task) or task, range(5))
    assert next(results) == 0
    wait_for(lambda: len(begun) == 2)
    assert next(results) == 1
    wait_for(lambda: len(begun) == 3)
    results.close()
    assert begun == [0, 1, 2] and not readers()


def test_auto_takes_the_first_place_with_room(monkeypatch):
    free = {"cuda": 1000, "cpu": 5000}
    monkeypatch.setattr(reader, "free_memory", lambda device: free[device.type])
    cuda = torch.device("cuda")
    assert choose("auto", 600, cuda) == "device"
    assert choose("auto", 601, cuda) == "host"
    assert choose("auto", 3001, cuda) == "off"
    assert choose("auto", 3000, CPU) == "device"
    assert choose("auto", 3001, CPU) == "off"
    assert choose("device", 10**9, cuda) == "device"


def test_memory_has_the_limits_of_every_control_group_around(tmp_path, monkeypatch):
    def group(path: str, limit: str, names: tuple[str, str, str], use: int, cache: int) -> None:
        folder = tmp_path / path
        folder.mkdir(parents=True)
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{use}\n")
        (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cache}\n")

    two = ("memory.max", "memory.current", "file")
    one = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache")
    group("slurm/job_7", "9000", two, 5000, 3000)
    group("slurm/job_7/step_0", "max", two, 4000, 0)
    group("memory/box", "8000", one, 7000, 500)
    (tmp_path / "own").write_text("4:memory:/box\n2:cpu:/box\n0::/slurm/job_7/step_0\n")
    monkeypatch.setattr(reader, "_CGROUPS", tmp_path)
    monkeypatch.setattr(reader, "_OWN_CGROUPS", tmp_path / "own")
    assert sorted(reader._cgroup_rooms()) == [1500, 7000]
    assert free_memory(CPU) == 1500
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert free_memory(CPU) == 375


@pytest.fixture(params=[None, "gzip"], ids=["contiguous", "gzip"])
def split(request, tmp_path):
    """Samples 2 to 10 of eleven, in files of four; and their images as stored."""
    images = write(tmp_path, 11, compression=request.param)
    return open_split(tmp_path, "train[2:11]"), images[2:]


@pytest.mark.parametrize("indices", [[0], [8, 0, 1, 2, 3, 3, 6], [4, 5, 6, 7, 8], []])
def test_images_are_read_in_any_order_across_files(split, indices):
    rows = Rows(split[0], None)
    assert (rows.shape, rows.dtype, rows.row_bytes) == ((1, 4, 5), np.uint16, 40)
    asked, out = np.array(indices, np.int64), np.zeros((len(indices), 1, 4, 5), np.uint16)
    with Reader(rows) as opened:
        opened.expect(asked)
        opened.read(asked, out)
    assert (out == split[1][indices]).all()


def test_the_middle_of_images_is_read(split):
    rows, out = Rows(split[0], 2), np.zeros((2, 1, 2, 2), np.uint16)
    assert rows.shape == (1, 2, 2) and rows.row_bytes == 8
    with Reader(rows) as opened:
        opened.read(np.array([7, 1]), out)
    assert (out == split[1][[7, 1], :, 1:3, 1:3]).all()
    with pytest.raises(ShardError, match="5 pixels asked, the images have 4 x 5"):
        Rows(split[0], 5)


def test_indices_are_cut_where_a_file_or_a_row_of_them_ends(split):
    """The slice begins with sample 2 of the first file; each of the others has four."""
    found = [
        (piece.path.name[6:11], first, run.start, run.stop)
        for piece, first, run in Rows(split[0], None).runs(np.array([0, 1, 2, 3, 5, 4, 5, 8]))
    ]
    assert found == [
        ("00000", 2, 0, 2),
        ("00001", 0, 2, 4),
        ("00001", 3, 4, 5),
        ("00001", 2, 5, 7),
        ("00002", 2, 7, 8),
    ]


def test_results_come_in_order_and_what_fails_is_raised():
    assert list(ahead(lambda task: task**2, range(6))) == [0, 1, 4, 9, 16, 25]
    results = ahead(lambda task: 6 // task, [3, 0, 1])
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not readers()
