"""Numbers of things in sentences: ``1 image``, ``2 images``, ``1 of 7 images has``."""

from __future__ import annotations

__all__ = ["counted", "counted_of"]


def counted(number: int, one: str, several: str = "") -> str:
    """A number and what it counts; by default several are called as one with an s."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def counted_of(number: int, total: int, noun: str, one: str, several: str) -> str:
    """So many of all, with their verb: ``1 of 7 images has``, ``2 of 7 images have``."""
    return f"{number} of {counted(total, noun)} {one if number == 1 else several}"
