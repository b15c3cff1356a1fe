"""Values as networks see them, computed again in NumPy, and the noise of skies that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_shards import write_shards

from deeplense_batch.core.sections.data import DataSection
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.formats.masks import fill_masked, pad
from deeplense_batch.data.pixels import transform as module
from deeplense_batch.data.pixels.transform import Transform, noise_of
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.simulation.simulate import simulate

CPU = torch.device("cpu")
SKY = np.array([0.02, 5.0])  # of two bands in very different units
SIDE = 32
FORMULAS = {
    "asinh": np.arcsinh,
    "log": lambda x: np.sign(x) * np.log1p(np.abs(x)),
    "sqrt": lambda x: np.sign(x) * (np.sqrt(1 + np.abs(x)) - 1),
}


def galaxies(count: int, *, side: int = SIDE, peak: float = 200, radius: float = 0.1):
    """Galaxies in the middle of cutouts, (N, side, side), in units of the sky's sd.

    Arguments:
        count: How many.
        side: Pixels.
        peak: Of their light.
        radius: Scale length of their exponential profiles, in sides.
    """
    random = np.random.default_rng(8)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    ratio, angle = random.uniform(0.5, 1, (2, count, 1, 1))
    angle = 2 * np.pi * angle
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return peak * np.exp(-np.sqrt(u**2 * ratio + v**2 / ratio + 1) / (radius * side))


def survey(count: int = 60, seed: int = 1) -> np.ndarray:
    """Cutouts of a survey, (N, 2, SIDE, SIDE) float32: galaxies on a sky about zero."""
    noise = np.random.default_rng(seed).normal(size=(count, 2, SIDE, SIDE))
    light = galaxies(count)[:, None] * np.array([1, 0.5])[:, None, None]
    return ((light + noise) * SKY[:, None, None]).astype(np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """60 cutouts for training and 20 others."""
    folder = tmp_path_factory.mktemp("survey")
    for split, images in (("train", survey()), ("val", survey(20, seed=2))):
        write_shards(folder, split, images, np.arange(len(images)) % 3)
    return folder


def loader(root, slice_="train", *, transform=None, resident="auto", **fields) -> Loader:
    """A loader of a slice, as a recipe has it."""
    transform = transform or Transform.of(DataSection(root=str(root), **fields))
    return Loader(open_split(root, slice_), transform=transform, device=CPU, resident=resident)


def whole(loader: Loader) -> np.ndarray:
    """Everything that a network sees of a slice, (N, C, H, W)."""
    batches = loader.batches(loader.in_order(rank=0, world=1))
    return torch.cat([images for images, *_ in batches]).numpy()


@pytest.mark.parametrize("name", FORMULAS)
def test_a_stretch_keeps_signs_and_order_and_is_linear_where_it_is_faint(name):
    made = Transform(None, None, name, softening=3.0, sky_sd=(0.5, 2.0))
    x = torch.tensor([-1e30, -40.0, -1.0, -1e-4, 0.0, 1e-4, 1.0, 40.0, 1e30])
    found = made.stretched(x.expand(1, 2, 1, -1)).numpy()[0, :, 0]
    expected = np.stack([FORMULAS[name](x.double().numpy() / s) for s in (1.5, 6.0)])
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert (np.diff(found) > 0).all() and np.array_equal(found, -found[:, ::-1])
    assert x[0] == np.float32(-1e30)  # what came is not written over


def test_without_a_softening_asinh_and_log_are_what_they_were_to_the_last_bit():
    x = torch.linspace(-0.3, 1, 4001).view(1, 1, 1, -1)
    expected = {
        "linear": x,
        "asinh": torch.asinh(x / 0.05) / np.arcsinh(1 / 0.05).item(),
        "log": torch.log1p(x.clamp(min=0) / 0.05) / np.log1p(1 / 0.05).item(),
        "sqrt": torch.sign(x) * x.abs().sqrt(),
    }
    for name, values in expected.items():
        assert torch.equal(Transform(None, None, name)(x), values), name


@pytest.mark.parametrize("clip", [None, (2.0, 99.5), (0.0, 100.0)])
@pytest.mark.parametrize("per", ["band", "set", "image"])
@pytest.mark.parametrize("stretch", FORMULAS)
def test_what_a_network_sees_is_what_the_recipe_says(root, stretch, per, clip):
    fields = {"stretch": stretch, "softening": 2, "sky_sd": tuple(SKY), "per": per, "clip": clip}
    train, valid = (loader(root, slice_, **fields) for slice_ in ("train", "val"))
    train.transform = valid.transform = train.measured()
    own, others = survey().astype(np.float64), survey(20, seed=2).astype(np.float64)
    own, others = (FORMULAS[stretch](v / (2 * SKY[:, None, None])) for v in (own, others))
    axes = {"band": (0, 2, 3), "set": None, "image": (1, 2, 3)}[per]
    of = others if per == "image" else own
    if clip is not None:
        options = {"axis": axes, "keepdims": True, "method": "inverted_cdf"}
        low, high = np.percentile(of, clip, **options)
        of, others = of.clip(low, high), others.clip(low, high)
    expected = (others - of.mean(axes, keepdims=True)) / of.std(axes, keepdims=True)
    found = whole(valid)
    assert np.allclose(found, expected, atol=2e-4)
    if per == "image":
        assert np.allclose(found.mean((1, 2, 3)), 0, atol=1e-5)
        assert np.allclose(found.std((1, 2, 3)), 1, atol=1e-4)


def test_what_was_measured_comes_back_from_the_weights_and_nothing_else_is_kept(root):
    for fields, kept in (
        ({}, set()),
        ({"stretch": "asinh"}, set()),
        ({"stretch": "asinh", "softening": 3}, {"sky_sd"}),
        ({"per": "set", "clip": [1, 99]}, {"limits"}),
        ({"stretch": "log", "softening": 1, "per": "image", "clip": [1, 99]}, {"sky_sd"}),
    ):
        data = DataSection(root=str(root), **fields)
        made = loader(root, **fields).measured()
        stored = made.stored()
        assert set(stored) == {"mean", "sd"} | kept
        assert Transform.of(data, stored) == made
        for name in kept:
            with pytest.raises(KeyError, match=name):
                Transform.of(data, {k: v for k, v in stored.items() if k != name})


@pytest.mark.parametrize("kind", ["device", "host", "off"])
@pytest.mark.parametrize("per", ["band", "set", "image"])
def test_wherever_and_however_many_images_are_made_they_are_the_same(root, kind, per):
    fields = {"stretch": "asinh", "softening": 3, "per": per, "clip": [1, 99]}
    made = loader(root, **fields)
    made.transform = made.measured()
    other = loader(root, resident=kind, **fields)
    other.transform = other.measured()
    assert other.transform == made.transform
    single = [images for images, *_ in other.batches([np.array([i]) for i in range(60)])]
    assert np.array_equal(torch.cat(single).numpy(), whole(made))


def test_noise_is_measured_beside_a_galaxy_that_fills_the_cutout():
    """Where the usual estimate of a sky, the median absolute deviation, takes it for noise."""
    for side, peak, radius, allowed in (
        (32, 0, 1, 0.02), (32, 200, 0.1, 0.05), (64, 500, 0.15, 0.05), (100, 1000, 0.2, 0.05),
    ):  # fmt: skip
        noise = np.random.default_rng(3).normal(size=(40, 1, side, side))
        images = galaxies(40, side=side, peak=peak, radius=radius)[:, None] + noise
        found = np.median(noise_of(images.astype(np.float32)))
        assert 1 - allowed < found < 1 + allowed, (side, peak, radius)
        flat = images.reshape(40, -1)
        mad = 1.4826 * np.median(np.abs(flat - np.median(flat, 1, keepdims=True)), 1)
        assert peak < 500 or np.median(mad) > 10


def padded(images: np.ndarray, size: int = 64) -> np.ndarray:
    """Images, (N, C, H, W), in the middle of larger ones, as `pack --pad` makes them."""
    return np.stack([pad(image, size) for image in images])


def masked(images: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Images, (N, C, H, W), with the median where `hidden`, (N, C, H, W) bool."""
    return np.stack([fill_masked(*pair) for pair in zip(images, hidden, strict=True)])


