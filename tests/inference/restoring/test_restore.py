"""Restored images as shards and as files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy.io import fits
from conftest import make_job
from made_restoration import SIDE, restorer, write_rings
from made_runs import untrained
from tiny_networks import UNET

from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.inference.export import export
from deeplense_batch.inference.model_card import card
from deeplense_batch.inference.restoring.drawn import draw_samples
from deeplense_batch.inference.restoring.restore import restore
from deeplense_batch.inference.trained import TrainedError, open_trained
from deeplense_batch.tasks.task import Unit


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("restore")
    pairs = write_rings(folder / "pairs")
    return pairs, restorer(pairs, folder / "runs")


def expected_of(run, split):
    """Images in the units of the set, from the weights and numbers that the run has kept."""
    trained = open_trained(run)
    task, inputs = trained.task, torch.from_numpy(split.of("inputs").images())
    mean, sd = trained.transform.mean[0], trained.transform.sd[0]
    with torch.inference_mode():
        normalised = (inputs - mean) / sd
        residual = trained.model(normalised)
        bicubic = torch.nn.functional.interpolate(
            normalised, scale_factor=2, mode="bicubic", antialias=True
        )
    made = residual + task.fitted.gain[0] * bicubic + task.fitted.offset[0]
    return (made * sd + mean).numpy()


def test_shards_have_the_restored_images_under_ids_and_labels_of_the_data(made, tmp_path):
    pairs, run = made
    report = restore(run, pairs, tmp_path / "out", batch_size=5, device="cpu")
    assert report.images == 56 and not report.problems and "56 images" in str(report)
    for name in ("train", "val"):
        split, source = open_split(tmp_path / "out", name), open_split(pairs, name)
        assert split.ids() == source.ids() and split.info.shape == (1, SIDE, SIDE)
        assert split.info.classes == ("whole", "half") and split.info.pixel_scale == 0.05
        assert np.array_equal(split.targets(), source.targets())
        assert np.allclose(split.images(), expected_of(run, source), atol=1e-4)


def test_files_are_named_by_ids_and_hold_the_same(made, tmp_path):
    pairs, run = made
    wanted = expected_of(run, open_split(pairs, "val[:6]"))
    for form, read in {"npy": np.load, "fits": fits.getdata}.items():
        out = tmp_path / form
        assert restore(run, pairs, out, slice_="val[:6]", form=form, device="cpu").images == 6
        for id_, image in zip(open_split(pairs, "val[:6]").ids(), wanted, strict=True):
            values = read((out / id_).with_suffix(f".{form}"))
            assert values.shape == (SIDE, SIDE) and np.allclose(values, image[0], atol=1e-4)
    header = fits.getheader(next((tmp_path / "fits").rglob("*.fits")))
    assert header["PIXSCALE"] == 0.05 and header["RUN"] == run.name


def test_files_that_were_cut_short_are_begun_anew(made, tmp_path):
    """As shards are: a folder of some of them would look like one of all."""
    pairs, run = made[:2]
    asked = {"slice_": "val", "form": "npy", "device": "cpu", "batch_size": 4}
    restore(run, pairs, tmp_path / "whole", **asked)
    done = []

    def stop() -> None:
        done.append(1)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(run, pairs, tmp_path / "cut", **asked, on_batch=stop)
    assert not [*(tmp_path / "cut").iterdir()]
    restore(run, pairs, tmp_path / "cut", **asked)
    files = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.npy")}
    assert {
        path.relative_to(tmp_path / "cut") for path in (tmp_path / "cut").rglob("*.npy")
    } == files
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "cut"}


def test_images_in_files_are_restored_and_those_that_cannot_be_are_named(made, tmp_path):
    pairs, run = made
    split = open_split(pairs, "val[:4]")
    (tmp_path / "files").mkdir()
    for i, image in enumerate(split.of("inputs").images()):
        np.save(tmp_path / "files" / f"{i}.npy", image)
    np.save(tmp_path / "files" / "odd.npy", np.zeros((1, 7, 7), np.float32))
    report = restore(run, tmp_path / "files", tmp_path / "out", form="npy", device="cpu")
    assert report.images == 4 and "1 image could not be restored: odd.npy: " in str(report)
    for i, image in enumerate(expected_of(run, split)):
        assert np.allclose(np.load(tmp_path / "out" / f"{i}.npy"), image[0], atol=1e-4)


def test_what_cannot_be_restored_is_refused_in_one_sentence(made, tmp_path):
    pairs, run = made
    other = untrained(make_job(pairs), tmp_path / "runs").run.path
    with pytest.raises(TrainedError, match="its task, classification, restores no images"):
        restore(other, pairs, tmp_path / "out", device="cpu")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(TrainedError, match="full: is there already; name another folder"):
        restore(run, pairs, tmp_path / "full", device="cpu")
    large = write_rings(tmp_path / "pairs")
    restore(run, large, tmp_path / "restored", device="cpu")
    with pytest.raises(ShardError, match=r"has images of 1 x 32 x 32 .* takes 1 x 16 x 16"):
        restore(run, tmp_path / "restored", tmp_path / "again", device="cpu")


def test_its_card_says_what_becomes_of_an_input(made, tmp_path):
    _, run = made
    trained = open_trained(run)
    text = card(trained, {})
    assert "It gives an image of 2 x 2 pixels for one of its input." in text
    assert "takes (batch, 1, 16, 16) float32" in text and "gives (batch, 1, 32, 32)" in text
    gain = f"{trained.task.fitted.gain[0]:.9g}"
    assert f"Add [{gain}] x b + [" in text
    paths = {path.name for path in export(run, tmp_path / "model")}
    assert "weights.safetensors" in paths and "model.onnx" not in paths


def test_a_run_that_draws_gives_mean_and_sd_of_the_samples_that_are_scored(tmp_path):
    pairs = write_rings(tmp_path / "pairs")
    job = make_job(
        pairs,
        task={"name": "generation", "options": {"conditions": ["input"], "residual": True}},
        model={"name": "unet", "options": {"inputs": True, **UNET}},
        train={"ema": 0.9},
    )
    run = untrained(job, tmp_path / "runs").run.path
    trained, cpu, split = open_trained(run), torch.device("cpu"), open_split(pairs, "val[:3]")
    saved = draw_samples(
        trained,
        split,
        tmp_path / "drawn",
        samples=3,
        sampler="dpmpp",
        steps=25,
        seed=0,
        device=cpu,
    )
    unit = Unit(trained.transform.mean, trained.transform.sd)
    wanted = unit.undone(saved(torch.arange(3)).flatten(0, 1)).unflatten(0, (3, 3))
    of_kind = {"mean": wanted.mean(1).numpy(), "sd": wanted.std(1).numpy()}
    out = tmp_path / "out"
    report = restore(run, pairs, out, slice_="val[:3]", samples=3, batch_size=2, device="cpu")
    assert report.images == 3
    restore(run, pairs, tmp_path / "npy", slice_="val[:3]", form="npy", samples=3, device="cpu")
    for kind, values in of_kind.items():
        made = open_split(out / kind, "val")
        assert made.ids() == split.ids() and np.allclose(made.images(), values, atol=1e-3)
        first = np.load((tmp_path / "npy" / kind / split.ids()[0]).with_suffix(".npy"))
        assert np.allclose(first, values[0, 0], atol=1e-3)
    with pytest.raises(TrainedError, match="--samples: expected 2 or more of each image, got 1"):
        restore(run, pairs, tmp_path / "one", samples=1, device="cpu")
