"""Published weights: fetched once, kept with their sha256, and used without a network."""

from __future__ import annotations

import json
import subprocess

import pytest
import timm
import torch
from made_hub import HUB_NAME, shelf

from deeplense_batch.models import ModelError, WeightsError, build, check_name, weights


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """A folder of weights, with those of a network for colours and 10 classes as if published."""
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path / "weights"))
    colour = timm.create_model("lcnet_050", num_classes=1000)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: colour)
    path = weights.fetch("lcnet_050")
    monkeypatch.undo()
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path / "weights"))
    assert path == tmp_path / "weights" / "lcnet_050.safetensors"
    return colour


def test_weights_that_were_not_fetched_are_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=f"no weights of 'resnet18' in {tmp_path}; 'fetch'"):
        build("resnet18", channels=1, classes=3, size=64, pretrained=True)


def test_weights_that_cannot_be_had_are_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="weights of 'resnet18' cannot be downloaded") as error:
        weights.fetch("resnet18")
    assert "\n" not in str(error.value)
    with pytest.raises(WeightsError, match="nobody has published weights of resnet20"):
        weights.fetch("resnet20")
    assert not (tmp_path / "weights").exists()


def test_colleagues_may_read_weights(shared, fetched):
    files = list(weights.folder().iterdir())
    assert len(files) == 2 and {file.stat().st_mode & 0o777 for file in files} == {0o644}


@pytest.mark.parametrize(("adapt", "share"), [("sum", 1), ("mean", 3)])
def test_weights_of_colours_start_a_model_of_one_channel(fetched, adapt, share):
    grey = build("lcnet_050", channels=1, classes=3, size=64, pretrained=True, adapt=adapt)
    first, other = "conv_stem.weight", "blocks.0.0.conv_dw.weight"
    summed = fetched.state_dict()[first].sum(1, keepdim=True)
    assert torch.allclose(grey.state_dict()[first], summed / share, atol=1e-6)
    assert torch.equal(grey.state_dict()[other], fetched.state_dict()[other])
    assert grey.get_classifier().out_features == 3


def test_weights_that_were_changed_are_refused(fetched):
    path = weights.weights_file("lcnet_050")
    assert subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=path.parent).returncode == 0
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not the file that was fetched"):
        build("lcnet_050", channels=1, classes=3, size=64, pretrained=True)


@pytest.fixture
def encoder(tmp_path, monkeypatch):
    """An encoder of three colours without a classifier, as if on the hub."""
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path / "weights"))
    torch.manual_seed(3)
    model = timm.create_model("test_convnext", num_classes=0).eval()
    assert not shelf(tmp_path, monkeypatch, model)
    return model


def test_a_model_of_the_hub_is_fetched_and_built_offline(encoder, tmp_path, monkeypatch):
    path = weights.fetch(HUB_NAME)
    assert path == tmp_path / "weights" / "mwalmsley--zoobot-encoder-tiny.safetensors"
    described = json.loads(path.with_suffix(".json").read_text())
    assert described["architecture"] == "test_convnext"
    assert subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=path.parent).returncode == 0
    assert len((path.parent / "SHA256SUMS").read_text().splitlines()) == 2
    monkeypatch.setattr("timm.models._hub.hf_hub_download", None)  # from here on there is no hub
    assert weights.fetch(HUB_NAME) == path
    check_name(HUB_NAME)
    colours = build(HUB_NAME, channels=3, classes=3, size=64, pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    expected = encoder.forward_features(images)
    torch.testing.assert_close(colours.forward_features(images), expected, atol=0, rtol=0)
    assert colours(images).shape == (2, 3)
    torch.manual_seed(4)
    random = build(HUB_NAME, channels=3, classes=3, size=64)
    assert not torch.equal(random.stem[0].weight, encoder.stem[0].weight)


@pytest.mark.parametrize(("adapt", "share"), [("sum", 1), ("mean", 3)])
def test_a_model_of_the_hub_for_colours_starts_one_of_one_channel(encoder, adapt, share):
    weights.fetch(HUB_NAME)
    grey = build(HUB_NAME, channels=1, classes=3, size=64, pretrained=True, adapt=adapt)
    summed = encoder.stem[0].weight.sum(1, keepdim=True)
    torch.testing.assert_close(grey.stem[0].weight, summed / share)


def test_a_transformer_of_the_hub_takes_images_of_another_size(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path / "weights"))
    shelf(tmp_path, monkeypatch, timm.create_model("test_vit", num_classes=7))
    weights.fetch(HUB_NAME)
    network = build(HUB_NAME, channels=1, classes=3, size=64, pretrained=True)
    assert network(torch.randn(2, 1, 64, 64)).shape == (2, 3)


def test_a_revision_has_files_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path / "weights"))
    asked = shelf(tmp_path, monkeypatch, timm.create_model("test_convnext", num_classes=0))
    path = weights.fetch("hf-hub:owner/name@v1.2")
    assert path.name == "owner--name@v1.2.safetensors"
    assert set(asked) == {("owner/name", "v1.2")}


def test_a_model_of_the_hub_that_was_not_fetched_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=f"nothing is known of '{HUB_NAME}' in {tmp_path}; 'fe"):
        check_name(HUB_NAME)
    with pytest.raises(WeightsError, match=f"no weights of '{HUB_NAME}' in"):
        weights.weights_file(HUB_NAME)
    for name in ("hf_hub:zoobot", "mwalmsley/zoobot", "hf_hub:../up/x", "hf_hub:a/b/c"):
        with pytest.raises(ModelError, match=rf"got '{name}'; of the hub expected hf_hub:owner"):
            check_name(name)


def test_a_model_of_the_hub_that_cannot_be_had_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=f"'{HUB_NAME}' cannot be downloaded from") as error:
        weights.fetch(HUB_NAME)
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    found = lambda *names, **options: str(tmp_path / "config.json")  # noqa: E731
    monkeypatch.setattr("timm.models._hub.hf_hub_download", found)
    with pytest.raises(WeightsError, match=r"its config\.json is not timm's, it has no 'archit"):
        weights.fetch(HUB_NAME)
    assert not (tmp_path / "weights").exists()


def test_what_a_model_of_the_hub_is_cannot_be_changed(encoder):
    path = weights.fetch(HUB_NAME).with_suffix(".json")
    path.write_text(path.read_text().replace("test_convnext", "resnet18"))
    with pytest.raises(WeightsError, match="is not the file that was fetched"):
        build(HUB_NAME, channels=1, classes=3, size=64)