def at_an_edge(images: np.ndarray, *, rows: int) -> np.ndarray:
    """Where the first rows and the last column of images are, (N, C, H, W) bool."""
    hidden = np.zeros(images.shape, bool)
    hidden[:, :, :rows] = hidden[..., -1:] = True
    return hidden


@pytest.mark.parametrize("grain", [None, 0.05])
@pytest.mark.parametrize("peak", [0, 300])
@pytest.mark.parametrize(
    "fill",
    [
        lambda x: padded(x[..., 2:-2, 2:-2]),
        lambda x: padded(x[..., 8:-8, 8:-8]),
        lambda x: padded(x[..., 16:-16, 16:-16]),
        lambda x: masked(x, at_an_edge(x, rows=4)),
        lambda x: masked(x, at_an_edge(x, rows=20)),
        lambda x: masked(x, np.random.default_rng(5).random(x.shape) < 0.1),
        lambda x: np.where(at_an_edge(x, rows=16), np.float32(-2), x),
    ],
    ids=["pad 4", "pad 16", "pad 32", "rows", "many rows", "pixels", "by others"],
)
def test_pixels_that_were_filled_are_no_sky(fill, peak, grain):
    noise = np.random.default_rng(3).normal(size=(60, 1, 64, 64))
    images = galaxies(60, side=64, peak=peak, radius=0.04)[:, None] + noise
    if grain:  # stored in whole numbers of it
        images = np.rint(images / grain) * grain
    assert np.median(noise_of(fill(images.astype(np.float32)))) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(("sd", "quanta"), [(0.45, 1), (0.7, 1), (2.0, 3), (3.0, 5)])
