"""The section `train` of a recipe: what it takes, and which of it is part of an identity."""

from __future__ import annotations

import pytest
from conftest import make_job

from deeplense_batch.core.job import JobError
from deeplense_batch.core.recipe import load_jobs


def test_what_a_recipe_of_an_earlier_version_lacks_is_no_part_of_its_identity(shards):
    for lr, identity in ((1e-3, "b9ecfe7699"), (2e-3, "ffc8a803ea")):
        job = make_job(shards, train={"lr": lr})
        assert job.identity("digest") == identity  # pinned before there were these fields
        null = make_job(shards, train={"lr": lr, "layer_decay": None, "settled": 0})
        assert null.identity("digest") == identity


def test_rates_of_layers_change_the_identity(shards):
    changes = ({}, {"settled": 1}, {"layer_decay": 0.75}, {"layer_decay": 1.0}, {"head_lr": 1e-3})
    assert len({make_job(shards, train=train).identity("digest") for train in changes}) == 5


@pytest.mark.parametrize("value", ["0", "1.1", "-1", "nan"])
def test_a_rate_of_layers_is_a_share(tmp_path, value):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name: resnet18}}\ndata: {{root: d}}\ntrain: {{layer_decay: {value}}}\n"
    )
    with pytest.raises(JobError, match=r"train\.layer_decay: ") as error:
        load_jobs(recipe)
    assert "\n" not in str(error.value)
