"""The program as a whole: how it ends, and what it says when its surroundings fail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import typed

from deeplense_batch.cli import data_verbs
from deeplense_batch.core import distributed
from deeplense_batch.data.packing import pack as packing

FULL = Path("/dev/full")  # every write to it fails, as on a full disk


without_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def program(*words, **how):
    return subprocess.run(
        [sys.executable, "-m", "deeplense_batch", *map(str, words)], check=False, **how
    )


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 4, "out: No space left on device"),
        (OSError(errno.EFBIG, "File too large"), 4, "out: File too large"),
        (OSError(errno.EIO, "Input/output error", "a.npy"), 4, "a.npy: Input/output error"),
        (MemoryError(), 7, "out of memory"),
        (MemoryError("Unable to allocate 9 GiB"), 7, "out of memory (Unable to allocate 9 GiB)"),
        (ImportError("no memory", path="torch.so"), 4, "torch.so: cannot be loaded (no memory)"),
    ],
)
def test_an_error_of_the_machine_is_a_sentence_with_a_place(
    tmp_path, monkeypatch, capsys, error, code, said
):
    monkeypatch.setattr(packing, "pack", failing(error))
    found, _, told = typed(capsys, "pack", tmp_path, "out")
    assert found == code and told.startswith(said) and told.count("\n") == 1


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (MemoryError(), 7)])
def test_a_process_of_several_that_fails_or_is_interrupted_waits_for_no_other(
    tmp_path, monkeypatch, capsys, error, code
):
    ended = []
    monkeypatch.setattr(distributed, "end_connected", lambda *of: ended.append(of))
    monkeypatch.setattr(packing, "pack", failing(error))
    assert typed(capsys, "pack", tmp_path, "out")[0] == code
    assert [of[0] for of in ended] == [code]


def test_an_error_of_the_program_is_not_taken_for_one_of_the_machine(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(packing, "pack", failing(ImportError("cannot import name 'x'")))
    with pytest.raises(ImportError):
        data_verbs.pack(tmp_path, Path("out"))
    with pytest.raises(ImportError):
        typed(capsys, "pack", tmp_path, "out")


@without_full
def test_a_full_standard_output_is_named_and_both_full_keep_the_exit_code():
    with FULL.open("w") as full:
        one = program("models", stdout=full, stderr=subprocess.PIPE, text=True)
        assert one.returncode == 4
        assert one.stderr == "standard output: No space left on device\n"
        assert program("models", stdout=full, stderr=full).returncode == 4


def test_a_folder_that_is_gone_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "set").mkdir()
    np.save(tmp_path / "set" / "1.npy", np.arange(64.0).reshape(8, 8))
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, told = typed(capsys, "pack", tmp_path / "set", "out")
    assert code == 3 and "the current folder was removed" in told


def test_the_version_is_told(capsys):
    assert typed(capsys, "--version")[:2] == (0, "0.1.0\n")


def test_the_reader_may_leave_early():
    command = f"{sys.executable} -m deeplense_batch models | head -1"
    answer = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=os.environ
    )
    assert "Traceback" not in answer.stderr and "BrokenPipe" not in answer.stderr
