"""A block of a page of a report: a title, sentences, a table and figures, on every page alike.

A study gives numbers for `results.json`, and a block that says them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deeplense_batch.report.plots.pictures import Picture

__all__ = ["Block"]


@dataclass(frozen=True)
class Block:
    """One part of a page; plain text throughout, which each page escapes."""

    title: str
    sentences: Sequence[str] = ()
    head: Sequence[str] = ()  # of the table; none, no table
    lines: Sequence[Sequence[str]] = ()  # of its cells
    pictures: Sequence[Picture] = ()
    headline: str = ""  # what an index says of it, a sentence; empty, its title alone

    def content(self) -> dict[str, Any]:
        """The block as `results.json` holds it; its figures by name and caption."""
        return {
            "title": self.title,
            "headline": self.headline,
            "sentences": [*self.sentences],
            "head": [*self.head],
            "lines": [[*line] for line in self.lines],
            "figures": [{"name": p.name, "caption": p.caption} for p in self.pictures],
        }
