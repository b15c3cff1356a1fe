"""The sections of a recipe that have a file of their own, and what all sections share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Section", "as_tuple"]


class Section(BaseModel):
    """Fields of a recipe: no others are taken, and no text for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def as_tuple(value: Any) -> Any:
    """A list of YAML as the tuple that a field holds; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value
