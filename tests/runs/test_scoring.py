"""Outputs as scores, files and figures of a run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from conftest import CLASSES, make_job, write_split
from made_sets import pixels, write_set
from made_shards import write_shards
from matplotlib.figure import Figure

from deeplense_batch.core import yaml_text
from deeplense_batch.core.result import write_metrics
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.digest import sha256
from deeplense_batch.data.shards import data_digest, open_split
from deeplense_batch.report.studies.transfer import doubt
from deeplense_batch.runs import scoring
from deeplense_batch.runs.scoring import mixture_notes, score_outputs, seen_notes, summary_of
from deeplense_batch.tasks.classification import Classification
from deeplense_batch.tasks.task import Task, TaskSpec


class Brightness(Task):
    """Scores are the mean of a number, which is known of some images."""

    def __init__(self):
        spec = TaskSpec(monitor="score", num_outputs=1, primary_output="found")
        super().__init__(spec, CLASSES)
        self.figures = {"history": Figure(), "found": Figure()}

    def losses(self, model, batch, progress):
        raise NotImplementedError

    predict = losses

    def num_scored(self, outputs):
        return int(np.isfinite(outputs["found"]).sum())

    def score(self, outputs):
        return {"score": float(np.nanmean(outputs["found"]))}, ["one is unknown"]

    def draw(self, outputs, history):
        return self.figures


OUTPUTS = {
    "found": np.array([1.0, 3.0, np.nan, 5.0]),
    "targets": np.array([2, 0, -1, 2]),
    "ids": np.array(["a", "b", "c", "d"]),
}


PLACE = {"root": "nowhere", "digest": "0123456789abcdef"}


@pytest.fixture
def directory(tmp_path):
    return RunDir.create(tmp_path / "job" / "run", "")


def test_outputs_are_scored_kept_and_drawn(directory):
    task = Brightness()
    directory.append("history.jsonl", {"epoch": 1})
    tested = score_outputs(directory, task, OUTPUTS, title="a run", tta=True, **PLACE)
    assert tested == {
        "scores": {"score": 3.0},
        "notes": ["one is unknown"],
        "tta": True,
        "scored": 3,
        "class_counts": {"no": 1, "sphere": 0, "vort": 2},  # of those that have a label
    }
    with np.load(directory.path / "outputs.npz") as kept:
        assert set(kept.files) == {*OUTPUTS, "classes"}
        assert kept["classes"].tolist() == list(CLASSES)
        for name, values in OUTPUTS.items():
            assert np.array_equal(kept[name], values, equal_nan=name == "found")
    assert {path.name for path in directory.figures.iterdir()} == {"history.png", "found.png"}
    assert task.figures["found"].get_suptitle() == "a run"
    assert not list(directory.path.glob(".*"))


def test_what_was_not_trained_has_no_history(directory):
    score_outputs(directory, Brightness(), OUTPUTS, title="", tta=False, **PLACE)
    assert {path.name for path in directory.figures.iterdir()} == {"found.png"}


class TestByDeltaChi2:
    """Where truth lies beside the shards, a classifier is scored by what can be seen."""

    digest = "0123456789abcdef"
    ids = tuple(f"val/{k}" for k in range(60))
    targets = np.arange(60) % 3
    delta_chi2 = np.where(targets == 0, 0.0, 3.0 + np.arange(60) ** 2 / 4)  # to 871

    def scored(self, directory, root, **changes):
        logits = np.zeros((60, 3))
        logits[np.arange(60), self.targets] = np.where(self.delta_chi2 > 30, 2.0, 0.0)
        outputs = {"ids": np.array(self.ids), "targets": self.targets, "logits": logits}
        task = Classification(classes=CLASSES)
        place = {"root": root, "digest": self.digest} | changes
        return score_outputs(directory, task, outputs, title="a run", tta=False, **place)

    def written(self, root, ids):
        with h5py.File(root / "truth.h5", "w") as file:
            file.attrs["data"] = self.digest
            for name, value in zip(self.ids, self.delta_chi2, strict=True):
                if name in ids:
                    file[f"{name}/delta_chi2"] = value

    def test_scores_and_figure(self, directory, tmp_path):
        self.written(tmp_path, self.ids)
        tested = self.scored(directory, tmp_path)
        found = tested["by_delta_chi2"]
        assert found["without"] == 20 and len(found["bins"]) == 5
        assert sum(one["images"] for one in found["bins"]) == 40
        assert found["bins"][0]["auc"] == 0.5 and found["bins"][-1]["auc"] == 1
        assert found["bins"][-1]["recall"] == 1
        assert json.loads(json.dumps(found)) == found
        assert (directory.figures / "auc_by_delta_chi2.png").is_file()
        assert not any("delta chi^2" in note for note in tested["notes"])

    def test_what_is_not_known_is_said(self, directory, tmp_path):
        assert "by_delta_chi2" not in self.scored(directory, tmp_path)
        self.written(tmp_path, self.ids[:45])
        tested = self.scored(directory, tmp_path)
        assert tested["by_delta_chi2"]["without"] == 15
        assert "delta chi^2 is known of 45 of 60 images" in tested["notes"]
        tested = self.scored(directory, tmp_path, digest="f" * 16)
        assert "by_delta_chi2" not in tested
        assert any("is of other images" in note for note in tested["notes"])

    def test_a_class_of_which_it_is_not_known_is_named(self, directory, tmp_path):
        self.written(tmp_path, [name for k, name in enumerate(self.ids) if k % 3 != 2])
        tested = self.scored(directory, tmp_path)
        assert "by_delta_chi2" not in tested
        note = f"no scores by delta chi^2, which is known of no image of class {CLASSES[2]}"
        assert note in tested["notes"]

    def test_other_tasks_are_not_scored_so(self, directory, tmp_path):
        self.written(tmp_path, self.ids)
        place = {"root": tmp_path, "digest": self.digest}
        tested = score_outputs(directory, Brightness(), OUTPUTS, title="", tta=False, **place)
        assert "by_delta_chi2" not in tested


def test_the_result_in_a_line():
    assert summary_of("validation", "auc", {"auc": 0.98764}, 72.0, "training") == (
        "validation AUC 0.9876, 1.2 min of training"
    )
    assert (
        summary_of("test", "r2", {"r2": 0.5}, 60.0, "evaluation")
        == "test R2 0.5000, 1.0 min of evaluation"
    )
    assert summary_of("test", "auc", {"auc": None}, 6.0, "training") == "0.1 min of training"


def trained_on(tmp_path, root, name, **data):
    """A finished training, as far as its recipe and the digest of its data go."""
    run = RunDir.create(tmp_path / "runs" / name, "")
    init = data.pop("init", None)
    job = make_job(root, data={"root": str(root), **data}, train={"init": init})
    run.write_text("job.yaml", yaml_text.dump(job.model_dump(mode="json")))
    write_metrics(run, {"data": {"digest": data_digest(root)}})
    run.write_status(replace(run.status(), state="done"))
    return run


def test_weights_that_learnt_from_the_images_are_told_by_place_in_the_same_data(tmp_path, shards):
    run = trained_on(tmp_path, shards, "a", train="train", valid="val[:50%]", test="val[50%:]")
    digest = data_digest(shards)
    assert seen_notes(run, open_split(shards, "val[50%:]"), digest) == []
    split = open_split(shards, "train[10%:30%]")
    (note,) = seen_notes(run, split, digest)
    assert note == (
        f"the network was trained on {len(split)} of these {len(split)} images (slice train, its "
        "training data), which flatters it"
    )
    assert doubt([{"notes": [note]}]) == "seen in training"  # what a report marks its score with
    (note,) = seen_notes(run, open_split(shards, "val"), digest)
    assert "was picked by" in note and "(slice val[:50%], its validation data)" in note
    assert doubt([{"notes": [note]}]) == "seen in validation"


def test_weights_that_learnt_from_a_fold_are_told_by_its_samples(tmp_path, shards):
    run, digest = trained_on(tmp_path, shards, "a", fold="3/5"), data_digest(shards)
    assert seen_notes(run, open_split(shards, "train[fold 3/5]"), digest) == []
    split = open_split(shards, "train[:40]")
    seen = [
        len({*split.ids()} & {*open_split(shards, name).ids()})
        for name in ("train[folds 1,2,5/5]", "train[fold 4/5]")
    ]
    trained, picked = seen_notes(run, split, digest)
    assert f"was trained on {seen[0]} of these 40 images" in trained
    assert f"was picked by {seen[1]} of these 40" in picked and min(seen) > 0


def test_weights_that_learnt_from_the_images_are_told_by_content_in_other_data(tmp_path):
    """Packed again, in other shards; and through the weights that a network started from."""
    for name, seed, samples in (("one", 1, 30), ("two", 1, 18), ("three", 9, 18)):
        write_split(tmp_path / name, "train", samples, seed, shard_size=7 + samples)
        write_split(tmp_path / name, "val", 6, seed + 50, shard_size=6)
    base = trained_on(tmp_path, tmp_path / "one", "a", valid="val", test="val")
    tuned = trained_on(tmp_path, tmp_path / "three", "b", valid="train[:3]", test="val",
                       train="train[3:]", init=str(base.path))  # fmt: skip
    digest = data_digest(tmp_path / "two")
    split = open_split(tmp_path / "two", "train")
    learnt = open_split(tmp_path / "one", "train").images()
    shared = sum(any(np.array_equal(image, other) for other in learnt) for image in split.images())
    assert shared
    notes = seen_notes(tuned, split, digest)
    assert notes[0] == (
        f"the network was trained on {shared} of these 18 images (slice train of "
        f"{tmp_path / 'one'}, its training data), which flatters it"
    )
    shutil.rmtree(tmp_path / "one")
    lost = seen_notes(tuned, split, digest)
    assert f"(slice val of {tmp_path / 'one'}, its validation data) is not known" in lost[1]
    assert len(lost) == 2 and "is not known: they are not there any more" in lost[0]


def test_images_of_other_sets_that_a_network_learnt_from_are_counted(tmp_path, shards):
    """The images of one set packed anew in another, which plans cannot see."""
    for name, seed in (("again", 2), ("new", 77)):
        write_split(tmp_path / name, "train", 107, seed, shard_size=20)
    roots = [
        {"root": str(root), "digest": data_digest(root)}
        for root in (shards, tmp_path / "again", tmp_path / "new")
    ]
    job = make_job(shards, data={"roots": roots})
    split, digest = open_split(shards, "val[50%:]"), data_digest(shards)
    note, picked = mixture_notes(job, open_split(shards, "val[:50%]"), split, digest)
    assert note == (
        f"the network was trained on 54 of these 54 images (slice train of {tmp_path / 'again'}, "
        "its training data), which flatters it"
    )
    assert picked == (
        "the network was trained on 53 of these 53 validation images (slice train of "
        f"{tmp_path / 'again'}, its training data), which flatters the validation scores, by "
        "which weights are picked"
    )
    assert mixture_notes(make_job(shards), split, split, digest) == []
    run = RunDir.create(tmp_path / "runs" / "a", "")
    run.write_text("job.yaml", yaml_text.dump(job.model_dump(mode="json")))
    write_metrics(run, {"data": {"digest": digest}})
    run.write_status(replace(run.status(), state="done"))
    assert seen_notes(run, split, digest) == [note]
    elsewhere = open_split(tmp_path / "new", "train[:10]")
    (note,) = seen_notes(run, elsewhere, data_digest(tmp_path / "new"))
    assert "was trained on 10 of these 10 images (slice train, its training data)" in note


def test_images_that_a_network_was_first_trained_on_count_as_those_of_other_sets(tmp_path, shards):
    again = tmp_path / "again"
    write_split(again, "train", 107, 2, shard_size=20)  # the images of val
    first = {"root": str(again), "epochs": 1, "digest": data_digest(again)}
    job = make_job(shards, data={"curriculum": [first, first]})
    valid, test = (open_split(shards, name) for name in ("val[:50%]", "val[50%:]"))
    notes = mixture_notes(job, valid, test, data_digest(shards))
    assert notes[0].startswith("the network was trained on 54 of these 54 images (slice train of ")
    assert "53 of these 53 validation images" in notes[2]
    assert (
        len(notes) == 4
    )  # none of images that both of the curriculum have: none is drawn for two


def test_images_that_a_network_was_adapted_to_are_counted(tmp_path, shards):
    """In the same data by place, and packed anew by content."""
    write_split(tmp_path / "other", "train", 30, 77, shard_size=20)
    write_split(tmp_path / "again", "train", 107, 2, shard_size=20)  # val of the shards
    split, digest = open_split(shards, "val[50%:]"), data_digest(shards)
    valid = open_split(shards, "val[:50%]")
    for name in ("other", "again"):
        run, root = trained_on(tmp_path, shards, name), tmp_path / name
        to = {"root": str(root), "slice": "train", "digest": data_digest(root)}
        job = make_job(shards, task={"options": {"adapt": {"to": to, "by": "coral"}}})
        run.write_text("job.yaml", yaml_text.dump(job.model_dump(mode="json")))
        seen = seen_notes(run, open_split(root, "train[:10]"), data_digest(root))
        expected = (
            "the network was adapted to 10 of these 10 images (slice train, its unlabelled "
            "data), which flatters it"
        )
        assert expected in seen and doubt([{"notes": [expected]}]) == "seen in training"
        notes = mixture_notes(job, valid, split, digest)
        if name == "other":
            assert notes == [] == seen_notes(run, split, digest)
        else:
            assert notes[0].startswith("the network was adapted to 54 of these 54 images (slice")
            assert notes[1].startswith("the network was adapted to 53 of these 53 validation")


def test_images_that_two_training_sets_have_are_counted_and_each_is_read_once(
    tmp_path, monkeypatch
):
    """Some of the images of one set packed anew with others."""
    own, again, new = (tmp_path / name for name in ("own", "again", "new"))
    write_set(own, train=24, val=18, seed=1)
    write_set(new, train=15, val=6, seed=2)
    images = [pixels(24, (1, 12, 12), 2)[:20], pixels(5, (1, 12, 12), 99)]
    write_shards(again, "train", np.concatenate(images), np.arange(25) % 3)
    roots = [{"root": str(r), "digest": data_digest(r)} for r in (own, again, new)]
    job = make_job(own, data={"roots": roots})
    hashed = []
    monkeypatch.setattr(scoring, "sha256", lambda image: hashed.append(1) or sha256(image))
    valid, test = open_split(own, "val[:50%]"), open_split(own, "val[50%:]")
    assert mixture_notes(job, valid, test, data_digest(own)) == [
        f"of slice train of {again}, 20 of 25 images are in slice train of {own} too, so that an "
        "epoch draws them for both"
    ]
    assert len(hashed) == 24 + 25 + 15 + 18
    shutil.rmtree(new)
    lost = mixture_notes(job, valid, test, data_digest(own))
    assert lost[0].startswith("whether these images are among those")
    assert lost[1].startswith("whether these validation images are among those")
    assert lost[3:] == [
        f"whether images of slice train of {new} are also in slice train of {root} is not known: "
        "they are not there any more"
        for root in (own, again)
    ]
