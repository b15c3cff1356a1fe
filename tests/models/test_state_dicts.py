"""Files of weights: the dictionaries in them are found, and nothing in them is run."""

from __future__ import annotations

import argparse
import functools
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from deeplense_batch.models.state_dicts import read
from deeplense_batch.models.weights import WeightsError

WEIGHTS = {"fc.weight": torch.randn(3, 4), "fc.bias": torch.randn(3)}


class Options(dict):
    """Of a program that is not here, when its file is read."""


class Callback:
    pass


class Hostile:
    def __init__(self, function, *words):
        self.function, self.words = function, words

    def __reduce__(self):
        return self.function, self.words


def mark(path: str) -> None:
    Path(path).touch()


OBJECTS = {
    "options": argparse.Namespace(lr=1e-3, path=Path("data"), nested=argparse.Namespace(a=[1])),
    "mapping": Options(lr=1e-3),
    "path": Path("/data"),
    "number": np.float64(0.97),
    "array": np.arange(3.0),
    "function": functools.partial(torch.nn.ReLU, inplace=True),
    "network": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()),
    "class": {Callback: {"best": torch.tensor(0.9), "path": Path("best.ckpt")}},
    "type": np.dtype("float32"),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_weights_beside_other_objects_are_read(name, tmp_path):
    torch.save({"state_dict": WEIGHTS, "epoch": 3, name: OBJECTS[name]}, tmp_path / "w.ckpt")
    found = read(tmp_path / "w.ckpt")
    assert [*found] == ["state_dict"]
    assert all(torch.equal(found["state_dict"][n], v) for n, v in WEIGHTS.items())


def test_code_in_a_file_is_not_run(tmp_path):
    hostile = {"state_dict": WEIGHTS, "x": Hostile(mark, str(tmp_path / "run"))}
    torch.save(hostile, tmp_path / "w.pt")
    assert [*read(tmp_path / "w.pt")] == ["state_dict"]
    assert not (tmp_path / "run").exists()
    torch.load(tmp_path / "w.pt", weights_only=False)  # that it could have been
    assert (tmp_path / "run").exists()


def test_what_torch_blocks_stays_blocked(tmp_path):
    torch.save({"model": WEIGHTS, "x": Hostile(os.system, "exit 3")}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds other Python objects than tensors, which could"):
        read(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"a": 3}, "holds no state dictionary of a network"),
        (torch.nn.Linear(2, 2), "of a network, but objects of torch.nn.modules.linear.Linear; "
                                "save its state_dict() alone"),
    ],
)  # fmt: skip
def test_a_file_without_weights_is_a_sentence(content, sentence, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError) as error:
        read(tmp_path / "w.pt")
    assert sentence in str(error.value) and "\n" not in str(error.value)


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
