"""Simulate a labelled set of lens images, straight into shards: the table of the kinds of sets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeplense_batch.core.job import nearest
from deeplense_batch.data.generate import GenerateReport, ImageGenerator, generate_dataset
from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.substructure import Diffusion, Substructure, SuperResolution
from deeplense_batch.simulation.survey.lens_finding import LensFinding

__all__ = ["KINDS", "check", "simulate"]

KINDS: dict[str, Callable[..., ImageGenerator]] = {
    "substructure": Substructure,
    "lens_finding": LensFinding,
    "diffusion": Diffusion,
    "super_resolution": SuperResolution,
}


def simulate(
    kind: str,
    out: Path | str,
    *,
    images: int = 600,
    seed: int = 0,
    shard_size: int = 2048,
    part: int = 0,
    parts: int = 1,
    on_batch: Callable[[], None] = lambda: None,
    **options: Any,
) -> GenerateReport:
    """Simulate a labelled set into a folder of shards; go on with it if it was cut off.

    Arguments:
        kind: What to simulate, of `KINDS`.
        out: Folder of the shards; made if missing, refused if it holds other ones.
        images: Images of all splits together; classes are equal to one image.
        seed: Seed of every random number.
        shard_size: Images in a shard.
        part: Which part of the shards this process makes, from 0.
        parts: Into how many parts they are divided. Who finds all shards made completes the set.
        on_batch: Called after each batch; what it raises ends the work, to go on later.
        options: Of the kind: ``preset``, ``set_``, ``size`` and ``device`` of `Substructure`.

    Raises:
        ShardError: An argument is not one of those possible, or `out` holds other shards, or
            those of another simulation that is not complete. Nothing has been computed then.
    """
    _check_numbers(images=images, seed=seed, shard_size=shard_size, parts=parts)
    content, counts = check(kind, images=images, **options)
    return generate_dataset(
        "simulate", content, kind, counts, Path(out), seed=seed, shard_size=shard_size, part=part,
        parts=parts, on_batch=on_batch,
    )  # fmt: skip


def check(
    kind: str, *, images: int, **options: Any
) -> tuple[ImageGenerator, dict[str, dict[str, int]]]:
    """Find out what would be made: its kind, and images by split and class.

    Raises:
        ShardError: As `simulate`, of the arguments.
    """
    if kind not in KINDS:
        raise ShardError(f"simulate: KIND: got '{kind}'; {nearest(kind, KINDS)}")
    takes = {name: set(inspect.signature(made).parameters) for name, made in KINDS.items()}
    for name in options:
        if name not in takes[kind]:
            flag = name.removesuffix("_")
            others = ", ".join(one for one, known in takes.items() if name in known) or "none"
            raise ShardError(
                f"simulate: --{flag}: is not for a set of kind {kind}; it is for {others}"
            )
    content = KINDS[kind](**options)
    return content, content.counts(images)


def _check_numbers(**given: object) -> None:
    ranges = {"images": (1, 10**7), "seed": (0, 2**63 - 1)}
    for name, value in given.items():
        least, most = ranges.get(name, (1, 10**9))
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ShardError(
                f"simulate: {name}: expected a whole number from {least} to {most}; got {value!r}"
            )
