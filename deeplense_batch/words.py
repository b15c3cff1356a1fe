"""The words of a command line: what Fire is given, and what verbs make of the text it gives them.

Values reach a verb as text and are read here, by the rules of a recipe. What is wrong with them is
a `UsageError`, in one sentence.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping
from itertools import zip_longest
from keyword import iskeyword
from pathlib import Path
from typing import Any

from deeplense_batch.job import Job, Simulation, nearest
from deeplense_batch.recipe import parse_value

__all__ = [
    "UsageError",
    "choice",
    "flag",
    "folder",
    "integer",
    "number",
    "overrides",
    "pairs",
    "quoted",
    "recipes",
    "runs_folder",
    "settings",
]


_REPEATED = {"--set": "FIELD=VALUE", "--predictions": "NAME=FOLDER"}


class UsageError(ValueError):
    """The words typed are not a command."""

    exit_code = 2


def quoted(typed: list[str], commands: type) -> list[str]:
    """Write the words so that Fire reads them as meant.

    Values are quoted, so that a run named 12e45678 is no number; a bare flag gets its value, so
    that it does not eat the next word; and help is asked for in Fire's own way, since a verb that
    takes any flag would swallow ``--help``.

    Arguments:
        typed: The words of the command line.
        commands: The class whose methods are the verbs.

    Raises:
        UsageError: A flag is none of its verb.
    """
    typed = _gathered(typed)
    verb = [word for word in typed[:1] if not word.startswith("-")]
    if not typed or {"-h", "--help"} & set(typed):
        return [*verb, "--", "--help"]
    words = list(verb)
    method = getattr(commands, verb[0], None) if verb else None
    for word, following in zip_longest(typed[len(verb) :], typed[len(verb) + 1 :]):
        name, equals, value = word.partition("=")
        if not _is_flag(word):
            words.append(repr(word))
            continue
        default = _default(method, name)
        bare = default is False
        if default is not None and not (bare or equals) and _is_flag(following):
            raise UsageError(f"{name}: needs a value")
        words.append(f"{name}={value!r}" if equals else f"{word}=True" if bare else word)
    return words


def _is_flag(word: str | None) -> bool:
    """Whether a word is a flag, or there is none."""
    return word is None or bool(re.match(r"-+[A-Za-z]", word))


def _gathered(typed: list[str]) -> list[str]:
    """Join what is given to a flag that may be repeated, a line each; Fire would keep the last."""
    words: list[str] = []
    given: dict[str, list[str]] = {}
    rest = iter(typed)
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in _REPEATED:
            reserved = iskeyword(name.removeprefix("--"))  # no parameter can be called so
            words.append(f"{name}_{equals}{value}" if reserved else word)
            continue
        value = value if equals else next(rest, "--")
        if value.startswith("--"):
            raise UsageError(f"{name}: needs {_REPEATED[name]}")
        given.setdefault(name, []).append(value)
    return [*words, *(f"{name}=" + "\n".join(values) for name, values in given.items())]


def _default(verb: Callable[..., Any] | None, name: str) -> Any:
    """What a flag of a verb is when it is not given; None where that is Fire's to say.

    Raises:
        UsageError: The verb takes no such flag.
    """
    if verb is None:
        return None
    known = {
        parameter: value.default
        for parameter, value in inspect.signature(verb).parameters.items()
        if parameter not in ("self", "jobs", "grid")
    }
    plain = name.lstrip("-").replace("-", "_")
    short = len(plain) == 1 and any(parameter.startswith(plain) for parameter in known)
    if plain in known or short or "overrides" in known:
        return known.get(plain)
    hint = nearest(name, [f"--{parameter}".rstrip("_") for parameter in known])
    raise UsageError(f"{name}: no such flag of {verb.__name__}; {hint}")


def folder(name: str, value: str) -> Path:
    """Read a folder that has to be named."""
    if not value:
        raise UsageError(f"{name}: a folder is needed, got ''; an unset variable?")
    return Path(value)


def runs_folder(named: str) -> Path:
    """Read the folder of the runs; ``DEEPLENSE_RUNS``, or runs, where none is named."""
    return Path(named or os.environ.get("DEEPLENSE_RUNS", "runs"))


def recipes(jobs: tuple[str, ...], grid: bool | str) -> tuple[bool, list[str]]:
    """Whether to expand, and which recipes: Fire gives ``--grid a.yaml`` as the flag's value."""
    recipe = isinstance(grid, str) and grid.lower() not in ("true", "false")
    expand = recipe or flag("grid", grid)
    paths = [str(grid), *jobs] if recipe else list(jobs)
    if not paths and expand:
        paths = [str(path) for path in sorted(Path("jobs").glob("*.yaml"))]
        if not paths:
            raise UsageError("submit --grid: there are no recipes here, jobs/*.yaml; name some")
    if not paths:
        raise UsageError("submit: which job? name recipes, or --grid for all in jobs/")
    return expand, paths


def overrides(verb: Callable[..., Any], given: Mapping[str, bool | str]) -> dict[str, Any]:
    """Read ``--section.field=value``; any other flag is a misspelt one."""
    fields = {"grid", "seeds", *Job.model_fields, *Simulation.model_fields}
    for name in given:
        if name.partition(".")[0] not in fields:
            flags = {*inspect.signature(verb).parameters, *fields} - {"overrides", "jobs"}
            hint = nearest(f"--{name}", [f"--{flag}" for flag in flags])
            raise UsageError(f"--{name}: no such flag of {verb.__name__}; {hint}")
    return {name: parse_value(str(text)) for name, text in given.items()}


def settings(name: str, text: str) -> dict[str, Any]:
    """Read ``FIELD=VALUE``, one a line."""
    return {field: parse_value(value) for field, value in pairs(name, text).items()}


def pairs(name: str, text: str) -> dict[str, str]:
    """Read what a repeated flag was given, one a line."""
    found = {}
    for line in text.splitlines():
        left, equals, right = (part.strip() for part in line.partition("="))
        if not (equals and left and right):
            raise UsageError(f"--{name}: expected {_REPEATED[f'--{name}']}, got '{line}'")
        found[left] = right
    return found


def flag(name: str, value: bool | str) -> bool:
    """Read true or false."""
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise UsageError(f"--{name}: is a flag, true or false, got '{value}'")


def integer(name: str, value: int | str) -> int:
    """Read a whole number, 0 or more."""
    if str(value).isdecimal():
        return int(value)
    raise UsageError(f"--{name}: expected a whole number, 0 or more, got '{value}'")


def number(name: str, text: str) -> float:
    """Read a number."""
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--{name}: expected a number, got '{text}'") from None


def choice(name: str, text: str, allowed: tuple[str, ...]) -> str:
    """Read one of some words."""
    if text in allowed:
        return text
    raise UsageError(f"--{name}: got '{text}'; allowed: {', '.join(allowed)}")
