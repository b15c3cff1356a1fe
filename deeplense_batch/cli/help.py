"""The help of the program and of a verb: plain text in the width of the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping

from deeplense_batch.cli.parse import NEEDED, Function, Parameter, describe

__all__ = ["PROGRAM", "overview", "verb_help"]

PROGRAM = "python -m deeplense_batch"
_WIDEST = 100  # columns; longer lines are hard to read
_JOINED = "\N{NO-BREAK SPACE}"  # while lines are filled; what is printed is plain ASCII
_NAMES = 26  # columns of a list's left side, at most; what is longer has a line of its own


def overview(groups: Mapping[str, Iterable[Function]]) -> str:
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


def verb_help(verb: Function) -> str:
    """What a verb does, an example, its words and its flags."""
    known = describe(verb)
    words, flags = known.of("word", "words"), known.of("flag", "fields")
    optional = any(flag.default is not NEEDED or flag.form == "fields" for flag in flags)
    parts = [f"{PROGRAM} {known.usage}{' [FLAGS]' * optional}", _filled(known.summary)]
    parts += [_filled(known.details)] if known.details else []
    parts.append(f"Example:\n  {PROGRAM} {known.example}")
    for title, those in (("Arguments", words), ("Flags", flags)):
        rows = [(_left(parameter), parameter.about + _default(parameter)) for parameter in those]
        parts += [f"{title}:\n{_table(rows, width=_NAMES)}"] if rows else []
    return "\n\n".join(parts)


def _left(parameter: Parameter) -> str:
    value = parameter.value if parameter.form == "flag" else ""
    return f"{parameter.typed} {value}".strip()


def _default(parameter: Parameter) -> str:
    shown = parameter.shown_default
    return f" (default:{_JOINED}{shown})" if shown else ""


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
