"""The substructure set: lenses of a preset, in classes that differ by their substructure alone.

Image j of class c has the index i = 3 j + c and a random stream of its own, made from (seed,
number of the split, i), from which first the scene is drawn, then its noise. It is the same image
whatever else is simulated, in whatever batches, shards and processes, on whatever processor and
device (`scenes` and `rays` say how), and a larger set holds a smaller one.

To make a batch is to draw its scenes, to trace their rays and to expose the images; the first and
the last are done by processors on every machine, because numpy's streams fix every count. A clean
set is not exposed: it keeps the expected counts, from which training draws noise (`photons`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.distributed import device_of
from deeplense_batch.core.job import nearest
from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.generate import GeneratedBatch, check_images
from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.distributions import as_json
from deeplense_batch.simulation.halos import most_halos
from deeplense_batch.simulation.overrides import with_overrides
from deeplense_batch.simulation.pipeline import made_ahead
from deeplense_batch.simulation.preset_checks import cautions, check_preset
from deeplense_batch.simulation.presets import CLASSES, PRESETS, PhotonCamera, Preset
from deeplense_batch.simulation.rays import Optics, Tracer, optics
from deeplense_batch.simulation.scenes import Scene, as_batch, draw_scenes, observe, with_room

__all__ = ["Diffusion", "Drawn", "Substructure", "Truths", "preset_of"]

Truths = dict[str, NDArray[np.float64]]


class Drawn(NamedTuple):
    """A batch of which the scenes are drawn, and the noise is not."""

    indices: Sequence[int]
    streams: Sequence[np.random.Generator]
    scenes: Sequence[Scene]
    optics: Optics


_KEPT = ("observed", "clean")
# Of expected counts: rounded by 1 in 2048, which is a hundredth of the noise of 400 counts.
_EXPECTED = np.dtype(np.float16)
_SIZES = range(32, 2049)  # below, no ring reaches the corners of the frame
_DRAWN, _DRAWN_BYTES = 16, 1 << 22  # of images without noise that one process has in work


@dataclass(frozen=True)
class Substructure:
    """One substructure set, but for how many images.

    Arguments:
        preset: Name of the distributions, of `PRESETS`.
        set_: Values by dotted field of the preset, in place of its own.
        size: Pixels along a side of an image; their width is the preset's.
        device: ``cpu`` or ``cuda``, on which rays are traced; the images are the same.
        keep: ``observed`` images with noise, uint16 counts and their scale; or ``clean`` ones,
            the mean counts of photons without noise and sky, float16, of a camera that counts
            photons.

    Raises:
        ShardError: There is no such preset or field, or no image can be made of them.
        DeviceError: There is no such device.
    """

    preset: str = "common_test_1"
    set_: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    size: int = 150
    device: str = "cpu"
    keep: str = "observed"

    kind: ClassVar[str] = "substructure"
    classes: ClassVar[tuple[str, ...]] = CLASSES
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    folders: ClassVar[str] = "{split}/{name}"
    bands: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ShardError(
                f"simulate: preset: got '{self.preset}'; {nearest(self.preset, PRESETS)}"
            )
        self.check()

    def check(self) -> None:
        """Make sure that every image can be made, on a device that is there.

        Raises:
            ShardError: No image of that size can be made of the preset.
            DeviceError: There is no such device.
        """
        if self.size not in _SIZES:
            raise ShardError(
                f"simulate: size: expected {_SIZES[0]} to {_SIZES[-1]} pixels; got {self.size}"
            )
        check_preset(self.distributions, self.size)
        self._check_kept()
        device_of(self.device)

    def _check_kept(self) -> None:
        if self.keep not in _KEPT:
            raise ShardError(f"simulate: keep: got '{self.keep}'; {nearest(self.keep, _KEPT)}")
        if self.keep == "clean" and not isinstance(self.distributions.camera, PhotonCamera):
            counting = (n for n, p in PRESETS.items() if isinstance(p.camera, PhotonCamera))
            raise ShardError(
                f"simulate: keep: clean is for a camera that counts photons, which preset "
                f"{self.preset} has not; expected observed, or preset {', '.join(counting)}"
            )

    @cached_property
    def distributions(self) -> Preset:
        """The preset with its overrides."""
        return with_overrides(PRESETS[self.preset], self.set_)

    @property
    def drawn_classes(self) -> tuple[str, ...]:
        """Classes of which images are, in turn."""
        return CLASSES

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of an image."""
        return 1, self.size, self.size

    @property
    def stored(self) -> np.dtype:
        """Type in which shards hold the images."""
        return COUNTS if self.sky is None else _EXPECTED

    @property
    def dtype(self) -> np.dtype:
        """Type of their values."""
        return np.dtype(np.float64) if self.sky is None else _EXPECTED

    @property
    def sky(self) -> float | None:
        """Mean counts of the sky in a pixel, of a clean set; None of observed images."""
        camera = self.distributions.camera
        if self.keep == "clean" and isinstance(camera, PhotonCamera):
            return float(camera.sky)
        return None

    @property
    def pixel_scale(self) -> float:
        """Width of a pixel, arcsec."""
        return self.distributions.pixel_scale

    @property
    def batch(self) -> int:
        """Images at once: as many fields as fit in the cache of a core.

        Beside a GPU as many as one process draws at a time; several are rendered at once.
        """
        return (
            8 if self.device == "cpu" else max(1, min(_DRAWN, _DRAWN_BYTES // 8 // self.size**2))
        )

    @property
    def about(self) -> str:
        """What the images come from, in a few words."""
        preset = self.distributions
        overrides = "".join(f", {field} = {value}" for field, value in self.set_.items())
        clean = "" if self.sky is None else ", expected counts"
        return f"{self.kind}, preset {preset.name} (version {preset.version}){overrides}{clean}"

    @property
    def known_faults(self) -> tuple[str, ...]:
        """Faults that the images have on purpose."""
        return self.distributions.known_faults

    @property
    def cautions(self) -> list[str]:
        """What its settings do to the halos that are asked for, in sentences."""
        return cautions(self.distributions)

    def counts(self, images: int) -> dict[str, dict[str, int]]:
        """Images of each class in each split: 4 : 1, classes equal to one image.

        Raises:
            ShardError: Too few for one of each class in each split.
        """
        check_images(self, len(self.splits), images)
        whole, rest = divmod(images, len(self.drawn_classes))
        total = {name: whole + (c < rest) for c, name in enumerate(self.drawn_classes)}
        valid = {name: max(1, round(count / 5)) for name, count in total.items()}
        train = {name: total[name] - valid[name] for name in total}
        return {"train": train, "val": valid}

    def described(self) -> dict[str, Any]:
        """All settings that an image depends on, as JSON."""
        return {
            "preset": as_json(self.distributions),
            "changes": dict(self.set_),
            "unphysical": self.distributions.unphysical,
            "size": self.size,
        } | ({} if self.sky is None else {"keep": self.keep})

    def make(self, split: str, indices: Sequence[int], *, seed: int) -> GeneratedBatch:
        """Simulate the images of some indices."""
        drawn = self.draw(split, indices, seed=seed)
        return self.expose(drawn, self.tracer.images(drawn.optics))

    def stream(
        self, asked: Iterable[tuple[str, Sequence[int]]], *, seed: int
    ) -> Generator[GeneratedBatch, None, None]:
        """Simulate batch after batch, as `make` does; beside a GPU by `pipeline`, ahead of use."""
        if self.device == "cpu":
            for split, indices in asked:
                yield self.make(split, indices, seed=seed)
        else:
            yield from made_ahead(self, asked, seed=seed)

    def draw(self, split: str, indices: Sequence[int], *, seed: int) -> Drawn:
        """Draw the scenes of some indices."""
        preset, number = self.distributions, self.splits.index(split)
        streams = [np.random.default_rng([seed, number, i]) for i in indices]
        targets = [CLASSES.index(name) for name in self.drawn_classes]
        scenes = draw_scenes(preset, [targets[i % len(targets)] for i in indices], streams)
        return Drawn(indices, streams, scenes, optics(preset, as_batch(scenes)))

    @cached_property
    def tracer(self) -> Tracer:
        """What makes images without noise of the optics of what was drawn."""
        return Tracer(self.distributions, self.size, device_of(self.device))

    def expose(self, drawn: Drawn, rendered: NDArray[np.float64]) -> GeneratedBatch:
        """Add the noise, but to a clean set.

        Arguments:
            drawn: Whose streams are used up by it.
            rendered: The images without it, (B, size, size).
        """
        images, scale = self._images(drawn, rendered)
        return GeneratedBatch(images, scale, self.truth_of(drawn))

    def _images(
        self, drawn: Drawn, rendered: NDArray[np.float64]
    ) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
        """Images as they are stored, (B, 1, size, size), and the scale of counts, (B, 1)."""
        if self.sky is not None:
            return _expected(self.distributions, rendered), None
        expose = partial(observe, self.distributions)
        observed = [*map(expose, drawn.scenes, rendered, drawn.streams)]
        scale = np.array([[scale] for _, scale in observed])
        return np.stack([counts[None] for counts, _ in observed]), scale

    def truth_of(self, drawn: Drawn) -> Truths:
        """All numbers of the scenes of a batch, (B, ...) by name."""
        most = most_halos(self.distributions)
        kept = [scene | {"halos": with_room(scene["halos"], most)} for scene in drawn.scenes]
        truth = {name: np.stack([scene[name] for scene in kept]) for name in kept[0]}
        truth |= {"index": np.asarray(drawn.indices, np.float64)}
        return truth | {"axion_mass_ev": _axion_mass(truth["vortex"])}


@dataclass(frozen=True)
class Diffusion(Substructure):
    """Unlabelled lenses, all classes in equal parts: what a generator of images learns from."""

    preset: str = "varied"

    kind: ClassVar[str] = "diffusion"
    classes: ClassVar[tuple[str, ...]] = ()
    splits: ClassVar[tuple[str, ...]] = ("train",)
    folders: ClassVar[str] = "Samples"

    def counts(self, images: int) -> dict[str, dict[str, int]]:
        """All in one split, without a label."""
        return {"train": {"unlabelled": images}}


def preset_of(root: Path) -> Preset:
    """The preset, overrides included, from which a folder of shards was simulated.

    Raises:
        ShardError: It was not simulated here, or by another version of its preset.
    """
    try:
        manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
        preset = with_overrides(PRESETS[manifest["preset"]["name"]], manifest["changes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{root}: was not simulated from a preset of substructure") from error
    if json.loads(json.dumps(as_json(preset))) != manifest["preset"]:
        raise ShardError(
            f"{root}: was simulated from another version of preset {preset.name}; "
            "its truth needs the program that made it"
        )
    return preset


def _expected(preset: Preset, rendered: NDArray[np.float64]) -> NDArray[np.float16]:
    """Expected counts of images without noise and sky, (B, H, W), as stored, (B, 1, H, W).

    Raises:
        ShardError: They are none, or more than 16 bits hold.
    """
    largest = rendered.max((1, 2))
    most = np.finfo(_EXPECTED).max
    if not (largest.min() > 0 and largest.max() <= most):
        raise ShardError(
            f"preset {preset.name}: an image has expected counts of {largest.min():.3g} to "
            f"{largest.max():.3g} at its peak; there should be some, and no more than {most:.0f}: "
            "change the source or the camera"
        )
    return rendered[:, None].astype(_EXPECTED)


def _axion_mass(vortex: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mass of the particle, eV, whose vortex has that length; NaN where there is none.

    DeepLenseSim's relation for a lens at z = 0.5: a length of 0.06 arcsec at 1e-22 eV, which goes
    as one over the mass.
    """
    length = np.where(vortex[:, 0] > 0, vortex[:, 4], np.nan)
    return 1e-22 * 0.06 / length
