"""The identity of a recipe on given data never changes: who has its run need not train again.

The names below are pinned. All but the last are also what commit ad7dd9b gives the same recipes,
on the shards that it wrote. No image is computed here: the shards hold counts.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from conftest import REPOSITORY, typed

from deeplense_batch.core.job import Evaluation, Simulation
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.data.shards import data_digest

JOBS = REPOSITORY / "jobs"
OLD_SHARDS = REPOSITORY / "tests" / "fixtures" / "ad7dd9b" / "data"
RUN_NAME = re.compile(r"\S+-s\d+-[0-9a-f]{10}\b")

TRAINING = (
    "resnet20-s0-c545ac98a2",
    "resnet20-s1-bf20075abc",
    "resnet32-s0-d78ebdeccf",
    "resnet32-s1-24dd008b2c",
)
GENERATION = ("unet-s0-da1d3ec0c9",)
SIMULATION = ("common_test_1-p0-s0-dfa2a13f57", "common_test_1-p1-s0-d6c548db7d")
PACKED_TODAY = ("resnet20-s0-fa09dde35a", "resnet32-s0-b8d3ea78c4")


@pytest.fixture
def names(tmp_path, monkeypatch, capsys):
    """Names of the run directories that a recipe plans, by what a person types."""
    monkeypatch.chdir(tmp_path)

    def planned(recipe: str, *words: object) -> tuple[str, ...]:
        code, output, _ = typed(
            capsys, "submit", "--grid", JOBS / recipe, "--dry_run", "--out", tmp_path, *words
        )
        assert code == 0
        return tuple(RUN_NAME.findall(output))

    return planned


def test_a_training(names):
    assert names("resnet20.yaml", f"--data.root={OLD_SHARDS}", "--seeds=[0, 1]") == TRAINING


def test_a_generation_whose_judge_is_no_part_of_it():
    """Of the job alone: these shards lack the radii that it reads, so no plan is made of it."""
    (job,) = load_jobs(JOBS / "diffusion_edm.yaml", {"data.root": str(OLD_SHARDS), "judge": None})
    assert (job.run_name(data_digest(OLD_SHARDS)),) == GENERATION


def test_a_simulation(names):
    """The place of the set is part of it; nothing is made by looking."""
    assert names("simulate.yaml", "--simulate.out=/nowhere/set", "--parts=2") == SIMULATION


def test_galaxies_that_are_used_are_part_of_a_simulation():
    """Recipes without them have the names that they had."""
    fields = {"kind": "lens_finding", "out": "set", "preset": "des"}
    runs = [
        Simulation(name="s", simulate=fields | more)
        for more in ({}, {"onto": "galaxies"}, {"sources": "cutouts"})
    ]
    assert len({run.run_name("") for run in runs}) == 3
    assert [*runs[0].simulate.options] == ["preset"]
    assert runs[1].simulate.options == {"preset": "des", "onto": "galaxies"}


def test_a_training_on_shards_that_are_packed_today(names, tmp_path, capsys):
    """Where the digest of the data changes, every run of everybody trains again."""
    for split, samples in (("train", 6), ("val", 4)):
        for label, name in enumerate(("no", "sphere", "vort")):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for sample in range(samples):
                counts = (np.arange(256) * (label + 3) + 7 * sample) % 101
                np.save(folder / f"{sample}.npy", counts.reshape(1, 16, 16).astype(np.uint16))
    words = ("images", "shards", "--pixel_scale=0.05", "--shard_size=10")
    assert typed(capsys, "pack", *words)[0] == 0
    fields = ("--data.root=shards", "--seeds=[0]")
    assert names("resnet20.yaml", *fields) == PACKED_TODAY


RUN = "runs/demo/resnet18-s0-0123456789"
DRAWN = {"classifier": "runs/c/resnet18-s0-bbbbbbbbbb", "images": 64}
DATA = {"root": "x", "slice": "test"}


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({"run": RUN}, "resnet18-s0-37570839a6"),
        ({"run": RUN, "data": {"root": "x", "slice": "val"}}, "resnet18-s0-32b3752167"),
        ({"run": "unet-s1-aaaaaaaaaa", "data": DATA, **DRAWN}, "unet-s1-4d2a33b996"),
    ],
)
def test_an_evaluation(section, name):
    """As of commit e029d7c, which knew no ensembles and no `tta` of an evaluation."""
    job = Evaluation.model_validate({"name": "e", "evaluate": section})
    assert job.run_name("a" * 16) == name
    other = {"tta": None, "ensemble": False} | section
    assert Evaluation.model_validate({"name": "e", "evaluate": other}).run_name("a" * 16) == name


def test_an_ensemble_is_its_members_in_any_order():
    runs = [RUN, "elsewhere/resnet18-s1-9876543210", "densenet121-s0-0000000000"]

    def name(runs, **fields):
        section = {"run": runs, "ensemble": True, **fields}
        return Evaluation.model_validate({"name": "e", "evaluate": section}).run_name("a" * 16)

    assert name(runs).startswith("resnet18_x2_densenet121_x1-")
    assert name(runs)[-10:] == name(runs[::-1])[-10:]
    others = {name(runs[:2]), name(runs[1:]), name(runs, tta=True), name(runs, tta=False)}
    assert len({one[-10:] for one in others} | {name(runs)[-10:]}) == 5


def test_a_clean_set_is_another_simulation():
    """Recipes that are older than the field have the names that they had."""
    plain, observed, clean = (
        Simulation(name="s", simulate={"out": "set", **more})
        for more in ({}, {"keep": "observed"}, {"keep": "clean"})
    )
    assert plain.run_name("") == observed.run_name("") != clean.run_name("")
    assert plain.simulate.options == {} and clean.simulate.options == {"keep": "clean"}
