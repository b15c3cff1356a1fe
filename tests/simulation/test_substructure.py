"""Simulated images and their truth are the same bits on every machine.

The digests below hold for every processor, library version and number of threads. They change only
together with the version of a preset, which says that its images are others.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.simulation.presets import PRESETS
from deeplense_batch.simulation.simulate import KINDS, generator_class, simulate

SETS = {f"substructure {name}": ("substructure", {"preset": name}) for name in PRESETS}
SETS |= {"substructure clean": ("substructure", {"keep": "clean"})}
SETS |= {kind: (kind, {}) for kind in KINDS if kind != "substructure"}
SETS |= {
    f"lens_finding {name}": ("lens_finding", {"preset": name})
    for name in ("ps1", "kids", "des", "lsst", "euclid_vis", "hst")
}
SETS |= {
    f"super_resolution {name}": ("super_resolution", {"preset": name})
    for name in ("iii_a", "iii_a_substructure", "hsc_hst")
}
IMAGES = 9  # three of each class, or more

PINNED = {
    "substructure common_test_1": "d480b1de6f89c8cd",
    "substructure clean": "3d780a4c03907a03",
    "substructure benchmark": "db5f63341e36b74c",
    "substructure parity": "8a85606ca9ce5cb5",
    "substructure model_2": "1b4b37373b4fc922",
    "substructure model_3": "04279c87d2e6315d",
    "substructure varied": "03501b9f0760f604",
    "substructure physical": "389e312928201002",
    "substructure null": "0bd99a7e893015c2",
    "lens_finding": "d194c7f202b24493",
    "diffusion": "03501b9f0760f604",
    "super_resolution": "0960680b53b733a6",
    "lens_finding ps1": "2dbfda13a989387b",
    "lens_finding kids": "26d62e0e708d2aba",
    "lens_finding des": "8c592b9ae13260ec",
    "lens_finding lsst": "dbf92c17bb96d887",
    "lens_finding euclid_vis": "8c61d7511f5800d0",
    "lens_finding hst": "6e0f44cf78e22167",
    "super_resolution iii_a": "c5d547786a9813d2",
    "super_resolution iii_a_substructure": "7adae54a591ad858",
    "super_resolution hsc_hst": "2d5bfe36de42391e",
}

# The paths that libraries take on the oldest processors. Names that a library does not know, or
# that another build of it does not take, change nothing.
WORST = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Prescott",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F",
    "OMP_NUM_THREADS": "2",
}
TODAY = {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"}


def digest(kind: str, options: dict[str, object]) -> str:
    """Of images, their scale and all truth, by name."""
    content = generator_class(kind)(**options)
    split = next(iter(content.counts(600)))
    made = content.make(split, range(IMAGES), seed=5)
    arrays = {"images": made.images} | dict(made.truth)
    arrays |= {} if made.pairs is None else made.pairs.named(made.images)
    arrays |= {} if made.scale is None else {"scale": made.scale}
    found = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        found.update(f"{name} {values.dtype.str} {values.shape}".encode())
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:16]


def digests(**more: object) -> dict[str, str]:
    return {name: digest(kind, options | more) for name, (kind, options) in SETS.items()}


def test_images_are_those_of_every_other_machine():
    assert digests() == PINNED


@pytest.mark.parametrize("environment", [WORST, TODAY], ids=["worst", "avx2"])
def test_no_library_changes_an_image(environment):
    if platform.machine() != "x86_64":
        environment = {"OMP_NUM_THREADS": environment["OMP_NUM_THREADS"]}
    command = [sys.executable, "-m", Path(__file__).stem]
    ran = subprocess.run(
        command, cwd=Path(__file__).parent, env=os.environ | environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == PINNED


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_makes_the_same_images():
    for name, (kind, options) in SETS.items():
        if kind != "lens_finding":  # made on the CPU
            assert digest(kind, options | {"device": "cuda"}) == PINNED[name], name


if __name__ == "__main__":
    print(json.dumps(digests(), indent=4))


@pytest.mark.parametrize(
    "set_", [{"sphere.scatter": 0.5}, {"sphere.truncation": 0.01}, {"sphere.truncation": 1e4}]
)
def test_truncated_halos_at_the_ends_of_what_is_allowed(set_):
    """Their images can be made, and the halos do what their mass does, whatever their size."""
    kind = generator_class("substructure")
    made = kind(preset="physical", set_=set_, size=64)
    plain = kind(preset="physical", size=64)
    changed, usual = (one.draw("train", [1, 4], seed=2) for one in (made, plain))
    for field, other in zip(changed.optics["radius"], usual.optics["radius"], strict=True):
        assert 0.98 < field / other < 1.02
    images = made.make("train", [1, 4], seed=2).images
    assert images.shape == (2, 1, 64, 64) and images.any()


class TestClean:
    """Expected counts in place of images with noise."""

    def test_they_are_what_the_noise_of_observed_images_is_about(self):
        """Residuals in standard deviations are of mean 0 and sd 1, where the counts are many."""
        kind = generator_class("substructure")
        clean, observed = (
            kind(keep=keep).make("val", range(3), seed=4) for keep in ("clean", "observed")
        )
        means = clean.images.astype(np.float64) + 10.0  # the sky of common_test_1
        # Observed counts are above their least, which is a few of the sky's.
        for mean, counts in zip(
            means[:, 0], observed.images[:, 0].astype(np.float64), strict=True
        ):
            least = np.median(mean - counts)
            residuals = ((counts + least - mean) / np.sqrt(mean))[mean > 30]
            assert residuals.mean() == pytest.approx(0, abs=0.15)  # least is a whole number
            assert residuals.std() == pytest.approx(1, abs=0.05)
        for name, values in observed.truth.items():
            assert np.array_equal(values, clean.truth[name], equal_nan=True), name
        assert clean.scale is None and clean.images.dtype == np.float16

    def test_shards_say_what_they_are(self, tmp_path):
        for keep, sky in (("clean", 10.0), ("observed", None)):
            simulate("substructure", tmp_path / keep, images=9, size=32, keep=keep)
            info = open_split(tmp_path / keep, "train").info
            assert info.sky == sky and ("expected counts" in info.source) == (sky is not None)
            manifest = json.loads((tmp_path / keep / "manifest.json").read_text())
            assert manifest.get("keep") == (None if sky is None else "clean")
        images = open_split(tmp_path / "clean", "train").images()
        assert images.dtype == np.float16 and images.min() > 0

    @pytest.mark.parametrize(
        ("kind", "options", "sentence"),
        [
            ("substructure", {"preset": "varied"}, "clean is for a camera that counts photons, "
             "which preset varied has not; expected observed, or preset common_test_1"),
            ("super_resolution", {}, "pairs are observed images with those without noise beside "
             "them; got 'clean', expected observed"),
            ("substructure", {"keep": "cleen"}, "got 'cleen'; did you mean 'clean'?"),
        ],
    )  # fmt: skip
    def test_what_has_none_is_refused(self, kind, options, sentence):
        with pytest.raises(ShardError) as told:
            generator_class(kind)(**{"keep": "clean"} | options)
        assert str(told.value) == f"simulate: keep: {sentence}"

    def test_counts_that_16_bits_do_not_hold_are_refused(self):
        kind = generator_class("substructure")(keep="clean", set_={"source.intensity": 1e4})
        with pytest.raises(ShardError, match=r"expected counts of .* no more than 65504: change"):
            kind.make("train", [0], seed=0)
