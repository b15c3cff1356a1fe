"""Weights that other programs wrote: under which names they are found, and what does not fit."""

from __future__ import annotations

import argparse
import copy
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from judge import renamed
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv
from torch import nn
from torch.optim.swa_utils import AveragedModel

from deeplense_batch.models import build
from deeplense_batch.models.start import Start, start_from
from deeplense_batch.models.weights import WeightsError


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
    assert start_from(network, tmp_path / "w.pt").left == []
    for name, value in network.state_dict().items():
        if form != "old" or name in FORMS["old"]:
            assert torch.equal(value, GIVEN[name].to(value.dtype)), name


@pytest.mark.parametrize("named", ["run", "best.pt"])
def test_weights_of_a_run_are_found(named, tmp_path):
    torch.save({"model": GIVEN, "epoch": 3}, tmp_path / "best.pt")
    network = Network()
    started = start_from(network, tmp_path if named == "run" else tmp_path / named)
    assert (started.left, started.notes) == ([], [])
    assert torch.equal(network.fc.weight, GIVEN["fc.weight"])


def test_a_network_of_ours_may_have_the_prefix(tmp_path):
    torch.save(GIVEN, tmp_path / "w.pt")
    network = nn.ModuleDict({"backbone": Network()})
    assert start_from(network, tmp_path / "w.pt").left == []
    assert torch.equal(network["backbone"].fc.weight, GIVEN["fc.weight"])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_classifier_of_other_classes_keeps_its_own(prefix, tmp_path):
    torch.save(before(prefix, state(classes=10)), tmp_path / "w.pt")
    network = Network()
    mine = network.fc.weight.detach().clone()
    started = start_from(network, tmp_path / "w.pt")
    assert started.left == ["fc.bias", "fc.weight"]
    assert started.notes == [
        "w.pt: the classifier (fc.bias, fc.weight) starts at random: its shapes in the file "
        "are fc.weight (10, 4), fc.bias (10,)"
    ]
    assert torch.equal(network.fc.weight, mine)
    assert torch.equal(network.stem[0].weight, GIVEN["stem.0.weight"])


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({n: v for n, v in GIVEN.items() if "stem.1" not in n},
         "4 of its 9 tensors are missing (stem.1.weight, stem.1.bias, stem.1.running_mean, ...)"),
        (GIVEN | {"stem.0.weight": torch.ones(4, 1, 5, 5)},
         "1 have another shape (stem.0.weight: (4, 1, 5, 5), expected (4, 1, 3, 3))"),
        (GIVEN | {"stem.2.weight": torch.ones(3)}, "1 are unknown to it (stem.2.weight)"),
        (GIVEN | {"stem.fc.weight": torch.ones(3)}, "1 are unknown to it (stem.fc.weight)"),
        (GIVEN | {"stem.1.bias": torch.tensor([0, 1, torch.nan, 3])},
         "w.pt: stem.1.bias holds NaN or infinity; expected finite numbers"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(found, sentence, tmp_path):
    torch.save(found, tmp_path / "w.pt")
    with pytest.raises(WeightsError) as error:
        start_from(Network(), tmp_path / "w.pt")
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_which_of_several_weights_is_taken_is_told(tmp_path):
    net = torch.nn.Linear(3, 2)
    given = net.state_dict()
    states = {"teacher": {k: v * 0 for k, v in given.items()}, "model": given}
    torch.save(states, tmp_path / "w.pt")
    started = start_from(torch.nn.Linear(3, 2), tmp_path / "w.pt")
    assert started.notes == ["w.pt: model, teacher all fit: model is taken"]
    torch.save({"model": states["model"]}, tmp_path / "w.pt")
    assert start_from(net, tmp_path / "w.pt").notes == []


def test_of_two_networks_in_one_dictionary_the_one_that_is_taken_is_told(tmp_path):
    both = before("module.encoder_q.", GIVEN) | before("module.encoder_k.", state(2))
    torch.save(both, tmp_path / "moco.pth.tar")
    network = Network()
    said = " ".join(start_from(network, tmp_path / "moco.pth.tar").notes)
    assert (
        "begins with module.encoder_q. or module.encoder_k. fits: module.encoder_q. is taken"
        in said
    )
    assert torch.equal(network.fc.weight, GIVEN["fc.weight"])


class Wrapped(nn.Module):
    """As people write one: a network of timm without its classifier, and one of their own."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.backbone = timm.create_model("test_resnet", in_chans=1, num_classes=0)
        width = self.backbone.num_features
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(width, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.backbone(images))


class Lightning(nn.Module):
    """The names that a LightningModule gives: its network, and a loss with weights of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.criterion = model, nn.CrossEntropyLoss(weight=torch.ones(3))


def lightning(model: nn.Module) -> dict:
    """A checkpoint as `Trainer.save_checkpoint` writes it."""
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    options = argparse.Namespace(lr=1e-3, data=Path("data"), best=np.float64(0.97))
    return {
        "epoch": 9, "global_step": 1000, "pytorch-lightning_version": "2.5.0",
        "state_dict": Lightning(model).state_dict(), "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.9),
                                                            "dirpath": Path("/home/me")}},
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [schedule.state_dict()],
        "hparams_name": "args", "hyper_parameters": {"args": options, "loss": nn.MSELoss()},
    }  # fmt: skip


