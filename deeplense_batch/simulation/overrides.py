"""Presets with some of their fields overridden, each value read as its field's type.

A preset is a dataclass of numbers, words, distributions and further dataclasses; what a field may
hold is its annotation, and no preset is named here.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from deeplense_batch.core.job import nearest
from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.distributions import Fixed, Polar, Position, Uniform

__all__ = ["with_overrides"]

_POSITIONS = {kind.__name__: kind for kind in get_args(Position)}
_FIXED = {"name", "version", "known_faults"}  # these describe the preset and are not overridden

_Preset = TypeVar("_Preset")


def with_overrides(preset: _Preset, overrides: Mapping[str, Any]) -> _Preset:
    """Override fields of a preset.

    Arguments:
        preset: Where all other fields come from; it has a ``name``.
        overrides: Values by dotted field, such as ``{"sphere.count": 30}``. A distribution may be
            a number, ``[low, high]`` for a uniform one, or ``{law: Normal, mean: 0, sd: 0.5}``; a
            position is ``{place: Polar, radius: [0, 1]}`` or ``{place: Cartesian, x: 0, y: 0}``.
            Of a field that has a value for each band, one value is for all of them, and
            ``camera.fwhm.g`` is that of one.

    Raises:
        ShardError: A field does not exist, or takes no such value.
    """
    for field, value in _dotted(overrides):
        where = f"preset {getattr(preset, 'name', '')}: {field}"
        preset = _replaced(preset, type(preset), field.split("."), value, where)
    return preset


def _dotted(overrides: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields by dotted name; a recipe may also give them in nested sections."""
    for name, value in overrides.items():
        if isinstance(value, Mapping) and not {"law", "place"} & set(value):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _replaced(part: Any, hint: Any, path: list[str], value: Any, where: str) -> Any:
    """A part of a preset with one field, which may lie deeper, read from `value`."""
    if not path:
        return _read(hint, value, part, where)
    name, *rest = path
    if isinstance(part, Mapping):
        hints = dict.fromkeys(part, get_args(hint)[1])
    else:
        hints = get_type_hints(type(part))
    allowed = sorted(set(hints) - _FIXED)
    if name not in allowed:
        raise ShardError(f"{where}: no such field; {nearest(name, allowed)}")
    old = part[name] if isinstance(part, Mapping) else getattr(part, name)
    if rest and not (dataclasses.is_dataclass(old) or isinstance(old, Mapping)):
        raise ShardError(f"{where}: {name} is a value, not a part of the preset")
    new = _replaced(old, hints[name], rest, value, where)
    if isinstance(part, Mapping):
        return {**part, name: new}
    try:
        return dataclasses.replace(part, **{name: new})
    except ValueError as error:
        raise ShardError(f"{where}: {error}") from error


def _read(hint: Any, value: Any, old: Any, where: str) -> Any:
    """Read a value as the type of a field; `old` is what the field held."""
    if get_origin(hint) is dict:
        return dict.fromkeys(old, _read(get_args(hint)[1], value, None, where))
    if get_origin(hint) is tuple:
        return _read_list(get_args(hint), value, where)
    kinds = set(get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
    if value is None and type(None) in kinds:
        return None
    if Fixed in kinds:
        return _read_law(hint, value, where)
    if Polar in kinds:
        return _read_position(value, where)
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise ShardError(f"{where}: got {value!r}; {nearest(str(value), get_args(hint))}")
    return _read_single(kinds, value, where)


def _read_single(kinds: set[Any], value: Any, where: str) -> float | int | str:
    """Read a number or a word."""
    if float in kinds and _is_number(value) and math.isfinite(value):
        return float(value)
    if int in kinds and _is_number(value) and value == int(value) and value > 0:
        return int(value)
    if str in kinds and isinstance(value, str):
        return value
    expected = "a whole number above 0" if int in kinds else "one of its fields"
    expected = "a word" if str in kinds else expected
    expected = "a number" if float in kinds else expected
    raise ShardError(f"{where}: expected {expected}, got {value!r}")


def _read_list(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """Read a list, of as many values as its type says; a single word is a list of it."""
    if isinstance(value, str):
        value = [value]
    many = "a list" if kinds[-1] is Ellipsis else f"a list of {len(kinds)}"
    if kinds[-1] is Ellipsis and isinstance(value, list | tuple):
        kinds = kinds[:1] * len(value)
    if not isinstance(value, list | tuple) or len(value) != len(kinds) or not value:
        raise ShardError(f"{where}: expected {many}, got {value!r}")
    return tuple(_read(kind, item, None, where) for kind, item in zip(kinds, value, strict=True))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_law(hint: Any, value: Any, where: str) -> Any:
    """Read one of the distributions that a type allows."""
    laws = {kind.__name__: kind for kind in get_args(hint) if kind is not type(None)}
    if _is_number(value) and math.isfinite(value):
        return Fixed(float(value))
    if isinstance(value, list | tuple) and len(value) == 2:
        return _create(Uniform, {"low": value[0], "high": value[1]}, where)
    if isinstance(value, Mapping) and value.get("law") in laws:
        fields = {name: item for name, item in value.items() if name != "law"}
        return _create(laws[value["law"]], fields, where)
    raise ShardError(
        f"{where}: expected a number, [low, high] or {{law: ..., ...}} with one of "
        f"{', '.join(laws)}; got {value!r}"
    )


def _read_position(value: Any, where: str) -> Position:
    if isinstance(value, Mapping) and value.get("place") in _POSITIONS:
        kind = _POSITIONS[value["place"]]
        hints = get_type_hints(kind)
        given = {name: item for name, item in value.items() if name != "place"}
        if given and set(given) <= set(hints) and (kind is Polar or set(given) == set(hints)):
            return kind(**{n: _read_law(hints[n], v, where) for n, v in given.items()})
    raise ShardError(
        f"{where}: expected {{place: Polar, radius: ...}} or {{place: Cartesian, x: ..., "
        f"y: ...}}; got {value!r}"
    )


def _create(kind: Any, fields: Mapping[str, Any], where: str) -> Any:
    """A distribution of its parameters: numbers, or the distribution that it cuts off."""
    names = [field.name for field in dataclasses.fields(kind)]
    hints = get_type_hints(kind)
    inner = {name for name in names if Fixed in get_args(hints[name])}
    numbers = [value for name, value in fields.items() if name not in inner]
    if sorted(fields) != sorted(names) or not all(map(_is_number, numbers)):
        raise ShardError(
            f"{where}: {kind.__name__} takes numbers for {', '.join(names)}; got {dict(fields)}"
        )
    read = {
        name: _read_law(hints[name], value, where) if name in inner else value
        for name, value in fields.items()
    }
    try:
        return kind(**read)
    except ValueError as error:
        raise ShardError(f"{where}: {kind.__name__}: {error}") from error
