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
from conftest import (
    CLASSES,
    PATIENCE,
    Gate,
    make_images,
    make_job,
    wait_for,
)
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

from deeplense_batch.core.job import DrawSection, Evaluation, JobError, NotYetError
from deeplense_batch.core.processes import Interrupt
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.loader import Loader
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.inference.generation import distances, image_statistics
from deeplense_batch.inference.generation.features import Critic, inception
from deeplense_batch.inference.generation.measure import GENERATED, HELD_OUT, TRAINING, measure
from deeplense_batch.inference.trained import TrainedError, open_trained
from deeplense_batch.models import INCEPTION
from deeplense_batch.models.weights import WeightsError, backbone
from deeplense_batch.report.collect import collect
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.runs.evaluation_run import draw_and_measure, evaluate_run, open_critic
from deeplense_batch.runs.plan import plan
from deeplense_batch.runs.training_run import run
from deeplense_batch.simulation.simulate import simulate

CPU = torch.device("cpu")
TINY = {"width": 8, "multiples": [1, 2], "blocks": 1, "attention": 0}
DRAWN = {"images": 200, "steps": 8}


def rings(count, seed, classes=(0, 1, 2)):
    """Images (N, 1, 24, 24) float32 in [0, 1] of some classes, and these, (N,)."""
    counts, targets = make_images(3 * count, seed)
    chosen = np.flatnonzero(np.isin(targets, classes))[:count]
    images = counts[chosen] / counts.max((2, 3), keepdims=True)[chosen]
    return images.astype(np.float32), targets[chosen]


