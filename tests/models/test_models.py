"""Every model of the table keeps the contract, and its size is the one the table says."""

from __future__ import annotations

import subprocess

import pytest
import timm
import torch
from conftest import make_job
from safetensors.torch import save_file

from deeplense_batch.models import MODELS, ModelError, WeightsError, build, check_name, weights
from deeplense_batch.runs.planning.plan import plan

QUICK = [name for name, row in MODELS.items() if row.parameters_m < 6]
# others: tests/tasks/test_physics.py, tests/models/test_unet.py
PLAIN = [name for name, row in MODELS.items() if not row.backbones and not row.denoises]


@pytest.mark.parametrize("name", QUICK)
def test_a_model_maps_images_to_logits_and_every_parameter_learns(name):
    model = build(name, channels=1, classes=3, size=64)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters / 1e6 == pytest.approx(MODELS[name].parameters_m, rel=2e-3)
    logits = model(torch.randn(2, 1, 64, 64))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(QUICK)))
def test_a_large_model_has_the_size_of_the_table(name):
    with torch.device("meta"):
        model = build(name, channels=1, classes=3, size=224)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters / 1e6 == pytest.approx(MODELS[name].parameters_m, rel=2e-3)


@pytest.mark.parametrize("size", [64, 128, 150, 224])
@pytest.mark.parametrize("name", [*PLAIN, "vit_tiny_patch16_224"])
def test_any_size(name, size):
    """By shapes alone; windows of some transformers do not fit some sizes, which is a sentence."""
    with torch.device("meta"), torch.inference_mode():
        if (name, size) in [("coatnet_nano_rw_224", 150), ("maxvit_tiny_rw_224", 150)]:
            with pytest.raises(ModelError, match="is made for 224 pixels and cannot take 150"):
                build(name, channels=3, classes=2, size=size)
            return
        model = build(name, channels=3, classes=2, size=size).eval()
        assert model(torch.empty(2, 3, size, size)).shape == (2, 2)


@pytest.mark.parametrize("name", sorted(set(PLAIN) - set(QUICK)))
def test_every_parameter_of_a_large_model_learns(name):
    model = build(name, channels=1, classes=3, size=64)
    model(torch.randn(2, 1, 64, 64)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_a_seed_gives_one_network():
    torch.manual_seed(1)
    a = build("lcnet_050", channels=1, classes=3, size=64).state_dict()
    torch.manual_seed(1)
    b = build("lcnet_050", channels=1, classes=3, size=64).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_names_and_options_are_checked_in_a_sentence():
    check_name("resnet26")  # timm's, outside the table
    with pytest.raises(ModelError, match="no model 'resnet19', here or in timm; did you mean"):
        check_name("resnet19")
    with pytest.raises(ModelError, match=r"cannot be built.*no_such_option"):
        build("resnet18", channels=1, classes=3, size=64, no_such_option=1)


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


class TestStart:
    """`train.init`."""

    @staticmethod
    def network(classes: int = 3, name: str = "resnet20"):
        return build(name, channels=1, classes=classes, size=32)

    @pytest.mark.parametrize("kind", ["run", "best", "bare", "nested", "safetensors"])
    def test_from_every_form(self, kind, tmp_path):
        first = self.network().state_dict()
        path = {"run": tmp_path, "best": tmp_path / "best.pt"}.get(kind, tmp_path / "some.pth")
        if kind == "safetensors":
            path = tmp_path / "some.safetensors"
            save_file(first, path)
        elif kind in ("run", "best"):
            torch.save({"model": first, "epoch": 3}, tmp_path / "best.pt")
        else:
            torch.save(first if kind == "bare" else {"state_dict": first}, path)
        second = self.network()
        assert weights.start_from(second, path) == []
        assert all(torch.equal(first[n], v) for n, v in second.state_dict().items())

    def test_a_classifier_of_another_size_keeps_its_own(self, tmp_path):
        torch.save(self.network().state_dict(), tmp_path / "three.pt")
        two = self.network(classes=2)
        own = two.head.weight.clone()
        assert weights.start_from(two, tmp_path / "three.pt") == ["head.bias", "head.weight"]
        assert torch.equal(two.head.weight, own)

    def test_what_does_not_fit_is_a_sentence(self, tmp_path):
        torch.save(self.network(name="resnet32").state_dict(), tmp_path / "other.pt")
        with pytest.raises(WeightsError, match="are weights of another network"):
            weights.start_from(self.network(), tmp_path / "other.pt")
        (tmp_path / "text.pt").write_text("no weights")
        with pytest.raises(WeightsError, match=r"train.init: .*text.pt: no weights can be read"):
            weights.start_from(self.network(), tmp_path / "text.pt")
        torch.save({"epoch": 3}, tmp_path / "numbers.pt")
        with pytest.raises(WeightsError, match="holds no state dictionary"):
            weights.start_from(self.network(), tmp_path / "numbers.pt")


@pytest.mark.parametrize("option", ["channels", "classes", "size", "in_chans", "pretrained"])
def test_an_option_that_the_data_give_is_refused_in_one_sentence(shards, tmp_path, option):
    job = make_job(shards, model={"name": "resnet20", "options": {option: 8}})
    with pytest.raises(ModelError, match=rf"model.options.{option}: 'resnet20' gets this from"):
        plan([job], tmp_path)
