"""The truth behind simulated images, computed again from the parameters stored beside them.

Maps are on the pixel grid of the images, (H, W) float64, at the middle of each pixel; rows are y,
columns x, and row 0 is the most negative y. The smooth lens with its shear and the substructure
are separate; their sum deflects the light.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from deeplense_batch.data.shard_file import check_room, writing
from deeplense_batch.data.shards import ShardError, Split, data_digest, open_split, read_splits
from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.potentials import (
    line_potential,
    point_potential,
    pseudo_jaffe_convergence,
    pseudo_jaffe_potential,
    shear_potential,
    sie_convergence,
    sie_potential,
    tnfw_convergence,
    tnfw_potential,
)
from deeplense_batch.lensing.profiles import points_on_line, tidal_radii
from deeplense_batch.simulation.presets import Preset
from deeplense_batch.simulation.rays import deflection, lens_deflection, render, source_light
from deeplense_batch.simulation.scenes import (
    Scenes,
    halo_numbers,
    lens_radius,
    squared_radii,
)
from deeplense_batch.simulation.substructure import preset_of
from deeplense_batch.simulation.truth.detectability import detectability

__all__ = ["Truth", "write_truth"]

_AT_ONCE = 64  # images of which stored numbers are read together, 13 MB of halos in `physical`
_SOURCE_PIXEL = 0.5  # of a pixel of the image

_MEANINGS = {
    "deflection": "x and y, arcsec; of lens, shear and matter along the line of sight (lens_...), "
    "and of substructure",
    "convergence": "of lens, line of sight and halos with an extent; points and lines have none",
    "potential": "arcsec^2",
    "image": "without noise and sky; counts, or the unit of the source's intensity",
    "source_plane": "the same unit, pixels of source_pixel_scale around the origin",
    "halos": "mass (solar masses), x, y (arcsec), a row for each; of preset physical also the "
    "log10 of the concentration over its median",
    "substructure_fraction": "f_sub of halos drawn by it, else mass over that of the lens",
    "vortex": "mass (solar masses), x, y (arcsec), angle (rad), length (arcsec)",
    "lens": "x, y (arcsec), axis ratio, direction (rad)",
    "los": "convergence and two shears of matter along the line of sight, where the preset has it",
    "source": "x, y, half-light radius (arcsec), Sersic index, axis ratio, direction (rad)",
    "delta_chi2": "of the image to that of the smooth lens and source that fit it best",
}


class Truth:
    """The truth of one slice of a simulated set, whose numbers are read piece by piece.

    Arguments:
        root: Folder of the shards, with their manifest.
        slice_: Such as ``val[:10]``; empty for the first 100 of the first split.

    Raises:
        ShardError: The folder was not simulated, or by another version of its preset.
    """

    def __init__(self, root: Path | str, slice_: str) -> None:
        self.preset = preset_of(Path(root))
        self.split: Split = open_split(root, slice_ or f"{next(iter(read_splits(root)))}[:100]")
        self.size = self.split.info.shape[-1]
        self._names = [name for name in self.split.truths() if name != "index"]
        self._first, self._piece = -1, Scenes()  # what was read last, and from which image on

    def maps(self, index: int) -> dict[str, np.ndarray]:
        """Maps of one image.

        Arguments:
            index: Of the image in the slice.

        Returns:
            ``deflection`` (2, H, W) arcsec, x and y; ``convergence`` and ``potential`` (H, W), the
            latter arcsec^2; each of lens, shear and matter along the line of sight as ``lens_...``
            and of substructure as ``substructure_...``; ``image`` (H, W), without noise and sky,
            in the unit of the source's intensity; ``source_plane`` (H, W), the source in the same
            unit on pixels of half the width, around the origin.
        """
        scene, preset = self._scene(index), self.preset
        x, y = fine_grid(self.size, preset.pixel_scale, 1)
        whole = torch.cat(deflection(preset, scene, x, y))
        lens = torch.cat(lens_deflection(preset, scene, x, y))
        fine = fine_grid(self.size, preset.pixel_scale * _SOURCE_PIXEL, 1)
        fields = {
            "lens_deflection": lens,
            "substructure_deflection": whole - lens,
            "image": render(preset, scene, self.size)[0],
            "source_plane": source_light(preset, scene, *fine)[0],
        }
        for name, (potential, convergence) in {
            "lens": _lens_fields(preset, scene, x, y),
            "substructure": _substructure_fields(preset, scene, x, y),
        }.items():
            shape = (self.size, self.size)
            fields[f"{name}_potential"] = torch.broadcast_to(potential, shape)
            fields[f"{name}_convergence"] = torch.broadcast_to(convergence, shape)
        return {name: field.double().numpy() for name, field in fields.items()}

    def numbers(self, index: int) -> dict[str, np.ndarray]:
        """Numbers of one image.

        Arguments:
            index: Of the image in the slice.

        Returns:
            All that is stored (`scenes.Scene`), ``halos`` without the rows of no mass that fill
            them up; with ``lens_theta_e``, the Einstein radius that substructure leaves to the
            smooth lens, arcsec, and ``delta_chi2``, `detectability`.
        """
        scene = self._scene(index)
        stored = {name: values[0].numpy() for name, values in scene.items()}
        halos = stored["halos"]
        return stored | {
            "halos": halos[halos[:, 0] > 0],
            "lens_theta_e": lens_radius(self.preset, scene)[0].numpy(),
            "delta_chi2": np.asarray(detectability(self.preset, scene, self.size)),
        }

    def _scene(self, index: int) -> Scenes:
        """A batch of one scene."""
        within = index % _AT_ONCE
        if index - within != self._first:
            self._first = index - within
            split = self.split.part(self._first, self._first + _AT_ONCE)
            self._piece = {name: torch.from_numpy(split.truth(name)) for name in self._names}
        return {name: values[within : within + 1] for name, values in self._piece.items()}


def write_truth(root: Path | str, slice_: str, out: Path | str, *, maps: bool = True) -> int:
    """Write the truth of a slice as one HDF5 file: a group for each sample, by its id.

    Its attributes say what the arrays are, and of which set (``data``, its digest).

    Arguments:
        root: Folder of the shards.
        slice_: As of `Truth`.
        out: The file.
        maps: Whether maps are written too, 1.6 MB an image of 150 pixels.

    Returns:
        How many samples there are.

    Raises:
        ShardError: As `Truth`; or there is a file of that name.
    """
    truth, out = Truth(root, slice_), Path(out)
    if out.exists() or out.is_symlink():  # even a broken link
        raise ShardError(f"{out}: is there already; name another file")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        with writing(out):
            check_room(temporary)
            with h5py.File(temporary, "w", locking=False) as file:
                file.attrs["data"] = data_digest(root)
                _fill(file, truth, temporary, maps=maps)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return len(truth.split)


def _fill(file: h5py.File, truth: Truth, path: Path, *, maps: bool) -> None:
    file.attrs.update(
        preset=truth.preset.name,
        unphysical=truth.preset.unphysical,
        pixel_scale=truth.preset.pixel_scale,
        source_pixel_scale=truth.preset.pixel_scale * _SOURCE_PIXEL,
        **_MEANINGS,
    )
    for index, name in enumerate(truth.split.ids()):
        arrays = truth.numbers(index) | (truth.maps(index) if maps else {})
        check_room(path, sum(values.nbytes for values in arrays.values()))
        group = file.create_group(name)
        for key, values in arrays.items():
            group[key] = values


def _lens_fields(preset: Preset, scene: Scenes, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Potential and convergence of the smooth lens, its shear, and the line of sight."""
    radius, (cx, cy, q, phi) = lens_radius(preset, scene)[0], scene["lens"][0].unbind()
    g1, g2 = scene["shear"][0].unbind()
    potential = sie_potential(x - cx, y - cy, radius, q, phi) + shear_potential(x, y, g1, g2)
    convergence = sie_convergence(x - cx, y - cy, radius, q, phi)
    if "los" in scene:
        kappa, g1, g2 = scene["los"][0].unbind()
        potential = potential + 0.5 * kappa * (x * x + y * y) + shear_potential(x, y, g1, g2)
        convergence = convergence + kappa
    return potential[0], convergence[0]


