"""Simulate a labelled set of lens images, straight into shards: the table of the kinds of sets."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from deeplense_batch.core.job import nearest
from deeplense_batch.data.generate import GenerateReport, ImageGenerator, generate_dataset
from deeplense_batch.data.shards import ShardError

__all__ = ["KINDS", "check", "generator_class", "simulate"]

_log = logging.getLogger(__name__)

# Module and class, or function, of each kind of set. A module that is not installed is missed
# only where its kind is asked for.
KINDS = {
    "substructure": "deeplense_batch.simulation.substructure:Substructure",
    "lens_finding": "deeplense_batch.simulation.survey.lens_finding:lens_finding",
    "diffusion": "deeplense_batch.simulation.substructure:Diffusion",
    "super_resolution": "deeplense_batch.simulation.pairs.super_resolution:SuperResolution",
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
        images: Images of all splits together; classes differ by one at most.
        seed: Seed of every random number.
        shard_size: Images in a shard.
        part: Which part of the shards this process makes, from 0.
        parts: Into how many parts they are divided. The process that finds all shards made joins
            them to the set.
        on_batch: Called after every few images; what it raises ends the work, to go on later.
        options: Of the kind: ``preset``, ``set_`` and ``size``, and ``device`` of `Substructure`.

    Raises:
        ShardError: An argument is not one of those possible, or `out` holds other shards, or
            those of another simulation that is not complete. Nothing has been computed then.
    """
    _check_numbers(images=images, seed=seed, shard_size=shard_size, parts=parts)
    generator, counts = check(kind, images=images, **options)
    return generate_dataset(
        "simulate", generator, kind, counts, Path(out), seed=seed, shard_size=shard_size,
        part=part, parts=parts, on_batch=on_batch,
    )  # fmt: skip


def check(
    kind: str, *, images: int, **options: Any
) -> tuple[ImageGenerator, dict[str, dict[str, int]]]:
    """Find out what would be made: the generator, and images by split and class.

    What is allowed, but not what one may expect, is logged as a warning.

    Raises:
        ShardError: As `simulate`, of the arguments.
    """
    generator_of_kind = generator_class(kind)
    for option in options:
        if option not in inspect.signature(generator_of_kind).parameters:
            flag = option.removesuffix("_")
            raise ShardError(
                f"simulate: --{flag}: is not for a set of kind {kind}; it is for "
                f"{', '.join(_kinds_with(option)) or 'none'}"
            )
    generator = generator_of_kind(**options)
    for caution in getattr(generator, "cautions", ()):
        _warn(caution)
    return generator, generator.counts(images)


def generator_class(kind: str) -> Callable[..., ImageGenerator]:
    """The class that makes the images of a kind of set.

    Raises:
        ShardError: There is no such kind, or its module is not installed.
    """
    if kind not in KINDS:
        raise ShardError(f"simulate: KIND: got '{kind}'; {nearest(kind, KINDS)}")
    module, _, name = KINDS[kind].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # a dependency of the module
        raise ShardError(
            f"simulate: KIND: '{kind}' is not installed here, {error.name} is missing; installed "
            f"are {', '.join(other for other in KINDS if _is_installed(other))}"
        ) from None


@cache
def _warn(caution: str) -> None:
    """Once in a process, which may check a set before it makes it."""
    _log.warning("simulate: %s", caution)


def _kinds_with(option: str) -> list[str]:
    """The kinds, among those that are installed, that take an option."""
    installed = filter(_is_installed, KINDS)
    return [k for k in installed if option in inspect.signature(generator_class(k)).parameters]


def _is_installed(kind: str) -> bool:
    package, _, _ = KINDS[kind].partition(":")[0].rpartition(".")
    return importlib.util.find_spec(package) is not None


def _check_numbers(**numbers: object) -> None:
    ranges = {"images": (1, 10**7), "seed": (0, 2**63 - 1)}
    for name, value in numbers.items():
        least, most = ranges.get(name, (1, 10**9))
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ShardError(
                f"simulate: {name}: expected a whole number from {least} to {most}; got {value!r}"
            )
