"""The sections of a recipe that have a file of their own, and what all sections share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

__all__ = ["Section", "list_of"]


class Section(BaseModel):
    """Fields of a recipe: no others are taken, and no text for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def list_of(what: str, or_: str = "") -> BeforeValidator:
    """Take a list of YAML, or null, as the tuple that a field holds; `what` is in it.

    Arguments:
        what: In words.
        or_: A word that is taken in place of a list.
    """

    def read(value: Any) -> Any:
        if or_ and value == or_:
            return value
        if not isinstance(value, list | tuple | None):
            raise ValueError(f"expected a list of {what}" + f", or {or_}" * bool(or_))
        return tuple(value) if isinstance(value, list) else value

    return BeforeValidator(read)
