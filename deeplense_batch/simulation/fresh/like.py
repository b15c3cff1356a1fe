"""From ``data.simulate`` of a recipe to what makes its images: like those of ``data.root``."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeplense_batch.core.sections.simulated import SimulatedImages
from deeplense_batch.data.formats.parts import same_scale
from deeplense_batch.data.shards import ShardError, SplitInfo
from deeplense_batch.simulation.pairs.super_resolution import SuperResolution
from deeplense_batch.simulation.substructure import Diffusion, Substructure

__all__ = ["digest_of", "generator_of", "settled"]

#: Kinds of sets whose images a GPU makes about as fast as a network learns from them.
_KINDS = {made.kind: made for made in (Substructure, Diffusion, SuperResolution)}


def settled(asked: SimulatedImages, root: str) -> SimulatedImages:
    """What a recipe asks for, with all that it leaves to the set in ``data.root``.

    Arguments:
        asked: Section ``data.simulate``.
        root: Folder of that set.

    Raises:
        ShardError: There is no such kind of images, or `root` does not say what it is of.
    """
    if asked.preset is not None:
        kind = asked.kind or Substructure.kind
        if kind not in _KINDS:
            raise ShardError(f"data.simulate.kind: got '{kind}'; expected {', '.join(_KINDS)}")
        return asked.model_copy(update={"kind": kind})
    kind, preset, changes = _made_of(root)
    if asked.kind not in (None, kind):
        raise ShardError(
            f"data.simulate.kind: got {asked.kind} without a preset, whose images would be like "
            f"those of {root}, which are of kind {kind}; give data.simulate.preset"
        )
    known = {"kind": kind, "preset": preset, "set": {**changes, **asked.set}}
    return asked.model_copy(update=known)


def generator_of(asked: SimulatedImages, info: SplitInfo, *, device: str = "cpu") -> Substructure:
    """What makes the images.

    Arguments:
        asked: As `settled` gives it.
        info: Of the images of ``data.root`` as stored, which the new ones are like: of one size,
            of the same classes, with noise or without it.
        device: ``cpu`` or ``cuda``, on which rays are traced; the images are the same.

    Raises:
        ShardError: No such images can be made, or they would not go with those of `info`.
        DeviceError: There is no such device.
    """
    assert asked.kind is not None and asked.preset is not None
    channels, height, width = info.shape
    root = info.files[0].parent
    if height != width or channels != 1:
        raise ShardError(
            f"data.simulate: makes square images of one band; those of {root} have "
            f"{channels} x {height} x {width}"
        )
    keep = "observed" if info.sky is None else "clean"
    try:
        made = _KINDS[asked.kind](asked.preset, asked.set, height, device, keep)
    except ShardError as error:
        why = str(error).removeprefix("simulate: ")
        raise ShardError(f"data.simulate: {why}") from error
    scales = made.pixel_scale, info.pixel_scale
    if not any(map(math.isnan, scales)) and not same_scale(*scales):
        raise ShardError(
            f"data.simulate: pixels of {asked.preset} are {scales[0]:.4g} arcsec wide, those of "
            f"{root} {scales[1]:.4g}; expected one width, by set: {{pixel_scale: {scales[1]:.4g}}}"
        )
    for what, has, wanted in (
        ("the classes", ", ".join(made.classes) or "none", ", ".join(info.classes) or "none"),
        ("inputs", _inputs(made), "inputs" if info.inputs is not None else "no inputs"),
    ):
        if has != wanted:
            raise ShardError(
                f"data.simulate: images of {asked.preset} have {what} {has}, those of {root} "
                f"{wanted}; expected a kind and a preset like those of data.root"
            )
    return made


def digest_of(asked: SimulatedImages, made: Substructure) -> str:
    """Name what is simulated: 16 hex digits of all settings that an image depends on."""
    settings = {"kind": asked.kind, **made.described()}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _inputs(made: Substructure) -> str:
    return "inputs" if isinstance(made, SuperResolution) else "no inputs"


def _made_of(root: str) -> tuple[str, str, Mapping[str, Any]]:
    """Kind, preset and changes of the simulation that made a set.

    Raises:
        ShardError: None that can go on made it.
    """
    try:
        manifest = json.loads((Path(root) / "manifest.json").read_text(encoding="utf-8"))
        kind = str(manifest["kind"])
        named = manifest["pairs"] if kind == SuperResolution.kind else manifest["preset"]
        found = kind, str(named["name"]), dict(manifest["changes"])
    except (OSError, ValueError, KeyError, TypeError):
        kind, found = "", ("", "", {})
    if kind in _KINDS:
        return found
    of = f"was simulated as {kind}" if kind else "was not simulated here"
    raise ShardError(
        f"data.simulate: {root} {of}, so that it does not say what new images are like; give "
        f"data.simulate.preset, and a kind of {', '.join(_KINDS)}"
    )
