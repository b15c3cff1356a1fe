"""The substructure set: lenses of a preset, in classes that differ by their substructure alone.

Image j of class c has the index i = 3 j + c and draws from a stream of its own, made from (seed,
number of the split, i): first the scene, then its noise. It is the same image whatever else is
simulated, in whatever batches, shards and processes, on whatever processor (`scenes` says how),
and a larger set holds a smaller one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.changes import changed, check
from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.kind import Made, check_images
from deeplense_batch.data.laws import plain
from deeplense_batch.data.presets import CLASSES, PRESETS, Preset
from deeplense_batch.data.scenes import Scene, as_batch, draw_scene, observe, render
from deeplense_batch.data.shards import ShardError
from deeplense_batch.distributed import device_of
from deeplense_batch.job import nearest

__all__ = ["Diffusion", "Substructure", "SuperResolution", "laws_of"]

Truths = dict[str, NDArray[np.float64]]

_SIZES = range(32, 2049)  # below, no ring reaches the corners of the frame


@dataclass(frozen=True)
class Substructure:
    """One substructure set, but for how many images.

    Arguments:
        preset: Name of the laws, of `PRESETS`.
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
    stored: ClassVar[np.dtype] = COUNTS
    dtype: ClassVar[np.dtype] = np.dtype(np.float64)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ShardError(
                f"simulate: preset: got '{self.preset}'; {nearest(self.preset, PRESETS)}"
            )
        if self.size not in _SIZES:
            raise ShardError(
                f"simulate: size: expected {_SIZES[0]} to {_SIZES[-1]} pixels; got {self.size}"
            )
        check(self.laws, self.size)
        device_of(self.device)

    @property
    def laws(self) -> Preset:
        """The preset with its changes."""
        return changed(PRESETS[self.preset], self.set_)

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of an image."""
        return 1, self.size, self.size

    @property
    def pixel_scale(self) -> float:
        """Width of a pixel, arcsec."""
        return self.laws.pixel_scale

    @property
    def batch(self) -> int:
        """Images at once: as many fields as fit in the cache of a core, or keep a GPU busy."""
        return 8 if self.device == "cpu" else 256

    @property
    def about(self) -> str:
        """What the images come from, in a few words."""
        laws = self.laws
        changes = "".join(f", {field} = {value}" for field, value in self.set_.items())
        return f"{self.kind}, preset {laws.name} (version {laws.version}){changes}"

    @property
    def slips(self) -> tuple[str, ...]:
        """Faults that the images have on purpose."""
        return self.laws.slips

    def counts(self, images: int) -> dict[str, dict[str, int]]:
        """Images of each class in each split: 4 : 1, classes equal to one image.

        Raises:
            ShardError: Too few for one of each class in each split.
        """
        check_images(self, len(self.splits), images)
        whole, rest = divmod(images, len(CLASSES))
        total = {name: whole + (c < rest) for c, name in enumerate(CLASSES)}
        valid = {name: max(1, round(count / 5)) for name, count in total.items()}
        train = {name: total[name] - valid[name] for name in CLASSES}
        return {"train": train, "val": valid}

    def described(self) -> dict[str, Any]:
        """All its laws, as JSON."""
        return {
            "preset": plain(self.laws),
            "changes": dict(self.set_),
            "unphysical": self.laws.unphysical,
            "size": self.size,
        }

    def make(self, split: str, indices: Sequence[int], *, seed: int) -> Made:
        """Simulate the images of some indices."""
        laws, number = self.laws, self.splits.index(split)
        streams = [np.random.default_rng([seed, number, i]) for i in indices]
        scenes = [
            draw_scene(laws, i % len(CLASSES), stream)
            for i, stream in zip(indices, streams, strict=True)
        ]
        on = device_of(self.device)
        rendered = render(laws, as_batch(scenes), self.size, device=on).cpu().numpy()
        # Beside a GPU noise would be the slowest part; numpy draws it without Python's lock.
        threads = 1 if self.device == "cpu" else len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
            observed = list(
                (pool.map if pool else map)(partial(observe, laws), scenes, rendered, streams)
            )
        truth = {name: np.stack([scene[name] for scene in scenes]) for name in scenes[0]}
        truth |= {"index": np.asarray(indices, np.float64)}
        truth |= {"axion_mass_ev": _axion_mass(truth["vortex"])}
        return Made(
            images=np.stack([counts[None] for counts, _ in observed]),
            scale=np.array([[scale] for _, scale in observed]),
            truth=truth | self._more(laws, scenes, rendered, streams),
        )

    def _more(
        self,
        laws: Preset,
        scenes: Sequence[Scene],
        rendered: NDArray[np.float64],
        streams: Sequence[np.random.Generator],
    ) -> Truths:
        """What else is kept of images, drawn from what is left of their streams."""
        return {}


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


@dataclass(frozen=True)
class SuperResolution(Substructure):
    """Pairs of one sky: the images, and ``truth/low_resolution``, (N, 1, H/2, W/2) from 0 to 1.

    The second is the same telescope with pixels of twice the width, and noise of its own.
    """

    preset: str = "varied"

    kind: ClassVar[str] = "super_resolution"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % 2:
            raise ShardError(f"simulate: size: pairs need an even number; got {self.size}")

    def _more(
        self,
        laws: Preset,
        scenes: Sequence[Scene],
        rendered: NDArray[np.float64],
        streams: Sequence[np.random.Generator],
    ) -> Truths:
        seen = [
            observe(laws, scene, image, stream, binned=2)
            for scene, image, stream in zip(scenes, rendered, streams, strict=True)
        ]
        return {"low_resolution": np.stack([counts[None] / scale for counts, scale in seen])}


def laws_of(root: Path) -> Preset:
    """The preset from which a folder of shards was simulated.

    Raises:
        ShardError: It was not simulated here, or by another version of its preset.
    """
    try:
        manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
        laws = changed(PRESETS[manifest["preset"]["name"]], manifest["changes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{root}: was not simulated from a preset of substructure") from error
    if json.loads(json.dumps(plain(laws))) != manifest["preset"]:
        raise ShardError(
            f"{root}: was simulated from another version of preset {laws.name}; "
            "its truth needs the program that made it"
        )
    return laws


def _axion_mass(vortex: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mass of the particle, eV, whose vortex has that length; NaN where there is none.

    DeepLenseSim's relation for a lens at z = 0.5: a length of 0.06 arcsec at 1e-22 eV, which goes
    as one over the mass.
    """
    length = np.where(vortex[:, 0] > 0, vortex[:, 4], np.nan)
    return 1e-22 * 0.06 / length
