"""The card of a network: what its run knows, and nothing of the machine."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml
from conftest import make_job
from made_runs import untrained

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
