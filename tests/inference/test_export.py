"""What other programs get is what torch has."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from conftest import make_job, typed
from made_runs import copy_with_bands, untrained
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_networks import UNET

from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.shards import open_split
from deeplense_batch.inference import export as module
from deeplense_batch.inference.export import ExtraError, export, read_json_weights
from deeplense_batch.inference.trained import TrainedError, open_trained
from deeplense_batch.models import build
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run


@pytest.fixture(scope="module")
def done(shards, tmp_path_factory) -> Path:
    """A finished run."""
    fields = {"crop": 20, "size": 32, "stretch": "asinh"}
    job = make_job(shards, train={"epochs": 1}, data=fields, model={"name": "resnet20"})
    (item,) = plan([job], tmp_path_factory.mktemp("runs"))
    run(item, device="cpu")
    return item.run.path


@pytest.fixture(scope="module")
def folder(done, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "all"
    files = export(done, out)
    assert [file.name for file in files] == [
        "README.md", "model.onnx", "weights.json", "weights.safetensors",
    ]  # fmt: skip
    return out


def weights(done: Path) -> dict[str, torch.Tensor]:
    return open_trained(done).model.state_dict()


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        assert torch.equal(found[name], value), name


def test_safetensors_read_back(done, folder):
    same(load_file(folder / "weights.safetensors"), weights(done))


def test_colleagues_may_read_all_files(done, tmp_path, shared):
    files = export(done, tmp_path / "out")
    assert {file.stat().st_mode & 0o777 for file in files} == {0o644}


@pytest.mark.parametrize("schema", ["described", "bare"])
def test_both_schemas_of_json_read_back_to_the_last_bit(done, schema, tmp_path):
    export(done, tmp_path / "out", format_="json", schema=schema)
    path = tmp_path / "out" / "weights.json"
    same(read_json_weights(path), weights(done))
    value = json.loads(path.read_text())["head.bias"]
    if schema == "bare":
        assert len(value) == 3 and all(isinstance(number, float) for number in value)
    else:
        assert set(value) == {"data", "shape", "dtype"} and value["dtype"] == "float32"
    assert sum(v.numel() for v in weights(done).values()) * 18 < path.stat().st_size


def test_json_that_holds_no_weights_is_refused(tmp_path):
    path = tmp_path / "w.json"
    path.write_text('{"a": {"data": [1, 2], "shape": [3], "dtype": "float32"}}')
    with pytest.raises(ValueError, match=r"w\.json: a: expected nested lists, or data, shape"):
        read_json_weights(path)
    path.write_text('{"a": [[1, 2], [3]]}')
    with pytest.raises(ValueError, match="a: expected nested lists"):
        read_json_weights(path)


def test_onnx_gives_the_logits_of_torch_on_any_batch(done, folder, shards):
    onnx.checker.check_model(str(folder / "model.onnx"))
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    trained = open_trained(done)
    images = torch.from_numpy(open_split(shards, "val[:7]").images()).float()[:, :, 2:22, 2:22]
    prepared = trained.transform(images)
    assert prepared.shape[1:] == trained.input_shape == (1, 32, 32)
    for batch in (1, 7):
        (found,) = session.run(["logits"], {"images": prepared[:batch].numpy()})
        with torch.no_grad():
            expected = trained.model(prepared[:batch]).numpy()
        assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"stretch": "asinh", "softening": 3.0, "clip": [1, 99], "size": 24},
        {"stretch": "log", "softening": 3.0, "per": "set", "crop": 20},
        {"stretch": "sqrt", "per": "image", "clip": [0, 99.5]},
        {},
    ],
)
def test_an_onnx_file_may_prepare_its_images(shards, tmp_path, options):
    job = make_job(shards, train={"epochs": 1}, data=options, model={"name": "resnet20"})
    (item,) = plan([job], tmp_path / "runs")
    run(item, device="cpu")
    (path,) = (p for p in export(item.run.path, tmp_path / "out", format_="onnx", prepares=True)
               if p.suffix == ".onnx")  # fmt: skip
    trained = open_trained(item.run.path)
    split = trained.slice("test")
    images = split.images()[:7].astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images})
    loader = Loader(split, transform=trained.transform, device=torch.device("cpu"))
    prepared, *_ = next(loader.batches([np.arange(7)]))
    with torch.no_grad():
        expected = trained.model(prepared).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert "of images as in the data" in (tmp_path / "out" / "README.md").read_text()


def test_weights_alone_prepare_nothing(done, tmp_path):
    with pytest.raises(TrainedError, match="is for an ONNX file, got --format json"):
        export(done, tmp_path / "out", format_="json", prepares=True)


def test_an_onnx_file_that_differs_is_refused(done, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TOLERANCE", -1.0)
    with pytest.raises(TrainedError, match="its network as ONNX is off by"):
        export(done, tmp_path / "out", format_="onnx")
    assert not list(tmp_path.iterdir())


def test_the_card_says_all_that_is_needed(done, folder, shards):
    text, metrics = (
        (folder / "README.md").read_text(),
        json.loads((done / "metrics.json").read_text()),
    )
    for said in (
        "# resnet20 for classification", metrics["data"]["digest"], metrics["identity"],
        "central 20 x 20 pixels", "asinh(x / 0.05)", "Resize to 32 x 32", "(batch, 1, 32, 32)",
        "54 images", "53 images", "0 = no, 1 = sphere, 2 = vort", "ONNX opset 18",
        f"| auc | {metrics['test']['scores']['auc']:.4f} |", "## Intended use", "## Limits",
        metrics["versions"]["torch"], "on 5 validation images",
    ):  # fmt: skip
        assert said in text, said
    recipe = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S)[1])
    assert recipe["train"]["epochs"] == 1 and str(shards.parent) not in text
    trained = open_trained(done)
    means = json.loads(re.search(r"mean of each channel, (\[.*?\])", text)[1])
    assert means == pytest.approx(trained.transform.mean, rel=1e-8)


def test_the_bands_of_the_channels_are_named_wherever_images_are_described(done, folder, tmp_path):
    export(copy_with_bands(done, tmp_path / "run", "i"), tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    assert "as in the data: (1, 24, 24) float32, whose channel is the band i.\n" in text
    assert "`images` (batch, 1, 32, 32) float32, whose channel is the band i; output" in text
    assert "whose channel" not in (folder / "README.md").read_text()
    for place, bands in ((tmp_path / "out", '["i"]'), (folder, None)):
        with safe_open(place / "weights.safetensors", "pt") as file:
            assert file.metadata().get("bands") == bands


def test_without_its_data_random_images_do(done, shards, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(done, copy)
    text = (copy / "job.yaml").read_text()
    (copy / "job.yaml").write_text(text.replace(str(shards), str(tmp_path / "gone")))
    export(copy, tmp_path / "out", format_="onnx")
    assert "on 5 random images" in (tmp_path / "out" / "README.md").read_text()


def test_the_verb(done, tmp_path, capsys, caplog):
    out = tmp_path / "out"
    code, shown, _ = typed(capsys, "export", done, out, "--format=safetensors")
    assert code == 0 and shown.count("MB") == 2
    code, _, error = typed(capsys, "export", done, out)
    assert code == 3 and "is there already" in error
    code, _, error = typed(capsys, "export", done, tmp_path / "b", "--format=keras")
    assert code == 2 and "allowed: safetensors, json, onnx, all" in error
    code, _, error = typed(capsys, "export", tmp_path, tmp_path / "b")
    assert code == 3 and "is no run directory" in error
    code, _, error = typed(capsys, "export", done, tmp_path / "b", "--format=json")
    assert code == 0 and "weights.json will have about 5.6 to 7.8 MB" in error + caplog.text


def test_without_the_extra_one_sentence(done, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "onnx" in name else find(name)
    )
    with pytest.raises(ExtraError, match=r"pip install 'deeplense-batch\[export\]'"):
        export(done, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    export(done, tmp_path / "out", format_="safetensors")


def test_a_generator_has_no_onnx(shards, tmp_path, caplog):
    job = make_job(
        shards, task={"name": "generation"}, model={"name": "unet", "options": UNET},
        train={"ema": 0.9},
    )  # fmt: skip
    drawing = untrained(job, tmp_path / "runs").run.path
    with pytest.raises(TrainedError, match=r"in many steps, .*; expected --format safetensors or"):
        export(drawing, tmp_path / "out", format_="onnx")
    assert not (tmp_path / "out").exists()
    files = export(drawing, tmp_path / "out")
    assert {file.name for file in files} == {"README.md", "weights.json", "weights.safetensors"}
    assert "model.onnx is left out" in caplog.text
    same(load_file(tmp_path / "out" / "weights.safetensors"), weights(drawing))


def test_a_network_that_onnx_has_no_operations_for(shards, tmp_path, caplog):
    """Fourier transforms, of which the other formats know nothing."""
    few = {"width": 4, "modes": 3, "layers": 1}
    job = make_job(shards, model={"name": "fno_small", "options": few})
    path = untrained(job, tmp_path / "runs").run.path
    with pytest.raises(TrainedError, match=r"cannot be written as ONNX \(.*\); --format safet"):
        export(path, tmp_path / "out", format_="onnx")
    assert not (tmp_path / "out").exists()
    files = export(path, tmp_path / "out")
    assert {file.name for file in files} == {"README.md", "weights.json", "weights.safetensors"}
    assert "model.onnx is left out" in caplog.text


def test_a_masked_autoencoder_has_no_onnx(shards, tmp_path):
    options = {"encoder": "test_vit", "decoder_depth": 1}
    model = {"name": "masked_autoencoder", "options": options}
    job = make_job(shards, task={"name": "masked"}, model=model)
    masked = untrained(job, tmp_path / "runs").run.path
    with pytest.raises(TrainedError, match=r"restores hidden patches, and answers nothing for an"):
        export(masked, tmp_path / "out", format_="onnx")


def test_of_an_adapted_network_there_is_the_network_alone(shards, tmp_path):
    """The discriminator was for training."""
    adapt = {"to": {"root": str(shards), "slice": "val[:20]"}, "by": "dann"}
    job = make_job(
        shards, task={"options": {"adapt": adapt}}, model={"name": "test_resnet"},
        data={"train": "train[:40]", "valid": "val[20:40]", "test": "val[40:]"},
    )  # fmt: skip
    path = untrained(job, tmp_path / "runs").run.path
    files = export(path, tmp_path / "out")
    assert [file.name for file in files] == [
        "README.md", "model.onnx", "weights.json", "weights.safetensors",
    ]  # fmt: skip
    network = build("test_resnet", channels=1, classes=3, size=24).eval()
    network.load_state_dict(load_file(tmp_path / "out" / "weights.safetensors"))
    same(read_json_weights(tmp_path / "out" / "weights.json"), network.state_dict())
    session = onnxruntime.InferenceSession(
        str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    images = torch.randn(3, *open_trained(path).input_shape)
    (found,) = session.run(["logits"], {"images": images.numpy()})
    with torch.no_grad():
        expected = network(images).numpy()
    assert np.abs(found - expected).max() < 1e-4
