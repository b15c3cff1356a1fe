"""From words to values: a verb with all that it was given, before anything is done.

A verb is a function: its parameters are its words and flags, their annotations say how each is
read, its docstring is its help. Fire takes the words apart; what is wrong with one of them is a
`UsageError`, in one sentence. A parameter that may not have its flag's name in Python, or had
better not, such as ``import_`` or ``set_``, ends in an underscore (`flag_of`).
"""

from __future__ import annotations

import inspect
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import fire

from deeplense_batch.job import Job, Simulation, nearest
from deeplense_batch.recipe import parse_value

__all__ = [
    "NEEDED", "AtLeast", "Description", "Device", "Ending", "Parameter", "Positive", "UsageError",
    "Verb", "describe", "parse",
]  # fmt: skip

NEEDED = inspect.Parameter.empty  # the default of what has none
_FIELDS = ("grid", "seeds", *Job.model_fields, *Simulation.model_fields)  # of a recipe


class UsageError(ValueError):
    """The words typed are not a command."""

    exit_code = 2


@dataclass(frozen=True)
class Ending:
    """Of an annotation: the name of a file, which ends in one of these."""

    endings: tuple[str, ...]


@dataclass(frozen=True)
class AtLeast:
    """Of an annotation: the smallest number that is allowed."""

    least: int


Positive = Annotated[int, AtLeast(1)]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Verb:
    """A verb and its arguments, read and found right; `act` does it.

    Arguments:
        function: What does it, and gives the exit code.
        words: For a parameter such as ``*jobs``.
        values: For all others, those that were given.
    """

    function: Callable[..., int]
    words: tuple[Any, ...]
    values: Mapping[str, Any]

    def act(self) -> int:
        """Do it; gives the exit code."""
        return self.function(*self.words, **self.values)

    @property
    def writes(self) -> Path | None:
        """What it was told to write, named where the disk is full."""
        return self.values.get("out")


@dataclass(frozen=True)
class Parameter:
    """A word or a flag of a verb."""

    name: str  # of the function's parameter
    typed: str  # as it is typed: RUN, JOBS..., --out, --FIELD=VALUE
    value: str  # what its values look like: N, cpu|cuda; nothing for words and switches
    kind: Any  # its annotation, without None
    optional: bool  # whether None is allowed
    default: Any  # `NEEDED` where it has none
    about: str  # one sentence or a few


@dataclass(frozen=True)
class Description:
    """What a verb's signature and docstring say."""

    name: str
    summary: str  # one line
    details: str  # what else its docstring says, or nothing
    example: str  # words that can be typed
    parameters: tuple[Parameter, ...]  # in order: words, then flags


def describe(verb: Callable[..., int]) -> Description:
    """Read the signature and the docstring of a verb, for its help and for the documentation."""
    told, _, arguments = (inspect.getdoc(verb) or "").partition("\n\nArguments:\n")
    told, _, example = told.partition("\n\nExample: ")
    summary, _, details = told.partition("\n\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", arguments, re.M)
    about = {name: " ".join(text.split()) for name, text in entries}
    hints = get_type_hints(verb, include_extras=True)
    parameters = tuple(
        _parameter(parameter, hints[name], about.get(name, ""))
        for name, parameter in inspect.signature(verb).parameters.items()
    )
    return Description(verb.__name__, summary, details, example, parameters)


def parse(verb: Callable[..., int], typed: Sequence[str]) -> Verb:
    """Read the words and flags of a verb.

    Raises:
        UsageError: One is wrong, missing, or one too many; nothing has been done.
        OverrideError: The value of a field of a recipe holds what no text does.
    """
    known = describe(verb)
    words, flags = fire.Fire(_apart, command=_quoted(known, typed), serialize=lambda _: None)
    takes = [p.typed for p in known.parameters if not p.typed.startswith("--")]
    if len(words) > len(takes) and "..." not in "".join(takes):
        raise UsageError(
            f"{known.name}: takes {' '.join(takes) or 'no words'}; '{words[len(takes)]}' is one "
            "word too many"
        )
    rest: list[Any] = []
    values: dict[str, Any] = {}
    for parameter in known.parameters:
        if parameter.typed.endswith("..."):
            rest += [_value(parameter, words.popleft()) for _ in range(len(words))]
        elif parameter.typed == "--FIELD=VALUE":
            values |= {name: parse_value(text) for name, text in flags.items()}
        else:
            given = [flags.pop(parameter.name)] if parameter.name in flags else []
            given += [words.popleft()] if words and not parameter.typed.startswith("--") else []
            if len(given) > 1:
                raise UsageError(f"{parameter.typed}: is given twice, as '{given[1]}' and by flag")
            if given:
                values[parameter.name] = _value(parameter, given[0])
            elif parameter.default is NEEDED:
                about = parameter.about[:1].lower() + parameter.about[1:].rstrip(".")
                raise UsageError(
                    f"{known.name}: {parameter.typed} is missing, {about}; "
                    f"'{known.name} --help' shows an example"
                )
    return Verb(verb, tuple(rest), values)


def _apart(*words: str, **flags: str) -> tuple[deque[str], dict[str, str]]:
    """What Fire calls: it gets what was typed, as Fire takes it apart."""
    return deque(words), flags


def _parameter(parameter: inspect.Parameter, kind: Any, about: str) -> Parameter:
    optional = get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind)
    if optional:
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
    typed, value = parameter.name.upper(), ""
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        typed += "..."
    elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
        typed = "--FIELD=VALUE"
    elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        typed, value = flag_of(parameter.name), _shown(kind)
    return Parameter(parameter.name, typed, value, kind, optional, parameter.default, about)


