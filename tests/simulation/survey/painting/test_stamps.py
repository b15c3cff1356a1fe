"""Real galaxies as sources: what of a cutout is kept, and where it is seen."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from made_galaxies import galaxy, write_galaxies
from made_survey import stream, survey_with

from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.survey.painting.stamps import Stamps, cleaned, read_stamps
from deeplense_batch.simulation.survey.presets import HSC


def cutout(flux: float = 4e4, level: float = 7.0, sd: float = 3.0, **shape) -> np.ndarray:
    """A galaxy on a sky, (1, 60, 60)."""
    noise = sd * np.random.default_rng(3).standard_normal((60, 60))
    return (galaxy(flux=flux, **shape) + level + noise)[None]


def folder_of(root: Path, images: np.ndarray) -> str:
    root.mkdir()
    for i, image in enumerate(images):
        np.save(root / f"{i}.npy", image)
    return str(root)


class TestCleaned:
    def test_flux_centre_and_radius(self):
        stamp = cleaned(cutout(centre=(3.0, -2.0), q=0.8))
        assert stamp is not None
        assert stamp.flux == pytest.approx([4e4], rel=0.05)
        assert stamp.light.sum((1, 2)) == pytest.approx([1.0])
        assert stamp.radius == pytest.approx(4.0 * math.sqrt(2 * math.log(2)), rel=0.15)

    def test_nothing_of_the_sky_is_left(self):
        stamp = cleaned(cutout(sigma=2.0))
        assert stamp is not None
        assert stamp.light.min() == 0.0
        assert (stamp.light[:, [0, -1]] < 1e-9).all() and stamp.light.shape[1] < 40

    def test_a_neighbour_is_left_out(self):
        both = cutout(sigma=2.0)
        both[0] += galaxy(flux=8e4, centre=(17.0, 15.0), sigma=2.0)
        stamp = cleaned(both)
        assert stamp is not None
        assert stamp.flux == pytest.approx([4e4], rel=0.05)

    @pytest.mark.parametrize(
        "image",
        (cutout(flux=50.0), cutout(flux=1e6, sigma=14.0), cutout(flux=0.0)),
        ids=("faint", "cut off", "none"),
    )
    def test_no_source(self, image):
        assert cleaned(image) is None


class TestSource:
    def test_flux_is_one_whatever_its_size_and_turn(self, tmp_path):
        images = np.stack([cutout(q=q, phi=1.0) for q in (0.4, 0.9)])
        stamps = read_stamps(folder_of(tmp_path / "cuts", images), HSC)
        axis = (torch.arange(1200, dtype=torch.float64) - 599.5) * 0.005
        for i in range(4):
            source = stamps.draw(HSC, 0.8, stream(i))
            at = axis[None, None, :], axis[None, :, None]
            shape = source.brightness(at[0] + source.centre[0], at[1] + source.centre[1])
            assert float(shape.sum()) * 0.005**2 == pytest.approx(1.0, abs=0.01)
            self.has_half_of_the_light_within(source.radius, shape, axis)

    @staticmethod
    def has_half_of_the_light_within(radius, shape, axis):
        inside = torch.hypot(axis[None, :], axis[:, None]) < radius
        assert float(shape[0][inside].sum() / shape.sum()) == pytest.approx(0.5, abs=0.06)

    def test_it_is_turned_by_phi(self, tmp_path):
        stamps = read_stamps(folder_of(tmp_path / "cuts", cutout(q=0.3, phi=0.0)[None]), HSC)
        source = dataclasses.replace(
            stamps.draw(HSC, 1.0, stream(1)), centre=(0.0, 0.0), phi=math.pi / 2
        )
        far = torch.tensor([[[source.radius]]], dtype=torch.float64)
        along, across = source.brightness(0 * far, far), source.brightness(far, 0 * far)
        assert float(along) > 3 * float(across)

    def test_drawn_as_simulated_ones_are(self, tmp_path):
        stamps = read_stamps(folder_of(tmp_path / "cuts", cutout()[None]), HSC)
        source = stamps.draw(HSC, 1.0, stream(5))
        assert source.stamp == 1 and np.hypot(*source.centre) <= HSC.source.disc
        assert 22 <= source.magnitudes[0] <= 26


class TestColours:
    images = np.stack(
        [np.concatenate([f * (cutout() - 7) for f in (1.0, 2.0, 4.0)]).astype(np.float32)] * 2
    )

    def stamps(self, root: Path, images: np.ndarray, **options) -> Stamps:
        return read_stamps(str(write_galaxies(root, {"train": images}, **options)), HSC)

    def test_its_own_in_the_same_bands(self, tmp_path):
        source = self.stamps(tmp_path / "s", self.images).draw(HSC, 1.0, stream(1))
        assert np.diff(source.magnitudes) == pytest.approx([-0.753, -0.753], abs=0.05)
        assert source.light.shape[0] == 3

    def test_nothing_is_said_where_they_are_kept_or_there_are_none(self, tmp_path):
        assert self.stamps(tmp_path / "s", self.images).cautions == []
        assert read_stamps(folder_of(tmp_path / "c", cutout()[None]), HSC).cautions == []

    @pytest.mark.parametrize("bands", (("i", "r", "g"), ("I", "R", "G"), ("HSC-I2", "R2", "G")))
    def test_bands_by_name_in_any_order(self, tmp_path, bands):
        stamps = self.stamps(tmp_path / "s", self.images, bands=bands)
        assert stamps.cautions == []
        assert np.diff(stamps.draw(HSC, 1.0, stream(1)).magnitudes) == pytest.approx(
            [0.753, 0.753], abs=0.05
        )

    @pytest.mark.parametrize("bands", ((), ("u", "g", "r")))
    def test_drawn_in_other_bands(self, tmp_path, bands):
        stamps = self.stamps(tmp_path / "s", self.images, bands=bands)
        assert stamps.colours is None and stamps.stamps[0].light.shape[0] == 1
        named = "have the bands u, g, r, but no i" if bands else "do not name their bands"
        assert stamps.cautions == [
            f"sources: {tmp_path / 's'}: cutouts {named}: colours are drawn"
        ]

    def test_drawn_where_bands_were_scaled(self, tmp_path):
        low, high = (f(self.images, axis=(2, 3), keepdims=True) for f in (np.min, np.max))
        stamps = self.stamps(tmp_path / "s", (self.images - low) / (high - low))
        assert stamps.colours is None and stamps.stamps[0].light.shape[0] == 3
        (said,) = stamps.cautions
        assert said.endswith("each band of the cutouts is scaled from 0 to 1: colours are drawn")

    def test_in_splits_that_write_bands_in_two_ways(self, tmp_path):
        write_galaxies(tmp_path / "s", {"train": self.images}, bands=("i", "r", "g"))
        root = write_galaxies(tmp_path / "s", {"val": self.images}, bands=("I", "R", "HSC-G"))
        stamps = read_stamps(str(root), HSC)
        assert stamps.colours is not None and len(stamps.stamps) == 4
        assert np.ptp(stamps.colours, axis=0).max() == 0

    def test_relative_to_the_band_that_is_looked_at(self, tmp_path):
        survey = survey_with("visible", band="i")
        stamps = self.stamps(tmp_path / "s", self.images)
        source, simulated = (stamps.draw(s, 1.0, stream(1)) for s in (survey, HSC))
        assert source.magnitudes[2] - simulated.magnitudes[2] == pytest.approx(
            source.magnitudes[0] - simulated.magnitudes[0]
        )


class TestTable:
    @pytest.fixture
    def cuts(self, tmp_path) -> Path:
        folder_of(tmp_path / "cuts", np.stack([cutout(q=q) for q in (0.5, 0.9)]))
        return tmp_path / "cuts"

    @staticmethod
    def refused(table: Path, text: str) -> str:
        table.write_text(text)
        with pytest.raises(ShardError) as refused:
            read_stamps(str(table), HSC)
        return str(refused.value)

    def test_a_plain_one_is_its_cutouts(self, cuts):
        (cuts / "t.csv").write_text("id,path\na,0.npy\nb,1.npy\n")
        assert len(read_stamps(str(cuts / "t.csv"), HSC).stamps) == 2

    @pytest.mark.parametrize(
        ("text", "flag"),
        [
            ("id,path\na,{band}.npy\n", "--bands"),
            ("id,place\na,0\n", "--path"),
            ("id,path_i,path_g\na,0.npy,1.npy\n", "--path"),
            ("id,path\na,/gone/0.npy\n", "--images"),
        ],
    )
    def test_one_that_needs_flags_is_to_be_packed(self, cuts, text, flag):
        said, table = self.refused(cuts / "t.csv", text), cuts / "t.csv"
        assert said.startswith(f"simulate: sources: {table}: ")
        assert said.endswith(
            f"; pack it first, simulate has no flag {flag} (pack {table} sources {flag} ...), and "
            "give --sources sources"
        )

    def test_one_that_no_flag_mends_is_told_of_as_it_is(self, cuts):
        assert self.refused(cuts / "t.csv", "id,path\n").endswith("only the columns id, path")

    def test_rows_without_a_file_are_counted(self, cuts):
        said = self.refused(cuts / "t.csv", "id,path\na,0.npy\nb,7.npy\nc,8.npy\n")
        assert "2 of its objects cannot be read, such as b (there is no such file)" in said
        assert "sources --skip_bad" in said


class TestRefused:
    def test_no_galaxy_at_all(self, tmp_path):
        root = folder_of(tmp_path / "cuts", np.stack([cutout(flux=0.0)] * 3))
        with pytest.raises(ShardError, match="none of 3 images shows a galaxy in its middle"):
            read_stamps(root, HSC)

    def test_cutouts_of_two_kinds(self, tmp_path):
        root = folder_of(tmp_path / "cuts", cutout()[None])
        np.save(tmp_path / "cuts" / "1.npy", np.concatenate([cutout()] * 3))
        with pytest.raises(
            ShardError, match=r"1\.npy: 3 channels, where the first image has 1 chan"
        ):
            read_stamps(root, HSC)

    def test_those_that_are_none_are_counted(self, tmp_path):
        images = np.stack([cutout(), cutout(flux=0.0), cutout(flux=1e6, sigma=14.0)])
        (said,) = read_stamps(folder_of(tmp_path / "cuts", images), HSC).cautions
        assert "2 of 3 images are no sources" in said

    def test_the_digest_is_that_of_the_pixels(self, tmp_path):
        one, same, other = (
            read_stamps(folder_of(tmp_path / name, cutout(sd=sd)[None]), HSC).digest
            for name, sd in (("a", 3.0), ("b", 3.0), ("c", 2.9))
        )
        assert one == same != other


def test_galaxies_of_the_hubble_ultra_deep_field(tmp_path):
    """Real ones, which come with scikit-image, as a coloured picture."""
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the picture")
    picture = data.hubble_deep_field().transpose(2, 0, 1).astype(np.float32)
    places = ((485, 355), (405, 75), (820, 166), (500, 597))  # columns and rows
    cuts = np.stack([picture[:, y - 32 : y + 32, x - 32 : x + 32] for x, y in places])
    stamps = read_stamps(folder_of(tmp_path / "cuts", cuts), HSC)
    assert len(stamps.stamps) == 4
    assert all(5 < stamp.radius < 11 for stamp in stamps.stamps)


def test_real_cutouts(tmp_path, real_data):
    paths = sorted((real_data / "lens_finding").glob("*_nonlenses/*.npy"))
    stamps = read_stamps(folder_of(tmp_path / "c", np.stack([np.load(p) for p in paths])), HSC)
    assert len(stamps.stamps) >= 6 and stamps.colours is None
