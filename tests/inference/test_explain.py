"""Maps of where a network looks: at what it must look at, in a picture of the right panels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_job, typed
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from deeplense_batch import models
from deeplense_batch.core.scoring import figures
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.inference import explain as module
from deeplense_batch.inference.explain import explain, feature_layer
from deeplense_batch.inference.trained import TrainedError, open_trained
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run


def trained(shards: Path, out: Path, model: str, **fields: dict) -> Path:
    (item,) = plan([make_job(shards, model={"name": model}, **fields)], out)
    run(item, device="cpu")
    return item.run.path


@pytest.fixture(scope="module")
def done(shards, tmp_path_factory) -> Path:
    """A finished run."""
    return trained(shards, tmp_path_factory.mktemp("runs"), "resnet20", train={"epochs": 3})


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Every figure that is saved."""
    kept: list[Figure] = []
    save = figures.save

    def keep(figure: Figure, path: Path) -> None:
        kept.append(figure)
        save(figure, path)

    monkeypatch.setattr(figures, "save", keep)
    return kept


def panels(figure: Figure) -> list[str]:
    """Names of the panels, without the bar of colours."""
    return [axes.get_title() for axes in figure.axes if axes.get_label() != "<colorbar>"]


def test_a_sheet_has_a_row_for_each_image_and_a_column_for_each_class(done, tmp_path, drawn):
    explain(done, tmp_path / "a.png", slice_="val[:3]")
    names = panels(drawn[0])
    assert len(names) == 3 * 4
    assert [name.partition(",")[0] for name in names[1:4]] == ["no", "sphere", "vort"]
    assert "Grad-CAM at layer blocks, 6 x 6 pixels" in drawn[0].get_suptitle()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 1000 and picture.height > 900
    explain(done, tmp_path / "b.png", ids=["val/7", "train/3"], of="vort")
    names = panels(drawn[1])
    assert len(names) == 4 and names[0].startswith("val/7\n") and names[2].startswith("train/3\n")


def test_a_map_is_where_the_evidence_is(done, shards):
    """Class `sphere` differs from `no` by a blob in the right half, so its map is there."""
    network = open_trained(done)
    split = open_split(shards, "val")
    places = np.flatnonzero(split.targets() == 1)[:20]
    inputs = network.transform(torch.from_numpy(split.images()[places]).float())
    _, maps = module._maps(network, inputs, "sphere")
    mean = maps["sphere"].mean(0)
    assert mean[:, mean.shape[1] // 2 :].sum() > 1.5 * mean[:, : mean.shape[1] // 2].sum()


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("test_resnet", 64, "layer3"),
        ("test_resnet", 128, "layer4"),
        ("simple_cnn", 24, "features.5"),
        ("mobilenetv3_small_050", 128, "blocks.5"),
        ("test_vit", 32, None),
    ],
)
def test_the_last_features_that_are_a_map(name, size, layer):
    network = models.build(name, channels=1, classes=3, size=size).eval()
    found = feature_layer(network, torch.randn(1, 1, size, size))
    assert (found and found[0]) == layer


class _Physical(nn.Module):
    """Gives maps beside its logits; one of its layers comes after what the logits come from."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 3)
        self.decoder = nn.Conv2d(8, 3, 3, padding=2)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.features(images)
        maps = self.decoder(features)
        logits = self.head(features.mean((2, 3)))
        return {"logits": logits, "maps": maps}


def test_the_layer_is_one_that_the_logits_come_from():
    assert feature_layer(_Physical().eval(), torch.randn(1, 1, 24, 24))[0] == "features"


def test_a_network_that_gives_maps_shows_them(done, tmp_path, drawn, monkeypatch):
    options = {"encoder": "test_resnet", "classifier": "test_resnet", "width": 8}
    run_ = open_trained(done)
    network = models.build("lens_pinn", channels=1, classes=3, size=24, **options)
    object.__setattr__(run_, "model", network.eval())
    monkeypatch.setattr(module, "open_trained", lambda path: run_)
    explain(done, tmp_path / "a.png", slice_="val[:2]")
    names = panels(drawn[0])
    assert len(names) == 2 * 6
    assert names[4:6] == ["deflection, modulus", "what the smooth lens leaves, modulus"]


def test_a_transformer_gets_another_map_and_the_title_says_so(shards, tmp_path, drawn):
    path = trained(
        shards, tmp_path, "test_vit", train={"epochs": 1}, data={"size": 32, "crop": 16}
    )
    explain(path, tmp_path / "a.png", slice_="val[:2]")
    assert len(panels(drawn[0])) == 8
    title = drawn[0].get_suptitle()
    assert "integrated gradients: test_vit has no convolutional feature layer" in title


def test_what_cannot_be_is_refused(done, shards, tmp_path):
    out = tmp_path / "a.png"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deeplense_batch.inference.trained.data_digest", lambda root: "0" * 16)
        with pytest.raises(ShardError, match="holds other data than those of"):
            explain(done, out, slice_="val[:2]")
    with pytest.raises(ShardError, match="has no sample 'val/1000'; did you mean 'val/10"):
        explain(done, out, ids=["val/1000"])
    with pytest.raises(ShardError, match="107 images; a sheet holds 48"):
        explain(done, out, slice_="val")
    with pytest.raises(TrainedError, match="no class 'vorte'; did you mean 'vort'"):
        explain(done, out, slice_="val[:2]", of="vorte")
    with pytest.raises(ShardError, match="no such folder of shards"):
        explain(done, out, slice_="val[:2]", data=tmp_path / "x")
    out.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="is there already"):
        explain(done, out, slice_="val[:2]")
    assert out.read_bytes() == b"mine"


def test_the_verb(done, tmp_path, capsys):
    out = tmp_path / "a.png"
    code, shown, _ = typed(
        capsys, "explain", done, "--ids", "val/1,val/2", "--of=no", "--out", out
    )
    assert code == 0 and shown == f"{out}\n" and out.stat().st_size > 10_000
    for words, says in (
        (["--out", "b.png"], "which images?"),
        (["--out", "b.png", "--ids=a", "--slice=val"], "which images?"),
        (["--out", "b.pdf", "--ids=a"], "ends in .png, got 'b.pdf'"),
    ):
        code, _, error = typed(capsys, "explain", done, *words)
        assert code == 2 and says in error


@pytest.mark.parametrize("verb", ["predict", "export", "explain"])
def test_help_is_there(verb, capsys):
    code, shown, also = typed(capsys, verb, "--help")
    assert code == 0 and f"deeplense_batch {verb} RUN" in shown and not also
