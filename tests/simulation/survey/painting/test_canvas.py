"""The galaxies that arcs are painted on, and what their catalogue says."""

from __future__ import annotations

import numpy as np
import pytest
from made_galaxies import galaxies, write_galaxies

from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.survey.painting.canvas import can_lens, dispersion, read_canvas
from deeplense_batch.simulation.survey.presets import HSC

BANDS = HSC.bands


def canvas_of(root, **options):
    return read_canvas(str(write_galaxies(root / "g", {"train": galaxies(6)}, **options)))


class TestGalaxies:
    def test_images_in_any_order_are_those_that_were_packed(self, tmp_path):
        galaxies_ = canvas_of(tmp_path).splits["train"]
        rows = np.array([4, 0, 5])
        assert (galaxies_.images(rows) == galaxies(6)[rows]).all()
        assert galaxies_.ids[4] == "train-4"

    @pytest.mark.parametrize(
        "classes",
        (
            ("nonlenses", "lenses"), ("no_lens", "lens"), ("NonLens", "StrongLens"),
            ("unlensed", "lensed"), ("not a lens", "known lens"), ("no lens", "lens_candidates"),
        ),
    )  # fmt: skip
    def test_known_lenses_are_left_out_and_counted(self, tmp_path, classes):
        found = canvas_of(tmp_path, classes=classes, targets=[0, 1, 0, 0, 1, -1])
        assert found.splits["train"].rows.tolist() == [0, 2, 3, 5]
        assert found.said == (f"onto: {tmp_path}/g: lenses are left out: {classes[1]} 2",)
        assert found.for_survey(HSC)[0].said == found.said

    def test_other_classes_are_kept_and_named(self, tmp_path):
        found = canvas_of(tmp_path, classes=("spiral", "lenticular"), targets=[0, 1, 0, 0, -1, 1])
        assert len(found.splits["train"].rows) == 6
        assert found.said == (
            f"onto: {tmp_path}/g: images of these classes are taken for galaxies that are no "
            "lenses, as their names do not have that word: spiral 3, lenticular 2",
        )

    @pytest.mark.parametrize("classes", (("0", "1"), ("no", "yes"), ("False", "True")))
    def test_classes_that_may_be_lenses_are_refused(self, tmp_path, classes):
        one, other = sorted(classes)
        with pytest.raises(ShardError, match=f"has images of class {one} and {other}, which does"):
            canvas_of(tmp_path / "both", classes=classes, targets=[0, 1, 0, 0, -1, 1])
        with pytest.raises(ShardError, match=f"has images of class {classes[0]}, which does"):
            canvas_of(tmp_path / "one", classes=(classes[0], "lens"), targets=[0, 1, 0, 0, 1, 0])
        unlabelled = canvas_of(tmp_path / "none", classes=classes)
        assert len(unlabelled.splits["train"].rows) == 6 and unlabelled.said == ()

    def test_columns_by_any_of_their_names(self, tmp_path):
        columns = {
            "Redshift": np.full(6, 0.4), "SIGMA_V": np.array([250.0, np.nan, -1, 0, 1, 2]),
            "seeing": np.full(6, 0.8), "fwhm_g": np.full(6, 1.1),
            "mag_I": np.array(["19"] * 6, object), "mag_g": np.arange(20, 26),
        }  # fmt: skip
        known = canvas_of(tmp_path, catalogue=columns).splits["train"].known(BANDS)
        assert known["z"].tolist() == [0.4] * 6
        assert np.isnan(known["sigma_v"]).tolist() == [False, True, True, True, False, False]
        assert (known["fwhm_g"][0], known["fwhm_r"][0]) == (1.1, 0.8)
        assert known["mag_g"].tolist() == [20, 21, 22, 23, 24, 25]
        assert np.isnan(known["mag_i"]).all() and np.isnan(known["theta_e"]).all()

    def test_the_digest_is_that_of_pixels_and_of_the_columns_that_are_read(self, tmp_path):
        def digest(name, **columns):
            return canvas_of(tmp_path / name, catalogue=columns or None).digest_with(BANDS)

        values, other = np.linspace(1, 2, 6), np.linspace(1, 1.9, 6)
        plain, one = digest("a"), digest("b", theta_e=values)
        assert plain == canvas_of(tmp_path / "c").digest == digest("d", ra=values)
        assert one.startswith(f"{plain}-") and one == digest("e", Theta_E=values, ra=other)
        names = ("theta_e", "z_l", "mag_i", "mag_g", "q", "phi", "fwhm", "seeing_r")
        others = [digest(f"f{name}", **{name: other}) for name in names]
        assert len({one, plain, *others, digest("g", z=values)}) == len(names) + 3

    def test_a_direction_in_degrees_is_refused(self, tmp_path):
        found = canvas_of(tmp_path, catalogue={"phi": np.array([0.1, 143.0, -0.2, 0, 0, 0])})
        with pytest.raises(ShardError, match="column phi: 143; expected rad, from x towards y"):
            found.splits["train"].known(BANDS)