def flag_of(name: str) -> str:
    """The flag of a parameter: its name, but for the underscore that keeps it off Python's."""
    return f"--{name.removesuffix('_')}"


def _shown(kind: Any) -> str:
    """What the values of a flag look like."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "|".join(inner)
    if origin is dict:
        return "NAME=FOLDER" if inner[1] is Path else "FIELD=VALUE"
    if origin is Annotated:
        return _shown(inner[0])
    return {bool: "", int: "N", float: "X", Path: "PATH", tuple: "A,B"}.get(origin or kind, "TEXT")


def _quoted(verb: Description, typed: Sequence[str]) -> list[str]:
    """Write the words so that Fire reads them as meant.

    Each flag is joined with its value, so that a switch does not eat the word behind it, and what
    was given to a flag that may be repeated is joined too, a line each. Values are quoted, so that
    a run named 12e45678 is no number.
    """
    words: list[str] = []
    given: dict[str, list[str]] = {}
    left = deque(typed)
    while left:
        word = left.popleft()
        if not _is_flag(word):
            words.append(repr(word))
            continue
        flag, equals, value = word.partition("=")
        parameter = _named(verb, flag)
        if not equals:
            ends = not left or _is_flag(left[0])
            if parameter and parameter.kind is not bool and ends:
                raise UsageError(f"{flag}: needs a value{', ' * bool(parameter.value)}"
                                 f"{parameter.value}")  # fmt: skip
            value = "true" if ends or (parameter and parameter.kind is bool) else left.popleft()
        name = parameter.name if parameter else flag.lstrip("-")
        values = given.setdefault(name, [])
        repeated = parameter is not None and get_origin(parameter.kind) is dict
        if values and not repeated and value != values[0]:
            raise UsageError(f"{flag}: is given twice, as '{values[0]}' and as '{value}'")
        values += [value] if repeated or not values else []
    return [*words, *(f"--{name}={chr(10).join(values)!r}" for name, values in given.items())]


def _is_flag(word: str) -> bool:
    return bool(re.match(r"-+[A-Za-z]", word))


def _named(verb: Description, flag: str) -> Parameter | None:
    """The parameter that a flag sets; None where it is a field of a recipe.

    Raises:
        UsageError: The verb has no such flag.
    """
    plain = "--" + flag.lstrip("-").replace("-", "_")
    several = ("...", "--FIELD=VALUE")
    flags = {flag_of(p.name): p for p in verb.parameters if not p.typed.endswith(several)}
    if plain in flags:
        return flags[plain]
    short = [name for name in flags if len(plain) == 3 and name.startswith(plain)]
    if len(short) == 1:
        return flags[short[0]]
    if short:
        raise UsageError(f"{flag}: may be {' or '.join(short)} of {verb.name}; write it out")
    fields = _FIELDS if any(p.typed == "--FIELD=VALUE" for p in verb.parameters) else ()
    if plain[2:].partition(".")[0] in fields:
        return None
    hint = nearest(plain, [*flags, *(f"--{field}" for field in fields)])
    raise UsageError(f"{flag}: no such flag of {verb.name}; {hint}")


def _value(parameter: Parameter, text: str) -> Any:
    """Read what was given for a parameter."""
    kind = parameter.kind
    if parameter.optional and (text == "" or (text == "none" and kind in (int, float))):
        return None
    if get_origin(kind) is tuple and not parameter.typed.endswith("..."):
        texts = [one.strip() for one in text.split(",")] if text else []
        return tuple(_one(parameter.typed, one, get_args(kind)[0]) for one in texts)
    if get_origin(kind) is dict:
        return _pairs(parameter, text)
    return _one(parameter.typed, text, kind)


def _one(name: str, text: str, kind: Any) -> Any:
    """Read one value; `name` is where it was given."""
    more = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    kind = get_args(kind)[0] if more else kind
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UsageError(f"{name}: is a flag, true or false, got '{text}'")
    if kind is int:
        least = next((one.least for one in more if isinstance(one, AtLeast)), 0)
        if text.isdecimal() and int(text) >= least:
            return int(text)
        raise UsageError(f"{name}: expected a whole number, {least} or more, got '{text}'")
    if kind is float:
        try:
            return float(text)
        except ValueError:
            raise UsageError(f"{name}: expected a number, got '{text}'") from None
    if kind is Path:
        return _path(name, text, next((one.endings for one in more), ()))
    if get_origin(kind) is Literal and text not in get_args(kind):
        raise UsageError(f"{name}: got '{text}'; allowed: {', '.join(get_args(kind))}")
    return text


def _path(name: str, text: str, endings: tuple[str, ...]) -> Path:
    if endings and Path(text).suffix not in endings:
        raise UsageError(f"{name}: a name that ends in {' or '.join(endings)}, got '{text}'")
    if not text:
        raise UsageError(f"{name}: a path is needed, got ''; an unset variable?")
    return Path(text)


def _pairs(parameter: Parameter, text: str) -> dict[str, Any]:
    """Read what a repeated flag was given, one a line."""
    pairs = {}
    for line in text.splitlines():
        left, equals, right = (part.strip() for part in line.partition("="))
        if not (equals and left and right):
            raise UsageError(f"{parameter.typed}: expected {parameter.value}, got '{line}'")
        pairs[left] = Path(right) if get_args(parameter.kind)[1] is Path else parse_value(right)
    return pairs