def generator_job(shards, **fields):
    options = {"conditions": ["class"]}
    job = {
        "name": "generator",
        "task": {"name": "generation", "options": options},
        "model": {"name": "unet", "options": TINY},
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

    def test_fid_of_normal_features_is_that_of_their_moments(self):
        """Against |m - m'|^2 + tr(C + C' - 2 sqrt(C C')), with covariances that commute."""
        random = np.random.default_rng(0)
        a, b = random.normal(size=(2, 4000, 3)) * ([[1, 2, 3]], [[2, 2, 1]]) + [[[0.0]], [[1.0]]]
        expected = 3 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
        assert distances.fid(a, b) == pytest.approx(expected, rel=0.1)
        turned = np.concatenate([a, np.zeros((4000, 9000))], 1)[:50]  # fewer samples than features
        other = np.concatenate([b, np.zeros((4000, 9000))], 1)[:50]
        assert distances.fid(turned, other) == pytest.approx(
            distances.fid(a[:50], b[:50]), rel=1e-6
        )

    def test_kid_is_the_same_every_time(self):
        a, b = np.random.default_rng(0).normal(size=(2, 50, 8))
        before = torch.get_rng_state()
        assert distances.kid(a, b) == distances.kid(a, b)
        assert torch.equal(torch.get_rng_state(), before)

    def test_one_process_of_several_finds_them_alone(self, monkeypatch, tmp_path):
        """The others have ended, and would be waited for in vain."""
        a, b = np.random.default_rng(0).normal(size=(2, 20, 4))
        alone = distances.fid(a, b), distances.kid(a, b)
        store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            monkeypatch.setattr(torch.distributed, "barrier", lambda **_: pytest.fail("waits"))
            assert (distances.fid(a, b), distances.kid(a, b)) == alone
        finally:
            torch.distributed.destroy_process_group()

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


class TestStatistics:
    def test_the_power_of_white_noise_is_flat_and_that_of_a_wave_is_at_its_wavenumber(self):
        noise = np.random.default_rng(0).normal(0, 2, (200, 32, 32)).astype(np.float32)
        wavenumbers, power = image_statistics.power_spectrum(noise)
        assert np.allclose(power, 4, rtol=0.1) and wavenumbers[-1] == 0.5
        wave = np.cos(2 * np.pi * 5 / 32 * np.arange(32))[None, :, None] * np.ones((1, 1, 32))
        _, power = image_statistics.power_spectrum(wave.astype(np.float32))
        assert power.argmax() + 1 == 5

    @pytest.mark.parametrize("galaxy", [0.0, 3.0])
    def test_the_radius_of_a_ring_is_found_to_a_pixel(self, galaxy):
        y, x = np.mgrid[:64, :64] - 31.5
        r = np.hypot(x, y)
        radii = np.linspace(8, 24, 33)
        images = np.exp(-((r - radii[:, None, None]) ** 2) / 6) + galaxy * np.exp(-r / 2)
        images = images + np.random.default_rng(0).normal(0, 0.1, images.shape)
        found = image_statistics.einstein_radii(images.astype(np.float32))
        assert np.abs(found - radii).max() < 1
        falls = image_statistics.einstein_radii(np.exp(-r / 4)[None].astype(np.float32))
        assert np.isnan(falls).all()

    def test_it_is_that_of_simulated_lenses_on_the_axis(self, tmp_path):
        """To a pixel, where source and lens are on the axis and nearly round."""
        simulate(
            "substructure", tmp_path / "set", preset="varied", images=60,
            set_={
                "source.place.x": 0.0, "source.place.y": 0.0, "lens.q": 0.95, "lens.shear": 0.0,
            },
        )  # fmt: skip
        split = open_split(tmp_path / "set", "train")
        found = image_statistics.einstein_radii(split.images()[:, 0].astype(np.float32))
        errors = found - split.truth("theta_e") / split.info.pixel_scale
        assert np.median(np.abs(errors)) < 1

    def test_peaks_above_the_sky_are_counted(self):
        random = np.random.default_rng(0)
        images = random.normal(1.0, 0.1, (4, 1, 40, 40)).astype(np.float32)
        level, noise = image_statistics.sky_of(images)
        assert level == pytest.approx(1, abs=0.02) and noise == pytest.approx(0.1, rel=0.1)
        for number in range(4):
            for place in range(number):
                images[number, 0, 8 + 8 * place, 20] += 2
        assert image_statistics.peak_counts(images[:, 0], (level, noise)).tolist() == [0, 1, 2, 3]

    def test_every_distance_is_nothing_to_itself_and_sees_its_fault(self):
        images, others = rings(60, 3)[0], rings(60, 4)[0]
        sky = image_statistics.sky_of(images)
        measure = lambda some: image_statistics.measure(some, sky)  # noqa: E731
        of = measure(images)
        assert set(image_statistics.distances(of, of, 0.05).values()) == {0.0}
        real = image_statistics.distances(measure(others), of, 0.05)
        blurred = [
            image_statistics.distances(measure(gaussian_filter(others, (0, 0, s, s))), of, 0.05)
            for s in (0.5, 1.0, 2.0)
        ]
        spectra = [found["power_spectrum"] for found in (real, *blurred)]
        assert spectra == sorted(spectra) and spectra[1] > 3 * spectra[0]
        assert blurred[2]["peaks"] > 3 * real["peaks"]
        bright = image_statistics.distances(measure(1.5 * others), of, np.nan)
        assert bright["flux"] > 3 * real["flux"] and bright["pixels"] > 3 * real["pixels"]
        small = np.pad(others[..., ::2, ::2], ((0, 0), (0, 0), (6, 6), (6, 6)))
        assert image_statistics.distances(measure(small), of, 0.1)["einstein_radius"] > 0.3


class TestCritic:
    def test_its_features_are_the_input_of_the_last_layer(self, critic):
        images = rings(8, 3)[0]
        features, logits = critic(images)
        model = critic.trained.model
        head = model.get_classifier()
        assert np.allclose(features @ head.weight.double().detach().numpy().T
                           + head.bias.double().detach().numpy(), logits, atol=1e-4)  # fmt: skip
        expected = model(critic.trained.transform(torch.from_numpy(images)))
        assert np.allclose(logits, expected.detach().numpy(), atol=1e-4)

    def test_it_crops_to_its_field_and_resizes(self, generator, critic):
        generator = open_trained(generator)
        small = Critic(cropped(critic.trained), generator, CPU)
        images = rings(8, 3)[0]
        assert small.kept == 16 and small(images)[1].shape == (8, 3)
        around = images.copy()
        around[..., :4, :] = around[..., -4:, :] = 9
        assert np.array_equal(small(images)[0], small(around)[0])
        with pytest.raises(TrainedError, match=r"sees a field 1\.5 times as wide"):
            Critic(critic.trained, cropped(generator), CPU)
        with pytest.raises(TrainedError, match="tells no classes"):
            Critic(generator, generator, CPU)

    def test_inception_is_judged_by_where_its_weights_are(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path))
        images = rings(3, 3)[0]
        with pytest.raises(WeightsError, match="fetch"):
            inception(images, CPU)
        torch.manual_seed(0)
        weights = backbone(INCEPTION, pretrained=False).state_dict()
        file = tmp_path / f"{INCEPTION}.safetensors"
        save_file({k: v.contiguous() for k, v in weights.items()}, file)
        digest = subprocess.run(["sha256sum", file.name], cwd=tmp_path, capture_output=True).stdout
        (tmp_path / "SHA256SUMS").write_bytes(digest)
        found = inception(images, CPU)(images)
        assert found.shape == (3, 2048) and np.isfinite(found).all() and found.std(0).any()


def cropped(trained):
    """A run that sees the inner 16 of 24 pixels, enlarged to 20."""
    data = trained.job.data.model_copy(update={"crop": 16, "size": 20})
    return replace(trained, job=trained.job.model_copy(update={"data": data}))


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
    from deeplense_batch.runs import evaluation_run
    gate = pathlib.Path(os.environ["GATE"])
    measure, draw = evaluation_run.measure, evaluation_run.draw
    draw_and_measure = evaluation_run.draw_and_measure
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
        return draw(trained, folder, on_batch=held, **asked)
    def told(*asked, **named):
        found = draw_and_measure(*asked, **named)
        gate.with_name("through").touch()
        return found
    evaluation_run.measure, evaluation_run.draw = held, drawn
    evaluation_run.draw_and_measure = told
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
