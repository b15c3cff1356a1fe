"""What the folders of an image say about it: its split and its class."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.sources.archive import path_parts

__all__ = [
    "KNOWN",
    "SPLITS",
    "describe",
    "empty_folders",
    "is_lens",
    "meaning",
    "natural",
    "places",
    "short_ids",
    "undoubled",
]

KNOWN = (
    "known are {train,val,test}/{class}/, {class}/, {train,test}_{class}/, images side by side, "
    "and {train,val,test}.npz with 'images' and 'labels'"
)

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_AFFIX = re.compile(r"^(?:(train|val|test)_(.+)|(.+)_(train|val|test))$", re.IGNORECASE)
_RESOLUTIONS = {"hr", "lr"}

Folders = tuple[str, ...]


def natural(name: str) -> tuple[list[str | int], str]:
    """Sort key: 2.npy before 10.npy."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def short_ids(names: Sequence[str]) -> dict[str, str]:
    """Id of each file: its name without the folders that hold all of them and mean nothing."""
    parts = {name: path_parts(name) for name in names}
    folders = {path[:-1] for path in parts.values()}
    skip = 0
    for level in zip(*folders, strict=False):
        last = any(len(path) == skip + 1 for path in folders)
        meant = level[0].lower() in SPLITS or (last and _AFFIX.match(level[0]))
        if len(set(level)) > 1 or meant:
            break
        skip += 1
    return {name: "/".join(path[skip:]) for name, path in parts.items()}


def is_lens(class_: str) -> bool:
    """Whether a class is named as what a search is for: its number is 1, that of the other 0."""
    return class_.casefold() in ("lens", "lenses")


def empty_folders(folders: Iterable[str], images: Iterable[str]) -> list[str]:
    """Folders without an image that stand where a class or a split is expected.

    Arguments:
        folders: Names of all folders.
        images: Names of all images.
    """
    holding = {path_parts(name)[:-1] for name in images}
    full = {folder[:depth] for folder in holding for depth in range(len(folder) + 1)}
    found = []
    for name in folders:
        parts = path_parts(name)
        expected = len(parts) in map(len, holding) or parts[-1].lower() in SPLITS
        if parts not in full and parts[:-1] in full and expected:
            found.append(name)
    return sorted(found, key=natural)


def _place(folders: Folders) -> tuple[str, str] | None:
    """Split and class that folders name, "" where they do not; None where they make no sense."""
    if not folders:
        return "", ""
    split = SPLITS.get(folders[0].lower(), "")
    if len(folders) == 2 and split:
        return split, folders[1]
    return meaning(folders[0]) if len(folders) == 1 else None


def meaning(name: str) -> tuple[str, str]:
    """Split and class that one name stands for, "" where it does not."""
    if split := SPLITS.get(name.lower(), ""):
        return split, ""
    if match := _AFFIX.match(name):
        return (match[1] or match[4]).lower(), match[2] or match[3]
    return "", name


def places(root: object, folders: Collection[Folders]) -> dict[Folders, tuple[str, str]]:
    """What every folder stands for, if that makes sense together.

    Raises:
        ShardError: It does not; `root` is named.
    """
    found = {parts: where for parts in folders if (where := _place(parts)) is not None}
    splits = {split for split, _ in found.values()}
    labelled = {bool(class_) for _, class_ in found.values()}
    half_split = "" in splits and bool({"train", "val"} & splits)
    pairs = {parts[-1].lower() for parts in folders if parts} >= _RESOLUTIONS
    if len(found) < len(folders) or len(labelled) > 1 or half_split or pairs:
        given = sorted(("/".join(parts) or "." for parts in folders), key=natural)
        more = f" and {len(given) - 6} more" if len(given) > 6 else ""
        names = ", ".join(given[:6]) + more + (" (pairs for super-resolution)" if pairs else "")
        raise ShardError(f"{root}: unknown layout, images in the folders {names}; {KNOWN}")
    return found


def undoubled(root: object, folders: Collection[Folders]) -> dict[Folders, Folders]:
    """Folders as they are meant: lens/lens, of a zip for each class, is lens.

    What makes sense as it stands is kept, unless all are doubled: ``val/val`` is no class.
    """
    plain = {parts: tuple(p for p, q in zip(parts, ("", *parts), strict=False) if p != q)
             for parts in folders}  # fmt: skip
    as_given = {parts: parts for parts in folders}
    if all(parts != meant for parts, meant in plain.items()):
        return plain
    try:
        places(root, folders)
    except ShardError:
        with suppress(ShardError):
            places(root, set(plain.values()))
            return plain
    return as_given


def describe(found: Mapping[Folders, tuple[str, str]]) -> str:
    """The layout in words."""
    depth = max(map(len, found))
    if depth == 1 and any(split for split, _ in found.values()):
        return "{split}_{class}/" if any(class_ for _, class_ in found.values()) else "{split}/"
    return {0: "images side by side", 1: "{class}/", 2: "{split}/{class}/"}[depth]