def test_a_sky_of_few_values_was_not_filled(sd, quanta):
    """Whose usual value may be that of half of the pixels; differences are of whole numbers."""
    images = np.rint(sd * np.random.default_rng(3).normal(size=(60, 1, 64, 64)))
    assert np.median(noise_of(images)) == pytest.approx(quanta * 1.4826 / np.sqrt(6), rel=1e-4)


def test_the_sky_of_a_padded_set_is_that_of_its_images(tmp_path):
    write_shards(tmp_path, "train", padded(survey(), 48), np.arange(60) % 3)
    made = loader(tmp_path, stretch="asinh", softening=3).measured()
    assert made.sky_sd == pytest.approx(tuple(SKY), rel=0.06)


def test_a_sky_that_is_hardly_there_is_one_sentence(tmp_path):
    write_shards(tmp_path, "train", padded(survey(12)[..., 10:22, 10:22], 64), np.arange(12) % 3)
    sentence = r"train: the sky of band 1 of 2 has no noise .* or were filled; state data\.sky_sd"
    with pytest.raises(ShardError, match=sentence):
        loader(tmp_path, stretch="asinh", softening=3).measured()


def test_noise_of_a_coadd_whose_neighbours_share_it():
    """As resampling makes it: smoothed by (a, 1, a) along both axes, neighbours correlate by r."""
    white = np.random.default_rng(4).normal(size=(40, 1, 66, 66))
    for r, allowed in ((0.2, 0.03), (0.4, 0.1)):
        a = r / (1 + np.sqrt(1 - 2 * r * r))
        rows = white[..., 1:-1] + a * (white[..., :-2] + white[..., 2:])
        both = rows[:, :, 1:-1] + a * (rows[:, :, :-2] + rows[:, :, 2:])
        both /= both.std()
        assert np.median(noise_of(both)) == pytest.approx(1, abs=allowed)


