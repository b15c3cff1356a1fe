"""Trace the rays of scenes: from their numbers to images without noise.

A batch of scenes becomes images by the lens equation,

    beta = theta - alpha_lens - alpha_shear - alpha_substructure    image = A source(beta) A^T

with A the camera's matrix. Where the preset asks for matter along the line of sight, beta is less
by alpha_los = kappa theta + shear theta too: the tides, to first order, of all that lies before
and behind the lens (Keeton, Kochanek and Seljak 1997, ApJ 482, 604). The shear is the combination
of both that images can measure (Fleury, Larena and Uzan 2021, JCAP 08, 024, arXiv:2104.08883);
what else they do to the lens is taken to be in the lens that is drawn. It is an approximation: a
halo near the rays is more than a tide.

Images are the same on every machine and device, to the last count:

- what is computed for a scene and not for a pixel (`optics`) is computed on the processor;
- fields are float64, but for the sums over many masses, which are float32 by operations that IEEE
  754 rounds in one way only (`lensing.mesh` has those over thousands). Counts drawn from them
  differ where the last digit of a float64 decides: by estimate, in one of 1e12 pixels;
- no product of matrices has float32 operands. TF32 concerns nothing else, so that neither
  ``TORCH_ALLOW_TF32_CUBLAS_OVERRIDE`` of a container nor `torch.set_float32_matmul_precision`
  changes an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.data.batches.room import Room
from deeplense_batch.lensing.camera import blurred, camera_matrix, fine_grid, kernel_matrix
from deeplense_batch.lensing.light import sersic
from deeplense_batch.lensing.mesh import LIGHT, directly, on_grid, with_edges
from deeplense_batch.lensing.profiles import (
    line_mass,
    point_masses,
    points_on_line,
    pseudo_jaffe,
    shear,
    sie,
    sis,
    tidal_radii,
)
from deeplense_batch.simulation.halos import are_many, slope_of
from deeplense_batch.simulation.presets import PhotonCamera, Preset
from deeplense_batch.simulation.scenes import Scenes, halo_numbers, lens_radius, squared_radii

__all__ = [
    "Optics",
    "Tracer",
    "deflection",
    "lens_deflection",
    "optics",
    "render",
    "source_light",
]

# What the fields of B scenes are computed from, by name, float64 on the CPU; lengths in arcsec,
# directions in rad, masses as squared Einstein radii.
#   radius (B,) of the smooth lens    lens (B, 4) x y q phi    shear (B, 2) g1 g2
#   source (B, 6) x y radius n q phi    los (B, 3) kappa g1 g2, where the preset has it
#   halos (B, N, 3) x y mass, or (B, N, 4) x y b r_t of those with a profile, or, of many halos,
#   (B, N, 6) as `lensing.mesh` has them, as many as the scene with the most has
#   vortex (B, 5) x y angle length mass, or (B, P, 3) x y mass of its points
Optics = dict[str, Tensor]

_EXACT = torch.float32  # of sums over masses, by operations that are the same on every machine
_FIELD_BYTES = 1 << 28  # of one field of a batch on a GPU; about twenty are there at a time
_MOST = 256  # images at once, which keep a GPU busy at any size


def optics(preset: Preset, scenes: Scenes) -> Optics:
    """What the fields of scenes are computed from."""
    masses, line = squared_radii(preset, scenes)
    places = scenes["halos"][..., 1:3]
    if are_many(preset):
        halos = with_edges(halo_numbers(preset, scenes), slope_of(preset))
    elif preset.sphere.profile == "point":
        halos = torch.cat([places, masses[..., None]], 2)
    else:
        radii = torch.stack(tidal_radii(masses, scenes["theta_e"][:, None]), 2)
        halos = torch.cat([places, radii], 2)
    smooth = {name: scenes[name] for name in ("lens", "shear", "source", "los") if name in scenes}
    return smooth | {
        "radius": lens_radius(preset, scenes),
        "halos": halos,
        "vortex": _vortex_numbers(preset.vort.points, scenes["vortex"], line),
    }


def _vortex_numbers(points: int | None, vortices: Tensor, squared: Tensor) -> Tensor:
    if points is None:
        return torch.cat([vortices[:, 1:], squared[:, None]], 1)
    _, middle_x, middle_y, angle, length = vortices.unbind(1)
    x, y = points_on_line(middle_x, middle_y, angle, length, points)
    return torch.stack([x, y, (squared / points)[:, None].expand(-1, points)], 2)


def render(
    preset: Preset, scenes: Scenes, size: int, *, device: torch.device | str = "cpu"
) -> Tensor:
    """Images without noise and sky.

    Arguments:
        preset: What the scenes were drawn from.
        scenes: A batch of B.
        size: Pixels along a side.
        device: Where fields are computed.

    Returns:
        Brightness, (B, size, size) float64 on `device`, in the unit of the source's intensity.
    """
    return _rendered(preset, optics(preset, scenes), size, torch.device(device))


def _rendered(preset: Preset, batch: Optics, size: int, device: torch.device) -> Tensor:
    """As `render`; nothing in it waits for a GPU."""
    x, y = _grid(size, preset.pixel_scale, preset.supersampling, device)
    there = _on_device(preset, batch, x)
    step = preset.pixel_scale / preset.supersampling
    alpha_x, alpha_y = _deflection(preset, there, x, y, step)
    sky = _light(preset, there.numbers["source"], x - alpha_x, y - alpha_y)
    return blurred(sky, _blur(preset, size))


@dataclass
class Tracer:
    """Renders on one device, as many images at once as its memory holds.

    Arguments:
        preset: What scenes are drawn from.
        size: Pixels along a side.
        device: Where fields are computed.
    """

    preset: Preset
    size: int
    device: torch.device

    def __post_init__(self) -> None:
        field = 8 * (self.size * self.preset.supersampling) ** 2
        self.room = Room(max(1, min(_FIELD_BYTES // field, _MOST)))

    def images(self, batch: Optics) -> NDArray[np.float64]:
        """All images of a batch, (B, size, size), on the processor."""
        pieces = [piece.cpu().numpy() for piece in self.pieces(batch)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def pieces(self, batch: Optics) -> Iterator[Tensor]:
        """The images of a batch in order, in pieces, each as `render` gives them.

        Raises:
            OutOfMemoryError: One image alone does not fit.
        """

        def rendered(part: slice) -> Tensor:
            piece = {name: values[part] for name, values in batch.items()}
            return _rendered(self.preset, piece, self.size, self.device)

        return self.room.pieces(len(batch["radius"]), rendered)


def source_light(preset: Preset, scenes: Scenes, x: Tensor, y: Tensor) -> Tensor:
    """Brightness of the sources at positions of the source plane, (B, H, W) of the type of `x`."""
    return _light(preset, scenes["source"].to(x), x, y)


def deflection(preset: Preset, scenes: Scenes, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection by everything in a scene; each of its halos is summed up at each position.

    Arguments:
        preset: What the scenes were drawn from.
        scenes: A batch of B.
        x: Columns, (1, 1, W) float, arcsec.
        y: Rows, (1, H, 1) float, arcsec.

    Returns:
        alpha_x, alpha_y: (B, H, W) of the type of `x`, arcsec.
    """
    return _deflection(preset, _on_device(preset, optics(preset, scenes), x), x, y)


