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

from deeplense_batch.simulation.presets import PRESETS
from deeplense_batch.simulation.simulate import KINDS, generator_class

SETS = {f"substructure {name}": ("substructure", {"preset": name}) for name in PRESETS}
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
    "substructure benchmark": "db5f63341e36b74c",
    "substructure parity": "8a85606ca9ce5cb5",
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
