"""How fast lenses are simulated on one core, beside lenstronomy, image by image.

The same physics on both sides: isothermal ellipsoid with shear, substructure as points (the line
of a vortex as 100 of them, as DeepLenseSim has it), Sersic source, two samples along a pixel,
Gaussian blur, noise, 150 pixels.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from deeplense_batch import record
from deeplense_batch.data.presets import CLASSES, PRESETS, Preset, ReadoutCamera
from deeplense_batch.data.scenes import Scene, as_batch, draw_scene, squared_radii
from deeplense_batch.data.substructure import Substructure
from deeplense_batch.distributed import processor

__all__ = ["SimulationBench", "bench_simulation", "their_image"]

_BATCH = 2
_LINE_POINTS = 100
_THEIRS = "parity"  # the preset that lenstronomy is given


@dataclass(frozen=True)
class Speed:
    """One class of one preset."""

    preset: str
    name: str
    images_per_s: float  # median of the repeats
    least: float
    most: float
    ratio: float | None  # to lenstronomy, measured in turns; None where it was not asked


@dataclass(frozen=True)
class SimulationBench:
    """What `bench_simulation` measured; `str` gives a table."""

    device: str
    speeds: tuple[Speed, ...]
    versions: dict[str, str]

    def as_json(self) -> dict[str, object]:
        """The same as plain values, with a schema number."""
        return {"schema": 1} | asdict(self)

    def __str__(self) -> str:
        lines = [
            f"on one core of {self.device}",
            "preset         class   images/s (least to most)",
        ]
        for s in self.speeds:
            ratio = "" if s.ratio is None else f", {s.ratio:.1f} times lenstronomy"
            rate = f"{s.images_per_s:.0f} ({s.least:.0f} to {s.most:.0f})"
            lines.append(f"{s.preset:<14} {s.name:<7} {rate}{ratio}")
        return "\n".join(lines)


def bench_simulation(*, images: int = 40, repeats: int = 5) -> SimulationBench:
    """Measure the presets, and one of them against lenstronomy, where that is installed.

    Arguments:
        images: Of one measurement.
        repeats: Measurements of each number; ours and theirs take turns.
    """
    torch.set_num_threads(1)
    try:
        import lenstronomy  # noqa: F401
    except ImportError:
        others: tuple[str, ...] = ()
    else:
        others = (_THEIRS,)
    speeds = [
        _speed(name, target, images, repeats, beside=name in others)
        for name in ("common_test_1", "parity", "physical")
        for target in range(len(CLASSES))
    ]
    return SimulationBench(processor(), tuple(speeds), record.versions())


def _speed(preset: str, target: int, images: int, repeats: int, *, beside: bool) -> Speed:
    content = Substructure(preset)
    indices = [len(CLASSES) * i + target for i in range(images)]

    def ours() -> None:
        for first in range(0, images, _BATCH):
            content.make("train", indices[first : first + _BATCH], seed=0)

    theirs = [partial(_lenstronomy, i) for i in indices[: max(images // 10, 1)]] if beside else []
    rates, ratios = [], []
    for turn in range(repeats + 1):  # the first turn warms up
        rate = images / _seconds(ours)
        other = _seconds(lambda: [one() for one in theirs])
        if turn:
            rates.append(rate)
            ratios += [rate / (len(theirs) / other)] if theirs else []
    median = statistics.median(rates)
    ratio = statistics.median(ratios) if ratios else None
    return Speed(preset, CLASSES[target], median, min(rates), max(rates), ratio)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
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
