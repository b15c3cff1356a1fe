"""What goes with the images of pairs: loaders of the inputs, and of the images without noise.

Such a companion is a `Loader` of the same samples and another data set. What becomes of a sample
is a function of (seed, epoch, draw) alone, so that it reflects and turns as its image does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from deeplense_batch.core.job import Augment
from deeplense_batch.core.sections.data import DataSection
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.making import Batches
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.reader import Indices
from deeplense_batch.data.pairs.crops import inputs_crop
from deeplense_batch.data.pairs.registration import Registration, register
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import Split

__all__ = ["beside", "companions_of", "paired_loader", "registrations"]

_NOTHING = Augment()


def paired_loader(
    split: Split,
    *,
    transform: Transform,
    device: torch.device,
    resident: str = "auto",
    truths: Collection[str] = (),
    registers: bool = False,
) -> Loader:
    """A loader of the images of a slice of pairs with its companions.

    Arguments:
        split, transform, device, resident, truths: As of `Loader`.
        registers: Whether the images are moved to where their inputs are, by shifts that are
            measured here.

    Raises:
        ShardError: It is no slice of pairs, or a crop of its images is none of their inputs.
    """
    where: dict[str, Any] = {"transform": transform, "device": device, "resident": resident}
    registration = register(split) if registers else None
    companions = companions_of(split, registration=registration, **where)
    return Loader(split, truths=truths, companions=companions, registration=registration, **where)


def companions_of(
    split: Split,
    *,
    transform: Transform,
    device: torch.device,
    resident: str = "auto",
    registration: Registration | None = None,
) -> dict[str, Loader]:
    """Loaders of ``inputs`` and, where a slice of pairs has them, of ``clean``.

    Arguments:
        split: The slice.
        transform: What happens to its images; a crop of the inputs is smaller by the ratio.
        device: Where batches are made.
        resident: Where what is stored is kept, as of `Loader`.
        registration: By which the images are moved; images without noise are moved alike.

    Raises:
        ShardError: It is no slice of pairs, or a crop of its images is none of their inputs.
    """
    crops = {"inputs": inputs_crop(split.info, transform.crop)}
    crops |= {"clean": transform.crop} if split.info.has_clean else {}
    return {
        name: Loader(
            split.of(name),
            transform=replace(transform, crop=own),
            device=device,
            resident=resident,
            registration=registration if name == "clean" else None,
        )
        for name, own in crops.items()
    }


def beside(
    images: Batches | Mixture,
    batches: Sequence[Indices],
    augment: Augment = _NOTHING,
    *,
    seed: int = 0,
    epoch: int = 0,
) -> Generator[dict[str, Tensor], None, None]:
    """Make what goes with the batches that ``images.batches`` makes of the same arguments.

    Yields:
        Of pairs ``inputs``, (B, C, h, w) float32, and ``clean``, (B, C, H, W) float32, where there
        are any; else nothing.
    """
    with contextlib.ExitStack() as stack:
        streams = {}
        for name, loader in images.companions.items():
            made = loader.batches(batches, augment, seed=seed, epoch=epoch)
            streams[name] = stack.enter_context(contextlib.closing(made))
        for _ in batches:
            yield {name: next(made)[0] for name, made in streams.items()}


def registrations(
    data: DataSection,
    train: Loader | Mixture,
    *,
    curriculum: Sequence[Loader] = (),
    **others: Loader,
) -> dict[str, tuple[Sequence[str], Registration]]:
    """Ids and shifts of the pairs of each slice that is registered, by its name in the recipe.

    Arguments:
        data: Of the job.
        train: What is trained on.
        curriculum: Before it.
        others: The other slices, by what they are for.
    """
    named = {getattr(data, use): loader for use, loader in others.items()}
    if isinstance(train, Mixture):
        for each, member in zip(data.roots, train.members, strict=True):
            named[f"{each.root}: {each.train}"] = member
    else:
        named = {data.train: train} | named
    for lesson, loader in zip(data.curriculum, curriculum, strict=True):
        named[f"{lesson.root}: {lesson.train}"] = loader
    return {
        name: (loader.split.ids(), loader.registration)
        for name, loader in named.items()
        if loader.registration is not None
    }
