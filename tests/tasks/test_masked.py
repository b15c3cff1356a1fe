"""What is learnt of hidden patches, and what a linear probe makes of it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import make_job
from torch import nn

from deeplense_batch.core.result import read_metrics
from deeplense_batch.data.augment import keys_of
from deeplense_batch.models import checkpoint
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.masked import patches_of, without_patches
from deeplense_batch.tasks.task import Batch

MASKED = {"encoder": "test_vit", "decoder_depth": 1, "decoder_width": 16, "decoder_heads": 2}
FEW = {"train": "train[:48]", "valid": "val[:24]", "test": "val[24:54]"}
RECIPE = {
    "task": {"name": "masked", "options": {"probe_every": 2}},
    "model": {"name": "masked_autoencoder", "options": MASKED},
}


class Given(nn.Module):
    """Restores what it was made with; every second patch is hidden."""

    def __init__(self, patches: torch.Tensor) -> None:
        super().__init__()
        self.patches = patches

    def forward(self, images, keys=None, ratio=0.0):
        hidden = torch.arange(self.patches.shape[1]).expand(len(images), -1) % 2 == 1
        return {"patches": self.patches, "hidden": hidden, "features": images.mean((2, 3))}


def batch_of(images: torch.Tensor) -> Batch:
    index = torch.arange(len(images))
    return Batch(images, index % 2, index, draws=index)


def test_patches_are_cut_row_by_row_and_put_together_again():
    images = torch.arange(2 * 3 * 6 * 6.0).view(2, 3, 6, 6)
    patches = patches_of(images, 2)
    assert patches.shape == (2, 9, 12)
    corner = images[1, :, 2:4, 4:6]  # the sixth patch: second row, third column
    assert torch.equal(patches[1, 5].view(2, 2, 3), corner.permute(1, 2, 0))
    assert torch.equal(without_patches(patches, 6), images)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_the_loss_is_that_of_hidden_patches_alone(norm_pix):
    torch.manual_seed(0)
    images = 3 * torch.randn(2, 1, 8, 8) + 1
    task = build_task("masked", classes=None, norm_pix=norm_pix)
    true = patches_of(images, 4)
    if norm_pix:
        true = (true - true.mean(2, keepdim=True)) / true.std(2, keepdim=True)
    wrong = torch.tensor([1.0, 0.5, 1.0, 0.5])[:, None]  # only the patches 1 and 3 are hidden
    loss = task.losses(Given(true + wrong), batch_of(images), 0.0)["loss"]
    assert loss.item() == pytest.approx(0.25, rel=1e-5)
    outputs = task.predict(Given(true + wrong), batch_of(images))
    scores, _ = task.score(
        {name: value.numpy() for name, value in outputs.items()}
        | {"ids": np.array(["a", "b"]), "targets": np.array([-1, -1])}
    )
    power = true[:, 1::2].square().mean().item()
    assert scores == {"loss": pytest.approx(0.25), "masked_r2": pytest.approx(1 - 0.25 / power)}


def test_the_probe_reads_classes_from_features_whatever_the_order():
    random = np.random.default_rng(0)
    targets = np.arange(200) % 3 - 1  # a third of them unlabelled
    features = random.normal(size=(200, 6))
    features[targets == 1, 2] += 3.0  # AUC of two normals 3 sd apart: 0.983
    outputs = {"features": features, "targets": targets, "ids": np.arange(200).astype(str)}
    outputs |= {"errors": np.ones(200), "powers": np.full(200, 2.0)}
    task = build_task("masked", classes=["no", "lens"])
    scores, notes = task.score(outputs)
    assert notes == [] and scores["masked_r2"] == 0.5
    assert scores["probe_auc"] == pytest.approx(0.983, abs=0.02)
    mixed = random.permutation(200)
    assert task.score({name: values[mixed] for name, values in outputs.items()})[0] == scores
    features[:, 2] = random.normal(size=200)
    assert task.score(outputs)[0]["probe_auc"] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("targets", [[-1] * 6, [0] * 6, [0, 0, 0, 0, 0, 1]])
def test_without_labels_there_is_no_probe_and_a_note(targets):
    outputs = {"features": np.ones((6, 2)), "targets": np.array(targets), "errors": np.ones(6)}
    outputs |= {"powers": np.ones(6), "ids": np.arange(6).astype(str)}
    scores, notes = build_task("masked", classes=["no", "lens"]).score(outputs)
    assert {*scores} == {"loss", "masked_r2"} and notes[0].startswith("no linear probe")


@pytest.mark.parametrize("norm_pix", [True, False])
def test_what_is_shown_is_the_image_with_its_hidden_patches_grey_and_restored(norm_pix):
    images = torch.randn(2, 1, 8, 8)
    task = build_task("masked", classes=None, norm_pix=norm_pix)
    shown = task.images_of(Given(torch.zeros(2, 4, 16)), batch_of(images))
    assert torch.equal(shown["true_images"], images)
    assert torch.allclose(shown["seen_images"][:, :, :4, :4], images[:, :, :4, :4])
    covered = shown["seen_images"][:, 0, :4, 4:]
    assert torch.equal(covered, covered[:, :1, :1].expand(-1, 4, 4))
    mean = images[:, 0, :4, 4:].mean((1, 2)) if norm_pix else torch.zeros(2)
    assert torch.allclose(shown["restored_images"][:, 0, 0, 4], mean, atol=1e-6)
    outputs = {name: values.numpy() for name, values in shown.items()}
    assert {*task.draw(outputs, [])} == {"history", "restored"}
    plt.close("all")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mask_ratio": 1.0}, "mask_ratio: should be above 0 and below 1, got 1.0"),
        ({"probe_every": 0}, "probe_every: should be 1 or more, got 0"),
    ],
)
def test_options_out_of_range_are_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_task("masked", classes=None, **options)


def test_masks_of_training_are_a_function_of_seed_epoch_and_sample():
    index = torch.arange(50)
    keys = keys_of(1, 2, index)
    assert torch.equal(keys_of(1, 2, index[[7, 3]]), keys[[7, 3]])
    others = [keys_of(2, 2, index), keys_of(1, 3, index)]
    assert len({*torch.cat([keys, *others]).tolist()}) == 150


def test_a_run_learns_keeps_a_sheet_and_probes_every_second_epoch(shards, tmp_path):
    job = make_job(shards, **RECIPE, data=FEW, train={"epochs": 2, "batch_size": 8, "lr": 2e-3})
    (item,) = plan([job], tmp_path / "runs")
    scores = run(item, device="cpu")
    epochs = item.run.read_lines("history.jsonl")
    assert epochs[-1]["train"]["loss"] < epochs[0]["train"]["loss"]
    assert ["probe_auc" in epoch["valid"] for epoch in epochs] == [False, True]
    assert scores["masked_r2"] < 1 and 0 < scores["probe_auc"] <= 1
    assert read_metrics(item.run)["valid"]["monitor"] == "masked_r2"
    outputs = np.load(item.run.path / "outputs.npz")
    assert outputs["features"].shape == (30, 64) and outputs["true_images"].shape == (6, 1, 24, 24)
    assert (item.run.figures / "restored.png").exists()
    saved = checkpoint.load_checkpoint(item.run.path)  # from which it would have gone on
    assert saved is not None and saved["best_score"] == max(
        e["valid"]["masked_r2"] for e in epochs
    )
