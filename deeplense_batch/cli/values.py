"""What a word or the value of a flag means, by the annotation of its parameter.

============================  ==============================================================
``bool``                      a switch; ``--retry``, or ``--retry=false``
``int``, ``float``            a number; a whole one is 0 or more
``Positive``                  a whole number, 1 or more
``Path``                      a file or folder, which has to be named
``Annotated[Path, Ending]``   a file that is made, whose ending says what it is
``Literal["a", "b"]``         one of these
``tuple[..., ...]``           several, with commas between
``dict[str, ...]``            NAME=VALUE, from a flag that may be given again, a line each
``... | None``                the same; empty text is None, and so is ``none`` for a number
============================  ==============================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from deeplense_batch.recipe import parse_value

__all__ = ["Device", "Ending", "Positive", "UsageError", "look_of", "read_value"]


class UsageError(ValueError):
    """The words typed are not a command."""

    exit_code = 2


@dataclass(frozen=True)
class Ending:
    """Of the name of a file: it ends in one of these."""

    endings: tuple[str, ...]


@dataclass(frozen=True)
class _AtLeast:
    least: int


Positive = Annotated[int, _AtLeast(1)]
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
    inner = get_args(kind)
    if optional and (not text or (text == "none" and kind in (int, float))):
        return None
    if get_origin(kind) is tuple:
        parts = [part.strip() for part in text.split(",")] if text else []
        return tuple(read_value(name, part, inner[0]) for part in parts)
    if get_origin(kind) is dict:
        return _pairs(name, text, kind)
    if get_origin(kind) is Literal and text not in inner:
        raise UsageError(f"{name}: got '{text}'; allowed: {', '.join(inner)}")
    kind, limit = inner if get_origin(kind) is Annotated else (kind, None)
    readers: dict[Any, Callable[[str, str, Any], Any]]
    readers = {bool: _switch, int: _whole, float: _number, Path: _path}
    return readers[kind](name, text, limit) if kind in readers else text


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


def _switch(name: str, text: str, _: None) -> bool:
    if text.lower() not in ("true", "false"):
        raise UsageError(f"{name}: is a flag, true or false, got '{text}'")
    return text.lower() == "true"


def _whole(name: str, text: str, limit: _AtLeast | None) -> int:
    least = limit.least if limit else 0
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{name}: expected a whole number, {least} or more, got '{text}'")
    return int(text)


def _number(name: str, text: str, _: None) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{name}: expected a number, got '{text}'") from None


def _path(name: str, text: str, limit: Ending | None) -> Path:
    if limit and Path(text).suffix not in limit.endings:
        allowed = " or ".join(limit.endings)
        raise UsageError(f"{name}: a name that ends in {allowed}, got '{text}'")
    if not text:
        raise UsageError(f"{name}: a path is needed, got ''; an unset variable?")
    return Path(text)


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
