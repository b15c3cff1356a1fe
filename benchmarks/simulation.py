"""How fast lenses are simulated, beside lenstronomy, image by image.

The same physics on both sides: isothermal ellipsoid with shear, substructure as points (the line
of a vortex as 100 of them, as DeepLenseSim has it), Sersic source, two samples along a pixel,
Gaussian blur, noise, 150 pixels, one core. Lenstronomy runs in a process of its own, with memory
allocated as in any other program of its users. With ``--device cuda`` only ours is measured, all
classes together, by the GPU and all cores, the start of their processes included.

    python -m benchmarks.simulation [--repeats 5] [--device cuda] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.pool import Pool

import numpy as np
import torch

from benchmarks.documents import Document, document, measured, show
from benchmarks.machine import machine_facts
from deeplense_batch.core.distributed import DeviceError, device_of
from deeplense_batch.simulation.presets import CLASSES, PRESETS, Preset, ReadoutCamera
from deeplense_batch.simulation.scenes import Scene, as_batch, draw_scene, squared_radii
from deeplense_batch.simulation.substructure import Substructure

__all__ = ["bench_simulation", "their_image"]

_IMAGES = {"cpu": 40, "cuda": 20_000}
_LINE_POINTS = 100
_THEIRS = "parity"  # the preset that lenstronomy is given


@dataclass(frozen=True)
class Speed:
    """One class of one preset."""

    name: str
    rates: list[float]  # images/s
    ratios: list[float]  # to lenstronomy, measured in turns; none where it was not asked

    def numbers(self) -> list[dict[str, object]]:
        """Lines of a document."""
        lines = [measured("simulator", self.name, self.rates, "images/s")]
        if self.ratios:
            lines.append(measured("simulator", f"{self.name}: times lenstronomy", self.ratios))
        return lines


def bench_simulation(
    *, images: int | None = None, repeats: int = 5, device: str = "cpu"
) -> Document:
    """Measure the presets, and one of them against lenstronomy, where that is installed.

    Arguments:
        images: Of one measurement; by default 40, and 20,000 of all classes beside a GPU, where
            the start of processes is part of it.
        repeats: Measurements of each number; ours and theirs take turns.
        device: ``cpu``, one core, or ``cuda``, with all cores.

    Raises:
        DeviceError: There is no such device.
    """
    torch.set_num_threads(1)
    device_of(device)  # there is one, or it says so
    there = device == "cpu" and importlib.util.find_spec("lenstronomy") is not None
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) if there else contextlib.nullcontext() as other:
        speeds = [
            _speed(
                Substructure(name, device=device), target, images or _IMAGES[device], repeats,
                other if name == _THEIRS else None,
            )
            for name in ("common_test_1", "parity", "physical")
            for target in (range(len(CLASSES)) if device == "cpu" else (None,))
        ]  # fmt: skip
    return document([machine_facts(device)] + [line for s in speeds for line in s.numbers()])


def _speed(
    content: Substructure, target: int | None, images: int, repeats: int, other: Pool | None
) -> Speed:
    """Of one class, or of all in turn."""
    indices = [i if target is None else len(CLASSES) * i + target for i in range(images)]
    fewer = indices[: max(images // 10, 1)]
    rates, ratios = [], []
    for turn in range(repeats + 1):  # the first turn warms up
        some = indices if turn else indices[: 10 * content.batch]
        asked = [
            ("train", some[first : first + content.batch])
            for first in range(0, len(some), content.batch)
        ]
        started = time.perf_counter()
        for _ in content.stream(asked, seed=0):
            pass
        rate = len(some) / (time.perf_counter() - started)
        theirs = None if other is None else len(fewer) / other.apply(_their_seconds, (fewer,))
        if turn:
            rates.append(rate)
            ratios += [] if theirs is None else [rate / theirs]
    name = "all" if target is None else CLASSES[target]
    return Speed(f"{content.preset}, {name}", rates, ratios)


def _their_seconds(indices: Sequence[int]) -> float:
    started = time.perf_counter()
    for i in indices:
        _lenstronomy(i)
    return time.perf_counter() - started


def _lenstronomy(index: int) -> np.ndarray:
    """One image of the preset by lenstronomy, noise and all."""
    preset, random = PRESETS[_THEIRS], np.random.default_rng([0, 0, index])
    scene = draw_scene(preset, index % len(CLASSES), random)
    image, camera = their_image(preset, scene), preset.camera
    assert isinstance(camera, ReadoutCamera)
    rate = image * (camera.peak / image.max())
    frame = random.poisson(rate * scene["exposure"]) / scene["exposure"]
    return frame + random.normal(0.0, camera.peak / scene["snr"], image.shape)


def their_image(preset: Preset, scene: Scene) -> np.ndarray:
    """A scene by lenstronomy, without noise, (150, 150) float64; halos are points."""
    from lenstronomy.Data.imaging_data import ImageData
    from lenstronomy.Data.psf import PSF
    from lenstronomy.ImSim.image_model import ImageModel
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LightModel.light_model import LightModel

    size = 150
    halos, vortex = (v[0].numpy() for v in squared_radii(preset, as_batch([scene])))
    (cx, cy, q, phi), (g1, g2) = scene["lens"], scene["shear"]
    e = (1 - q) / (1 + q)
    lens = {"theta_E": float(scene["theta_e"]), "center_x": cx, "center_y": cy}
    lens |= {"e1": e * np.cos(2 * phi), "e2": e * np.sin(2 * phi)}
    kinds, numbers = ["SIE", "SHEAR"], [lens, {"gamma1": g1, "gamma2": g2}]
    for squared, (_, x, y) in zip(halos, scene["halos"], strict=True):
        if squared > 0:
            kinds.append("POINT_MASS")
            numbers.append({"theta_E": squared**0.5, "center_x": x, "center_y": y})
    if vortex > 0:
        _, x, y, angle, length = scene["vortex"]
        for along in (np.arange(_LINE_POINTS) + 0.5) / _LINE_POINTS - 0.5:
            place = {"center_x": x + along * length * np.cos(angle)}
            place["center_y"] = y + along * length * np.sin(angle)
            kinds.append("POINT_MASS")
            numbers.append({"theta_E": (vortex / _LINE_POINTS) ** 0.5} | place)
    x, y, radius, n, q, phi = scene["source"]
    e = (1 - q) / (1 + q)
    source = {"amp": 1.0, "R_sersic": radius, "n_sersic": n, "center_x": x, "center_y": y}
    source |= {"e1": e * np.cos(2 * phi), "e2": e * np.sin(2 * phi)}
    camera, pixel = preset.camera, preset.pixel_scale
    corner = -(size - 1) / 2 * pixel
    data = ImageData(
        image_data=np.zeros((size, size)),
        ra_at_xy_0=corner,
        dec_at_xy_0=corner,
        transform_pix2angle=np.eye(2) * pixel,
    )
    psf = PSF("GAUSSIAN", fwhm=camera.psf_sigma * np.sqrt(8 * np.log(2)), pixel_size=pixel)
    model = ImageModel(
        data,
        psf,
        LensModel(kinds),
        LightModel(["SERSIC_ELLIPSE"]),
        kwargs_numerics={"supersampling_factor": 2, "supersampling_convolution": True},
    )
    return model.image(numbers, [source])


def main(words: Sequence[str] | None = None) -> None:
    """Measure with the options of the command line, or of `words`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, help="of one measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each number")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", default="", help="a JSON file for the numbers")
    options = vars(parser.parse_args(words))
    out = options.pop("out")
    try:
        show(bench_simulation(**options), out)
    except DeviceError as error:
        parser.exit(error.exit_code, f"{error}\n")


if __name__ == "__main__":
    main()