def ours(channels: int = 1, classes: int = 3, name: str = "test_resnet", size: int = 32):
    torch.manual_seed(9)
    return build(name, channels=channels, classes=classes, size=size).eval()


def lived(network: nn.Module, channels: int = 1, size: int = 32) -> nn.Module:
    """A network whose weights and statistics are those of no fresh one."""
    torch.manual_seed(4)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.05 * torch.randn_like(value))
        network.train()(torch.randn(8, channels, size, size))
    return network.eval()


REAL = {
    "state_dict": lambda m: m.state_dict(),
    "DataParallel": lambda m: nn.DataParallel(m).state_dict(),
    "torch.compile": lambda m: torch.compile(m).state_dict(),
    "compiled in DataParallel": lambda m: nn.DataParallel(torch.compile(m)).state_dict(),
    "averaged": lambda m: AveragedModel(m).state_dict(),
    "with optimizer": lambda m: {
        "model_state_dict": m.state_dict(), "epoch": 3,
        "optimizer_state_dict": torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9).state_dict(),
    },
    "lightning": lightning,
    "half": lambda m: copy.deepcopy(m).half().state_dict(),
}  # fmt: skip


@pytest.mark.parametrize("form", REAL)
@pytest.mark.parametrize("file", ["w.pth", "w.ckpt"])
def test_what_a_library_writes_gives_the_outputs_of_its_network(form, file, tmp_path):
    source, images = lived(ours()), torch.randn(4, 1, 32, 32)
    torch.save(REAL[form](source), tmp_path / file)
    network = ours()
    assert not torch.allclose(network(images), source(images), atol=0.1)
    assert start_from(network, tmp_path / file).left == []
    near = {"atol": 0.02, "rtol": 0.01} if form == "half" else {"atol": 0, "rtol": 0}
    torch.testing.assert_close(network(images), source(images), **near)


def test_a_backbone_with_another_classifier_gives_the_same_logits(tmp_path):
    source, images = lived(Wrapped()), torch.randn(4, 1, 32, 32)
    network = ours()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    started = start_from(network, tmp_path / "w.safetensors")
    torch.testing.assert_close(network(images), source(images), atol=0, rtol=0)
    assert started.left == []
    assert started.notes == ["w.safetensors: its classifier classifier.1 is taken as fc"]


@pytest.mark.parametrize(
    ("model", "theirs"),
    [
        ("test_resnet", "fc.1"), ("test_resnet", "head.fc"), ("test_resnet", "classifier"),
        ("test_vit", "head.fc"), ("test_convnext", "head"), ("test_convnext", "fc"),
    ],
)  # fmt: skip
def test_a_classifier_of_the_same_shapes_is_taken_whatever_it_is_called(model, theirs, tmp_path):
    source, images = ours(name=model), torch.randn(2, 1, 32, 32)
    (last,) = {n.rpartition(".")[0] for n, p in source.named_parameters() if p.shape[:1] == (3,)}
    state = {
        f"model.{n.replace(last, theirs) if n.startswith(last) else n}": value
        for n, value in source.state_dict().items()
    }
    torch.save(state, tmp_path / "w.pt")
    torch.manual_seed(5)
    network = build(model, channels=1, classes=3, size=32).eval()
    started = start_from(network, tmp_path / "w.pt")
    torch.testing.assert_close(network(images), source(images), atol=0, rtol=0)
    assert started == Start([], [f"w.pt: its classifier {theirs} is taken as {last}"])


