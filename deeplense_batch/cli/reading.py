"""How files are read, written as one flag: a mapping of flags of `pack` to their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_type_hints

from deeplense_batch.cli.values import UsageError, read_value
from deeplense_batch.core.job import nearest
from deeplense_batch.core.recipe import parse_value

if TYPE_CHECKING:
    from deeplense_batch.data.formats.reading import Reading

__all__ = ["read_reading"]


def read_reading(flag: str, text: str) -> Reading:
    """Read such a flag, each value as `pack` reads it.

    Arguments:
        flag: Its name, such as ``--reading``.
        text: What was given, such as ``{path: file_loc, bands: [g, r, i]}``.

    Raises:
        UsageError: It is no mapping, a name in it is no flag, or a value is none of its kind.
        ShardError: A value is none of those allowed.
    """
    from deeplense_batch.data.formats.reading import Reading

    given: Any = parse_value(text)
    if not isinstance(given, dict):
        raise UsageError(f"{flag}: expected {{NAME: VALUE, ...}}, such as {{mask_value: -99}}, "
                         f"got '{text}'")  # fmt: skip
    kinds = get_type_hints(Reading, include_extras=True)
    values = {}
    for name, value in given.items():
        if name not in kinds:
            raise UsageError(f"{flag}: pack has no such flag of reading, '{name}'; "
                             f"{nearest(str(name), kinds)}")  # fmt: skip
        values[name] = read_value(f"{flag} {name}", _typed(value), kinds[name])
    return Reading(**values)


def _typed(value: Any) -> str:
    """A value as it would be typed for a flag of its own."""
    if isinstance(value, list):
        return ",".join(map(_typed, value))
    if isinstance(value, dict):
        return "\n".join(f"{name}={_typed(one)}" for name, one in value.items())
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value)
