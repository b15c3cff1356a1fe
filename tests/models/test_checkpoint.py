"""Tensors on disk: whole or not at all, and never a damaged one for a whole one."""

from __future__ import annotations

import errno
import os

import pytest
import torch

from deeplense_batch.core import files
from deeplense_batch.models import checkpoint


def test_a_checkpoint_cut_anywhere_is_passed_over(tmp_path):
    for epoch in (1, 2):
        checkpoint.save_checkpoint(tmp_path, {"epoch": epoch, "weights": torch.rand(50_000)})
    newest = tmp_path / checkpoint.CHECKPOINT
    content = newest.read_bytes()
    for kept in range(0, len(content), 4096):
        newest.write_bytes(content[:kept])
        assert checkpoint.load_checkpoint(tmp_path)["epoch"] == 1, kept


def test_a_flipped_bit_in_weights_is_damage(tmp_path):
    """Of which torch itself says nothing."""
    path = tmp_path / "best.pt"
    checkpoint.save(path, {"model": torch.arange(3000.0)})
    content = bytearray(path.read_bytes())
    at = content.index(torch.tensor(1234.0).numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(checkpoint.CheckpointError, match=r"best\.pt: is damaged"):
        checkpoint.load(path)


def test_what_was_saved_is_read_back_and_the_one_before_is_kept(tmp_path):
    assert checkpoint.load_checkpoint(tmp_path) is None
    states = [{"epoch": n, "model": {"w": torch.rand(3)}, "name": "é"} for n in (1, 2)]
    for state in states:
        checkpoint.save_checkpoint(tmp_path, state)
    for name, state in zip((checkpoint.PREVIOUS, checkpoint.CHECKPOINT), states, strict=True):
        found = checkpoint.load(tmp_path / name)
        assert torch.equal(found.pop("model")["w"], state.pop("model")["w"]) and found == state
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "best.pt"
    checkpoint.save(path, {"epoch": 1})
    monkeypatch.setattr(files, "sync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"epoch": 2})
    assert checkpoint.load(path) == {"epoch": 1}


def full_disk(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Command:
    """Runs a program when it is read, if anyone lets it."""

    def __reduce__(self):
        return os.mkdir, ("hacked",)


def test_nothing_in_a_file_is_carried_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Command()}, "best.pt")
    with pytest.raises(checkpoint.CheckpointError, match=r"best\.pt: is damaged or cut short"):
        checkpoint.load(tmp_path / "best.pt")
    assert not (tmp_path / "hacked").exists()
    torch.save(torch.ones(3), "best.pt")
    with pytest.raises(checkpoint.CheckpointError, match="holds no state that this program wrote"):
        checkpoint.load(tmp_path / "best.pt")
