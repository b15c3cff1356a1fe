"""Simulated sets: their form, that they are repeatable, and that their physics is the preset's.

With `$DEEPLENSE_REAL_DATA` they are also held against eighteen real images of Common Test I, and
shown to a network that was trained on the real set.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import math
import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from judge import judge
from scipy import signal, stats
from sklearn.metrics import roc_auc_score

from deeplense_batch.data.encoding import encode_counts
from deeplense_batch.data.laws import PowerLaw
from deeplense_batch.data.presets import CLASSES, PRESETS, Preset
from deeplense_batch.data.scenes import as_batch, deflection, draw_scene, lens_radius, render
from deeplense_batch.data.shards import ShardError, Split, open_split, read_splits
from deeplense_batch.data.simulate import simulate
from deeplense_batch.lensing.camera import fine_grid, kernel_matrix
from deeplense_batch.lensing.profiles import line_mass, point_masses, points_on_line

NAMES = tuple(PRESETS)


def scenes_of(preset: Preset, target: int, count: int):
    return [draw_scene(preset, target, np.random.default_rng([7, i])) for i in range(count)]


@pytest.fixture(scope="module", params=NAMES)
def root(request, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp(request.param)
    simulate("substructure", root, preset=request.param, images=31, seed=5, shard_size=10)
    return root


class TestForm:
    def test_layout_of_the_public_set(self, root):
        splits = read_splits(root)
        assert {name: len(split) for name, split in splits.items()} == {"train": 25, "val": 6}
        for split in splits.values():
            assert split.shape == (1, 150, 150)
            assert (split.stored, split.dtype) == (np.uint16, np.float64)
            assert split.classes == CLASSES == ("no", "sphere", "vort")
            assert split.pixel_scale == 0.05
            assert split.seed == 5
        assert splits["train"].class_counts == (9, 8, 8)
        assert splits["val"].class_counts == (2, 2, 2)

    def test_values_fill_zero_to_one_and_are_counts(self, root):
        for name in ("train", "val"):
            images = open_split(root, name).images()
            assert images.dtype == np.float64
            assert (images.min((1, 2, 3)) == 0).all() and (images.max((1, 2, 3)) == 1).all()
            counts, scale = encode_counts(images[0])
            stored, scales = open_split(root, name).stored()
            assert (counts == stored[0]).all() and scale == scales[0]

    def test_names_say_split_class_and_number(self, root):
        split = open_split(root, "train")
        named = [name.split("/") for name in split.ids()]
        assert len(set(split.ids())) == len(split)
        assert [CLASSES.index(folder) for _, folder, _ in named] == split.targets().tolist()
        index = [int(number) * 3 + CLASSES.index(folder) for _, folder, number in named]
        assert split.truth("index").tolist() == index

    def test_truth(self, root):
        split = open_split(root, "train")
        fraction, targets = split.truth("substructure_fraction"), split.targets()
        assert (fraction[targets == 0] == 0).all()
        assert (fraction[targets != 0] > 0).all()
        assert ((split.truth("theta_e") > 0.8) & (split.truth("theta_e") < 1.8)).all()
        assert split.truth("halos").shape == (25, 25, 3)
        assert (split.truth("vortex")[targets == 2, 4] > 0).all()

    def test_manifest(self, root):
        manifest = json.loads((root / "manifest.json").read_text())
        preset = PRESETS[manifest["preset"]["name"]]
        assert manifest["unphysical"] == preset.unphysical == bool(manifest["slips"])
        assert manifest["counts"]["val"] == {"no": 2, "sphere": 2, "vort": 2}
        assert manifest["preset"]["sphere"]["mass"] == {
            "law": "PowerLaw",
            "exponent": -0.9,
            "low": 1e6,
            "high": 1e10,
        }
        assert set(manifest["versions"]) == {"deeplense_batch", "torch", "numpy"}

    def test_nothing_else_is_left(self, root):
        shards = {f"train-0000{i}-of-00003.h5" for i in range(3)} | {"val-00000-of-00001.h5"}
        assert {path.name for path in root.iterdir()} == shards | {"manifest.json"}


class TestRepeatable:
    def images(self, root: Path) -> dict[str, bytes]:
        found = {}
        for name in ("train", "val"):
            split = open_split(root, name)
            stored, scale = split.stored()
            for i, sample in enumerate(split.ids()):
                found[sample] = stored[i].tobytes() + scale[i].tobytes()
        return found

    @pytest.mark.parametrize("name", NAMES)
    def test_whatever_the_batch_the_shard_and_the_set(self, name, tmp_path, monkeypatch):
        options = {"preset": name, "seed": 3, "size": 64}
        first = simulate("substructure", tmp_path / "a", images=24, **options)
        monkeypatch.setattr("deeplense_batch.data.simulate._BATCH", 7)
        simulate("substructure", tmp_path / "b", images=24, shard_size=5, **options)
        simulate("substructure", tmp_path / "c", images=48, **options)
        a, b, c = (self.images(tmp_path / folder) for folder in "abc")
        assert a == b
        assert {sample: c[sample] for sample in a} == a
        again = simulate("substructure", tmp_path / "d", images=24, **options)
        monkeypatch.setattr("deeplense_batch.data.simulate._BATCH", 4)
        assert again.digest == first.digest

    def test_another_seed_and_split_are_other_images(self, tmp_path):
        simulate("substructure", tmp_path / "a", images=6, seed=0, size=64)
        simulate("substructure", tmp_path / "b", images=6, seed=1, size=64)
        every = [*self.images(tmp_path / "a").values(), *self.images(tmp_path / "b").values()]
        assert len(set(every)) == 12

    def test_the_scene_again_from_the_truth(self, tmp_path):
        simulate("substructure", tmp_path, images=12, seed=4, size=64)
        (path,) = tmp_path.glob("train-*.h5")
        with h5py.File(path) as file:
            truth = {name: torch.from_numpy(values[:]) for name, values in file["truth"].items()}
        preset = PRESETS["common_test_1"]
        drawn = draw_scene(preset, int(truth["index"][0]) % 3, stream(4, truth["index"][0]))
        one, many = render(preset, as_batch([drawn]), 64), render(preset, truth, 64)
        assert torch.equal(one[0], many[0])


def stream(seed: int, index: torch.Tensor) -> np.random.Generator:
    return np.random.default_rng([seed, 0, int(index)])


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"kind": "substucture"}, "nearest is 'substructure'"),
            ({"preset": "common_test"}, "nearest is 'common_test_1'"),
            ({"preset": "xyz"}, "there is common_test_1, benchmark"),
            ({"images": 5}, "images: expected a whole number from 6, one of each class"),
            ({"images": 60.0}, "got 60.0"),
            ({"size": 16}, "size: expected a whole number from 32 to 2048 pixels; got 16"),
            ({"size": 5000}, "got 5000"),
            ({"seed": -1}, "seed: expected a whole number from 0"),
            ({"shard_size": 0}, "shard_size: expected a whole number from 1"),
        ],
    )
    def test_before_anything_is_written(self, change, says, tmp_path):
        arguments = {"kind": "substructure", "out": tmp_path / "set", "images": 6} | change
        with pytest.raises(ShardError, match=says):
            simulate(arguments.pop("kind"), arguments.pop("out"), **arguments)
        assert not (tmp_path / "set").exists()

    def test_a_folder_with_shards(self, tmp_path):
        simulate("substructure", tmp_path, images=6, size=32)
        with pytest.raises(ShardError, match="holds shards already"):
            simulate("substructure", tmp_path, images=6, size=32)

    def test_a_broken_off_simulation_leaves_no_shards(self, tmp_path, monkeypatch):
        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("deeplense_batch.data.simulate.data_digest", fail)
        monkeypatch.setattr("deeplense_batch.data.simulate.ShardWriter.finish", fail)
        with pytest.raises(KeyboardInterrupt):
            simulate("substructure", tmp_path, images=6, size=32)
        assert list(tmp_path.iterdir()) == []


def test_report_and_log(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        report = simulate("substructure", tmp_path, images=7, size=32)
    text = str(report)
    assert text.startswith("7 images of preset common_test_1")
    assert "train: 4 (2 no, 1 sphere, 1 vort)" in text
    assert "unphysical on purpose" in text
    assert "simulated 7 of 7 images" in caplog.text


class TestPhysics:
    def test_masses_follow_the_power_law(self):
        """p(m) ~ m^-1.9 and m^-0.9: distribution, and slope by maximum likelihood."""
        for exponent in (-1.9, -0.9):
            law = PowerLaw(exponent, 1e6, 1e10)
            masses = law.draw(np.random.default_rng(1), 100_000)
            k = exponent + 1

            def below(m, k=k):
                return (m**k - 1e6**k) / (1e10**k - 1e6**k)

            assert stats.kstest(masses, below).pvalue > 1e-3
            slopes = np.linspace(exponent - 0.05, exponent + 0.05, 201)
            norms = np.log((1e10 ** (slopes + 1) - 1e6 ** (slopes + 1)) / (slopes + 1))
            likelihood = slopes * np.log(masses).mean() - norms
            assert slopes[likelihood.argmax()] == pytest.approx(exponent, abs=0.01)

    @pytest.mark.parametrize("name", NAMES)
    def test_twenty_five_halos_carry_four_percent(self, name):
        fractions = [s["substructure_fraction"] for s in scenes_of(PRESETS[name], 1, 800)]
        assert np.mean(fractions) == pytest.approx(0.038, rel=0.04)

    def test_nothing_else_differs_by_class(self):
        for preset in PRESETS.values():
            drawn = [scenes_of(preset, c, 5) for c in range(3)]
            for no, sphere, vort in zip(*drawn, strict=True):
                for name in set(no) - {"halos", "vortex", "substructure_fraction"}:
                    assert (no[name] == sphere[name]).all() and (no[name] == vort[name]).all()

    def test_nuisances_follow_one_law_in_a_set(self, tmp_path):
        simulate("substructure", tmp_path, images=600, seed=2, size=32)
        split = open_split(tmp_path, "train")
        targets = split.targets()
        columns = np.column_stack(
            [split.truth(name) for name in ("theta_e", "z_l", "z_s", "shear", "source")]
        )
        varying = columns[:, columns.std(0) > 0]
        pairs = [(0, 1), (0, 2), (1, 2)]
        for values in varying.T:
            for a, b in pairs:
                test = stats.ks_2samp(values[targets == a], values[targets == b])
                assert test.pvalue > 1e-3 / (len(pairs) * varying.shape[1])

    @pytest.mark.parametrize("target", range(3))
    def test_compensation_keeps_the_ring(self, target):
        """Mean radial deflection over the circle theta_e is theta_e, whatever the class."""
        circular = dataclasses.replace(
            PRESETS["benchmark"],
            lens=dataclasses.replace(PRESETS["benchmark"].lens, q=PRESETS["common_test_1"].lens.q),
        )
        scenes = as_batch(scenes_of(circular, target, 4))
        theta_e = circular.lens.theta_e.value
        samples = 40_000
        turn = (torch.arange(samples, dtype=torch.float64) + 0.5) * (2 * math.pi / samples)
        cos, sin = torch.cos(turn), torch.sin(turn)
        for i in range(4):
            one = {name: values[i : i + 1] for name, values in scenes.items()}
            total = 0.0
            for first in range(0, samples, 400):  # the grid is a product: its diagonal is meant
                c, s = cos[first : first + 400], sin[first : first + 400]
                ax, ay = deflection(
                    circular, one, theta_e * c.view(1, 1, -1), theta_e * s.view(1, -1, 1)
                )
                total += (ax[0].diagonal() * c + ay[0].diagonal() * s).sum().item()
            assert total / samples == pytest.approx(theta_e, rel=1e-4)

    def test_shared_mass_leaves_the_total(self):
        preset = PRESETS["common_test_1"]
        scenes = as_batch([s for c in range(3) for s in scenes_of(preset, c, 5)])
        radius = lens_radius(preset, scenes)
        total = radius**2 / (1 - scenes["substructure_fraction"])
        assert torch.allclose(total.sqrt(), scenes["theta_e"], rtol=1e-12)

    def test_common_test_1_keeps_its_slips(self):
        scenes = as_batch(scenes_of(PRESETS["common_test_1"], 0, 2000))
        g1, g2 = scenes["shear"].unbind(1)
        assert (g1 >= 0).all() and (g2 <= 0).all()
        assert -0.23 < (g2 / g1).min() < -0.21
        assert torch.hypot(g1, g2).max() == pytest.approx(0.3, abs=1e-3)
        # 1e12 solar masses by luminosity distances; by the right ones it would be 1.66 arcsec.
        assert scenes["theta_e"].median() == pytest.approx(1.29, abs=0.03)

    def test_supersampling_of_two_is_enough(self):
        preset = PRESETS["benchmark"]
        scenes = as_batch([s for c in range(2) for s in scenes_of(preset, c, 2)])
        coarse = render(preset, scenes, 150)
        fine = render(dataclasses.replace(preset, supersampling=6), scenes, 150)
        error = (coarse - fine).pow(2).mean((1, 2)).sqrt() / fine.amax((1, 2))
        assert error.max() < 1e-3

    def test_common_test_1_samples_a_pixel_once(self):
        """As the fits prefer; it costs an rms error below a thousandth of the peak."""
        preset = PRESETS["common_test_1"]
        assert preset.supersampling == 1
        scenes = as_batch([s for c in range(3) for s in scenes_of(preset, c, 4)])
        coarse = render(preset, scenes, 150)
        fine = render(dataclasses.replace(preset, supersampling=6), scenes, 150)
        error = (coarse - fine).pow(2).mean((1, 2)).sqrt() / fine.amax((1, 2))
        assert error.max() < 1e-3

    @pytest.mark.parametrize("supersampling", [1, 2])
    def test_kernel_is_a_convolution_of_pixels(self, supersampling):
        """The matrix against averaging samples and a convolution with the sampled Gaussian."""
        size, sigma = 40, 0.087
        sky = np.random.default_rng(0).random([size * supersampling] * 2)
        matrix = kernel_matrix(size, 0.05, supersampling, sigma, 11)
        ours = (matrix @ torch.from_numpy(sky) @ matrix.T).numpy()
        pixels = sky.reshape(size, supersampling, size, supersampling).mean((1, 3))
        steps = np.arange(-5, 6) * 0.05
        kernel = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * sigma**2))
        theirs = signal.convolve2d(pixels, kernel / kernel.sum(), mode="valid")
        assert ours[5:-5, 5:-5] == pytest.approx(theirs, rel=1e-12)
        assert matrix.sum(1).numpy() == pytest.approx(1.0, rel=1e-12)

    def test_points_become_the_line(self):
        """Middle, spacing and direction, and the deflection of many points away from the line."""
        line = [torch.tensor([v], dtype=torch.float64) for v in (0.3, -0.2, 0.7, 1.6)]
        x, y = points_on_line(*line, count=25)
        assert x.mean() == pytest.approx(0.3) and y.mean() == pytest.approx(-0.2)
        steps = torch.hypot(x.diff(), y.diff())
        assert steps.numpy() == pytest.approx(1.6 / 25)
        assert torch.atan2(y.diff(), x.diff()).numpy() == pytest.approx(0.7)
        at = fine_grid(30, 0.2, 1)
        total = torch.tensor([0.05], dtype=torch.float64)
        each = (total / 400)[:, None].expand(1, 400)
        points = point_masses(*at, *points_on_line(*line, count=400), each)
        exact = line_mass(*at, *(v[:, None, None] for v in (*line, total)))
        away = torch.hypot(at[0] - 0.3, at[1] + 0.2) > 0.9
        for a, b in zip(points, exact, strict=True):
            assert torch.allclose(a[away], b[away], atol=1e-5)

    def test_the_fits_have_the_model_of_the_preset(self):
        """The script that settled the preset renders the scenes that the preset draws."""
        fits = load_script("fit_common_test_1")
        preset = PRESETS["common_test_1"]
        for target in range(3):
            scene = scenes_of(preset, target, 1)[0]
            batch = as_batch([scene])
            radius = float(lens_radius(preset, batch))
            q, phi = scene["source"][4:]
            modulus, total = (1 - q) / (1 + q), float(scene["theta_e"]) ** 2 / 1e12
            values = fits.START | dict(zip(("g1", "g2"), scene["shear"], strict=True))
            values |= {"theta_e": radius, "x": scene["source"][0], "y": scene["source"][1]}
            values |= {"e1": modulus * math.cos(2 * phi), "e2": modulus * math.sin(2 * phi)}
            if target == 1:
                for i, (mass, x, y) in enumerate(scene["halos"]):
                    at = {f"mass_{i}": mass * total / radius**2, f"x_{i}": x, f"y_{i}": y}
                    values |= at
            elif target == 2:
                mass, *line = scene["vortex"]
                values |= dict(zip(fits.LINE, (*line, mass * total / radius**2), strict=True))
            empty = fits.Image("", torch.zeros(150, 150, dtype=torch.float64), 0.0)
            counts = fits.Model(empty, points=25)([values])[0] - fits.SKY
            error = (counts - render(preset, batch, 150)[0]).abs()
            # Single precision moves a ray that passes close to a point mass.
            assert error.quantile(0.99) < 0.05 and error.median() < 1e-3

    def test_readout_grain_is_far_below_the_noise(self):
        camera = PRESETS["benchmark"].camera
        assert 1 / (12 * camera.counts_per_sky_sd**2) < 1e-4


def load_script(name: str):
    path = Path(__file__).parent.parent / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def real() -> Path:
    folder = os.environ.get("DEEPLENSE_REAL_DATA")
    if not folder:
        pytest.skip("DEEPLENSE_REAL_DATA is unset: no real images to compare with")
    return Path(folder)


@pytest.fixture(scope="module")
def eighteen(real) -> np.ndarray:
    files = sorted((real / "common_test_1").glob("*/*.npy"))
    assert len(files) == 18
    return np.stack([np.load(path).reshape(1, 150, 150) for path in files])


@pytest.fixture(scope="module")
def simulated(real, tmp_path_factory) -> Split:
    root = tmp_path_factory.mktemp("common_test_1")
    simulate("substructure", root, images=750, seed=11)
    return open_split(root, "train")


class TestAgainstRealImages:
    def test_pixel_statistics(self, eighteen, simulated):
        """Of each statistic: mean within three standard errors of theirs, and the same spread."""
        theirs = np.array([statistics(image) for image in eighteen])
        ours = np.array([statistics(image) for image in simulated.images()])
        assert ((ours.mean(0) > theirs.min(0)) & (ours.mean(0) < theirs.max(0))).all()
        off = (ours.mean(0) - theirs.mean(0)) / (theirs.std(0, ddof=1) / math.sqrt(len(theirs)))
        assert (abs(off) < 3).all(), off
        spread = ours.std(0) / theirs.std(0)
        assert ((spread > 1 / 2) & (spread < 2)).all(), spread

    def test_radial_profile(self, eighteen, simulated):
        """The mean over a set, in rings of 0.25 arcsec: within three standard errors."""
        theirs = np.array([radial_profile(image[0], 0.25) for image in eighteen])
        ours = np.array([radial_profile(image[0], 0.25) for image in simulated.images()])
        error = theirs.std(0, ddof=1) / math.sqrt(len(theirs))
        off = (ours.mean(0) - theirs.mean(0)) / error
        assert (abs(off) < 3).all(), off

    def test_a_network_trained_on_the_real_set_reads_ours(self, real, simulated):
        images = torch.from_numpy(simulated.images()).float()
        probabilities = judge(real, images, CLASSES).double()
        probabilities /= probabilities.sum(1, keepdim=True)
        auc = roc_auc_score(simulated.targets(), probabilities, multi_class="ovr")
        right = probabilities.argmax(1).numpy() == simulated.targets()
        one = [
            roc_auc_score(simulated.targets() == c, probabilities[:, c])
            for c in range(len(CLASSES))
        ]
        # Of 1,800 images 0.962 and 0.851, classes 0.976, 0.961 and 0.950; less three standard
        # deviations of a sample of 600.
        assert len(images) == 600
        assert auc >= 0.945
        assert right.mean() >= 0.81
        assert min(one) >= 0.925


def statistics(image: np.ndarray) -> list[float]:
    """Mean, sd, levels, mean and sd of the corners in counts, radius of the ring in arcsec."""
    encoded = encode_counts(image)
    assert encoded is not None
    counts, (levels,) = encoded[0][0].astype(float), encoded[1]
    corners = [counts[rows, columns] for rows in (CORNER, FAR) for columns in (CORNER, FAR)]
    ring = (radial_profile(counts, 0.1).argmax() + 0.5) * 0.1
    sky = float(np.mean(corners)), float(np.std(corners))
    return [image.mean(), image.std(), levels, *sky, ring]


def radial_profile(image: np.ndarray, width: float) -> np.ndarray:
    """Means of an image in rings around its middle, out to its edge."""
    x, y = fine_grid(150, 0.05, 1)
    bins = (torch.hypot(x, y)[0].numpy() / width).astype(int).ravel()
    return (np.bincount(bins, image.ravel()) / np.bincount(bins))[: int(3.75 / width)]


CORNER, FAR = slice(0, 15), slice(-15, None)
