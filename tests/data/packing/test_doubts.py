"""What packing tells or refuses, so that nothing is lost in silence."""

import io
import json
import unicodedata
import warnings

import numpy as np
import pytest
from astropy.io import fits
from conftest import read_image, typed
from fuzz_packs import fuzz
from made_sources import N, fill, noise, told

from deeplense_batch.data.packing.doubts import doubts
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split


def test_doubled_folders_are_one(tmp_path):
    fill(
        tmp_path / "set", *(f"{c}/{c}/{i}.npy" for c in ("lenses", "nonlenses") for i in range(5))
    )
    report = pack(tmp_path / "set", tmp_path / "out")
    assert report.classes == ("nonlenses", "lenses")
    assert "note: doubled folders are read as one: lenses/lenses and 1 more" in str(report)
    fill(tmp_path / "half", "a/a/1.npy", "b/1.npy", "b/2.npy")
    assert pack(tmp_path / "half", tmp_path / "out2").classes == ("a", "b")
    fill(tmp_path / "splits", "train/train/1.npy", "val/val/1.npy")
    assert pack(tmp_path / "splits", tmp_path / "out3").classes == ()


def test_classes_that_look_alike_are_refused_and_files_doubted(tmp_path):
    accent = unicodedata.normalize("NFD", "é")
    for one, other in (("Lens", "lens"), ("é", accent)):
        root = fill(tmp_path / one, f"train/{one}/1.npy", f"val/{other}/2.npy", "train/x/3.npy")
        with pytest.raises(
            ShardError, match="by case, spaces or the writing of letters alone; give"
        ):
            pack(root, tmp_path / "out")
    assert "WARNING: 'A.npy' and 'a.npy' differ by" in told(fill(tmp_path / "f", "A.npy", "a.npy"))


def test_a_name_of_an_object_in_two_splits_is_doubted(tmp_path):
    names = [f"{split}/a/{name}.npy" for split in ("train", "test")
             for name in ("J1234+5678", "100002", "000017", "5")]  # fmt: skip
    text = told(fill(tmp_path / "set", *names))
    assert "test/a/100002.npy and train/a/100002.npy are one object by their names" in text
    assert "in two splits (2 such): scores will be too good" in text


# Values that no image has


def put(value, where=np.s_[:, 3:6, 4:7], scale=1.0):
    def change(pixels):
        pixels = pixels * scale
        pixels[where] = value
        return pixels

    return change


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (put(100, scale=1e-12), "apart", "9 pixels of 100 beside values from "),
        (put(-99), "apart", "9 pixels of -99 beside"),
        (put(-99, np.s_[:, 3, 4]), "apart", "1 pixel of -99 beside"),
        (put(1e30, np.s_[:, 3, 4]), "apart", "1 pixel of 1e+30 beside"),
        (put(100, np.s_[:, :20]), "apart", "640 pixels of 100 beside"),
        (lambda p: put(65535)((p * 30 + 900).round()), "apart", "9 pixels of 65535 beside"),
        (lambda p: put(0)(p + 100), "apart", "9 pixels of 0 beside"),
        (put(0, np.s_[:, :4]), "edge", "128 pixels at an edge are all 0"),
        (put(0.5, np.s_[:, :, -3:]), "edge", "96 pixels at an edge are all 0.5"),
        (put(0, (0, *np.tril_indices(N, -20))), "repeated", "78 pixels are all 0"),
        (lambda p: np.concatenate([p, 0 * p]), "constant", "channel 1 is constant, all 0"),
        (lambda p: np.concatenate([p, put(-99)(p)]), "apart", "9 pixels of -99 beside"),
    ],
)
def test_values_that_no_image_has(change, kind, text):
    pixels = noise()
    pixels = change(pixels)
    (found,) = doubts(pixels)
    assert found.kind == kind and found.text.startswith(text)