def lens_deflection(preset: Preset, scenes: Scenes, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection by all but substructure: smooth lens, shear and matter along the line of sight.

    The rest as `deflection`.
    """
    return _smooth_deflection(_on_device(preset, optics(preset, scenes), x), x, y)


class _There(NamedTuple):
    """Numbers of a batch beside its fields, of their device and type."""

    numbers: Optics  # of halos and vortices, only those that are there
    rows: dict[str, Tensor]  # the images that have them, int64
    is_round: bool  # all lenses are


_ROWS = " rows"


def _on_device(preset: Preset, batch: Optics, like: Tensor) -> _There:
    """Bring the numbers of a batch to its fields, by one copy, for which nothing waits."""
    parts = dict(batch) | _with_rows("vortex", batch["vortex"])
    if are_many(preset):
        del parts["halos"]
        parts |= _listed(batch["halos"])
    else:
        parts |= _with_rows("halos", batch["halos"])
    flat = torch.cat([part.flatten() for part in parts.values()])
    if like.device.type == "cuda":
        flat = flat.pin_memory()
    flat = flat.to(like.device, like.dtype, non_blocking=True)
    split = flat.split([part.numel() for part in parts.values()])
    there = {
        name: values.view(part.shape)
        for (name, part), values in zip(parts.items(), split, strict=True)
    }
    rows = {n.removesuffix(_ROWS): there.pop(n).long() for n in parts if n.endswith(_ROWS)}
    return _There(there, rows, bool((batch["lens"][:, 2] == 1).all()))


def _with_rows(name: str, masses: Tensor) -> dict[str, Tensor]:
    """Masses, (B, N, k) or one of (B, k), of the images that have some, and which those are."""
    mass = masses[..., -1].flatten(1) if masses.ndim == 3 else masses[:, -1:]
    rows = torch.nonzero(mass.sum(1))[:, 0]
    used = masses[rows]
    if name == "halos":
        used = used[:, mass.sum(0) > 0]
    return {name: used, name + _ROWS: rows.double()}


def _listed(halos: Tensor) -> dict[str, Tensor]:
    """Many halos of the images that have some as two lists: those that a mesh takes, and others.

    The rows of a list are numbers of those images, from 0 on.
    """
    there = halos[..., 2] > 0
    rows = torch.nonzero(there.any(1))[:, 0]
    image = torch.nonzero(there[rows])[:, 0].double()
    each = halos[there]
    light = each[:, 2] <= LIGHT
    lists = {"halos" + _ROWS: rows.double()}
    for name, some in (("light", light), ("heavy", ~light)):
        lists |= {name: each[some], name + _ROWS: image[some]}
    return lists


def _deflection(
    preset: Preset, there: _There, x: Tensor, y: Tensor, grid: float | None = None
) -> tuple[Tensor, Tensor]:
    """As `deflection`; on the grid of a camera, by its spacing, with a mesh for many halos."""
    totals = _smooth_deflection(there, x, y)
    if len(there.rows["halos"]):
        if are_many(preset):
            field = _many_halos(preset, there, x, y, grid)
        else:
            field = _halo_deflection(preset, x, y, there.numbers["halos"])
        _add(totals, there.rows["halos"], field)
    if len(there.rows["vortex"]):
        field = _vortex_deflection(preset, x, y, there.numbers["vortex"])
        _add(totals, there.rows["vortex"], field)
    return totals


def _add(totals: tuple[Tensor, Tensor], rows: Tensor, field: tuple[Tensor, Tensor]) -> None:
    for total, part in zip(totals, field, strict=True):
        total.index_add_(0, rows, part.to(total))


def _many_halos(
    preset: Preset, there: _There, x: Tensor, y: Tensor, grid: float | None
) -> tuple[Tensor, Tensor]:
    """Deflection of the images that have halos."""
    images, slope = len(there.rows["halos"]), slope_of(preset)
    lists = [(there.numbers[name], there.rows[name]) for name in ("heavy", "light")]
    fields = [directly(x, y, *lists[0], images, slope)]
    if grid is None:
        fields.append(directly(x, y, *lists[1], images, slope))
    else:
        fields.append(on_grid(x.shape[2], grid, *lists[1], images, slope))
    along_x, along_y = (sum(parts) for parts in zip(*fields, strict=True))
    return along_x, along_y


def _smooth_deflection(there: _There, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    numbers = there.numbers
    radius, g1, g2, middle_x, middle_y, q, phi = (
        v[:, None, None]
        for v in (numbers["radius"], *numbers["shear"].unbind(1), *numbers["lens"].unbind(1))
    )
    u, v = x - middle_x, y - middle_y
    lens = sis(u, v, radius) if there.is_round else sie(u, v, radius, q, phi)
    sheared = shear(x, y, g1, g2)
    alpha_x, alpha_y = lens[0] + sheared[0], lens[1] + sheared[1]
    if "los" not in numbers:
        return alpha_x, alpha_y
    kappa, g1, g2 = (v[:, None, None] for v in numbers["los"].unbind(1))
    sheared = shear(x, y, g1, g2)
    return alpha_x + kappa * x + sheared[0], alpha_y + kappa * y + sheared[1]


def _halo_deflection(preset: Preset, x: Tensor, y: Tensor, halos: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection by halos, (B, N, 3 or 4), of a type that is added to the lens's."""
    if preset.sphere.profile == "point":
        return _point_deflection(x, y, halos)
    cx, cy, b, cut = halos.unbind(2)
    return pseudo_jaffe(x, y, cx, cy, b, cut, _EXACT)


def _vortex_deflection(
    preset: Preset, x: Tensor, y: Tensor, vortices: Tensor
) -> tuple[Tensor, Tensor]:
    """Deflection by vortices, (B, 5) or (B, P, 3)."""
    if preset.vort.points is None:
        return line_mass(x, y, *vortices[..., None, None].unbind(1))
    return _point_deflection(x, y, vortices)


def _point_deflection(x: Tensor, y: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection by points, (B, N, 3)."""
    cx, cy, squared = points.unbind(2)
    return point_masses(x, y, cx, cy, squared, _EXACT)


def _light(preset: Preset, sources: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """As `source_light`, of sources (B, 6) of the type of `x`."""
    names = ("centre_x", "centre_y", "radius", "n", "q", "phi")
    galaxy = dict(zip(names, sources[..., None, None].unbind(1), strict=True))
    return sersic(x, y, intensity=preset.source.intensity, **galaxy)


@lru_cache(maxsize=8)
def _grid(
    size: int, pixel_scale: float, supersampling: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """`fine_grid` on a device, kept there: to bring it each time would wait for the device."""
    x, y = fine_grid(size, pixel_scale, supersampling)
    return x.to(device), y.to(device)


def _blur(preset: Preset, size: int) -> Tensor:
    """The matrix A of the camera, (size, size supersampling) float64."""
    camera, grid = preset.camera, (size, preset.pixel_scale, preset.supersampling)
    if isinstance(camera, PhotonCamera) and camera.kernel_size:
        return kernel_matrix(*grid, camera.psf_sigma, camera.kernel_size)
    return camera_matrix(*grid, camera.psf_sigma)
