"""The sections of a recipe that have a file of their own, and what all sections share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

__all__ = ["Section", "list_of"]


class Section(BaseModel):
    """Fields of a recipe: no others are taken, and no text for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def list_of(what: str, or_: str = "", of: tuple[type, ...] = ()) -> BeforeValidator:
    """Take a list of YAML, or null, as the tuple that a field holds; `what` is in it.

    Arguments:
        what: In words.
        or_: A word that is taken in place of a list.
        of: Types of what is in it, where they are several; of one, the field says it.
    """

    def read(value: Any) -> Any:
        if value is None or (or_ and value == or_):
            return value
        is_list = isinstance(value, list | tuple)
        if not is_list or (of and any(type(each) not in of for each in value)):
            raise ValueError(f"expected a list of {what}" + f", or {or_}" * bool(or_))
        return tuple(value)

    return BeforeValidator(read)
