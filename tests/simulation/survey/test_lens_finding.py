"""The set of lens finding: its classes and their numbers, and the package without it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY
from made_galaxies import galaxies, write_galaxies

from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.simulation import simulate as simulation
from deeplense_batch.simulation.survey.lens_finding import COUNTS, LensFinding, class_counts

PACKAGE = REPOSITORY / "deeplense_batch"


def test_the_package_works_without_the_folder(tmp_path):
    """Deleted whole, it leaves all other kinds of sets, and one sentence for its own."""
    package = tmp_path / "deeplense_batch"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("survey", "__pycache__"))
    assert not (package / "simulation" / "survey").exists()

    def simulate(kind: str) -> subprocess.CompletedProcess:
        words = [kind, str(tmp_path / kind), "--images=6"]
        return subprocess.run(
            [sys.executable, "-m", "deeplense_batch", "simulate", *words],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True, text=True,
        )  # fmt: skip

    assert simulate("substructure").returncode == 0
    refused = simulate("lens_finding")
    assert refused.returncode == 3
    assert refused.stderr == (
        "simulate: KIND: 'lens_finding' is not installed here, "
        "deeplense_batch.simulation.survey is missing; installed are substructure, diffusion, "
        "super_resolution\n"
    )
    assert not (tmp_path / "lens_finding").exists()


def test_nothing_else_imports_the_folder():
    outside = [p for p in PACKAGE.rglob("*.py") if "survey" not in p.parts]
    named = [p.name for p in outside if "simulation.survey" in p.read_text()]
    assert named == ["simulate.py"]


class TestLaws:
    def test_counts_are_those_of_the_public_set(self):
        assert class_counts(50_055) == {split: dict(of) for split, of in COUNTS.items()}

    @pytest.mark.parametrize("images", (4, 17, 1000, 5006, 200_000))
    def test_a_smaller_set_has_the_same_proportions(self, images):
        found = class_counts(images)
        assert sum(sum(split.values()) for split in found.values()) == images
        for split, of_class in COUNTS.items():
            for name, count in of_class.items():
                assert found[split][name] >= 1
                if images >= 1000:
                    assert abs(found[split][name] - count * images / 50_055) < 2


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory):
    return str(write_galaxies(tmp_path_factory.mktemp("s") / "g", {"train": galaxies(4)}))


class TestRealSources:
    def test_of_lenses_alone(self, cutouts):
        """Whatever is behind a lens, non-lenses are those of the plain set."""
        plain, real = (LensFinding(sources=root).make("train", range(6), seed=0)
                       for root in (None, cutouts))  # fmt: skip
        same = (plain.images == real.images).all((1, 2, 3)).tolist()
        assert same == [True, False] * 3
        assert (real.truth["stamp"] > 0).tolist() == [False, True] * 3
        assert "stamp" not in plain.truth

    def test_they_are_part_of_the_set(self, cutouts):
        made = LensFinding(sources=cutouts)
        assert len(made.described()["sources"]) == 16 and made.cautions == []
        assert made.about == f"lens_finding, bands g, r, i, sources {cutouts}"

    def test_a_folder_that_is_none(self, tmp_path):
        with pytest.raises(ShardError, match="none"):
            simulation.check("lens_finding", images=4, sources=str(tmp_path / "none"))


class TestSurveys:
    @pytest.mark.parametrize(
        ("options", "bands", "size", "scale"),
        [
            ({}, ("g", "r", "i"), 64, 0.168),
            ({"preset": "des", "size": 41}, ("g", "r", "i"), 41, 0.263),
            ({"preset": "lsst", "set_": {"bands": ["z", "u"]}}, ("z", "u"), 54, 0.2),
            ({"preset": "euclid_vis"}, ("VIS",), 100, 0.1),
        ],
    )
    def test_shards_carry_bands_and_pixels(self, options, bands, size, scale, tmp_path):
        simulation.simulate("lens_finding", tmp_path / "set", images=6, **options)
        info = open_split(tmp_path / "set", "train").info
        assert info.bands == bands and info.shape == (len(bands), size, size)
        assert info.pixel_scale == scale

    def test_the_default_is_described_as_ever(self):
        """What sets of before were made of, so that they are gone on with and found again."""
        laws = LensFinding().described()["laws"]
        assert list(laws) == ["bands", "pixel_scale", "zero_point", "fractions", "laws"]
        text = json.dumps(LensFinding().described(), sort_keys=True)
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == "6fbf535f00f67ba1"

    def test_another_survey_says_so(self):
        made = LensFinding(preset="kids", set_={"camera.fwhm.r": 0.8, "bands": ["g", "r", "i"]})
        assert made.about == "lens_finding, survey kids, bands g, r, i, camera.fwhm.r = 0.8"
        laws = made.described()["laws"]["laws"]
        assert laws["camera"]["fwhm"][1] == {"law": "Fixed", "value": 0.8}
        assert (laws["camera"]["aperture"], laws["form"], laws["size"]) == (2.0, "flux", 54)

    def test_sets_of_one_survey_differ_by_what_is_changed(self):
        plain, deep, small = (
            LensFinding(preset="ps1", set_=set_, size=size).described()
            for set_, size in (({}, None), ({"camera.depth.g": 25}, None), ({}, 40))
        )
        assert plain != deep and plain != small
        assert plain == LensFinding(preset="ps1", size=44).described()
