"""Judging generated images: measures that see what is wrong, and runs that tell them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import CLASSES, PATIENCE, Gate, make_images, make_job, wait_for
from made_arrays import rings
from made_shards import write_shards
from scipy.ndimage import gaussian_filter
from tiny_networks import UNET

from deeplense_batch.core.job import DrawSection, Evaluation, JobError, NotYetError
from deeplense_batch.core.processes import Interrupt
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.inference.generation import distances
from deeplense_batch.inference.generation.measure import GENERATED, HELD_OUT, TRAINING, measure
from deeplense_batch.inference.trained import open_trained
from deeplense_batch.report.collect import collect
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.runs.evaluating.drawn_images import draw_and_measure, open_critic
from deeplense_batch.runs.evaluation_run import evaluate_run
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run

CPU = torch.device("cpu")
DRAWN = {"images": 200, "steps": 8}


def generator_job(shards, **fields):
    options = {"conditions": ["class"]}
    job = {
        "name": "generator",
        "task": {"name": "generation", "options": options},
        "model": {"name": "unet", "options": UNET},
        "train": {"epochs": 2, "batch_size": 16, "lr": 2e-3, "ema": 0.9},
    }
    return make_job(shards, **job | fields)


def evaluation(run, **section):
    """An evaluation of a run that generates."""
    return Evaluation.model_validate({"name": "judged", "evaluate": {"run": str(run)} | section})


def trained(job, root):
    """A run of a job, carried out."""
    (item,) = plan([job], root)
    run(item, device="cpu")
    return item


def evaluated(job, root):
    """An evaluation, carried out."""
    (item,) = plan([job], root)
    evaluate_run(item, device="cpu")
    return item


@pytest.fixture(scope="module")
def place(shards, tmp_path_factory):
    """Folder of runs with a trained classifier in it."""
    root = tmp_path_factory.mktemp("runs")
    trained(make_job(shards, name="judge", train={"epochs": 4, "batch_size": 24}), root)
    return root


@pytest.fixture(scope="module")
def generator(shards, place):
    """A finished generator."""
    return trained(generator_job(shards), place).run.path


@pytest.fixture(scope="module")
def judged(generator, place):
    """An evaluation of it, by a classifier."""
    return evaluated(evaluation(generator, classifier=str(place / "judge"), **DRAWN), place)


@pytest.fixture(scope="module")
def unaided(shards, tmp_path_factory):
    """An evaluation of a generator that takes no classes, without a classifier."""
    root = tmp_path_factory.mktemp("unaided")
    job = generator_job(
        shards, name="unaided", task={"name": "generation", "options": {}},
        train={"epochs": 1, "batch_size": 16, "lr": 2e-3, "ema": 0.9},
    )  # fmt: skip
    return evaluated(evaluation(trained(job, root).run.path, images=600, steps=8), root)


@pytest.fixture(scope="module")
def critic(generator, judged):
    return open_critic(judged.job.evaluate, open_trained(generator), CPU)


class TestFeatures:
    """By the features of a classifier that has learnt the classes of these images."""

    def fid(self, critic, images, held_out):
        return distances.fid(critic(images)[0], critic(held_out)[0])

    def test_a_set_is_at_no_distance_from_itself(self, critic):
        images, others = rings(60, 3)[0], rings(60, 4)[0]
        assert self.fid(critic, images, images) < 1e-3 * self.fid(critic, images, others)

    @pytest.mark.parametrize("fault", ["blur", "noise", "mode loss"])
    def test_it_rises_with_every_fault(self, critic, fault):
        held_out = rings(120, 3)[0]
        if fault == "mode loss":  # fewer and fewer modes
            counts = {0: (120, 120, 120), 1: (120, 120, 40), 2: (120, 120, 0), 3: (120, 0, 0)}
            images, targets = rings(360, 4)
            sets = [
                np.concatenate([images[targets == k][:n] for k, n in enumerate(counts[lost])])
                for lost in counts
            ]
        else:
            images, random = rings(120, 4)[0], np.random.default_rng(0)
            noise = random.normal(size=images.shape).astype(np.float32)
            sets = [
                gaussian_filter(images, (0, 0, amount, amount))
                if fault == "blur"
                else images + 0.3 * amount * noise
                for amount in (0, 0.7, 1.4, 2.8)
            ]
        found = [self.fid(critic, some, held_out) for some in sets]
        assert all(a < b for a, b in itertools.pairwise(found)), found
        kids = [distances.kid(critic(some)[0], critic(held_out)[0])[0] for some in sets]
        assert kids[-1] > kids[0]

    def test_recall_sees_a_lost_mode_and_precision_does_not(self, critic):
        held_out, whole, lost = (
            critic(rings(90, seed, classes)[0])[0]
            for seed, classes in ((3, (0, 1, 2)), (4, (0, 1, 2)), (5, (2,)))
        )
        precision, recall = distances.precision_recall(whole, held_out)
        lost_precision, lost_recall = distances.precision_recall(lost, held_out)
        assert recall > 0.8 and lost_recall < 0.6
        assert lost_precision > precision - 0.15
        assert distances.spread(lost) < distances.spread(held_out)

    def test_a_copied_training_set_is_flagged_and_held_out_images_are_not(self, critic):
        train, held_out, new = (rings(120, seed)[0] for seed in (1, 2, 3))
        for look in (lambda x: x.reshape(len(x), -1), lambda x: critic(x)[0]):
            near = {}
            for name, images in (("copy", train), ("held out", held_out), ("new", new)):
                pool = (look(train[first : first + 50]) for first in range(0, 120, 50))
                near[name], places = distances.nearest(look(images), pool)
                assert name != "copy" or places.tolist() == list(range(120))
            copy = distances.copied(near["copy"], near["held out"])
            assert copy["generated"] == 1 and copy["ratio"] < 1e-3 and copy["real"] < 0.02
            fair = distances.copied(near["new"], near["held out"])
            assert fair["generated"] < 0.05 and 0.9 < fair["ratio"] < 1.1


def test_an_evaluation_measures_the_images_of_a_generator(judged, generator):
    metrics = judged.run.read_json("metrics.json")
    scores, found = metrics["test"]["scores"], metrics["judged"]
    assert found["images"] == 54 and found["classifier"].startswith("judge/test_resnet-s0")
    assert open_split(judged.run.path / "samples", "train").info.classes == CLASSES
    names = (
        *("fid", "kid", "precision", "recall", "diversity", "class_accuracy", "flux", "peaks"),
        *("power_spectrum", "pixels", "einstein_radius", "copied", "copied_features"),
    )
    for name in names:
        assert scores[name] == found[name]["generated"], name
        assert np.isfinite([scores[name], scores[f"{name}_real"]]).all(), name
    assert scores["fid"] > 3 * scores["fid_real"], "two epochs make no lenses"
    assert scores["power_spectrum"] > 3 * scores["power_spectrum_real"]
    assert 0.9 < scores["diversity_real"] < 1.1 and scores["copied_real"] < 0.03
    assert set(found["class_accuracy"]["classes"]) == set(CLASSES)
    notes = metrics["test"]["notes"]
    assert any("weights of inception_v3" in note for note in notes)
    assert any(f"test AUC is {found['classifier_auc']:.4f}" in note for note in notes)
    drawn = {path.stem for path in judged.run.figures.iterdir()}
    assert {"samples", "neighbours", "power_spectrum", "distributions"} <= drawn
    assert np.load(judged.run.path / "judged.npz")["generated_power"].shape == (12,)
    assert metrics["evaluated"]["run"] == str(generator)
    assert metrics["identity"] == judged.run.path.name.rpartition("-")[2]
    assert (metrics["model"], metrics["seed"]) == ("unet", 0)


def not_begun(done, root):
    """The same evaluation, in another folder."""
    (item,) = plan([done.job], root)
    assert item.run.path.name == done.run.path.name and not item.run.path.exists()
    item.create()
    return item


_HOLD = """\
import os, sys
if "run" in sys.orig_argv:
    import pathlib, time
    from deeplense_batch.runs.evaluating import drawn_images
    gate = pathlib.Path(os.environ["GATE"])
    measure, sample = drawn_images.measure, drawn_images.sample
    draw_and_measure = drawn_images.draw_and_measure
    def held(trained, critic, loaders, on_batch):
        gate.with_name("judging").touch()
        while gate.exists():
            on_batch()
            time.sleep(0.005)
        return measure(trained, critic, loaders, on_batch)
    def drawn(trained, folder, *, on_batch, **asked):
        def held():
            on_batch()
            while "HELD_DRAWING" in os.environ and gate.exists():
                if not any(folder.glob(".parts/*.h5")):
                    break
                time.sleep(0.005)
        return sample(trained, folder, on_batch=held, **asked)
    def told(*asked, **named):
        found = draw_and_measure(*asked, **named)
        gate.with_name("through").touch()
        return found
    drawn_images.measure, drawn_images.sample = held, drawn
    drawn_images.draw_and_measure = told
