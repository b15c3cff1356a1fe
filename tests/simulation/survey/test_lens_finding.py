"""The set of lens finding: its classes and their numbers, and the package without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from deeplense_batch.simulation.survey.lens_finding import COUNTS, class_counts

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
