"""The section `data` of a recipe: what it takes, and which of it is part of an identity."""

from __future__ import annotations

import pytest
from conftest import make_job

from deeplense_batch.core.job import JobError
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.sections.data import DataSection

ASINH = {"stretch": "asinh", "softening": 3}


def test_what_a_recipe_of_an_earlier_version_lacks_is_no_part_of_its_identity(shards):
    given = {"softening": None, "sky_sd": None, "per": "band", "clip": None}
    for stretch, identity in (("linear", "9d74a493ba"), ("asinh", "45b3064bfd")):
        job = make_job(shards, data={"stretch": stretch})
        assert job.identity("digest") == identity  # pinned before there were these fields
        assert make_job(shards, data={"stretch": stretch} | given).identity("digest") == identity


def test_every_field_that_changes_images_changes_the_identity(shards):
    changes = (
        {}, {"stretch": "asinh"}, {"stretch": "sqrt"}, ASINH, ASINH | {"softening": 3.5},
        ASINH | {"sky_sd": [0.1]}, {"per": "set"}, {"per": "image"}, {"clip": [0, 99]},
    )  # fmt: skip
    identities = [make_job(shards, data=change).identity("digest") for change in changes]
    assert len(set(identities)) == len(changes)
    assert make_job(shards, data={"root": "elsewhere"}).identity("digest") == identities[0]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("softening: 3", "data.softening: is for stretch asinh, log or sqrt; leave it out with "
                         "linear, got 3"),
        ("stretch: asinh\n  softening: 0", "data.softening: should be greater than 0, got 0"),
        ("sky_sd: [1]", "data.sky_sd: is the unit of data.softening, which is not given, got"),
        ("stretch: log\n  softening: 1\n  sky_sd: [1, 0]", "data.sky_sd: expected numbers above "
                                                           "0, one for each band, got"),
        ("stretch: log\n  softening: 1\n  sky_sd: 0.1", "data.sky_sd: expected a list of "
                                                        "numbers, one for each band, got 0.1"),
        ("clip: 99", "data.clip: expected a list of two numbers, got 99"),
        ("clip: [0.1]", "recipe.yaml: data.clip: expected a list of two numbers, got [0.1]"),
        ("clip: []", "recipe.yaml: data.clip: expected a list of two numbers, got []"),
        ("clip: [1, 2, 3]", "data.clip: expected a list of two numbers, got [1, 2, 3]"),
        ("clip: [1, a]", "data.clip.1: expected a number, got 'a'"),
        ("augment: {scale: [1]}", "data.augment.scale: expected a list of two numbers, got [1]"),
        ("clip: [99, 1]", "data.clip: expected two percentiles that rise, from 0 to 100, got"),
        ("clip: [0, 101]", "data.clip: expected two percentiles that rise"),
        ("clip: [-1, 99]", "data.clip: expected two percentiles that rise"),
        ("clip: [50, 50]", "data.clip: expected two percentiles that rise"),
        ("per: object", "data.per: got 'object'; allowed: band, image, set"),
        ("stretch: arsinh", "data.stretch: got 'arsinh'; did you mean 'asinh'?"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said_in_one_sentence(tmp_path, lines, sentence):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {{name: resnet18}}\ndata:\n  root: d\n  {lines}\n")
    with pytest.raises(JobError) as error:
        load_jobs(path)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_what_cannot_be_undone_is_named():
    def cause(**fields: object) -> str | None:
        return DataSection(root="d", **fields).cannot_undo

    assert cause() is None and cause(per="set") is None
    assert cause(stretch="sqrt") == "data.stretch sqrt, expected linear"
    assert cause(per="image") == "data.per image, expected band or set"
    assert cause(clip=[0.5, 99]) == "data.clip [0.5, 99.0], expected null"


SETS = [{"root": "a"}, {"root": "b", "train": "train[:10%]", "weight": 0.5}]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"roots": SETS}, "1 of 2 sets have a weight; expected one for each, or none"),
        (
            {"roots": SETS[:1], "train": "train[:5]"},
            "is of one set, and data.roots says what is trained",
        ),
        ({"roots": SETS[:1], "fold": "1/5"}, "is of one set, and data.roots says what is trained"),
        ({"roots": [{"root": "a", "weight": 0}]}, "greater than 0"),
    ],
)
def test_sets_that_are_trained_on_together_are_told_apart_from_what_one_set_has(data, sentence):
    with pytest.raises(ValueError, match=sentence):
        DataSection.model_validate({"root": "a"} | data)


def test_an_identity_has_the_content_of_each_set_and_not_its_folder(shards):
    def identity(**changes):
        first = {"root": "x", "digest": "1", "weight": 1.0}
        second = {"root": "y", "digest": "2", "weight": 1.0}
        return make_job(shards, data={"roots": [first, second | changes]}).identity("digest")

    assert identity(root="z") == identity()
    changes = ({}, {"digest": "3"}, {"weight": 2.0}, {"train": "train[:5]"}, {"channels": [0]})
    assert len({identity(**change) for change in changes}) == len(changes)
    renamed = make_job(shards, data={"classes": {"no": "none"}, "channels": "mean"})
    assert renamed.identity("digest") != make_job(shards).identity("digest")