def test_noise_of_simulated_cutouts_is_that_which_was_put_in(tmp_path):
    simulate("lens_finding", tmp_path, images=90)
    split = open_split(tmp_path, "train")
    least, most = np.moveaxis(split.truth("scale"), -1, 0)  # counts at 0 and at 1
    ratio = noise_of(split.images().astype(np.float32)) * (most - least) / split.truth("sky_sd")
    assert np.median(ratio, 0) == pytest.approx((1, 1, 1), abs=0.03)


def test_the_sky_of_the_training_slice_is_the_unit_of_a_softening(root, caplog):
    made = loader(root, stretch="asinh", softening=3)
    assert made.measured().sky_sd == pytest.approx(tuple(SKY), rel=0.05)
    assert made.measured().scales == pytest.approx(tuple(3 * SKY), rel=0.05)
    assert "was the sky not subtracted" not in caplog.text
    stated = loader(root, stretch="asinh", softening=3, sky_sd=[1.0, 2.0]).measured()
    assert stated.sky_sd == (1.0, 2.0) and stated.scales == (3.0, 6.0)


def test_a_band_that_some_images_lack_is_measured_on_the_others(tmp_path):
    images = survey(30)
    images[::2, 1] = 0
    write_shards(tmp_path, "train", images, np.arange(30) % 3)
    found = loader(tmp_path, stretch="asinh", softening=3, per="image").measured()
    assert found.sky_sd == pytest.approx(tuple(SKY), rel=0.05)


def test_a_sky_without_noise_is_one_sentence(tmp_path):
    images = survey(12)
    images[:, 1] = np.rint(images[:, 1] / 100)  # so coarse that most pixels are 0
    write_shards(tmp_path, "train", images, np.arange(12) % 3)
    sentence = r"train: the sky of band 2 of 2 has no noise .*; state data\.sky_sd, or leave"
    with pytest.raises(ShardError, match=sentence):
        loader(tmp_path, stretch="asinh", softening=3).measured()
    stated = {"stretch": "asinh", "softening": 3, "sky_sd": [0.02, 1.0]}
    assert loader(tmp_path, **stated).measured().mean


def test_a_sky_that_was_not_subtracted_is_warned_of(tmp_path, caplog):
    images = survey(12)
    images[:, 0] += 1
    write_shards(tmp_path, "train", images, np.arange(12) % 3)
    loader(tmp_path, stretch="asinh", softening=3).measured()
    assert "train: in band 1 of 2 half of the pixels are beyond 1.0" in caplog.text
    assert "was the sky not subtracted?" in caplog.text and "band 2" not in caplog.text


@pytest.mark.parametrize(("peak", "near"), [(1.5e-7, "1.5e-07"), (0.04, "0.04"), (255, "255")])
def test_other_images_than_those_from_0_to_1_are_warned_of_without_a_softening(
    tmp_path, caplog, peak, near
):
    light = galaxies(30)[:, None].astype(np.float32)
    light *= peak / light.max((1, 2, 3), keepdims=True)
    write_shards(tmp_path, "train", light, np.arange(30) % 3)
    others = [{"stretch": "sqrt"}, {"stretch": "linear"}, {"stretch": "log", "softening": 3}]
    for fields in (*others, {"stretch": "asinh", "per": "image"}, {"stretch": "log"}):
        caplog.clear()
        loader(tmp_path, sky_sd=[1e-9] if "softening" in fields else None, **fields).measured()
        assert (f"largest value of most of these is near {near}" in caplog.text) == (
            "softening" not in fields and fields["stretch"] in ("asinh", "log")
        )
    assert "train: data.stretch log without a softening is for images from 0 to 1" in caplog.text
    assert "softening: 3 stretches" in caplog.text


