"""The section `data` of a recipe: what it takes, and which of it is part of an identity."""

from __future__ import annotations

import re

import pytest
from conftest import make_job

from deeplense_batch.core.job import JobError
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.sections.data import DataSection
from deeplense_batch.core.sections.dotted import flat_fields
from deeplense_batch.core.sections.fold_names import as_given

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
        (
            {"roots": [{"root": "b"}], "fold": "1/3"},
            "cuts data.root, a, into folds; expected it once among data.roots, as {root: a}",
        ),
        (
            {"roots": [SETS[0], {"root": "./a"}], "fold": "1/3"},
            "expected it once among data.roots",
        ),
        (
            {"roots": [{"root": "a", "train": "train[:5]"}], "fold": "1/3"},
            "cuts a whole split, such as train; data.roots names train[:5] of a",
        ),
        (
            {"roots": SETS[:1], "fold": "1/3", "test": "val"},
            "data.fold 1/3 makes it train[fold 1/3]; leave it out",
        ),
        ({"roots": SETS[:1], "fold": "1/3", "train": "train[:5]"}, "is of one set"),
        ({"roots": SETS[:1], "fold": "4/3"}, "expected K/N"),
        ({"roots": 3, "fold": "1/3"}, "expected a list of sets"),
        ({"roots": [{"root": "a", "weight": 0}]}, "greater than 0"),
    ],
)
def test_sets_that_are_trained_on_together_are_told_apart_from_what_one_set_has(data, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
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


def test_a_fold_names_its_slices_and_a_job_that_was_written_reads_back_alike(shards, tmp_path):
    job = make_job(shards, data={"fold": "3/5"})
    own = {"train": "train[folds 1,2,5/5]", "valid": "train[fold 4/5]", "test": "train[fold 3/5]"}
    assert {use: getattr(job.data, use) for use in own} == own
    (tmp_path / "job.yaml").write_text(job.to_yaml())
    assert load_jobs(tmp_path / "job.yaml") == [job]
    by_hand = make_job(shards, data=own)
    assert by_hand.identity("digest") == job.identity("digest")  # the slices count, not the field
    folds = {make_job(shards, data={"fold": f"{k}/5"}).identity("digest") for k in range(1, 6)}
    assert len(folds) == 5 and job.identity("digest") in folds
    assert make_job(shards, data={"fold": "1/3", "train": "val"}).data.test == "val[fold 1/3]"
    assert make_job(shards, data={"fold": "003/05"}).data == job.data  # another spelling


def test_a_fold_cuts_one_of_the_sets_that_are_trained_on(shards, tmp_path):
    sets = [{"root": "sim", "weight": 3.0}, {"root": f"{shards}/", "train": "val", "weight": 1.0}]
    job = make_job(shards, data={"fold": "3/5", "roots": sets})
    assert [each.train for each in job.data.roots] == ["train", "val[folds 1,2,5/5]"]
    own = {"train": "train", "valid": "val[fold 4/5]", "test": "val[fold 3/5]"}
    assert {use: getattr(job.data, use) for use in own} == own
    (tmp_path / "job.yaml").write_text(job.to_yaml())
    assert load_jobs(tmp_path / "job.yaml") == [job]
    cut = [each.model_dump(mode="json") for each in job.data.roots]
    by_hand = make_job(shards, data=own | {"roots": cut})
    assert by_hand.identity("digest") == job.identity("digest")
    other = make_job(shards, data={"fold": "1/5", "roots": sets})
    assert other.identity("digest") != job.identity("digest")
    fields = [as_given(dict(flat_fields(one.model_dump(mode="json")))) for one in (by_hand, other)]
    assert [one["data.fold"] for one in fields] == ["3/5", "1/5"]
    assert [each["train"] for each in fields[0]["data.roots"]] == ["train", "val"]
    fold = ("data.fold",)  # all in which they differ
    assert tuple(n for n in fields[0] if fields[0][n] != fields[1].get(n)) == fold


def test_folds_and_seeds_make_a_grid_of_jobs(shards, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {{name: test_resnet}}\ndata: {{root: {shards}}}\nseeds: [0, 1]\n"
                      "grid: {data.fold: [1/4, 2/4, 3/4, 4/4]}\n")  # fmt: skip
    found = [(job.seed, job.data.test) for job in load_jobs(recipe)]
    assert sorted(found) == [(s, f"train[fold {k}/4]") for s in (0, 1) for k in (1, 2, 3, 4)]
    (one, other) = load_jobs(recipe, {"data.fold": "2/3"})
    assert one.data.test == other.data.test == "train[fold 2/3]"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("fold: 7/5", "data.fold: expected K/N, the K-th of N folds, such as 3/5; N is from 3 to "
                      "100, got '7/5'"),
        ("fold: 0.6", "data.fold: expected text, got 0.6"),
        ("fold: 1/5\n  valid: val", r"data.valid: data.fold 1/5 makes it train\[fold 2/5\]; leave "
                                    "it out, got 'val'"),
        ("fold: 1/5\n  test: val", r"data.test: data.fold 1/5 makes it train\[fold 1/5\]; leave"),
        ("fold: 1/5\n  train: train[:50%]", "data.train: expected a whole split, such as train, "
                                            r"beside data.fold 1/5, got 'train\[:50%\]'"),
        ("fold: 1/5\n  train: train[folds 1,2,5/5]", "data.train: expected a whole split"),
    ],
)  # fmt: skip
def test_what_a_fold_does_not_go_with_is_said_in_one_sentence(tmp_path, lines, sentence):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {{name: resnet18}}\ndata:\n  root: data\n  {lines}\n")
    with pytest.raises(JobError, match=sentence):
        load_jobs(path)


def test_photon_noise_and_a_curriculum_count_only_where_they_are_asked_for(shards):
    plain = make_job(shards).identity("digest")
    without = {"curriculum": [], "augment": {"dihedral": True, "photon_noise": False}}
    assert make_job(shards, data=without).identity("digest") == plain
    sets = [{"root": "a", "epochs": 1, "digest": "1"}, {"root": "b", "epochs": 2, "digest": "2"}]
    changes = (
        {"augment": {"dihedral": True, "photon_noise": True}}, {"curriculum": sets},
        {"curriculum": sets[:1]}, {"curriculum": sets[::-1]},
        {"curriculum": [sets[0], sets[1] | {"epochs": 1}]},
        {"curriculum": [sets[0], sets[1] | {"digest": "3"}]},
        {"curriculum": [sets[0], sets[1] | {"train": "train[:50%]"}]},
    )  # fmt: skip
    found = {make_job(shards, data=change).identity("digest") for change in changes}
    assert len(found | {plain}) == len(changes) + 1
    moved = [each | {"root": f"/elsewhere/{each['root']}"} for each in sets]
    identities = [
        make_job(shards, data={"curriculum": s}).identity("digest") for s in (sets, moved)
    ]
    assert identities[0] == identities[1]
