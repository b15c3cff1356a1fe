"""Weights that other programs wrote: what stands around and before their names."""

from __future__ import annotations

import argparse

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from deeplense_batch.models.weights import WeightsError, read, start_from


class Network(nn.Module):
    """As timm's: it tells which part is its classifier."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, classes)

    def get_classifier(self) -> nn.Module:
        return self.fc


def state(seed: int = 1, classes: int = 3) -> dict:
    shapes = {n: v.shape for n, v in Network(classes).state_dict().items()}
    torch.manual_seed(seed)
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def before(prefix: str, found: dict) -> dict:
    return {prefix + name: value for name, value in found.items()}


GIVEN = state()
INSIDE = {name.replace("stem.", "stem._orig_mod."): value for name, value in GIVEN.items()}
FORMS = {
    **{prefix: before(prefix, GIVEN) for prefix in
       ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.",
        "backbone.", "model.encoder.backbone.", "student.")},
    "inside": INSIDE,
    **{name: {name: GIVEN, "epoch": 3, "optimizer": {"state": {0: {"m": torch.ones(3)}}}}
       for name in ("model_state_dict", "state_dict", "model", "net", "ema", "params")},
    "nested": {"checkpoint": {"ema": {"model": before("module.", GIVEN)}}},
    "lightning": {"state_dict": before("model.", GIVEN) | {"criterion.weight": torch.ones(3)},
                  "hyper_parameters": {"lr": 1e-3}, "loops": {}},
    "averaged": {"n_averaged": torch.tensor(3), **before("module.", GIVEN)},
    "two": {"ema": state(2), "model": GIVEN},
    "old": {n: v for n, v in GIVEN.items() if not n.endswith("num_batches_tracked")},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_weights_are_found(form, tmp_path):
    torch.save(FORMS[form], tmp_path / "w.pt")
    network = Network()
    assert start_from(network, tmp_path / "w.pt") == []
    for name, value in network.state_dict().items():
        if form != "old" or name in FORMS["old"]:
            assert torch.equal(value, GIVEN[name].to(value.dtype)), name


def test_safetensors(tmp_path):
    save_file(before("model.", GIVEN), tmp_path / "w.safetensors")
    network = Network()
    assert start_from(network, tmp_path / "w.safetensors") == []
    assert torch.equal(network.fc.weight, GIVEN["fc.weight"])


def test_a_network_of_ours_may_have_the_prefix(tmp_path):
    torch.save(GIVEN, tmp_path / "w.pt")
    network = nn.ModuleDict({"backbone": Network()})
    assert start_from(network, tmp_path / "w.pt") == []
    assert torch.equal(network["backbone"].fc.weight, GIVEN["fc.weight"])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_classifier_of_other_classes_keeps_its_own(prefix, tmp_path):
    torch.save(before(prefix, state(classes=10)), tmp_path / "w.pt")
    network = Network()
    mine = network.fc.weight.detach().clone()
    assert start_from(network, tmp_path / "w.pt") == ["fc.bias", "fc.weight"]
    assert torch.equal(network.fc.weight, mine)
    assert torch.equal(network.stem[0].weight, GIVEN["stem.0.weight"])


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({n: v for n, v in GIVEN.items() if "stem.1" not in n},
         "4 of its 9 tensors are missing (stem.1.weight, stem.1.bias, stem.1.running_mean, ...)"),
        (GIVEN | {"stem.0.weight": torch.ones(4, 3, 3, 3)},
         "1 have another shape (stem.0.weight: (4, 3, 3, 3), expected (4, 1, 3, 3))"),
        (GIVEN | {"stem.2.weight": torch.ones(3)}, "1 are unknown to it (stem.2.weight)"),
        ({"a": 3}, "holds no state dictionary of a network"),
        ({"model": GIVEN, "args": argparse.Namespace(lr=1)}, "other Python objects than tensors"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(found, sentence, tmp_path):
    torch.save(found, tmp_path / "w.pt")
    with pytest.raises(WeightsError) as error:
        start_from(Network(), tmp_path / "w.pt")
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
