"""What the folders of an image say about it: its split and its class."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from deeplense_batch.data.formats.natural import natural
from deeplense_batch.data.listing.archive import alike, path_parts
from deeplense_batch.data.shards import ShardError

__all__ = [
    "KNOWN",
    "MOST_CLASSES",
    "SPLITS",
    "describe",
    "empty_folders",
    "is_lens",
    "meaning",
    "meanings",
    "number_classes",
    "short_ids",
    "undoubled",
]

KNOWN = (
    "known are {train,val,test}/{class}/, {class}/, {train,test}_{class}/, images side by side, "
    "pairs in HR/ and LR/, and {train,val,test}.npz with 'images' and 'labels'"
)

SPLITS = {
    "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "training": "train", "testing": "test",
}  # fmt: skip
MOST_CLASSES = 1000  # as in ImageNet; more are something else, such as sample numbers
_AFFIX = re.compile(r"^(?:(train|val|test)_(.+)|(.+)_(train|val|test))$", re.IGNORECASE)
_LENSES = ("nonlenses", "lenses")

Folders = tuple[str, ...]


def short_ids(names: Sequence[str]) -> dict[str, str]:
    """Id of each file: its name without the folders that hold all of them and mean nothing."""
    parts = {name: path_parts(name) for name in names}
    folders = {path[:-1] for path in parts.values()}
    skip = 0
    for level in zip(*folders, strict=False):
        is_last = any(len(path) == skip + 1 for path in folders)
        has_meaning = level[0].lower() in SPLITS or (is_last and _AFFIX.match(level[0]))
        if len(set(level)) > 1 or has_meaning:
            break
        skip += 1
    return {name: "/".join(path[skip:]) for name, path in parts.items()}


def is_lens(class_: str) -> bool:
    """Whether a class is what lens finding searches for: its number is 1, the other's 0."""
    return class_.casefold() in ("lens", "lenses")


def number_classes(
    root: object, names: Iterable[str], asked: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Class names in the order of their numbers: natural order, but of two a lens is 1.

    Arguments:
        root: Named in errors.
        names: Of all classes; may be none.
        asked: The order that the user gives, if any.

    Raises:
        ShardError: Two look the same, or one is not in the order asked for.
    """
    if asked:
        if lost := sorted(set(names) - set(asked), key=natural):
            raise ShardError(
                f"{root}: --classes are {', '.join(asked)}, but there is a class {lost[0]}"
            )
        return asked
    classes = tuple(sorted(set(names), key=natural))
    for name, other in alike(classes):
        raise ShardError(
            f"{root}: its classes {name!r} and {other!r} differ by case, spaces or the writing of "
            "letters alone; give one class one name"
        )
    if classes and set(classes) <= set(_LENSES):
        return _LENSES
    if len(classes) == 2 and is_lens(classes[0]) and not is_lens(classes[1]):
        return classes[::-1]
    return classes


def empty_folders(folders: Iterable[str], images: Iterable[str]) -> list[str]:
    """Folders without an image, at a depth where a class or a split is expected.

    Arguments:
        folders: Names of all folders.
        images: Names of all images.
    """
    holding = {path_parts(name)[:-1] for name in images}
    full = {folder[:depth] for folder in holding for depth in range(len(folder) + 1)}
    empty = []
    for name in folders:
        parts = path_parts(name)
        expected = len(parts) in map(len, holding) or parts[-1].lower() in SPLITS
        if parts not in full and parts[:-1] in full and expected:
            empty.append(name)
    return sorted(empty, key=natural)


def _meaning_of_path(folders: Folders) -> tuple[str, str] | None:
    """Split and class that nested folders name, "" for none; None where they make no sense."""
    if not folders:
        return "", ""
    split = SPLITS.get(folders[0].lower(), "")
    if len(folders) == 2 and split:
        return split, folders[1]
    return meaning(folders[0]) if len(folders) == 1 else None


def meaning(name: str) -> tuple[str, str]:
    """Split and class that one name means, "" for none."""
    if split := SPLITS.get(name.lower(), ""):
        return split, ""
    if match := _AFFIX.match(name):
        return (match[1] or match[4]).lower(), match[2] or match[3]
    return "", name


def meanings(root: object, folders: Collection[Folders]) -> dict[Folders, tuple[str, str]]:
    """Split and class of every folder, if together they make a known layout.

    Arguments:
        root: Named in errors.
        folders: All folders that hold images, as the names from the root down.

    Raises:
        ShardError: They make none.
    """
    known = {parts: named for parts in folders if (named := _meaning_of_path(parts)) is not None}
    splits = {split for split, _ in known.values()}
    labelled = {bool(class_) for _, class_ in known.values()}
    half_split = "" in splits and bool({"train", "val"} & splits)
    if len(known) < len(folders) or len(labelled) > 1 or half_split:
        given = sorted(("/".join(parts) or "." for parts in folders), key=natural)
        more = f" and {len(given) - 6} more" if len(given) > 6 else ""
        names = ", ".join(given[:6]) + more
        raise ShardError(f"{root}: unknown layout, images in the folders {names}; {KNOWN}")
    return known


def undoubled(root: object, folders: Collection[Folders]) -> dict[Folders, Folders]:
    """Folders without doubled names: lens/lens, from a zip for each class, is lens.

    A known layout is kept as it is, unless all are doubled: ``val/val`` is no class.
    """
    plain = {parts: tuple(p for p, q in zip(parts, ("", *parts), strict=False) if p != q)
             for parts in folders}  # fmt: skip
    as_given = {parts: parts for parts in folders}
    if all(parts != meant for parts, meant in plain.items()):
        return plain
    try:
        meanings(root, folders)
    except ShardError:
        with suppress(ShardError):
            meanings(root, set(plain.values()))
            return plain
    return as_given


def describe(folders: Mapping[Folders, tuple[str, str]]) -> str:
    """The layout in words, from the `meanings` of its folders."""
    depth = max(map(len, folders))
    if depth == 1 and any(split for split, _ in folders.values()):
        return "{split}_{class}/" if any(class_ for _, class_ in folders.values()) else "{split}/"
    return {0: "images side by side", 1: "{class}/", 2: "{split}/{class}/"}[depth]
