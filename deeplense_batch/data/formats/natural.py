"""The natural order of names."""

from __future__ import annotations

import re

__all__ = ["natural"]


def natural(name: str) -> tuple[list[str | int], str]:
    """Sort key: 2.npy before 10.npy."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name