def test_a_classifier_of_several_layers_is_left(tmp_path):
    layers = {f"fc.{place}.weight": torch.ones(4, 4) for place in (0, 3)}
    body = {n: v for n, v in GIVEN.items() if not n.startswith("fc.")}
    torch.save(body | layers, tmp_path / "w.pt")
    started = start_from(Network(), tmp_path / "w.pt")
    assert started.left == ["fc.bias", "fc.weight"]
    assert "are fc.0.weight (4, 4), fc.3.weight (4, 4)" in started.notes[0]


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_classifier_of_other_classes_is_left_and_features_are_the_same(wrapped, tmp_path):
    source = lived(Wrapped(7)) if wrapped else lived(ours(classes=7))
    body = source.backbone if wrapped else source
    torch.save(source.state_dict(), tmp_path / "w.pt")
    network, images = ours(), torch.randn(4, 1, 32, 32)
    mine = network.fc.weight.detach().clone()
    started = start_from(network, tmp_path / "w.pt")
    assert started.left == ["fc.bias", "fc.weight"] and torch.equal(network.fc.weight, mine)
    features = body.forward_features(images)
    torch.testing.assert_close(network.forward_features(images), features, atol=0, rtol=0)
    (note,) = started.notes
    assert "the classifier (fc.bias, fc.weight) starts at random: its shapes in the file" in note


def test_weights_of_a_loss_are_not_used_and_said(tmp_path):
    torch.save(lightning(lived(ours())), tmp_path / "w.ckpt")
    (note,) = start_from(ours(), tmp_path / "w.ckpt").notes
    assert note == "w.ckpt: what lies beside the network is not used: criterion.weight"


@pytest.mark.parametrize(("before_", "after"), [(3, 1), (3, 5), (3, 2), (1, 3), (1, 2), (4, 3)])
def test_a_first_layer_is_made_for_other_channels_as_timm_makes_it(before_, after, tmp_path):
    source = lived(ours(channels=before_), before_)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    network = ours(channels=after)
    (note,) = start_from(network, tmp_path / "w.pt", channels=after).notes
    made, given = network.conv1[0].weight, source.conv1[0].weight
    if before_ == 3:
        assert torch.equal(made, adapt_input_conv(after, given))
    elif "base_chans" in inspect.signature(adapt_input_conv).parameters:
        assert torch.equal(made, adapt_input_conv(after, given, base_chans=before_))
    assert f"conv1.0.weight was for {before_} channels, and is made for {after}" in note
    one = torch.randn(2, 1, 32, 32)
    if after % before_ == 0:  # the same in all channels, it gives what it gave
        same = source(one.expand(-1, before_, -1, -1)), network(one.expand(-1, after, -1, -1))
        torch.testing.assert_close(*same, atol=1e-4, rtol=1e-4)


def test_one_channel_may_get_the_mean_of_the_colours(tmp_path):
    source, grey = lived(ours(channels=3), 3), torch.randn(2, 1, 32, 32)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    network = ours()
    (note,) = start_from(network, tmp_path / "w.pt", channels=1, adapt="mean").notes
    assert note == "w.pt: conv1.0.weight was for 3 channels, and is made for 1 (their mean)"
    colours = grey.expand(-1, 3, -1, -1) / 3
    torch.testing.assert_close(network(grey), source(colours), atol=1e-4, rtol=1e-4)


def test_a_network_of_ours_takes_colours_too(tmp_path):
    source = ours(channels=3, name="resnet20")
    torch.save(source.state_dict(), tmp_path / "w.pt")
    network = ours(name="resnet20")
    start_from(network, tmp_path / "w.pt", channels=1)
    assert torch.equal(network.stem.weight, source.stem.weight.sum(1, keepdim=True))


