"""Pairs of one sky: an image, the poorer image that is given, and the image without noise.

``clean`` is what the detector would count on average, in the units of the image, so that a network
can be scored against the truth and not only against one noisy exposure of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.job import nearest
from deeplense_batch.data.encoding import CLEAN
from deeplense_batch.data.generate import GeneratedBatch
from deeplense_batch.data.pairs.pair_arrays import PairArrays
from deeplense_batch.data.shards import ShardError
from deeplense_batch.lensing.camera import readout_counts
from deeplense_batch.simulation.distributions import as_json, draw_one, rounded
from deeplense_batch.simulation.overrides import with_overrides
from deeplense_batch.simulation.pairs.pair_presets import (
    PAIR_PRESETS,
    RATIO,
    PairPreset,
    Telescope,
)
from deeplense_batch.simulation.pairs.poorer import behind_telescope, shrunk
from deeplense_batch.simulation.presets import PRESETS, Preset, ReadoutCamera
from deeplense_batch.simulation.scenes import (
    Scene,
    expected_counts,
    exposed,
    from_smallest,
    observe,
)
from deeplense_batch.simulation.substructure import Drawn, Substructure, Truths

__all__ = ["SuperResolution"]

_SIGMA = math.sqrt(8 * math.log(2))  # full widths at half maximum over sigma


class _Image(NamedTuple):
    """One image as it is exposed."""

    counts: NDArray[np.uint16]  # (H, W), above the smallest
    scale: float  # counts of value 1
    clean: NDArray[np.float64]  # (H, W), expected, in the units of the image
    least: int  # smallest count


@dataclass(frozen=True)
class SuperResolution(Substructure):
    """One set of pairs, but for how many.

    Arguments:
        preset: Of `PAIR_PRESETS`.
        set_: Values by dotted field of the preset of the images, in place of its own.
        size: Pixels along a side of an image, even; 0 for those of the preset.
        device: As of `Substructure`.

    Raises:
        ShardError, DeviceError: As `Substructure`.
    """

    preset: str = "varied"
    size: int = 0

    kind: ClassVar[str] = "super_resolution"

    def __post_init__(self) -> None:
        if self.preset not in PAIR_PRESETS:
            raise ShardError(
                f"simulate: preset: got '{self.preset}'; {nearest(self.preset, PAIR_PRESETS)}"
            )
        if not self.size:
            object.__setattr__(self, "size", self.pairs.size)
        if self.size % RATIO:
            raise ShardError(f"simulate: size: pairs need an even number; got {self.size}")
        self.check()

    @property
    def pairs(self) -> PairPreset:
        """How the pairs are made."""
        return PAIR_PRESETS[self.preset]

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]  # by preset
        """Class names in the order of their numbers."""
        return self.pairs.classes

    @property
    def drawn_classes(self) -> tuple[str, ...]:
        """Classes of which images are, in turn."""
        return self.pairs.classes

    @cached_property
    def distributions(self) -> Preset:
        """The preset of the images with all overrides."""
        return with_overrides(PRESETS[self.pairs.base], self._overrides)

    @property
    def _overrides(self) -> dict[str, Any]:
        return {**self.pairs.overrides, **self.set_}

    @property
    def inputs_dtype(self) -> np.dtype:
        """Type of the values of the inputs."""
        return self.dtype if self.pairs.how == "exposed" else np.dtype(np.float32)

    @property
    def about(self) -> str:
        """What the images come from, in a few words."""
        preset = self.distributions
        of = "" if self.preset == preset.name else f"{self.preset}, images of "
        overrides = "".join(f", {field} = {value}" for field, value in self.set_.items())
        return f"{self.kind}, {of}preset {preset.name} (version {preset.version}){overrides}"

    def described(self) -> dict[str, Any]:
        """All settings that an image depends on, as JSON."""
        return super().described() | {
            "changes": self._overrides,
            "pairs": as_json(self.pairs) | {"ratio": RATIO},
        }

    def expose(self, drawn: Drawn, rendered: NDArray[np.float64]) -> GeneratedBatch:
        """Add the noise, and make the inputs.

        Arguments:
            drawn: Whose streams are used up by it.
            rendered: The images without noise, (B, size, size).
        """
        preset = self.distributions
        each = [*zip(drawn.scenes, rendered, drawn.streams, strict=True)]
        images = [_exposed(preset, *one) for one in each]
        pairs, more = self._inputs(preset, each, images)
        clean = np.stack([image.clean[None] for image in images]).astype(CLEAN)
        return GeneratedBatch(
            images=np.stack([image.counts[None] for image in images]),
            scale=np.array([[image.scale] for image in images]),
            truth=self.truth_of(drawn) | more,
            pairs=PairArrays(*pairs, clean),
        )

    def _inputs(
        self,
        preset: Preset,
        each: Sequence[tuple[Scene, NDArray[np.float64], np.random.Generator]],
        images: Sequence[_Image],
    ) -> tuple[tuple[NDArray[Any], NDArray[np.float64] | None], Truths]:
        """Inputs as shards hold them with their scale, and what is known of them."""
        if self.pairs.how == "exposed":
            observed = [observe(preset, *one, binned=RATIO) for one in each]
            counts = np.stack([counts[None] for counts, _ in observed])
            return (counts, np.array([[scale] for _, scale in observed])), {}
        if self.pairs.how == "shrunk":
            values = [shrunk(image.counts / image.scale) for image in images]
            return (np.array(values, np.float32)[:, None], None), {}
        assert self.pairs.telescope is not None
        taken = [
            _taken(preset, self.pairs.telescope, *one, image)
            for one, image in zip(each, images, strict=True)
        ]
        inputs, shifts = zip(*taken, strict=True)
        return (np.array(inputs, np.float32)[:, None], None), {"shift": np.stack(shifts)}


def _exposed(
    preset: Preset, scene: Scene, image: NDArray[np.float64], random: np.random.Generator
) -> _Image:
    """An exposure of an image and its expectation, by one zero point and scale."""
    raw = exposed(preset, scene, image, random)
    least = int(raw.min())
    counts, scale = from_smallest(preset, raw)
    return _Image(counts, scale, (expected_counts(preset, scene, image) - least) / scale, least)


def _taken(
    preset: Preset,
    telescope: Telescope,
    scene: Scene,
    image: NDArray[np.float64],
    random: np.random.Generator,
    made: _Image,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The input that another telescope takes, (h, w) in the units of the image, and its shift.

    The shift is (2,), along rows and columns, by which the sky lies further in the input than in
    the image, in pixels of the input; uniform in a disc.
    """
    camera = preset.camera
    assert isinstance(camera, ReadoutCamera)
    angle, length = 2 * math.pi * random.random(), telescope.shift * math.sqrt(random.random())
    shift = rounded([length * math.sin(angle), length * math.cos(angle)])
    wider = math.sqrt((telescope.fwhm / _SIGMA) ** 2 - camera.psf_sigma**2) / preset.pixel_scale
    sky = behind_telescope(image, sigma=wider, shift=shift * RATIO, ratio=RATIO)
    # As numbers of a scene: the digits below depend on the machine, and decide a count.
    sky = rounded(sky * (camera.peak / image.max()))
    sky_sd = float(rounded(sky.max() / draw_one(telescope.snr, random)))
    counts = readout_counts(
        sky,
        exposure=float(scene["exposure"]),
        sky_sd=sky_sd,
        counts_per_sky_sd=camera.counts_per_sky_sd,
        random=random,
    )
    # From counts of this telescope to those of the other, and to the units of the image.
    of_image = (camera.peak / float(scene["snr"])) / sky_sd
    return (counts / of_image - made.least) / made.scale, shift
