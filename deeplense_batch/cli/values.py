"""What a word or the value of a flag means, by the annotation of its parameter.

============================  ==============================================================
``bool``                      a switch; ``--retry``, or ``--retry=false``
``int``, ``float``            a number; a whole one is 0 or more
``Path``                      a file or folder, which has to be named
``Annotated[..., Limit]``     the same, and what `Limit` says besides
``Literal["a", "b"]``         one of these
``tuple[..., ...]``           several, with commas between
``dict[str, ...]``            NAME=VALUE, from a flag that may be given again, a line each
``... | None``                the same; empty text is None, and so is ``none`` for a number
============================  ==============================================================
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from deeplense_batch.core.recipe import parse_value

__all__ = ["Device", "Limit", "Positive", "UsageError", "look_of", "read_value", "several"]


class UsageError(ValueError):
    """The words typed are not a command."""

    exit_code = 2


@dataclass(frozen=True)
class Limit:
    """What a whole number, or the name of a file that is made, is held to."""

    least: int = 0
    endings: tuple[str, ...] = ()  # of the name; none: any


Positive = Annotated[int, Limit(least=1)]
Device = Literal["cpu", "cuda"]


def read_value(name: str, text: str, kind: Any) -> Any:
    """Read one value.

    Arguments:
        name: Where it was given, such as ``--out``.
        text: What was given.
        kind: The annotation.

    Raises:
        UsageError: It is none of this kind.
    """
    kind, optional = _without_none(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if optional and (not text or (text == "none" and kind in (int, float))):
        return None
    if origin is tuple:
        parts = [part.strip() for part in text.split(",")] if text else []
        return tuple(read_value(name, part, inner[0]) for part in parts)
    if origin is dict:
        return _pairs(name, text, kind)
    if origin is Literal and text not in inner:
        raise UsageError(f"{name}: got '{text}'; allowed: {', '.join(inner)}")
    kind, limit = inner if origin is Annotated else (kind, Limit())
    value, expected = _value(text, kind, limit)
    if value is None:
        raise UsageError(f"{name}: expected {expected}, got '{text}'")
    return value


def several(named: Path) -> list[Path]:
    """The paths that were named with commas between; a path that is there is one, commas or not.

    Raises:
        UsageError: A name between commas is empty.
    """
    if named.exists() or "," not in str(named):
        return [named]
    parts = [part.strip() for part in str(named).split(",")]
    if not all(parts):
        raise UsageError(f"{named}: expected paths with commas between, and none is empty")
    return [Path(part) for part in parts]


def look_of(kind: Any) -> str:
    """What a value of this kind looks like, in a word; nothing for a switch."""
    kind, _ = _without_none(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "|".join(inner)
    if origin is dict:
        return "NAME=FOLDER" if inner[1] is Path else "FIELD=VALUE"
    if origin is tuple:
        return "A,B"
    kind = inner[0] if origin is Annotated else kind
    return {bool: "", int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")


def _without_none(kind: Any) -> tuple[Any, bool]:
    """An annotation but for None, and whether it allowed that."""
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
        return kind, True
    return kind, False


def _value(text: str, kind: Any, limit: Limit) -> tuple[Any, str]:
    """The value of a text, None where it has none; and what was expected."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower()), "true or false"
    if kind is int:
        fits = text.isdecimal() and int(text) >= limit.least
        return int(text) if fits else None, f"a whole number, {limit.least} or more"
    if kind is float:
        with suppress(ValueError):
            return float(text), ""
        return None, "a number"
    if kind is Path and limit.endings:
        fits = Path(text).suffix in limit.endings
        return Path(text) if fits else None, f"a name that ends in {' or '.join(limit.endings)}"
    if kind is Path:
        return Path(text) if text else None, "a path (an unset variable?)"
    return text, ""


def _pairs(name: str, text: str, kind: Any) -> dict[str, Any]:
    """Read what a flag was given again and again, a line each."""
    pairs: dict[str, Any] = {}
    for line in text.splitlines():
        left, equals, right = (part.strip() for part in line.partition("="))
        if not (equals and left and right):
            raise UsageError(f"{name}: expected {look_of(kind)}, got '{line}'")
        if left in pairs:
            raise UsageError(f"{name}: '{left}' is given twice")
        pairs[left] = Path(right) if get_args(kind)[1] is Path else parse_value(right)
    return pairs
