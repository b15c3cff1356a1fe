"""The card of a network: what its run knows, and nothing of the machine."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from conftest import make_images, make_job
from made_runs import untrained
from made_shards import write_shards
from tiny_networks import UNET

from deeplense_batch.inference.model_card import card
from deeplense_batch.inference.trained import open_trained


@pytest.fixture(scope="module")
def done(shards, tmp_path_factory):
    """A run that is done."""
    return open_trained(untrained(make_job(shards), tmp_path_factory.mktemp("runs")).run.path)


def steps(text):
    """How images are prepared, step by step."""
    return re.findall(r"^\d\. (.*)$", text.partition("prepared so")[2].partition("\n## ")[0], re.M)


def test_its_sections_and_files(done):
    text = card(done, {"model.onnx": "the network", "weights.json": "its weights"})
    assert text.startswith("# test_resnet for classification\n\nA network of ")
    assert re.findall(r"^## (.*)$", text, re.M) == [
        "Files", "Images must be prepared so", "Scores", "Data", "Recipe", "Intended use",
        "Limits", "Made with",
    ]  # fmt: skip
    assert "- `model.onnx`: the network\n- `weights.json`: its weights\n" in text
    assert "3 logits: 0 = no, 1 = sphere, 2 = vort." in text and "weights of epoch 3" in text
    assert f"digest `{done.weights}`" in text
    assert "torch 2.8.0; commit `abc123`; on a processor." in text


def test_only_steps_that_are_done_are_told(done):
    plain = steps(card(done, {}))
    assert len(plain) == 4 and plain[0].endswith("(1, 24, 24) float32.")
    assert plain[1] == "Stretch: as they are (`stretch: linear`)."
    assert plain[3] == "The network takes (batch, 1, 24, 24) float32."
    data = done.job.data.model_copy(update={"crop": 20, "size": 32, "stretch": "log"})
    transform = replace(done.transform, crop=20, size=32, stretch="log")
    job = done.job.model_copy(update={"data": data})
    more = steps(card(replace(done, job=job, transform=transform), {}))
    assert len(more) == 6 and more[1].startswith("Keep the central 20 x 20 pixels")
    assert more[2].startswith("Stretch: log(1 + max(x, 0) / 0.05)")
    assert more[4].startswith("Resize to 32 x 32 pixels") and "(batch, 1, 32, 32)" in more[5]


FORMULAS = {
    "asinh(x / s)": lambda x, s: np.arcsinh(x / s),
    "sign(x) log(1 + |x| / s)": lambda x, s: np.sign(x) * np.log1p(np.abs(x) / s),
    "sign(x) (sqrt(1 + |x| / s) - 1)": lambda x, s: np.sign(x) * (np.sqrt(1 + np.abs(x) / s) - 1),
}


def prepared(lines, images):
    """Images, (N, C, H, W), as the steps of a card say, by the words and numbers of them alone."""
    x = images.astype(np.float64)
    for line in lines[1:-1]:
        lists = [np.reshape(yaml.safe_load(v), (-1, 1, 1)) for v in re.findall(r"\[.*?\]", line)]
        if line.startswith("Stretch"):
            (formula,) = (f for name, f in FORMULAS.items() if f": {name}, where" in line)
            x = formula(x, lists[0])
        elif line.startswith("Clip to "):
            x = x.clip(*lists)
        elif line.startswith("Clip each image"):
            ends = [float(v) for v in re.findall(r"percentiles ([\d.]+) and ([\d.]+)", line)[0]]
            options = {"axis": (1, 2, 3), "keepdims": True, "method": "inverted_cdf"}
            x = x.clip(*np.percentile(x, ends, **options))
        elif line.startswith("Subtract of each image its own mean and divide by its own sd"):
            x = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
        elif line.startswith("Subtract the mean of each channel"):
            x = (x - lists[0]) / lists[1]
        else:
            mean, sd = re.fullmatch(
                r"Subtract (\S+) and divide by (\S+), the mean .*", line
            ).groups()
            x = (x - float(mean)) / float(sd)
    return x


@pytest.mark.parametrize("clip", [None, [1, 99.5]])
@pytest.mark.parametrize("per", ["band", "set", "image"])
@pytest.mark.parametrize("stretch", ["asinh", "log", "sqrt"])
def test_its_words_and_numbers_are_enough_to_prepare_images(tmp_path, stretch, per, clip):
    counts, targets = make_images(48, 3)
    images = np.concatenate([counts / 50 - 0.1, counts * 3.0 - 20], 1).astype(np.float32)
    for split in ("train", "val"):
        write_shards(tmp_path, split, images, targets)
    data = {"stretch": stretch, "softening": 2, "per": per, "clip": clip}
    trained = open_trained(untrained(make_job(tmp_path, data=data), tmp_path / "runs").run.path)
    lines = steps(card(trained, {}))
    assert len(lines) == (4 if clip is None else 5)
    expected = trained.transform(torch.from_numpy(images)).numpy()
    assert np.allclose(prepared(lines, images), expected, atol=2e-5)


def test_scores_stand_beside_those_of_validation_and_with_their_notes(done):
    text = card(done, {})
    assert "54 images that were used for nothing else" in text and "; and on the" in text
    assert "| auc | 0.9000 | 0.9100 |" in text
    assert "| auc_vort | undefined | undefined |" in text and "\nNote: a note." in text
    assert "divide the logits" not in text
    test = done.metrics["test"]
    tested = test | {"scores": {"temperature": 1.52349}, "tta": True, "class_counts": {"no": 7}}
    text = card(replace(done, metrics=done.metrics | {"test": tested}), {})
    assert "divide the logits by 1.523, as `predict` does" in text
    assert "nothing else (7 no), averaged over the 8 symmetries of the square" in text


def test_the_recipe_is_the_job_without_the_machine(done, shards):
    text = card(done, {})
    recipe = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S)[1])
    assert recipe["model"]["name"] == "test_resnet" and recipe["data"]["root"] == shards.name
    assert not {"engine", "resources"} & set(recipe) and str(shards.parent) not in text


def test_the_width_of_a_pixel_is_told_where_it_is_known(done):
    assert "Pixels are of unknown width." in card(done, {})
    assert "Pixels are 0.05 arcsec." in card(replace(done, pixel_scale=0.05), {})


def test_a_run_or_file_that_it_starts_from_is_told_by_its_name_alone(done):
    for init, told in (("/home/somebody/runs/a/b-s0-0123456789", "b-s0-0123456789"), (None, None)):
        train = done.job.train.model_copy(update={"init": init})
        judge = {"classifier": "/home/somebody/runs/c"}
        job = done.job.model_copy(update={"train": train, "judge": judge})
        text = card(replace(done, job=job), {})
        recipe = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S)[1])
        assert recipe["train"]["init"] == told and "somebody" not in text


def other(root, task, **fields):
    """A run of a task that learns no classes, on images without any."""
    images, targets = make_images(48, 3)
    for split in ("train", "val"):
        write_shards(root, split, images, np.full(48, -1), (), truth={"theta_e": 1.0 + targets})
    job = make_job(root, task=task, train={"ema": 0.9}, **fields)
    return open_trained(untrained(job, root / "runs").run.path)


def test_a_number_is_told_in_its_own_unit(tmp_path):
    options = {"target": "theta_e", "log10": False}
    text = card(other(tmp_path, {"name": "regression", "options": options}), {})
    sd = f"{np.sqrt(2 / 3):.9g}"
    assert f"Its one output, times {sd} and plus 2, is theta_e." in text
    assert "to estimate theta_e from images" in text and "a number without an error" in text
    assert not re.search(
        "logit|class|sort", text.replace("classification", "").replace("classes: {}", "")
    )


def test_of_a_generator_it_is_told_what_the_network_takes_and_gives(tmp_path):
    task = {"name": "generation", "options": {"conditions": ["theta_e"]}}
    text = card(other(tmp_path, task, model={"name": "unet", "options": UNET}), {})
    assert "given alpha image + sigma noise and t, with the natural logarithm of" in text
    assert "it gives alpha noise - sigma image" in text and "to draw images like those" in text
    assert not re.search("logit|to sort", text)


def test_of_a_masked_autoencoder_it_is_told_what_its_encoder_is_for(tmp_path):
    options = {"encoder": "test_vit", "decoder_depth": 1}
    model = {"name": "masked_autoencoder", "options": options}
    text = card(other(tmp_path, {"name": "masked"}, model=model), {})
    assert "restores square patches of images, of which 75% were hidden" in text
    assert "those that begin with `encoder.`" in text
    assert "to start networks that learn from images like those" in text
    assert not re.search("logit|to sort|gives a number", text)
