"""A set of galaxies with and without arcs: which are which, what is kept, and what is refused."""

from __future__ import annotations

import contextlib
import logging
import shutil

import numpy as np
import pytest
from conftest import typed
from made_galaxies import galaxies, write_galaxies

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split, read_splits
from deeplense_batch.simulation.simulate import check, simulate
from deeplense_batch.simulation.survey.painting.painted_set import PaintedSet

FAST = {"visible.snr": 1, "visible.share": 0.01}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Galaxies of two splits with a catalogue."""
    root = tmp_path_factory.mktemp("packed") / "galaxies"
    write_galaxies(root, {"train": galaxies(24), "val": galaxies(10, seed=5)}, catalogue=None)
    return root


def paint(onto, out, images=34, **options):
    options = {"preset": "des", "set_": FAST} | options
    return simulate("lens_finding", out, images=images, onto=str(onto), **options)


@pytest.fixture(scope="module")
def painted(packed, tmp_path_factory):
    out = tmp_path_factory.mktemp("painted") / "set"
    return paint(packed, out), out


class TestSet:
    def test_half_of_each_split_are_lenses(self, painted):
        report, _ = painted
        assert report.counts == {
            "train": {"nonlenses": 12, "lenses": 12}, "val": {"nonlenses": 5, "lenses": 5},
        }  # fmt: skip

    def test_every_galaxy_is_in_one_class_of_its_own_split(self, packed, painted):
        for name in ("train", "val"):
            before, after = (open_split(root, name) for root in (packed, painted[1]))
            assert sorted(after.ids()) == sorted(before.ids())
            rows = after.truth("onto").astype(int)
            assert [before.ids()[row] for row in rows] == after.ids()

    @pytest.mark.parametrize("bands", (("G", "R", "I"), ("HSC-G", "HSC-R2", "HSC-I2")))
    def test_bands_in_another_writing(self, tmp_path, bands):
        root = write_galaxies(tmp_path / "g", {"train": galaxies(8)}, bands=bands)
        other = write_galaxies(tmp_path / "o", {"train": galaxies(8)})
        made, same = (PaintedSet(onto=str(r), preset="hsc", set_=FAST) for r in (root, other))
        assert made.bands == ("g", "r", "i")
        assert made.described() == same.described()
        PaintedSet(onto=str(root), preset="hsc", set_=FAST | {"bands": list(bands)})

    def test_only_lenses_differ_and_only_at_their_arcs(self, packed, painted):
        before, after = (open_split(root, "train") for root in (packed, painted[1]))
        originals = before.images()[after.truth("onto").astype(int)]
        differs = (after.images() != originals).any((1, 2, 3))
        assert differs.tolist() == (after.targets() == 1).tolist()
        assert (after.images()[:, :, 0] == originals[:, :, 0]).all()

    def test_bands_and_pixels_are_kept(self, painted):
        for info in read_splits(painted[1]).values():
            assert (info.bands, info.pixel_scale, info.shape) == (
                ("g", "r", "i"),
                0.2,
                (3, 60, 60),
            )
            assert info.classes == ("nonlenses", "lenses") and info.dtype == np.float32

    def test_the_same_whatever_the_parts_and_files(self, packed, painted, tmp_path):
        for part in (1, 0):
            report = paint(packed, tmp_path / "parts", part=part, parts=2, shard_size=5)
        assert report.digest == painted[0].digest

    def test_another_seed_is_another_set(self, packed, painted, tmp_path):
        assert paint(packed, tmp_path / "other", seed=1).digest != painted[0].digest

    def test_an_image_is_the_same_in_any_batch(self, packed):
        made = PaintedSet(str(packed), "des", FAST)
        one, many = (made.make("train", which, seed=3) for which in ([5], [0, 3, 5]))
        assert (one.images[0] == many.images[2]).all() and one.ids == [many.ids[2]]

    def test_fewer_images_in_the_proportions_of_the_splits(self, packed):
        assert PaintedSet(str(packed), "des").counts(17) == {
            "train": {"nonlenses": 6, "lenses": 6}, "val": {"nonlenses": 3, "lenses": 2},
        }  # fmt: skip

    def test_catalogue_is_kept_row_by_row(self, tmp_path):
        columns = {
            "ra": np.linspace(150, 151, 12),
            "name": np.array([f"J{i}" for i in range(12)], object),
            "theta_e": np.linspace(1.1, 1.8, 12),
        }  # fmt: skip
        root = write_galaxies(tmp_path / "g", {"train": galaxies(12)}, catalogue=columns)
        paint(root, tmp_path / "out", images=12)
        made = open_split(tmp_path / "out", "train")
        number = np.array([int(name.removeprefix("train-")) for name in made.ids()])
        assert made.catalogue("name").tolist() == [f"J{i}" for i in number]
        assert (made.catalogue("ra") == columns["ra"][number]).all()
        is_lens = made.targets() == 1
        assert made.truth("theta_e")[is_lens] == pytest.approx(columns["theta_e"][number][is_lens])

    def test_groups_are_kept_and_lie_side_by_side(self, tmp_path):
        tiles = np.repeat(np.array(["a", "b", "c", "d", "", ""], object), 4)
        root = write_galaxies(
            tmp_path / "g", {"train": galaxies(24)}, catalogue={"tile": tiles}, group="tile"
        )
        paint(root, tmp_path / "out", images=24)
        made = open_split(tmp_path / "out", "train")
        assert made.info.group == "tile"
        number = [int(name.removeprefix("train-")) for name in made.ids()]
        assert made.catalogue("tile").tolist() == tiles[number].tolist()
        names, starts = made.info.groups().names, made.info.groups().starts
        assert sorted(names) == [""] * 8 + ["a", "b", "c", "d"] and len(starts) == 12

    def test_whole_numbers_become_floats(self, tmp_path):
        counts = (galaxies(12) + 300).round().clip(0).astype(np.uint16)
        (tmp_path / "files").mkdir()
        for i, image in enumerate(counts):
            np.save(tmp_path / "files" / f"{i}.npy", image)
        pack(tmp_path / "files", tmp_path / "packed", pixel_scale=0.2)
        set_ = FAST | {"bands": ["g", "r", "i"]}
        paint(tmp_path / "packed", tmp_path / "out", images=12, set_=set_)
        made = open_split(tmp_path / "out", "train")
        assert made.info.dtype == np.float32
        number = [int(name.removesuffix(".npy")) for name in made.ids()]
        same = (made.images() == counts[number]).all((1, 2, 3))
        assert same.tolist() == (made.targets() == 0).tolist()

    def test_the_set_is_described_by_what_it_was_painted_on(self, packed, tmp_path):
        other = write_galaxies(tmp_path / "g", {"train": galaxies(24, seed=9)})
        one, two = (PaintedSet(str(root), "des").described()["onto"] for root in (packed, other))
        assert one != two

    def test_parts_of_two_catalogues_are_no_set(self, tmp_path):
        images = {"train": galaxies(12)}
        for part, theta_e in ((1, 1.2), (0, 1.6)):
            columns = {"theta_e": np.full(12, theta_e)}
            shutil.rmtree(tmp_path / "g", ignore_errors=True)
            root = write_galaxies(tmp_path / "g", images, catalogue=columns)
            refused = pytest.raises(ShardError, match="another simulation was begun here")
            with contextlib.nullcontext() if part else refused:
                paint(root, tmp_path / "out", images=12, part=part, parts=2, shard_size=5)

    def test_real_sources(self, packed, tmp_path):
        options = {"sources": str(packed), "set_": FAST}
        paint(packed, tmp_path / "out", images=8, **options)
        made = open_split(tmp_path / "out", "train")
        stamps = made.truth("stamp")
        assert ((stamps > 0) == (made.targets() == 1)).all()
        described = PaintedSet(str(packed), "des", sources=str(packed)).described()
        assert len(described["sources"]) == 16

    def test_by_command(self, packed, tmp_path, capsys):
        words = [f"--onto={packed}", "--preset=des", "--images=8", "--set", "visible.snr=1"]
        code, out, _ = typed(capsys, "simulate", "lens_finding", tmp_path / "out", *words)
        assert code == 0 and f"8 images of lens_finding on {packed}, survey des" in out


class TestSaid:
    def said(self, caplog, root, **options):
        caplog.set_level(logging.WARNING)
        check("lens_finding", images=4, onto=str(root), **{"preset": "des"} | options)
        return [record.getMessage() for record in caplog.records]

    def test_nothing_of_what_is_as_expected(self, packed, caplog):
        assert self.said(caplog, packed) == []

    def test_another_depth(self, packed, caplog):
        (said,) = self.said(caplog, packed, set_={"zero_point": 22.5})
        assert "magnitudes shallower than preset des, if magnitude 22.5 is one count" in said

    def test_scaled_images(self, tmp_path, caplog):
        images = galaxies(8)
        low, high = (f(images, axis=(2, 3), keepdims=True) for f in (np.min, np.max))
        root = write_galaxies(tmp_path / "g", {"train": (images - low) / (high - low)})
        (said,) = self.said(caplog, root)
        assert "each band of its images is scaled from 0 to 1, so that their flux is not" in said

    def test_empty_images(self, tmp_path, caplog):
        images = galaxies(8)
        images[2:4] = 5 * np.random.default_rng(0).standard_normal(images[2:4].shape)
        (said,) = self.said(caplog, write_galaxies(tmp_path / "g", {"train": images}))
        assert "2 of the first 8 images show no galaxy within 2 arcsec of their middle" in said


class TestRefused:
    def refuse(self, root, match, images=8, **options):
        with pytest.raises(ShardError, match=match):
            check("lens_finding", images=images, onto=str(root), **{"preset": "des"} | options)

    def test_more_images_than_galaxies(self, packed):
        self.refuse(packed, r"expected 4 to 34, as .* has 34 galaxies \(train 24, val 10\)", 35)

    def test_too_few_galaxies(self, tmp_path):
        root = write_galaxies(tmp_path / "g", {"train": galaxies(5), "val": galaxies(1)})
        self.refuse(root, r"has 6 galaxies \(train 5, val 1\) and each split needs one of each", 6)

    def test_unknown_bands(self, tmp_path):
        root = write_galaxies(tmp_path / "g", {"train": galaxies(8)}, bands=())
        self.refuse(root, r"do not say their bands; give it: --set bands=\[g,r,i\]")
        check(
            "lens_finding", images=4, onto=str(root), preset="des", set_={"bands": ["g", "r", "i"]}
        )

    def test_other_bands_than_the_shards_say(self, packed):
        self.refuse(packed, r"its shards say bands \[g,r,i\]; got --set bands=\[r,i,z\]",
                    set_={"bands": ["r", "i", "z"]})  # fmt: skip

    def test_bands_of_another_number(self, tmp_path):
        root = write_galaxies(tmp_path / "g", {"train": galaxies(8)}, bands=())
        self.refuse(root, "its images have 3 bands; got 2, g, r", set_={"bands": ["g", "r"]})

    def test_a_band_that_the_survey_lacks(self, tmp_path):
        root = write_galaxies(tmp_path / "g", {"train": galaxies(8)}, bands=("g", "r", "F814W"))
        self.refuse(root, "its shards have the bands g, r, F814W; preset des has .*, but no F814W")

    def test_a_band_that_was_asked_for_and_the_survey_lacks(self, tmp_path):
        root = write_galaxies(tmp_path / "g", {"train": galaxies(8)}, bands=())
        self.refuse(root, "bands: got 'F814W'", set_={"bands": ["g", "r", "F814W"]})

    def test_unknown_pixel_scale(self, tmp_path):
        root = write_galaxies(tmp_path / "g", {"train": galaxies(8)}, pixel_scale=np.nan)
        self.refuse(root, "do not say their pixel_scale; give it: --set pixel_scale=0.2")

    def test_two_pixel_scales(self, packed):
        self.refuse(packed, "say pixel_scale 0.2; got --set pixel_scale=0.3",
                    set_={"pixel_scale": 0.3})  # fmt: skip

    def test_frames_too_small_for_a_ring(self, tmp_path):
        root = write_galaxies(tmp_path / "g", {"train": galaxies(8, size=16)})
        self.refuse(root, "do not hold an Einstein ring of")

    def test_no_noise(self, tmp_path):
        images = galaxies(8)
        images[:, 1, :5], images[:, 1, -5:] = 0, 0
        images[:, 1, :, :5], images[:, 1, :, -5:] = 0, 0
        root = write_galaxies(tmp_path / "g", {"train": images})
        self.refuse(root, "band r has no noise along the borders of the first 8 images")

    def test_a_size(self, packed):
        self.refuse(packed, "size: the galaxies of --onto keep theirs", size=64)

    def test_another_kind_of_set(self, packed):
        with pytest.raises(ShardError, match="--onto: is not for a set of kind substructure"):
            check("substructure", images=6, onto=str(packed))

    def test_no_such_folder(self, tmp_path):
        self.refuse(tmp_path / "none", "no such folder of shards")
