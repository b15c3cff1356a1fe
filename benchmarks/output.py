"""Print what was measured, and keep it as JSON where a file is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

__all__ = ["Report", "show"]


class Report(Protocol):
    """What a benchmark measured; `str` gives a table."""

    def as_json(self) -> dict[str, object]: ...


def show(report: Report, out: str) -> None:
    """Print a report; write it to the file `out` too, unless that is empty."""
    print(report)
    if out:
        Path(out).write_text(json.dumps(report.as_json(), indent=1) + "\n")
