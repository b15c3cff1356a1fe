"""The help of the program and of a verb: plain text in the width of the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from deeplense_batch.cli.parse import NEEDED, Parameter, describe

__all__ = ["PROGRAM", "overview", "verb_help"]

PROGRAM = "python -m deeplense_batch"
_WIDEST = 100  # columns; longer lines are hard to read
_JOINED = "\N{NO-BREAK SPACE}"  # while lines are filled; what is printed is plain ASCII
_NAMES = 26  # columns of a list's left side, at most; what is longer has a line of its own


def overview(groups: Mapping[str, Iterable[Callable[..., int]]]) -> str:
    """What the program is for, and all verbs by what they are for."""
    about = (
        "Batch jobs for strong-lensing deep learning: make data, train and compare many networks, "
        "here or on a cluster, and use the best."
    )
    parts = [f"{PROGRAM} VERB ...", _filled(about)]
    for group, verbs in groups.items():
        rows = [(known.name, known.summary) for known in map(describe, verbs)]
        parts.append(f"{group}\n{_table(rows, width=10)}")
    return "\n\n".join([*parts, "VERB --help describes a verb, with an example."])


def verb_help(verb: Callable[..., int]) -> str:
    """What a verb does, an example, its words and its flags."""
    known = describe(verb)
    words, flags = known.of("word", "words"), known.of("flag", "fields")
    usage = [
        p.typed if p.default is NEEDED and p.form == "word" else f"[{p.typed}]" for p in words
    ]
    needed = [p for p in flags if p.default is NEEDED and p.form == "flag"]
    usage += [f"{p.typed} {p.value}" for p in needed]
    usage += ["[FLAGS]"] if len(flags) > len(needed) else []
    parts = [" ".join([PROGRAM, known.name, *usage]), _filled(known.summary)]
    parts += [_filled(known.details)] if known.details else []
    parts.append(f"Example:\n  {PROGRAM} {known.example}")
    for title, those in (("Arguments", words), ("Flags", flags)):
        rows = [(_left(p), p.about + _default(p)) for p in those]
        parts += [f"{title}:\n{_table(rows, width=_NAMES)}"] if rows else []
    return "\n\n".join(parts)


def _left(parameter: Parameter) -> str:
    value = f" {parameter.value}" if parameter.form == "flag" and parameter.value else ""
    return f"{parameter.typed}{value}"


def _default(parameter: Parameter) -> str:
    """What holds where a flag is not given, unless that is nothing."""
    default: Any = parameter.default
    if default is NEEDED or default is False or default in (None, "", ()):
        return ""
    shown = ",".join(default) if isinstance(default, tuple) else default
    shown = f"{shown:g}" if isinstance(shown, float) else shown
    return f" (default:{_JOINED}{shown})"


def _width() -> int:
    return max(min(shutil.get_terminal_size().columns, _WIDEST), 40)


def _filled(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _width())


def _table(rows: Iterable[tuple[str, str]], *, width: int) -> str:
    """Two columns, the right one in as many lines as it needs."""
    rows = list(rows)
    left = min(max(len(name) for name, _ in rows), width)
    lines = []
    for name, text in rows:
        head = f"  {name:<{left}}  " if len(name) <= left else " " * (left + 4)
        lines += [f"  {name}"] if len(name) > left else []
        lines.append(
            textwrap.fill(
                text, _width(), initial_indent=head, subsequent_indent=" " * (left + 4),
                break_on_hyphens=False,
            )
        )  # fmt: skip
    return "\n".join(lines).replace(_JOINED, " ")
