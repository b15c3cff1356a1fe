"""How visible substructure is: the delta chi^2 to the smooth lens that fits its image best.

    delta chi^2 = min over p of |(d - m(p)) / sd|^2

d is the image without noise, m(p) that of a smooth lens, and sd the noise of d in each pixel. p
are the fourteen parameters of an isothermal ellipsoid in shear and of a Sersic source: Einstein
radius, place and ellipticity of the lens, shear, and place, size, index, ellipticity and
brightness of the source. It is what a search that knows the lens up to p can gain from
substructure, on average over the noise; a source that is freer than a Sersic would leave it less.
Matter along the line of sight is in m as it was drawn. To fit it too would free nothing: its shear
adds to the other, and its convergence is another Einstein radius, shear and size of the source.

The fit is that of Levenberg and Marquardt, from the lens as it was drawn with all its mass in it:
five or six steps. A fit that is linear in p would not do: a string of mass that is added to a lens
moves the arcs further than that reaches, and is credited with 2 to 12 times what it should be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

from deeplense_batch.simulation.presets import PhotonCamera, Preset
from deeplense_batch.simulation.rays import render
from deeplense_batch.simulation.scenes import Scenes, without_substructure

__all__ = ["detectability"]

Floats = NDArray[np.float64]

_STEP = 1e-4  # of a derivative, in the unit of its parameter
_PRECISION = 1e-5  # of delta chi^2, relative
_LEAST_AXIS = 0.05  # axis ratio of a fit
_INDICES = (0.4, 10.0)  # of Sersic, in a fit
_MOST_STEPS = 100


def detectability(preset: Preset, scene: Scenes, size: int) -> float:
    """The delta chi^2 of the substructure in one scene; 0 without any.

    Arguments:
        preset: What the scene was drawn from.
        scene: One scene, a batch of 1.
        size: Pixels along a side.
    """
    if not (scene["halos"][..., 0].any() or scene["vortex"][:, 0].any()):
        return 0.0
    image = render(preset, scene, size).flatten(1)
    sd = _noise(preset, scene, image)
    smooth = _SmoothLens(preset, without_substructure(scene), size, sd, (image / sd)[0].numpy())
    fit = least_squares(
        smooth.residual, smooth.start(), smooth.jacobian, method="lm", x_scale="jac",
        ftol=_PRECISION, max_nfev=_MOST_STEPS,
    )  # fmt: skip
    return float(2 * fit.cost)


@dataclass(frozen=True)
class _SmoothLens:
    """A smooth lens that is fitted to an image.

    Parameters are theta_e, x y e1 e2 of the lens, g1 g2, x y ln(radius) ln(n) e1 e2 of the source,
    and the logarithm of its brightness, in units of what the preset says; e = (1 - q) / (1 + q).
    """

    preset: Preset
    scene: Scenes  # where the fit starts
    size: int
    sd: Tensor  # of each pixel, (1, P)
    image: Floats  # in units of it, (P,)

    def start(self) -> Floats:
        """The parameters of the scene, (14,)."""
        (x, y, *lens), source = self.scene["lens"][0], self.scene["source"][0]
        fitted = [
            self.scene["theta_e"], x[None], y[None], _ellipticity(*lens), self.scene["shear"][0],
            source[:2], source[2:4].log(), _ellipticity(*source[4:]), torch.zeros(1),
        ]  # fmt: skip
        return torch.cat(fitted).double().numpy()

    def residual(self, parameters: Floats) -> Floats:
        """Model less image, in units of the noise, (P,)."""
        return self._models(parameters[None])[0] - self.image

    def jacobian(self, parameters: Floats) -> Floats:
        """Derivatives of the model, (P, 14): the last is the model itself."""
        moved = parameters + _STEP * np.eye(len(parameters))[:-1]
        here, *there = self._models(np.concatenate([parameters[None], moved]))
        return np.stack([*((model - here) / _STEP for model in there), here], 1)

    def _models(self, parameters: Floats) -> Floats:
        """Images of K sets of parameters in units of the noise, (K, P)."""
        images = render(self.preset, self._scenes(torch.from_numpy(parameters)), self.size)
        bright = np.exp(parameters[:, -1:])
        return bright * (images.flatten(1) / self.sd).numpy()

    def _scenes(self, parameters: Tensor) -> Scenes:
        theta_e, x, y, e1, e2, g1, g2, u, v, radius, n, s1, s2, _ = parameters.unbind(1)
        n = n.exp().clamp(*_INDICES)
        fitted = {
            "theta_e": theta_e,
            "lens": torch.stack([x, y, *_axes(e1, e2)], 1),
            "shear": torch.stack([g1, g2], 1),
            "source": torch.stack([u, v, radius.exp(), n, *_axes(s1, s2)], 1),
        }
        kept = {name: v.expand(len(parameters), *v.shape[1:]) for name, v in self.scene.items()}
        return kept | fitted


def _ellipticity(q: Tensor, phi: Tensor) -> Tensor:
    """The two components of (1 - q) / (1 + q) in the direction phi, (2,)."""
    return torch.view_as_real(torch.polar((1 - q) / (1 + q), 2 * phi))


def _axes(e1: Tensor, e2: Tensor) -> tuple[Tensor, Tensor]:
    """Axis ratio and direction, rad, of an ellipticity."""
    e = torch.complex(e1, e2)
    return ((1 - e.abs()) / (1 + e.abs())).clamp_min(_LEAST_AXIS), e.angle() / 2


def _noise(preset: Preset, scene: Scenes, image: Tensor) -> Tensor:
    """Standard deviation of each pixel, in the unit of the image, and of its shape."""
    camera = preset.camera
    if isinstance(camera, PhotonCamera):
        return torch.sqrt(image + camera.sky)
    unit = image.max() / camera.peak
    rate = image / unit
    return unit * torch.sqrt(rate / scene["exposure"] + (camera.peak / scene["snr"]) ** 2)