class TestMass:
    @staticmethod
    def known(**columns: float) -> dict[str, np.ndarray]:
        names = ("theta_e", "sigma_v", "z", "z_s", "mag_i")
        return {name: np.array([columns.get(name, np.nan)]) for name in names}

    def test_what_is_not_known_may_be_a_lens(self):
        assert can_lens(self.known(), HSC).tolist() == [True]

    @pytest.mark.parametrize(("theta_e", "may"), ((0.3, False), (1.2, True), (4.0, False)))
    def test_by_the_einstein_radius(self, theta_e, may):
        assert can_lens(self.known(theta_e=theta_e, sigma_v=80.0, z=0.5), HSC).tolist() == [may]

    @pytest.mark.parametrize(("sigma_v", "may"), ((90.0, False), (280.0, True), (900.0, False)))
    def test_by_dispersion_and_redshift(self, sigma_v, may):
        assert can_lens(self.known(sigma_v=sigma_v, z=0.5), HSC).tolist() == [may]

    def test_no_source_before_the_galaxy(self):
        assert not can_lens(self.known(sigma_v=280.0, z=0.5, z_s=0.4), HSC)[0]

    def test_faber_and_jackson(self):
        """A galaxy of -22.6, and of what age and bands add, has 220 km/s."""
        modulus = 5 * np.log10(2832.9e5)  # of z = 0.5: D_L = 2832.9 Mpc
        faint, bright = (
            dispersion(self.known(mag_i=-22.6 + 0.3 + modulus - more, z=0.5), HSC)[0]
            for more in (0.0, 2.0)
        )
        assert faint == pytest.approx(220.0, rel=1e-3)
        assert bright == pytest.approx(220 * 10**0.2, rel=1e-3)

    def test_impossible_ones_are_left_out_and_counted(self, tmp_path):
        columns = {"theta_e": np.array([0.1, 1.0, 1.1, 9.0, np.nan, 1.2])}
        kept, said = canvas_of(tmp_path, catalogue=columns).for_survey(HSC)
        assert kept.splits["train"].rows.tolist() == [1, 2, 4, 5]
        assert said == [
            f"onto: {tmp_path}/g: 2 galaxies are left out, of which the catalogue says that their "
            "Einstein radius is not one of 0.6 to 2.5 arcsec (galaxy.theta_e)"
        ]

    def test_none_is_left(self, tmp_path):
        found = canvas_of(tmp_path, catalogue={"theta_e": np.full(6, 0.1)})
        with pytest.raises(ShardError, match="gives none of 6 galaxies an Einstein radius of"):
            found.for_survey(HSC)


class TestRefused:
    def test_lenses_alone(self, tmp_path):
        with pytest.raises(ShardError, match="holds lenses alone; expected other galaxies"):
            canvas_of(tmp_path, classes=("nonlenses", "lenses"), targets=[1] * 6)

    def test_pictures(self, tmp_path):
        """Of eight bits, as pack keeps them."""
        from deeplense_batch.data.writer import ShardWriter

        with ShardWriter(
            tmp_path / "p", split="train", shape=(3, 20, 20), stored=np.dtype(np.uint16),
            dtype=np.dtype(np.uint8), classes=(), source="tests", seed=0,
        ) as writer:  # fmt: skip
            zeros = np.zeros((2, 3, 20, 20), np.uint16)
            writer.append(zeros, targets=[-1, -1], ids=["a", "b"], scale=np.ones((2, 3)))
            writer.publish()
        with pytest.raises(ShardError, match="holds pictures of 8 bits, whose values are no flux"):
            read_canvas(str(tmp_path / "p"))

    def test_splits_of_two_bands(self, tmp_path):
        root = write_galaxies(tmp_path / "g", {"train": galaxies(3)}, bands=("G", "R", "HSC-I2"))
        write_galaxies(root, {"val": galaxies(3)})
        assert list(read_canvas(str(root)).splits) == ["train", "val"]
        write_galaxies(root, {"test": galaxies(3)}, bands=("g", "i", "r"))
        with pytest.raises(ShardError, match="splits test and train differ in shape, type, bands"):
            read_canvas(str(root))

    def test_splits_of_two_shapes(self, tmp_path):
        root = write_galaxies(tmp_path / "g", {"train": galaxies(3), "val": galaxies(3, size=40)})
        with pytest.raises(ShardError, match="splits train and val differ in shape"):
            read_canvas(str(root))
