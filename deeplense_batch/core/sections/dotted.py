"""Fields of a recipe by dotted names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["flat_fields", "joined"]

_MAPPINGS = ("task.options.adapt", "data.simulate")  # fields that are one setting each


def flat_fields(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a resolved job by its dotted name, in order."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from flat_fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def joined(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a job by dotted name, with ``task.options.adapt``, ``data.simulate`` as one each.

    They are null, or left out, where there is none.
    """
    found: dict[str, Any] = {}
    for name, value in fields.items():
        whole = next((each for each in _MAPPINGS if name.startswith(f"{each}.")), None)
        if whole is None:
            found[name] = value
            continue
        *sections, last = name.removeprefix(f"{whole}.").split(".")
        place = found.setdefault(whole, {})
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return found
