"""Judging generated images: measures that see what is wrong, and runs that tell them."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from conftest import (
    CLASSES,
    PATIENCE,
    REPOSITORY,
    Gate,
    make_images,
    make_job,
    typed,
    wait_for,
)
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

from deeplense_batch.attempts import Interrupt
from deeplense_batch.collect import collect
from deeplense_batch.compare import Compared
from deeplense_batch.data.loader import Loader
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.simulate import simulate
from deeplense_batch.job import JobError, JudgeSection, NotYetError
from deeplense_batch.judging import distances, image_statistics
from deeplense_batch.judging.critic import Critic, inception
from deeplense_batch.judging.judge import draw_and_judge, open_critic
from deeplense_batch.judging.measure import GENERATED, HELD_OUT, TRAINING, measure
from deeplense_batch.models import INCEPTION
from deeplense_batch.models.weights import WeightsError, backbone
from deeplense_batch.plan import plan
from deeplense_batch.recipe import load_jobs
from deeplense_batch.run import run
from deeplense_batch.rundir import RunDir
from deeplense_batch.trained import TrainedError, open_trained

CPU = torch.device("cpu")
TINY = {"width": 8, "multiples": [1, 2], "blocks": 1, "attention": 0}
JUDGE = {"images": 200, "steps": 8, "useful": True}


def rings(count, seed, classes=(0, 1, 2)):
    """Images (N, 1, 24, 24) float32 in [0, 1] of some classes, and these, (N,)."""
    counts, targets = make_images(3 * count, seed)
    chosen = np.flatnonzero(np.isin(targets, classes))[:count]
    images = counts[chosen] / counts.max((2, 3), keepdims=True)[chosen]
    return images.astype(np.float32), targets[chosen]


def generator_job(shards, judge=None, **fields):
    options = {"conditions": ["class"]}
    job = {
        "name": "generator",
        "task": {"name": "generation", "options": options},
        "model": {"name": "unet", "options": TINY},
        "train": {"epochs": 2, "batch_size": 16, "lr": 2e-3, "ema": 0.9},
    }
    return make_job(shards, **job | fields | ({"judge": judge} if judge else {}))


@pytest.fixture(scope="module")
def place(shards, tmp_path_factory):
    """Folder of runs with a trained classifier in it."""
    root = tmp_path_factory.mktemp("runs")
    (item,) = plan([make_job(shards, name="judge", train={"epochs": 4, "batch_size": 24})], root)
    run(item, device="cpu")
    return root


@pytest.fixture(scope="module")
def judged(shards, place):
    """A finished generator whose images were judged."""
    job = generator_job(shards, {"classifier": str(place / "judge")} | JUDGE)
    (item,) = plan([job], place)
    run(item, device="cpu")
    return item


@pytest.fixture(scope="module")
def unaided(shards, tmp_path_factory):
    """A generator that is told no classes, judged without a classifier."""
    job = generator_job(
        shards, {"images": 600, "steps": 8}, name="unaided",
        task={"name": "generation", "options": {}},
        train={"epochs": 1, "batch_size": 16, "lr": 2e-3, "ema": 0.9},
    )  # fmt: skip
    (item,) = plan([job], tmp_path_factory.mktemp("unaided"))
    run(item, device="cpu")
    return item


@pytest.fixture(scope="module")
def critic(judged):
    trained = open_trained(judged.run.path)
    return open_critic(judged.training.judge, trained, CPU)


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

    def test_it_crops_to_its_field_and_resizes(self, judged, critic):
        generator = open_trained(judged.run.path)
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


def test_a_run_tells_what_its_images_are_worth(judged):
    metrics = judged.run.read_json("metrics.json")
    scores, found = metrics["test"]["scores"], metrics["judged"]
    assert found["images"] == 54 and found["classifier"].startswith("judge/test_resnet-s0")
    assert open_split(judged.run.path / "samples", "train").info.classes == CLASSES
    names = ("fid", "kid", "precision", "recall", "diversity", "class_accuracy", "power_spectrum",
             "pixels", "einstein_radius", "flux", "peaks", "copied", "copied_features",
             "useful_auc")  # fmt: skip
    for name in names:
        assert scores[name] == found[name]["generated"], name
        assert np.isfinite([scores[name], scores[f"{name}_real"]]).all(), name
    assert scores["fid"] > 3 * scores["fid_real"], "two epochs make no lenses"
    assert scores["power_spectrum"] > 3 * scores["power_spectrum_real"]
    assert 0.9 < scores["diversity_real"] < 1.1 and scores["copied_real"] < 0.03
    assert scores["useful_auc_real"] > 0.7
    assert set(found["class_accuracy"]["classes"]) == set(CLASSES)
    notes = metrics["test"]["notes"]
    assert any("weights of inception_v3" in note for note in notes)
    assert any(f"test AUC is {found['classifier_auc']:.4f}" in note for note in notes)
    drawn = {path.stem for path in judged.run.figures.iterdir()}
    assert {"samples", "neighbours", "power_spectrum", "distributions"} <= drawn
    assert np.load(judged.run.path / "judged.npz")["generated_power"].shape == (12,)


def trained_only(done, root):
    """The same run, before its images are drawn."""
    (item,) = plan([done.training], root)
    shutil.copytree(done.run.path, item.run.path)
    for name in ("metrics.json", "outputs.npz", "status.json", "judged.npz", "log.txt"):
        (item.run.path / name).unlink()
    for name in ("samples", "figures", "useful"):
        shutil.rmtree(item.run.path / name, ignore_errors=True)
    return item


_HOLD = """\
import os, sys
if "run" in sys.orig_argv:
    import pathlib, time
    from deeplense_batch.judging import judge
    gate = pathlib.Path(os.environ["GATE"])
    measure, draw, draw_and_judge = judge.measure, judge.draw, judge.draw_and_judge
    def held(trained, critic, loaders, each):
        gate.with_name("judging").touch()
        while gate.exists():
            each()
            time.sleep(0.005)
        return measure(trained, critic, loaders, each)
    def drawn(trained, folder, *, each, **asked):
        def held():
            each()
            while "HELD_DRAWING" in os.environ and gate.exists():
                if not any(folder.glob(".parts/*.h5")):
                    break
                time.sleep(0.005)
        return draw(trained, folder, each=held, **asked)
    def told(*asked, **named):
        found = draw_and_judge(*asked, **named)
        gate.with_name("through").touch()
        return found
    judge.measure, judge.draw, judge.draw_and_judge = held, drawn, told