def test_positions_of_a_transformer_are_resampled_as_timm_does(tmp_path):
    source = ours(name="vit_tiny_patch16_224", size=64)
    torch.save(nn.DataParallel(source).state_dict(), tmp_path / "w.pt")
    network = ours(name="vit_tiny_patch16_224", size=96, classes=2)
    started = start_from(network, tmp_path / "w.pt", channels=1)
    expected = resample_abs_pos_embed(source.pos_embed, (6, 6))
    torch.testing.assert_close(network.pos_embed, expected, atol=0, rtol=0)
    assert torch.equal(network.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
    assert started.left == ["head.bias", "head.weight"]
    said = "for VisionTransformer, 1 in all: pos_embed of (1, 17, 192) to (1, 37, 192)"
    assert f"w.pt: resized by timm's rule {said}" in started.notes


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "lcnet_050"])
def test_other_channels_classes_and_sizes_are_what_timm_itself_makes_of_them(name, tmp_path):
    given = ours(channels=3, classes=7, name=name, size=64).state_dict()
    torch.save(before("module.", given), tmp_path / "w.pt")
    network = ours(name=name, size=96)
    left = start_from(network, tmp_path / "w.pt", channels=1).left
    overlay = {"state_dict": dict(given), "num_classes": 7, "hf_hub_id": None, "url": ""}
    size = {"img_size": 96} if network.pretrained_cfg["fixed_input_size"] else {}
    theirs = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=1, num_classes=3, **size
    )
    mine = network.state_dict()
    same = {n for n, value in theirs.state_dict().items() if torch.equal(mine[n], value)}
    assert set(mine) - same <= set(left) and len(left) == 2


def test_names_of_another_program_are_converted_as_timm_does(tmp_path):
    """ConvNeXt as its authors name it, wrapped."""
    network = lived(ours(name="convnextv2_atto"))
    renames = (
        (r"^stem\.", "downsample_layers.0."), (r"\.blocks\.", "."), ("conv_dw", "dwconv"),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."), (r"mlp\.fc", "pwconv"),
        (r"mlp\.grn\.bias", "grn.beta"), (r"mlp\.grn\.weight", "grn.gamma"),
        (r"^head\.norm\.", "norm."), (r"^head\.fc\.", "head."),
    )  # fmt: skip
    theirs = {}
    for name, value in network.state_dict().items():
        for old, new in renames:
            name = re.sub(old, new, name)
        theirs[f"module.{name}"] = value.reshape(1, 1, 1, -1) if "grn" in name else value
    torch.save({"model": theirs}, tmp_path / "convnextv2.pt")
    fresh, images = ours(name="convnextv2_atto"), torch.randn(2, 1, 32, 32)
    started = start_from(fresh, tmp_path / "convnextv2.pt", channels=1)
    torch.testing.assert_close(fresh(images), network(images), atol=0, rtol=0)
    assert started.left == []
    assert "renamed or left out by timm's rule for ConvNeXt" in " ".join(started.notes)


def test_a_network_with_two_classifiers_keeps_both(tmp_path):
    source = ours(name="efficientformerv2_s0", classes=5, size=64)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    network = ours(name="efficientformerv2_s0", size=64)
    expected = ["head.bias", "head.weight", "head_dist.bias", "head_dist.weight"]
    assert start_from(network, tmp_path / "w.pt").left == expected


def test_a_published_network_of_the_field_gives_its_logits(real_data, tmp_path):
    """ResNet-32 of another's training on real images, its layers by our names, wrapped."""
    weights = torch.load(real_data / "judge" / "Train_2.pth", map_location="cpu")
    with pytest.raises(WeightsError, match=r"are weights of another network; 155 of its 188"):
        start_from(ours(name="resnet32"), real_data / "judge" / "Train_2.pth")
    by_our_names = {renamed(name): value for name, value in weights.items()}
    plain = ours(name="resnet32", size=150)
    plain.load_state_dict(by_our_names)
    theirs = {n.replace("head.", "linear."): v for n, v in before("module.", by_our_names).items()}
    torch.save({"state_dict": theirs, "args": argparse.Namespace(arch="r32")}, tmp_path / "w.pth")
    network = ours(name="resnet32", size=150)
    assert start_from(network, tmp_path / "w.pth").left == []
    folder = real_data / "common_test_1" / "no"
    images = torch.from_numpy(np.stack([np.load(f) for f in sorted(folder.glob("*.npy"))])).float()
    torch.testing.assert_close(network(images), plain(images), atol=0, rtol=0)
