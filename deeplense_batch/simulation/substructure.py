"""The substructure set: lenses of a preset, in classes that differ by their substructure alone.

Image j of class c has the index i = 3 j + c and a random stream of its own, made from (seed,
number of the split, i), from which first the scene is drawn, then its noise. It is the same image
whatever else is simulated, in whatever batches, shards and processes, on whatever processor and
device (`scenes` and `rays` say how), and a larger set holds a smaller one.

To make a batch is to draw its scenes, to trace their rays and to expose the images; the first and
the last are done by processors on every machine, because numpy's streams fix every count.
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
from deeplense_batch.simulation.presets import CLASSES, PRESETS, Preset
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

    Raises:
        ShardError: There is no such preset or field, or no image can be made of them.
        DeviceError: There is no such device.
    """

    preset: str = "common_test_1"
    set_: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    size: int = 150
    device: str = "cpu"

    kind: ClassVar[str] = "substructure"
    classes: ClassVar[tuple[str, ...]] = CLASSES
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    folders: ClassVar[str] = "{split}/{name}"
    bands: ClassVar[tuple[str, ...]] = ()
    stored: ClassVar[np.dtype] = COUNTS
    dtype: ClassVar[np.dtype] = np.dtype(np.float64)

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
        device_of(self.device)

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
        return f"{self.kind}, preset {preset.name} (version {preset.version}){overrides}"

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
        }

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
        """Add the noise.

        Arguments:
            drawn: Whose streams are used up by it.
            rendered: The images without it, (B, size, size).
        """
        expose = partial(observe, self.distributions)
        observed = [*map(expose, drawn.scenes, rendered, drawn.streams)]
        return GeneratedBatch(
            images=np.stack([counts[None] for counts, _ in observed]),
            scale=np.array([[scale] for _, scale in observed]),
            truth=self.truth_of(drawn),
        )

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


def _axion_mass(vortex: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mass of the particle, eV, whose vortex has that length; NaN where there is none.

    DeepLenseSim's relation for a lens at z = 0.5: a length of 0.06 arcsec at 1e-22 eV, which goes
    as one over the mass.
    """
    length = np.where(vortex[:, 0] > 0, vortex[:, 4], np.nan)
    return 1e-22 * 0.06 / length