"""


@pytest.fixture
def held(tmp_path):
    """Holds runs in other processes while they judge, or draw."""
    gate = Gate(tmp_path, _HOLD)
    yield gate
    gate.open()


@pytest.mark.slow
def test_two_processes_stopped_while_one_judges_exit_85(judged, tmp_path, held):
    """The other one, which only waits, must not die of the signal."""
    item = trained_only(judged, tmp_path / "runs")
    command = [sys.executable, "-m", "deeplense_batch", "run", "--processes=2", "--device=cpu"]
    process = subprocess.Popen([*command, str(item.run.path)], env=os.environ | held.shut())
    wait_for(lambda: (tmp_path / "judging").exists() and (tmp_path / "through").exists())
    process.terminate()
    assert process.wait(PATIENCE) == 85
    assert item.run.status().state == "stopped"
    run(item, device="cpu")
    one, other = (each.run.read_json("metrics.json")["judged"] for each in (judged, item))
    assert one == other


def test_a_run_is_judged_in_one_way(unaided, tmp_path):
    otherwise = unaided.training.judge.model_copy(update={"sampler": "heun"})
    other = unaided.training.model_copy(update={"judge": otherwise})
    with pytest.raises(JobError, match=r"unaided: judge: .* is judged in another way"):
        plan([unaided.training, other], tmp_path)
    item = trained_only(unaided, tmp_path)
    with pytest.raises(JobError, match="a run is judged once, and 'judge RUN --out FOLDER'"):
        plan([other], tmp_path)
    run(item, device="cpu")
    assert plan([other], tmp_path)  # done, and nothing to do


def test_killed_while_it_judges_it_goes_on_to_the_same_numbers(unaided, tmp_path, held):
    item = trained_only(unaided, tmp_path / "runs")
    command = [sys.executable, "-m", "deeplense_batch", "run", str(item.run.path)]
    environment = os.environ | held.shut() | {"HELD_DRAWING": "1"}
    process = subprocess.Popen([*command, "--device=cpu"], env=environment)
    wait_for(lambda: list((item.run.path / "samples" / ".parts").glob("*.h5")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert item.run.status().state == "lost" and not (item.run.path / "judged.npz").exists()
    assert len(list((item.run.path / "samples" / ".parts").glob("*.h5"))) < 5
    run(item, device="cpu")
    one, other = (each.run.read_json("metrics.json") for each in (unaided, item))
    assert one["judged"] == other["judged"] and one["test"] == other["test"]


def test_several_processes_draw_the_images_of_one(judged, critic, tmp_path):
    trained = open_trained(judged.run.path)
    section = judged.training.judge.model_copy(update={"useful": False})
    asked = {"seed": 0, "device": CPU, "interrupt": Interrupt(), "beat": lambda _: None}
    for rank, expected in ((1, False), (0, True)):
        found = draw_and_judge(
            trained, section, critic, tmp_path, rank=rank, ranks=2, **asked
        )  # fmt: skip
        assert (found is not None) == expected
    numbers = judged.run.read_json("metrics.json")["judged"]
    assert json.loads(json.dumps(found.numbers | {"useful_auc": numbers["useful_auc"]})) == numbers


def test_of_two_seeds_validation_picks_the_better_though_both_are_below_nothing():
    rows = [{"valid_score": score, "run": name} for score, name in ((-3.0, "a"), (-1.0, "b"))]
    assert Compared("unet", [*rows, {"run": "c"}]).picked["run"] == "b"


def test_the_judge_does_not_change_what_a_run_is(shards, judged):
    plain = generator_job(shards)
    assert plain.identity("x") == judged.training.identity("x")


def test_the_verb_judges_a_finished_run(judged, place, tmp_path, capsys):
    words = ("judge", judged.run.path, "--out", tmp_path / "out", "--images=30", "--steps=3")
    words += ("--device=cpu",)
    code, text, error = typed(capsys, *words, "--classifier", place / "judge")
    assert code == 0, error
    assert "fid " in text and "real" in text
    content = json.loads((tmp_path / "out" / "judged.json").read_text())
    assert content["numbers"]["images"] == 30 and content["asked"]["steps"] == 3
    assert (tmp_path / "out" / "figures" / "samples.png").exists()
    code, text, _ = typed(capsys, *words, "--classifier", place / "judge")
    assert code == 0 and "already there" in text
    code, _, error = typed(capsys, *words)
    assert code == 3 and "holds another judgement" in error
    for said, more in (
        ("holds something else", ("--out", place)),
        ("useful: needs a classifier", ("--useful",)),
        ("no finished run there", ("--classifier", tmp_path)),
    ):
        code, _, error = typed(capsys, *words, *more)
        assert code == 3 and said in error, said
    code, _, error = typed(capsys, *words, "--images=5")
    assert code == 2 and "--images: should be greater than or equal to 8, got 5" in error


def test_without_a_classifier_what_needs_none_is_told(unaided):
    metrics = unaided.run.read_json("metrics.json")
    scores = metrics["test"]["scores"]
    assert "fid" not in scores and "class_accuracy" not in scores and "pixels" in scores
    assert any("judged without a classifier" in note for note in metrics["test"]["notes"])
    assert metrics["judged"]["steps"] == 8


def test_a_class_that_a_set_lacks_is_left_out_and_told(judged, critic, tmp_path):
    trained = open_trained(judged.run.path)
    loaders = {
        name: Loader(split, transform=replace(trained.transform, mean=(), sd=()), device=CPU)
        for name, split in (
            (GENERATED, open_split(judged.run.path / "samples", "train")),
            (TRAINING, trained.slice("train")),
            (HELD_OUT, trained.slice("test")),
        )
    }
    loaders[HELD_OUT].targets[loaders[HELD_OUT].targets == 2] = 0
    found = measure(trained, critic, loaders, lambda: None)
    assert any("judged without class vort" in note for note in found.notes)
    assert found.numbers["class_accuracy"]["classes"]["vort"] == {"generated": None, "real": None}
    found.write(RunDir(tmp_path), "two classes")
    assert (tmp_path / "figures" / "samples.png").exists()


def test_runs_that_generate_stand_in_one_report(judged, unaided, tmp_path):
    for item in (judged, unaided):
        shutil.copytree(item.run.path.parent, tmp_path / "runs" / item.job.name)
    report = collect(tmp_path / "runs", tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    scores = judged.run.read_json("metrics.json")["test"]["scores"]
    assert "FID (real)" in text and "real against real" in text
    assert "no bootstrap interval: a generator gives no answers to single samples" in text
    assert f"{scores['fid']:.3g} ({scores['fid_real']:.3g})" in text
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())["figures"]
    (drawn,) = [figure for figure in figures if figure["name"] == "fid"]
    assert drawn["arguments"]["models"][0]["generated"] == pytest.approx(scores["fid"])
    page = (tmp_path / "report" / "report.html").read_text()
    assert "FID (real)" in page and ">samples<" in page
    table = report.table.set_index("job")
    assert table.loc["generator", "fid"] == pytest.approx(scores["fid"])
    assert np.isnan(table.loc["unaided", "fid"])


@pytest.mark.parametrize(
    ("judge", "fields", "error", "sentence"),
    [
        ({}, {"task": {"name": "classification"}, "model": {"name": "test_resnet", "options": {}}},
         JobError, "makes no images to judge; only generation does"),
        ({}, {"data": {"stretch": "asinh"}}, JobError, "data.stretch asinh cannot be given back"),
        ({"useful": True}, {}, JobError, "judge.useful: needs judge.classifier"),
        ({"classifier": "nothing"}, {}, NotYetError, "nothing: no finished run there"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_in_one_sentence(
    shards, tmp_path, judge, fields, error, sentence
):
    job = generator_job(shards, {"images": 20} | judge, **fields)
    with pytest.raises(error, match=sentence):
        plan([job], tmp_path)


def test_a_judge_that_is_none_is_refused(shards, judged, place, tmp_path):
    with pytest.raises(JobError, match="tells no classes apart"):
        plan([generator_job(shards, {"classifier": str(judged.run.path)})], tmp_path)
    with pytest.raises(JobError, match=r"has 2 runs; name one"):
        for seed in (0, 1):
            RunDir.create(tmp_path / "two" / f"a-s{seed}", "name: a\n")
        plan([generator_job(shards, {"classifier": str(tmp_path / "two")})], tmp_path)
    recipe = tmp_path / "job.yaml"
    recipe.write_text("model: {name: unet}\ndata: {root: x}\njudge: {clasifier: x}\n")
    with pytest.raises(JobError, match=r"judge.clasifier: unknown; did you mean 'classifier'"):
        load_jobs(recipe)
    (job,) = load_jobs(recipe_without(recipe), {"judge.steps": 5})
    assert job.judge == JudgeSection(steps=5)
    trained = open_trained(judged.run.path)
    few = trained.job.data.model_copy(update={"test": "val[:6]"})
    trained = replace(trained, job=trained.job.model_copy(update={"data": few}))
    with pytest.raises(ShardError, match="too few; expected 8 or more"):
        draw_and_judge(
            trained, JudgeSection(images=8, steps=1), None, tmp_path / "few", seed=0, device=CPU,
            interrupt=Interrupt(), beat=lambda _: None,
        )  # fmt: skip


def recipe_without(recipe):
    """The same recipe, its judge empty."""
    recipe.write_text("model: {name: unet}\ndata: {root: x}\njudge: null\n")
    return recipe


def test_the_docs_list_every_field_of_the_section_with_its_default():
    page = (REPOSITORY / "docs" / "generation.md").read_text()
    listed = yaml.safe_load(re.search(r"```yaml\n(judge:.*?)```", page, re.S)[1])["judge"]
    assert listed == JudgeSection(classifier="runs/judge").model_dump()
