"""A job that simulates what it trains on is settled, named and checked before it runs."""

from __future__ import annotations

import dataclasses

import pytest
from conftest import make_job
from made_sets import write_set

from deeplense_batch.core.job import JobError
from deeplense_batch.data.shards import ShardError
from deeplense_batch.runs.planning.plan import plan, reopen
from deeplense_batch.simulation import presets, substructure
from deeplense_batch.simulation.simulate import simulate


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets") / "varied"
    simulate("substructure", root, preset="varied", images=24, size=32, set_={"sphere.count": 7})
    return root


def job_of(root, data=(), **simulated):
    return make_job(root, data={"simulate": {"images": 12} | simulated, **dict(data)})


def test_what_is_left_out_is_written_down(root, tmp_path):
    (item,) = plan([job_of(root)], tmp_path)
    asked = item.training.data.simulate
    assert (asked.kind, asked.preset, asked.set) == ("substructure", "varied", {"sphere.count": 7})
    assert asked.digest and reopen(item.create().path).job == item.job


def test_runs_are_named_by_the_images(root, tmp_path):
    def name(**simulated) -> str:
        return plan([job_of(root, **simulated)], tmp_path)[0].run.name

    in_full = {"kind": "substructure", "preset": "varied", "set": {"sphere.count": 7}}
    assert name() == name(**in_full)
    assert (
        len({name(), name(images=15), name(set={"sphere.count": 8}), name(preset="varied")}) == 4
    )


def test_another_version_of_the_preset_is_another_run(root, tmp_path, monkeypatch):
    (item,) = plan([job_of(root)], tmp_path)
    path = item.create().path
    newer = dataclasses.replace(presets.PRESETS["varied"], version=99)
    monkeypatch.setitem(substructure.PRESETS, "varied", newer)
    with pytest.raises(JobError, match=r"preset varied makes other images, \w{16}, than when the"):
        reopen(path)


@pytest.mark.parametrize(
    ("simulated", "data", "says"),
    [
        ({"images": 2}, {}, "data.simulate.images: expected 3 or more, .* got 2"),
        ({"preset": "iii_a"}, {}, "data.simulate: preset: got 'iii_a'"),
        (
            {"preset": "common_test_1", "set": {"source.intensity": 1e9}},
            {},
            "data.simulate: .*counts",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(root, tmp_path, simulated, data, says):
    with pytest.raises((JobError, ShardError), match=says):
        plan([job_of(root, data, **simulated)], tmp_path)


def test_truth_that_new_images_lack_is_named(tmp_path):
    root = write_set(tmp_path / "real", shape=(1, 32, 32), truth=("colour",))
    job = job_of(root, preset="varied", kind="substructure")
    task = {"name": "regression", "options": {"target": "colour"}}
    job = make_job(root, data=job.data.model_dump(), task=task)
    with pytest.raises(
        ShardError, match=r"knows no truth/colour, which the images of .*real have"
    ):
        plan([job], tmp_path)


def test_training_slices_that_overlap_what_is_scored_are_still_refused(root, tmp_path):
    with pytest.raises(JobError, match="share samples"):
        plan([job_of(root, {"valid": "train[:50%]"})], tmp_path)
