"""Odd surroundings of a command: a full disk, no output, a folder that is gone, no memory."""

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import typed

from deeplense_batch.cli import data_verbs
from deeplense_batch.cluster.site import load_profile
from deeplense_batch.core.job import JobError
from deeplense_batch.data.packing import pack as packing
from deeplense_batch.models.weights import WeightsError, read, start_from

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


@pytest.mark.parametrize("name", ["array", "wrap", "parsable", "test-only", "wait"])
def test_options_of_sbatch_that_submit_sets_are_refused(tmp_path, name):
    (tmp_path / "profile.yaml").write_text(f"sbatch: {{{name}: '1-9'}}\n")
    with pytest.raises(JobError, match=rf"sbatch\.{name}: {name} is set by 'submit'"):
        load_profile(tmp_path / "profile.yaml")


def test_a_fault_of_a_profile_is_told_in_its_own_words(tmp_path):
    (tmp_path / "profile.yaml").write_text("sbatch: {qos: }\n")
    with pytest.raises(JobError, match=r"sbatch\.qos: expected text, got None") as error:
        load_profile(tmp_path / "profile.yaml")
    assert "function" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is an empty file"),
        (b"<html><body>404 Not Found</body></html>", "is a text, not weights: '<html>"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a text, not weights: 'version"),
        (b"cos\nsystem\n(S'touch hacked'\ntR.", "is a text, not weights"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "is HDF5"),
    ],
)
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_file_that_holds_no_weights_is_told(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        read(tmp_path / name)


def test_which_of_several_weights_is_taken_is_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("deeplense_batch.models.weights._log.parent.propagate", True)
    net = torch.nn.Linear(3, 2)
    states = {
        "teacher": {k: v * 0 for k, v in net.state_dict().items()},
        "model": net.state_dict(),
    }
    torch.save(states, tmp_path / "w.pt")
    start_from(torch.nn.Linear(3, 2), tmp_path / "w.pt")
    assert "holds model, teacher, which all fit: model is taken" in caplog.text
    caplog.clear()
    torch.save({"model": states["model"]}, tmp_path / "w.pt")
    start_from(net, tmp_path / "w.pt")
    assert not caplog.text
