"""Fit real images of Common Test I, to settle the distributions of `common_test_1`.

Every image is an array of photon counts above its smallest one, over their maximum. The number of
levels gives the counts back, and the mean of the corners tells whether the smallest was 0 or 1, so
that each pixel has a known Poisson variance and hypotheses can be told apart by likelihood,

    objective = sum over pixels of (counts - model)^2 / model + log(model)

which is -2 log L but for a constant. The models are the package's own lensing functions, and the
minimum is best by Levenberg-Marquardt steps with numerical derivatives. One line is printed for
each image and hypothesis:

    no      cameras: samples in a pixel, blur exact or by a sampled kernel of some size
    sphere  smooth lens, then point masses, one by one where the residuals ask for them most
    vort    smooth lens, then a straight line of mass, then strings of equal points

    DEEPLENSE_REAL_DATA=<folder> python -m research.fit_common_test_1 [--quick] [--classes no,vort]

Minutes for all of it on one core; `--quick` takes two images of each class and fewer starts.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deeplense_batch.data.encoding import encode_counts
from deeplense_batch.lensing.camera import camera_matrix, fine_grid, kernel_matrix
from deeplense_batch.lensing.light import sersic
from deeplense_batch.lensing.profiles import line_mass, point_masses, points_on_line, shear, sis
from deeplense_batch.simulation.presets import CLASSES

PIXEL = 0.05  # arcsec
SKY = 10.0  # counts in a pixel
CROP = 110  # pixels: the lensed light, and a margin
LEAST_GAIN = 16.0  # of the objective, for a point mass of three parameters to be kept

# Start values and steps of derivatives: arcsec, rad, and of masses theta_M^2 / theta_e^2.
START = {
    "theta_e": 1.2,
    "g1": 0.1,
    "g2": -0.01,
    "x": 0.0,
    "y": 0.0,
    "e1": 0.2,
    "e2": 0.0,
    "sigma": 0.087,
}
SMOOTH = ("theta_e", "g1", "g2", "x", "y", "e1", "e2")
LINE = ("line_x", "line_y", "line_angle", "line_length", "line_mass")
STEP = 1e-5

Values = dict[str, float]


@dataclass(frozen=True)
class Camera:
    """How a model sky becomes pixels; without `kernel_size` the blur is exact."""

    supersampling: int
    kernel_size: int | None = None

    def matrix(self, size: int, sigma: float) -> Tensor:
        """A of `lensing.camera`, (size, size supersampling) float64."""
        grid = (size, PIXEL, self.supersampling, sigma)
        return kernel_matrix(*grid, self.kernel_size) if self.kernel_size else camera_matrix(*grid)

    def __str__(self) -> str:
        blur = f"kernel {self.kernel_size}" if self.kernel_size else "exact blur"
        return f"{self.supersampling} samples, {blur}"


SETTLED = Camera(1, 11)
CAMERAS = [Camera(s, k) for s in (1, 2, 4) for k in (None, 11)] + [Camera(1, k) for k in (7, 9)]


@dataclass
class Image:
    """Counts above the smallest, (H, W) float64, and that smallest count."""

    name: str
    counts: Tensor
    floor: float

    @classmethod
    def read(cls, path: Path, crop: int) -> Image:
        encoded = encode_counts(np.load(path).reshape(1, 150, 150))
        assert encoded is not None, f"{path} holds no counts"
        counts = torch.from_numpy(encoded[0][0].astype(np.float64))
        corner = counts[:15, :15].mean() + counts[-15:, -15:].mean()
        cut = slice((150 - crop) // 2, (150 + crop) // 2)
        name = f"{path.parent.name}/{path.stem}"
        return cls(name, counts[cut, cut], max(0.0, float(torch.round(SKY - corner / 2))))


@dataclass
class Fit:
    """Where a fit ended."""

    values: Values
    objective: float
    chi_squared: float  # per pixel
    model: Tensor = field(repr=False)


@dataclass
class Model:
    """An image by its parameters; `points` is the number of points of a string, 0 for a line."""

    image: Image
    camera: Camera = SETTLED
    points: int = 0

    def __post_init__(self) -> None:
        self.size = len(self.image.counts)
        self.x, self.y = fine_grid(self.size, PIXEL, self.camera.supersampling)

    def __call__(self, each: Sequence[Values]) -> Tensor:
        """Mean counts above the floor, (B, H, W) float64."""
        p = {k: torch.tensor([v[k] for v in each], dtype=torch.float64) for k in each[0]}
        alpha_x, alpha_y = self._deflection(p)
        modulus = torch.hypot(p["e1"], p["e2"]).clamp_max(0.95)
        sky = sersic(
            self.x - alpha_x,
            self.y - alpha_y,
            centre_x=_field(p["x"]),
            centre_y=_field(p["y"]),
            intensity=100.0,
            radius=torch.tensor(0.5, dtype=torch.float64),
            n=torch.tensor(1.5, dtype=torch.float64),
            q=_field((1 - modulus) / (1 + modulus)),
            phi=_field(0.5 * torch.atan2(p["e2"], p["e1"])),
        )
        blurs = {s: self.camera.matrix(self.size, s) for s in {v["sigma"] for v in each}}
        seen = [
            blurs[v["sigma"]] @ s @ blurs[v["sigma"]].T for v, s in zip(each, sky, strict=True)
        ]
        return torch.stack(seen) + (SKY - self.image.floor)

    def _deflection(self, p: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        parts = [sis(self.x, self.y, _field(p["theta_e"]))]
        parts.append(shear(self.x, self.y, _field(p["g1"]), _field(p["g2"])))
        squared = p["theta_e"] ** 2
        masses = [k for k in p if k.startswith("mass_")]
        if masses:
            x, y = (torch.stack([p[k.replace("mass", c)] for k in masses], 1) for c in "xy")
            heavy = torch.stack([p[k] * squared for k in masses], 1)
            parts.append(point_masses(self.x, self.y, x, y, heavy))
        if "line_mass" in p:
            cx, cy, angle, length = (p[k] for k in LINE[:4])
            total = p["line_mass"] * squared
            if self.points:
                each = (total / self.points)[:, None].expand(-1, self.points)
                positions = points_on_line(cx, cy, angle, length, self.points)
                parts.append(point_masses(self.x, self.y, *positions, each))
            else:
                line = map(_field, (cx, cy, angle, length, total))
                parts.append(line_mass(self.x, self.y, *line))
        alpha_x, alpha_y = parts[0]
        for x, y in parts[1:]:
            alpha_x, alpha_y = alpha_x + x, alpha_y + y
        return alpha_x, alpha_y

    def objective(self, model: Tensor) -> tuple[float, float]:
        """-2 log L but for a constant, and chi^2 per pixel."""
        variance = (model + self.image.floor).clamp_min(3.0)
        chi = (self.image.counts - model) ** 2 / variance
        return float((chi + variance.log()).sum()), float(chi.mean())

    def derivatives(self, values: Values, free: Sequence[str], model: Tensor) -> Tensor:
        """Of the model by the free parameters, (K, H W) float64."""
        moved = [values | {k: values[k] + STEP} for k in free]
        rows = [self(moved[i : i + 4]) - model for i in range(0, len(moved), 4)]
        return torch.cat(rows).flatten(1) / STEP


def fit(model: Model, start: Values, free: Sequence[str], iterations: int = 30) -> Fit:
    """Minimise the objective by Levenberg-Marquardt steps."""
    values, damping = dict(start), 1e-3
    now = model([values])[0]
    objective, _ = model.objective(now)
    for _ in range(iterations):
        slopes = model.derivatives(values, free, now)
        weighted = slopes / (now + model.image.floor).clamp_min(3.0).flatten()
        curvature = (weighted @ slopes.T).numpy()
        pull = (weighted @ (model.image.counts - now).flatten()).numpy()
        for _ in range(8):
            ridge = damping * np.diag(np.diag(curvature) + 1e-9)
            step = np.linalg.solve(curvature + ridge, pull)
            tried = values | {k: values[k] + float(s) for k, s in zip(free, step, strict=True)}
            then = model([tried])[0]
            better, _ = model.objective(then)
            if better < objective:
                break
            damping *= 5
        else:
            break
        gain, values, now, objective = objective - better, tried, then, better
        damping = max(damping / 5, 1e-7)
        if gain < 0.05:
            break
    return Fit(values, objective, model.objective(now)[1], now)


def best_fit(
    model: Model, starts: Sequence[Values], free: Sequence[str], keep: int, trial: int = 6
) -> Fit:
    """A few steps from every start, then the best few to the end."""
    tried = sorted((fit(model, s, free, trial) for s in starts), key=lambda f: f.objective)
    ended = [fit(model, f.values, free) for f in tried[:keep]]
    return min(ended, key=lambda f: f.objective)


def fit_smooth(image: Image) -> Fit:
    """Isothermal sphere, shear and source, from random starts."""
    model, random = Model(image), np.random.default_rng(0)
    starts = []
    for _ in range(40):
        r, turn, strength = random.uniform((0, 0, 0), (0.5, 2 * math.pi, 0.3))
        position = {"x": r * math.cos(turn), "y": r * math.sin(turn), "g1": strength}
        starts.append(START | position | {"theta_e": random.uniform(0.9, 1.6)})
    starts.sort(key=lambda s: model.objective(model([s])[0])[0])
    return best_fit(model, starts[:4], SMOOTH, keep=1)


def fit_cameras(image: Image, smooth: Fit) -> Iterator[tuple[str, Fit, str]]:
    """The width of the blur is free: kernels of another size mean another width."""
    for camera in CAMERAS:
        best = fit(Model(image, camera), smooth.values, (*SMOOTH, "sigma"))
        yield str(camera), best, f"sigma {best.values['sigma']:.4f}"


def fit_line(image: Image, smooth: Fit, starts: int) -> Fit:
    """A line of mass, from random starts in the frame."""
    random = np.random.default_rng(1)
    low, high = (-1.2, -1.2, 0.0, 0.6, 0.03), (1.2, 1.2, math.pi, 3.0, 0.045)
    drawn = [
        dict(zip(LINE, map(float, random.uniform(low, high)), strict=True)) for _ in range(starts)
    ]
    lighter = smooth.values | {"theta_e": smooth.values["theta_e"] * 0.98}
    return best_fit(Model(image), [lighter | d for d in drawn], (*SMOOTH, *LINE), keep=6)


def fit_string(image: Image, line: Fit, points: int, starts: int, camera: Camera = SETTLED) -> Fit:
    """Equal points near the best line; the likelihood is rugged, hence the small moves."""
    random = np.random.default_rng(2)
    move = dict(zip(LINE, (0.015, 0.015, 0.03, 0.06, 0.0), strict=True))
    begin = [line.values]
    for _ in range(starts - 1):
        moved = {k: line.values[k] + random.normal(0, sd) for k, sd in move.items()}
        begin.append(line.values | moved)
    return best_fit(
        Model(image, camera, points), begin, (*SMOOTH, *LINE), keep=max(2, starts // 3)
    )


def fit_points(image: Image, smooth: Fit, most: int) -> Fit:
    """Point masses of free mass and position, added while each gains `LEAST_GAIN`."""
    model, best, free = Model(image), smooth, list(SMOOTH)
    for n in range(most):
        names = [f"mass_{n}", f"x_{n}", f"y_{n}"]
        starts = [
            best.values | dict(zip(names, (mass, x, y), strict=True))
            for x, y in likely_positions(model, best, free, names)
            for mass in (0.003, 0.009)
        ]
        more = best_fit(model, starts, [*free, *names], keep=2, trial=5)
        if best.objective - more.objective < LEAST_GAIN:
            break
        best, free = more, [*free, *names]
    return best


def likely_positions(
    model: Model, best: Fit, free: Sequence[str], names: Sequence[str]
) -> list[tuple[float, float]]:
    """Where one more light point mass would gain most, the other parameters following."""
    weight = (best.model + model.image.floor).clamp_min(3.0).rsqrt().flatten()
    basis, _ = torch.linalg.qr((model.derivatives(best.values, free, best.model) * weight).T)
    residual = (model.image.counts - best.model).flatten() * weight
    side = np.arange(-2.1, 2.11, 0.1)
    positions = [(float(x), float(y)) for x in side for y in side if x * x + y * y < 2.1**2]
    gains = []
    for i in range(0, len(positions), 16):
        tried = [
            best.values | dict(zip(names, (0.003, *at), strict=True))
            for at in positions[i : i + 16]
        ]
        change = (model(tried) - best.model).flatten(1) * weight
        change -= (change @ basis) @ basis.T
        amount = (change @ residual).clamp_min(0.0)
        gains += (amount**2 / (change**2).sum(1)).tolist()
    order = [positions[i] for i in np.argsort(gains)[::-1]]
    apart: list[tuple[float, float]] = []
    for at in order:
        if all(math.dist(at, other) > 0.25 for other in apart):
            apart.append(at)
    return apart[:5]


def describe_line(best: Fit) -> str:
    v = best.values
    share = v["line_mass"] / (1 + v["line_mass"])  # of lens and line together
    return (
        f"fraction {share:.4f}  length {abs(v['line_length']):.2f}  "
        f"middle {v['line_x']:+.2f} {v['line_y']:+.2f}  "
        f"angle {math.degrees(v['line_angle']) % 180:.0f}"
    )


def describe_points(best: Fit) -> str:
    v = best.values
    points = sorted(
        (
            (v[k], math.hypot(v[k.replace("mass", "x")], v[k.replace("mass", "y")]))
            for k in v
            if k.startswith("mass_")
        ),
        reverse=True,
    )
    return "mass@radius " + "  ".join(f"{m:.4f}@{r:.2f}" for m, r in points)


def hypotheses(image: Image, name: str, quick: bool) -> Iterator[tuple[str, Fit, str]]:
    """Name, fit and remarks of every hypothesis for one image."""
    smooth = fit_smooth(image)
    v = smooth.values
    yield "smooth", smooth, f"theta_e {v['theta_e']:.3f}  g {v['g1']:.3f} {v['g2']:.3f}"
    if name == "no":
        yield from fit_cameras(image, smooth)
    elif name == "sphere":
        best = fit_points(image, smooth, most=3 if quick else 9)
        yield "point masses", best, describe_points(best)
    else:
        line = fit_line(image, smooth, starts=40 if quick else 150)
        yield "line", line, describe_line(line)
        for points in (25,) if quick else (12, 25, 50, 100):
            best = fit_string(image, line, points, starts=4 if quick else 10)
            yield f"string of {points}", best, describe_line(best)
        finer = fit_string(image, line, 25, starts=4 if quick else 10, camera=Camera(2, 11))
        yield "string of 25, 2 samples", finer, describe_line(finer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two images a class, fewer starts")
    parser.add_argument("--classes", default=",".join(CLASSES), help="of no,sphere,vort")
    options = parser.parse_args()
    folder = os.environ.get("DEEPLENSE_REAL_DATA")
    if not folder:
        parser.exit(1, "fit_common_test_1: set DEEPLENSE_REAL_DATA to the folder of real images\n")
    torch.set_num_threads(1)
    gains: dict[tuple[str, str], list[float]] = {}
    with torch.inference_mode():
        for name in options.classes.split(","):
            paths = sorted((Path(folder) / "common_test_1" / name).glob("*.npy"))
            for path in paths[: 2 if options.quick else None]:
                image = Image.read(path, 150 if name == "no" else CROP)
                first: float | None = None
                for what, best, remarks in hypotheses(image, name, options.quick):
                    first = best.objective if first is None else first
                    gain = first - best.objective
                    gains.setdefault((name, what), []).append(gain)
                    print(
                        f"{image.name:9} {what:24} gain {gain:8.1f}  "
                        f"chi2/pixel {best.chi_squared:.4f}  {remarks}",
                        flush=True,
                    )
    for (name, what), all_gains in gains.items():
        total, images = sum(all_gains), len(all_gains)
        print(f"all {name:6} {what:24} gain {total:8.1f} over {images} images")


def _field(values: Tensor) -> Tensor:
    return values[:, None, None]


if __name__ == "__main__":
    main()