def test_images_from_0_to_1_need_no_softening(tmp_path, caplog):
    light = galaxies(30)[:, None].astype(np.float32)
    write_shards(tmp_path, "train", light / light.max((1, 2, 3), keepdims=True), np.arange(30) % 3)
    loader(tmp_path, stretch="asinh").measured()
    loader(tmp_path, stretch="log").measured()
    assert "softening" not in caplog.text


def test_percentiles_of_a_large_set_are_those_of_its_first_images(root, monkeypatch):
    monkeypatch.setattr(module, "_CLIPPED", 7 * 2 * SIDE**2 + 5)
    found = loader(root, clip=[10, 90]).measured().limits
    first = survey()[:7].astype(np.float64)
    expected = np.percentile(first, [10, 90], axis=(0, 2, 3), method="inverted_cdf").T
    assert np.array_equal(found, expected)


@pytest.fixture
def tiles(tmp_path):
    """Four tiles of 100 cutouts, one after the other, each deeper and brighter than the last.

    In each the cutouts alternate between two classes, one of which is brighter.
    """
    noise = np.random.default_rng(6).normal(size=(400, 1, 16, 16))
    tile, kind = np.arange(400) // 100, np.arange(400) % 2
    sky, level = 1.0 + tile, 100.0 * tile + 40 * kind
    images = noise * sky[:, None, None, None] + level[:, None, None, None]
    catalogue = {"tile": np.array([f"T{number}" for number in tile], object)}
    write_shards(
        tmp_path, "train", images.astype(np.float32), kind, group="tile", catalogue=catalogue
    )
    return tmp_path


def test_where_groups_lie_together_what_is_measured_is_of_all_of_them(tiles, monkeypatch):
    monkeypatch.setattr(module, "_IMAGES", 100)  # as many as a tile has
    made = loader(tiles).measured()
    assert made.mean == pytest.approx((170,), abs=8)
    assert made.sd == pytest.approx((np.hypot(111.8, 20),), abs=5)
    low, high = loader(tiles, clip=[1, 99]).measured().limits[0]
    assert low == pytest.approx(0, abs=5) and high == pytest.approx(345, abs=10)
    asked = {"stretch": "asinh", "softening": 3, "per": "image"}
    assert loader(tiles, **asked).measured().sky_sd == pytest.approx((2.5,), abs=0.2)
    assert loader(tiles).measured() == made  # the same images are drawn again


def test_a_slice_of_groups_that_is_small_is_measured_whole(tiles):
    own = open_split(tiles, "train").images().astype(np.float64)
    made = loader(tiles).measured()
    assert (made.mean, made.sd) == (pytest.approx((own.mean(),)), pytest.approx((own.std(),)))


def test_constant_images_are_found_where_each_is_normalised_by_itself(tmp_path):
    images = survey(30)
    images[[3, 20]] = 0.1
    images[7, 0] = 0.1  # of one band alone: the image has a contrast
    write_shards(tmp_path, "train", images, np.arange(30) % 3)
    made = loader(tmp_path, per="image")
    assert made.flat().tolist() == [3, 20]
    assert np.isnan(whole(made)[[3, 20]]).all()
    others = np.delete(whole(made), [3, 20], 0)
    assert np.isfinite(others).all()
    assert len(loader(tmp_path).flat()) == 0


def test_a_set_is_constant_by_bands_or_as_a_whole(tmp_path):
    images = survey(12)
    images[:, 1] = 0.25
    write_shards(tmp_path, "train", images, np.arange(12) % 3)
    with pytest.raises(ShardError, match="train: a channel of the images is constant"):
        loader(tmp_path).measured()
    made = loader(tmp_path, per="set").measured()
    assert made.mean[0] == made.mean[1] and made.sd[0] == made.sd[1]
    assert replace(made, mean=(), sd=()).stored() == {"mean": [], "sd": []}