"""


@pytest.fixture
def held(tmp_path):
    """Holds runs in other processes while they measure, or draw."""
    gate = Gate(tmp_path, _HOLD)
    yield gate
    gate.open()


@pytest.mark.slow
def test_two_processes_stopped_while_one_measures_exit_85(judged, tmp_path, held):
    """The other one, which only waits, must not die of the signal."""
    item = not_begun(judged, tmp_path / "runs")
    command = [sys.executable, "-m", "deeplense_batch", "run", "--processes=2", "--device=cpu"]
    process = subprocess.Popen([*command, str(item.run.path)], env=os.environ | held.shut())
    wait_for(lambda: (tmp_path / "judging").exists() and (tmp_path / "through").exists())
    process.terminate()
    assert process.wait(PATIENCE) == 85
    assert item.run.status().state == "stopped"
    evaluate_run(item, device="cpu")
    one, other = (each.run.read_json("metrics.json")["judged"] for each in (judged, item))
    assert one == other


def test_other_options_are_another_evaluation(unaided, tmp_path):
    section = unaided.job.evaluate.model_copy(update={"sampler": "heun"})
    other = unaided.job.model_copy(update={"evaluate": section})
    items = plan([unaided.job, other], tmp_path)
    assert len({item.run.path for item in items}) == 2


def test_killed_while_it_draws_it_goes_on_to_the_same_numbers(unaided, tmp_path, held):
    item = not_begun(unaided, tmp_path / "runs")
    command = [sys.executable, "-m", "deeplense_batch", "run", str(item.run.path)]
    environment = os.environ | held.shut() | {"HELD_DRAWING": "1"}
    process = subprocess.Popen([*command, "--device=cpu"], env=environment)
    wait_for(lambda: list((item.run.path / "samples" / ".parts").glob("*.h5")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert item.run.status().state == "lost" and not (item.run.path / "judged.npz").exists()
    assert len(list((item.run.path / "samples" / ".parts").glob("*.h5"))) < 5
    evaluate_run(item, device="cpu")
    one, other = (each.run.read_json("metrics.json") for each in (unaided, item))
    assert one["judged"] == other["judged"] and one["test"] == other["test"]


def test_several_processes_draw_the_images_of_one(judged, generator, critic, tmp_path):
    opened = open_trained(generator)
    asked = {"seed": 0, "device": CPU, "interrupt": Interrupt(), "beat": lambda _: None}
    for rank, expected in ((1, False), (0, True)):
        found = draw_and_measure(
            opened, judged.job.evaluate, critic, opened.slice("test"), tmp_path, rank=rank,
            ranks=2, **asked,
        )  # fmt: skip
        assert (found is not None) == expected
    assert json.loads(json.dumps(found.numbers)) == judged.run.read_json("metrics.json")["judged"]


def test_of_two_seeds_validation_picks_the_better_though_both_are_below_nothing():
    rows = [{"valid_score": score, "run": name} for score, name in ((-3.0, "a"), (-1.0, "b"))]
    assert ModelRuns("unet", [*rows, {"run": "c"}]).picked["run"] == "b"


def test_a_section_judge_of_an_earlier_recipe_changes_nothing(shards, place, caplog):
    plain = generator_job(shards)
    earlier = generator_job(shards, name="earlier", judge={"useful": True, "classifier": "gone"})
    assert plain.identity("x") == earlier.identity("x")
    with caplog.at_level("WARNING"):
        item = trained(earlier, place)
    assert f"'evaluate {item.run.path}' does" in caplog.text
    assert "fid" not in item.run.read_json("metrics.json")["test"]["scores"]


def test_without_a_classifier_what_needs_none_is_measured(unaided):
    metrics = unaided.run.read_json("metrics.json")
    scores = metrics["test"]["scores"]
    assert "fid" not in scores and "class_accuracy" not in scores and "pixels" in scores
    assert any("judged without a classifier" in note for note in metrics["test"]["notes"])
    assert metrics["judged"]["steps"] == 8
    assert any(
        note.startswith("dpmpp with 8 steps draws images of") for note in metrics["test"]["notes"]
    )


def test_a_class_that_a_set_lacks_is_left_out_and_noted(judged, generator, critic, tmp_path):
    opened = open_trained(generator)
    loaders = {
        name: Loader(split, transform=replace(opened.transform, mean=(), sd=()), device=CPU)
        for name, split in (
            (GENERATED, open_split(judged.run.path / "samples", "train")),
            (TRAINING, opened.slice("train")),
            (HELD_OUT, opened.slice("test")),
        )
    }
    loaders[HELD_OUT].targets[loaders[HELD_OUT].targets == 2] = 0
    found = measure(opened, critic, loaders, lambda: None)
    assert any("judged without class vort" in note for note in found.notes)
    assert found.numbers["class_accuracy"]["classes"]["vort"] == {"generated": None, "real": None}
    found.write(RunDir(tmp_path), "two classes")
    assert (tmp_path / "figures" / "samples.png").exists()


def test_class_numbers_of_the_data_do_not_matter(generator, place, tmp_path):
    images, targets = make_images(45, 77)
    images, targets = images[targets > 0], targets[targets > 0]
    write_shards(tmp_path / "same", "sky", images, targets)
    write_shards(tmp_path / "other", "sky", images, 2 - targets, classes=CLASSES[:0:-1])
    asked = {"classifier": str(place / "judge"), "images": 45, "steps": 1}
    same, other = (
        evaluated(
            evaluation(generator, data={"root": str(root)}, **asked), tmp_path
        ).run.read_json("metrics.json")
        for root in (tmp_path / "same", tmp_path / "other")
    )
    assert same["judged"] == other["judged"] and same["judged"]["images"] == 30
    assert same["test"]["notes"] == other["test"]["notes"]
    assert f"judged without class {CLASSES[0]}" in " ".join(same["test"]["notes"])


def test_a_generator_without_classes_is_measured_on_images_of_any(unaided, tmp_path):
    images, targets = make_images(24, 77)
    write_shards(tmp_path, "sky", images, targets, classes=("a", "b", "c"))
    asked = {"data": {"root": str(tmp_path)}, "images": 24, "steps": 1}
    item = evaluated(evaluation(unaided.job.evaluate.run, **asked), tmp_path)
    metrics = item.run.read_json("metrics.json")
    assert metrics["judged"]["images"] == 24
    assert metrics["test"]["class_counts"] == {"a": 8, "b": 8, "c": 8}


def test_real_images_packed_in_groups_are_taken_from_all_of_them(unaided, tmp_path):
    images, targets = make_images(96, 77)
    tile = np.arange(96) // 24  # each fainter than the one before
    images = (images / (1 + tile[:, None, None, None])).astype(np.float32)
    catalogue = {"tile": tile}
    write_shards(
        tmp_path, "sky", images, targets, ("a", "b", "c"), group="tile", catalogue=catalogue
    )
    asked = {"data": {"root": str(tmp_path)}, "images": 24, "steps": 1}
    item = evaluated(evaluation(unaided.job.evaluate.run, **asked), tmp_path)
    with np.load(item.run.path / "judged.npz") as kept:
        fluxes = kept["held_out_fluxes"]
    of_all = images.mean(1).sum((1, 2))
    assert len(fluxes) == 24 and fluxes.mean() == pytest.approx(of_all.mean(), rel=0.1)


def test_evaluations_of_generators_are_in_one_report(judged, unaided, generator, tmp_path):
    for item in (judged, unaided):
        to = tmp_path / "runs" / item.run.path.parent.name / item.run.path.name
        shutil.copytree(item.run.path, to)
    shutil.copytree(generator, tmp_path / "runs" / "generator" / generator.name)
    report = collect(tmp_path / "runs", tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    scores = judged.run.read_json("metrics.json")["test"]["scores"]
    assert "FID (real)" in text and "compare them with held-out real images" in text
    assert "no bootstrap interval: a generator makes no predictions of single samples" in text
    assert "is missing" not in text
    assert f"{scores['fid']:.3g} ({scores['fid_real']:.3g})" in text
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())["figures"]
    drawn = [figure for figure in figures if figure["name"].startswith("fid")]
    values = [model["generated"] for f in drawn for model in f["arguments"]["models"]]
    assert pytest.approx(scores["fid"]) in values
    page = (tmp_path / "report" / "report.html").read_text()
    assert "FID (real)" in page and ">samples<" in page
    table = report.table.set_index("run")
    name = f"{tmp_path}/runs/judged/{judged.run.path.name}"
    assert table.loc[name, "fid"] == pytest.approx(scores["fid"])
    assert table.loc[name, "task"] == "generation" and table.loc[name, "model"] == "unet"


def test_what_cannot_be_measured_is_refused_in_one_sentence(
    shards, generator, judged, place, tmp_path
):
    classifier = str(next((place / "judge").iterdir()))
    for job, error, sentence in (
        (evaluation(tmp_path), NotYetError, "no run there"),
        (evaluation(classifier, steps=3), JobError, "evaluate.steps: .* generates no images"),
        (evaluation(generator, classifier="nothing"), NotYetError, "no finished run there"),
        (evaluation(generator, classifier=str(generator)), JobError, "tells no classes apart"),
        (evaluation(generator, data={"slice": "nothing"}), JobError, "has no split 'nothing'"),
    ):
        with pytest.raises(error, match=sentence):
            plan([job], tmp_path)
    for seed in (0, 1):
        RunDir.create(tmp_path / "two" / f"a-s{seed}", "name: a\n")
    with pytest.raises(JobError, match=r"has 2 runs; name one"):
        plan([evaluation(generator, classifier=str(tmp_path / "two"))], tmp_path)
    recipe = tmp_path / "job.yaml"
    recipe.write_text("evaluate: {run: x, clasifier: x}\n")
    with pytest.raises(JobError, match=r"evaluate.clasifier: unknown; did you mean 'classifier'"):
        load_jobs(recipe)
    opened = open_trained(generator)
    with pytest.raises(ShardError, match="too few; expected 8 or more"):
        draw_and_measure(
            opened, DrawSection(images=8, steps=1), None, open_split(shards, "val[:6]"),
            tmp_path / "few", seed=0, device=CPU, interrupt=Interrupt(), beat=lambda _: None,
        )  # fmt: skip
