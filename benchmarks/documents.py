"""Results files: one JSON document of a machine, what was measured on it, and what was checked.

Nothing here needs more than Python itself: the round reads and writes them without torch.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Document", "document", "measured", "read", "show", "table", "write"]

Document = dict[str, Any]
_LISTS = {"number": "numbers", "check": "checks", "part": "parts"}  # by the kind of a line
_SHOWN = 4  # digits that count


def measured(
    part: str, name: str, values: float | Sequence[float] | None, unit: str = ""
) -> dict[str, Any]:
    """A line that keeps a number; of several the median with the least and the most.

    None, of what a machine does not tell, is kept too; what is not finite is None.
    """
    if isinstance(values, float) and not math.isfinite(values):
        values = None
    line: dict[str, Any] = {"kind": "number", "part": part, "name": name}
    line |= {"value": values, "unit": unit}
    if isinstance(values, Sequence):
        line["value"] = statistics.median(values)
        line |= {"least": min(values), "most": max(values), "repeats": len(values)}
    return line


def document(lines: Iterable[Mapping[str, Any]]) -> Document:
    """Join lines, each with its ``kind``, to one document.

    Returns:
        ``machine`` and ``end`` as they are, numbers, checks and parts in a list each, and all
        else, such as what `doctor` found, in ``notes``.
    """
    made: Document = {"schema": 1, "machine": {}, "numbers": [], "checks": [], "parts": []}
    made |= {"notes": [], "end": None}
    for line in lines:
        content = {key: value for key, value in line.items() if key != "kind"}
        if line["kind"] in ("machine", "end"):
            content.pop("part", None)
            made[line["kind"]] = content
        elif line["kind"] in _LISTS:
            made[_LISTS[line["kind"]]].append(content)
        else:
            made["notes"].append({"kind": line["kind"]} | content)
    return made


def write(path: Path, made: Document) -> None:
    """Write a document: whoever reads the file finds this one or the one before, never half."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(json.dumps(made, indent=1, default=str) + "\n", encoding="utf-8")
    beside.replace(path)


def read(path: Path) -> Document:
    """The document in a file.

    Raises:
        ValueError: It is none.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or found.get("schema") != 1 or "machine" not in found:
        raise ValueError(f"{path}: expected a results file, with schema 1 and a machine")
    return found


def table(made: Document) -> str:
    """Every number, what failed or could not be told, and the parts that did not end."""
    numbers = [(n["part"], n["name"], _value(n), _spread(n)) for n in made["numbers"]]
    widths = [max(map(len, column)) for column in zip(*numbers, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in numbers
    ]
    for check in made["checks"]:
        if check["passed"] is not True:
            verdict = "not tested" if check["passed"] is None else "FAILED"
            lines.append(f"{verdict}: {check['part']}: {check['name']}: {check['why']}")
    parts = [part for part in made["parts"] if part["state"] != "done"]
    return "\n".join(lines + [f"PART {part['name']}: {part['state']}" for part in parts])


def _value(line: Mapping[str, Any]) -> str:
    value = line["value"]
    return "-" if value is None else f"{_digits(value)} {line['unit']}".rstrip()


def _spread(line: Mapping[str, Any]) -> str:
    return f"({_digits(line['least'])} to {_digits(line['most'])})" if "least" in line else ""


def _digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 ** (_SHOWN - 1) else f"{value:.{_SHOWN}g}"


def show(made: Document, out: str) -> None:
    """Print a document as a table; write it to the file `out` too, unless that is empty."""
    print(f"on {made['machine']['device']}, {made['machine']['date']}")
    print(table(made))
    if out:
        write(Path(out), made)