def ordinary():
    """Images as they are: counts, saturated, clipped, scaled, without noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] - 31.5
    light = np.exp(-np.hypot(x, y) / 6)
    for sky in (0.003, 0.03, 0.3, 3, 30, 300):
        for peak in (1, 30, 1e3, 1e5):
            counts = random.poisson(sky + peak * light).astype(np.float64)
            if counts.any():
                yield counts
                yield (counts - counts.min()) / np.ptp(counts)
                yield np.clip(counts, 0, 0.3 * peak + sky + 3)  # saturated
                yield np.log1p(counts)
            yield np.clip(counts - sky + random.normal(size=counts.shape), 0, None)
            yield sky + peak * light
            yield np.where(np.hypot(x, y) < 20, light, 0)
            yield (255 * (light + 0.05 * random.random(light.shape)).clip(0, 1)).astype(np.uint8)


def test_ordinary_images_are_not_doubted():
    for pixels in ordinary():
        if pixels.min() < pixels.max():
            assert not doubts(pixels[None])


def test_real_images_are_not_doubted_but_for_one_that_is_a_mask(real_data):
    """A channel of test_lenses/6 holds three values, and is all one of them along an edge."""
    found = {}
    for path in [
        *real_data.glob("common_test_1/*/*.npy"),
        *real_data.glob("lens_finding/*/*.npy"),
    ]:
        if doubted := doubts(np.load(path)):
            found[f"{path.parent.name}/{path.name}"] = [one.kind for one in doubted]
    assert found == {"test_lenses/6.npy": ["edge"]}


def test_doubts_are_counted_and_the_first_is_named(tmp_path):
    root = fill(tmp_path / "set", *(f"{i}.npy" for i in range(3)))
    fill(root, "10.npy", "9.npy", change=put(100, scale=1e-12))
    text = told(root)
    assert "WARNING: 2 images have a value far from all others, such as 9.npy: 9 pixels of" in text
    assert "if it is no light, --mask_value 100 fills such pixels" in text
    assert text.count("WARNING") == 1


def test_the_least_integer_is_a_mark_though_it_has_no_absolute_value():
    pixels = np.arange(400, dtype=np.int64).reshape(20, 20) % 100
    pixels[3, 4] = np.iinfo(np.int64).min
    (doubt,) = doubts(pixels[None])
    assert doubt.value == -(2.0**63) and doubt.text.startswith("1 pixel of -9.22337e+18")


@pytest.mark.parametrize("value", [100, -99, 1e30, np.nan, np.inf])
def test_masked_pixels_become_the_median_of_the_rest(tmp_path, value):
    root = fill(tmp_path / "set", "1.npy", "2.npy", "3.npy")
    fill(root, "1.npy", change=put(value, np.s_[:, :3]))
    report = pack(root, tmp_path / "out", mask_value=value)
    split = open_split(tmp_path / "out", "train")
    packed = dict(zip(split.ids(), split.images(), strict=True))
    expected = noise(0)
    expected[:, :3] = np.median(expected[:, 3:])
    assert (packed["1.npy"] == expected).all() and (packed["2.npy"] == noise(1)).all()
    assert f"note: 96 pixels had the mask value {value:g}, in 1 of the images" in str(report)
    assert "WARNING" not in str(report)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["options"]["mask_value"] in (value, str(value))


def test_a_channel_of_masked_pixels_is_bad_and_a_word_is_no_value(tmp_path, capsys):
    root = fill(tmp_path / "set", "1.npy", "2.npy")
    np.save(root / "2.npy", np.full((N, N), -99.0))
    with pytest.raises(ShardError, match=r"2.npy: a channel has the mask value -99 in all its"):
        pack(root, tmp_path / "out", mask_value=-99)
    code, _, error = typed(capsys, "pack", root, tmp_path / "out", "--mask_value=x")
    assert code == 2 and "--mask_value: expected a number, got 'x'" in error
    code, shown, _ = typed(
        capsys, "pack", root, tmp_path / "out", "--mask_value=-99", "--skip_bad"
    )
    assert code == 0 and "1 x a channel has the mask value -99" in shown


def test_random_sets_lose_nothing_in_silence():
    ends, wrong = fuzz(40, seed=3)
    assert not wrong, "\n".join(wrong)
    assert ends["packed"] > 20 and ends["refused"] > 2


def test_a_reader_s_own_warnings_do_not_reach_a_person():
    """A cut picture or FITS file is one sentence; astropy and Pillow warn before they raise."""
    file = io.BytesIO()
    fits.PrimaryHDU(np.random.default_rng(0).random((32, 32)).astype("f4")).writeto(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="too small"):  # a warning would be raised in its place
            read_image("a.fits", file.getvalue()[:4000])


def test_a_band_that_is_zeros_as_it_was_asked_is_not_doubted(tmp_path):
    names = [f"{i}_{band}.npy" for i in range(4) for band in "gri" if (i, band) != (2, "r")]
    fill(tmp_path / "set", *names)
    assert not pack(tmp_path / "set", tmp_path / "out", missing_band="zero").warnings
    np.save(tmp_path / "set" / "2_i.npy", np.zeros((1, N, N)))  # which nobody asked for
    (warning,) = pack(tmp_path / "set", tmp_path / "more", missing_band="zero").warnings
    assert "1 image has a constant channel" in warning and "channel 2 is constant" in warning
    planes = np.stack([np.zeros((N, N)), noise()[0]])
    assert not doubts(planes, but={0}) and len(doubts(planes)) == 1