def _substructure_fields(
    preset: Preset, scene: Scenes, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Potential and convergence of halos and line; the latter is zero of points and lines."""
    potential, convergence = torch.zeros(2, y.shape[1], x.shape[2], dtype=torch.float64)
    for halo in halo_numbers(preset, scene)[0]:
        if halo[2] > 0:
            fields = _halo_fields(
                preset, (x - halo[0])[0], (y - halo[1])[0], halo[2], halo[3], scene
            )
            potential += fields[0]
            convergence += fields[1]
    squared = squared_radii(preset, scene)[1][0]
    return potential + _line_potential(preset, scene, x, y, squared), convergence


def _halo_fields(
    preset: Preset, x: Tensor, y: Tensor, squared: Tensor, scale: Tensor, scene: Scenes
) -> tuple[Tensor, Tensor | float]:
    """Potential and convergence of one halo at the origin."""
    profile, tau = preset.sphere.profile, preset.sphere.truncation
    if profile == "point":
        return point_potential(x, y, squared), 0.0
    if profile == "tnfw" and tau is not None:
        halo = x, y, squared, scale, tau
        return tnfw_potential(*halo), tnfw_convergence(*halo)
    radii = tidal_radii(squared, scene["theta_e"][0])
    return pseudo_jaffe_potential(x, y, *radii), pseudo_jaffe_convergence(x, y, *radii)


def _line_potential(
    preset: Preset, scene: Scenes, x: Tensor, y: Tensor, squared: Tensor
) -> Tensor | float:
    """Potential of the vortex, of a squared Einstein radius."""
    if squared <= 0:
        return 0.0
    _, cx, cy, angle, length = scene["vortex"][0].unbind()
    points = preset.vort.points
    if points is None:
        return line_potential((x - cx)[0], (y - cy)[0], angle, length, squared)
    positions = points_on_line(cx[None], cy[None], angle[None], length[None], points)
    return sum(
        point_potential((x - px)[0], (y - py)[0], squared / points)
        for px, py in zip(*(coordinate[0] for coordinate in positions), strict=True)
    )
