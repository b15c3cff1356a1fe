"""The training goes on while its states are written, and what is on the disk fits together."""

from __future__ import annotations

import contextlib
import itertools
import threading
from types import SimpleNamespace

import pytest
import torch

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.models import checkpoint
from deeplense_batch.models.checkpoint import CHECKPOINT, PREVIOUS
from deeplense_batch.training import saver as module
from deeplense_batch.training.saver import BEST, Saver, snapshot


class Disk:
    """A disk that begins to write when it is let, and keeps the order of what it wrote."""

    def __init__(self, monkeypatch) -> None:
        self.let, self.begun = threading.Event(), threading.Event()
        self.written: list[tuple[str, int]] = []
        save = checkpoint.save

        def slow(path, state, **options):
            self.begun.set()
            assert self.let.wait(60)
            save(path, state, **options)
            self.written.append((path.name, state["epoch"]))

        monkeypatch.setattr(checkpoint, "save", slow)


def state_of(epoch: int) -> dict:
    return {"epoch": epoch, "model": {"w": torch.full((3,), float(epoch))}, "rates": [epoch]}


def test_a_slow_disk_stops_no_epoch_and_gets_the_newest_state(tmp_path, monkeypatch):
    disk, weights = Disk(monkeypatch), torch.zeros(3)
    with Saver(RunDir(tmp_path)) as saver:
        for epoch in range(1, 6):
            weights.fill_(epoch)
            if epoch in (1, 3):
                saver.save(BEST, {"epoch": epoch, "model": weights})
            saver.append("history.jsonl", {"epoch": epoch})
            saver.save(CHECKPOINT, {"epoch": epoch, "model": weights})
            if epoch == 1:
                assert disk.begun.wait(60)  # the first is under way, all else waits for it
        weights.fill_(-1)  # what is changed later is in no state
        assert not disk.written
        disk.let.set()
    # The best weights are there before the checkpoint that names their epoch.
    assert disk.written[0] == (BEST, 1) and disk.written[-2:] == [(BEST, 3), (CHECKPOINT, 5)]
    assert len(disk.written) in (3, 4)  # with the first checkpoint, if it was asked for in time
    assert torch.equal(checkpoint.load(tmp_path / CHECKPOINT)["model"], torch.full((3,), 5.0))
    lines = RunDir(tmp_path).read_lines("history.jsonl")
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert saver.seconds > 0


def test_after_waiting_all_is_there_and_the_file_before_is_kept(tmp_path):
    saver = Saver(RunDir(tmp_path))
    for epoch in (1, 2):
        saver.append("history.jsonl", {"epoch": epoch})
        saver.save(CHECKPOINT, state_of(epoch))
        saver.wait()
        assert checkpoint.load_checkpoint(tmp_path)["epoch"] == epoch
        assert len(RunDir(tmp_path).read_lines("history.jsonl")) == epoch
    assert checkpoint.load(tmp_path / PREVIOUS)["epoch"] == 1
    done = []
    saver.afterwards(lambda: done.append(1))
    saver.wait()
    assert done == [1]


def test_what_the_training_waits_for_is_counted_the_last_writing_too(tmp_path, monkeypatch):
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(module, "time", clock)  # a second passes with each look at it
    saver = Saver(RunDir(tmp_path))
    with saver:
        saver.save(CHECKPOINT, state_of(1))
        saver.wait()
        assert saver.seconds == 2
    assert saver.seconds == 3


def test_what_cannot_be_written_ends_the_training_at_its_next_state(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path / CHECKPOINT))

    monkeypatch.setattr(checkpoint, "save", full)
    saver = Saver(RunDir(tmp_path))
    saver.save(CHECKPOINT, state_of(1))
    with pytest.raises(OSError, match="No space left"):
        saver.wait()
    saver.save(CHECKPOINT, state_of(2))
    with pytest.raises(OSError, match="No space left"), saver:
        pass
    again = Saver(RunDir(tmp_path))
    with pytest.raises(ZeroDivisionError), again:  # which is not covered up
        again.save(CHECKPOINT, state_of(3))
        raise ZeroDivisionError


def test_after_a_fault_was_raised_what_waits_is_written(tmp_path, monkeypatch):
    """Such as by a caller that makes room on the disk."""
    save, faults = checkpoint.save, [OSError(28, "No space left on device")]

    def once_full(path, state, **options):
        if faults:
            raise faults.pop()
        save(path, state, **options)

    monkeypatch.setattr(checkpoint, "save", once_full)
    saver = Saver(RunDir(tmp_path))
    saver.save(CHECKPOINT, state_of(1))
    with contextlib.suppress(OSError):
        saver._last.result()
    with pytest.raises(OSError, match="No space left"):
        saver.save(CHECKPOINT, state_of(2))
    saver.append("history.jsonl", {"epoch": 2})
    saver.wait()
    assert checkpoint.load(tmp_path / CHECKPOINT)["epoch"] == 2


def test_a_thread_that_cannot_start_is_one_sentence(tmp_path, monkeypatch):
    saver = Saver(RunDir(tmp_path))

    def submit(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(saver._thread, "submit", submit)
    with pytest.raises(ChildProcessError, match="thread that writes checkpoints could not be"):
        saver.save(CHECKPOINT, state_of(1))


def test_a_snapshot_is_a_state_of_its_own():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    rates = [0.1]
    state = {"model": network.state_dict(), "rates": rates, "step": 3, "none": None}
    taken = snapshot(state).whole()
    rates[0] = 0.2
    with torch.no_grad():
        before = network[0].weight.clone()
        network[0].weight.zero_()
    assert torch.equal(taken["model"]["0.weight"], before)
    assert (taken["rates"], taken["step"], taken["none"]) == ([0.1], 3, None)
    assert taken["model"]._metadata == network.state_dict()._metadata  # by which torch reads it
