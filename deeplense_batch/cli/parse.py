"""From words to a verb with all that it was given, before anything is done.

A verb is a function: its parameters are its words and flags, their annotations say how each is
read (`values`), and its help is its docstring and the comments of its parameters. Fire takes the
words apart; what is wrong with them is a `UsageError`, in one sentence. A parameter that cannot
have its flag's name in Python, or that would hide a function of Python's, ends in an underscore:
``import_``, ``set_`` (`flag_of`).
"""

from __future__ import annotations

import inspect
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import fire

from deeplense_batch.cli.values import UsageError, look_of, read_value
from deeplense_batch.core.job import Evaluation, Job, Simulation, nearest
from deeplense_batch.core.recipe import parse_value

__all__ = [
    "NEEDED",
    "Description",
    "Function",
    "Parameter",
    "Verb",
    "describe",
    "flag_of",
    "parse",
]

Function = Callable[..., int | None]  # of a verb; gives the exit code, or nothing for 0
NEEDED = inspect.Parameter.empty  # the default of what has none

_FORMS: dict[Any, str] = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "word",
    inspect.Parameter.VAR_POSITIONAL: "words",
    inspect.Parameter.KEYWORD_ONLY: "flag",
    inspect.Parameter.VAR_KEYWORD: "fields",
}
_FIELDS = ("grid", "seeds", *Job.model_fields, *Simulation.model_fields, *Evaluation.model_fields)


@dataclass(frozen=True)
class Verb:
    """A verb and its arguments, read and found right; `act` does it."""

    function: Function
    words: tuple[Any, ...] = ()  # for a parameter such as ``*jobs``
    values: Mapping[str, Any] = field(default_factory=dict)  # for all others that were given

    def act(self) -> int:
        """Do it; gives the exit code."""
        return self.function(*self.words, **self.values) or 0

    @property
    def writes(self) -> Path | None:
        """What it is to write, named where the disk is full."""
        return self.values.get("out")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a verb's function."""

    name: str
    form: str  # a word, the words that are left, a flag, or fields of a recipe: those of `_FORMS`
    kind: Any  # its annotation
    default: Any  # `NEEDED` where it has none
    about: str  # what its comment says

    @property
    def typed(self) -> str:
        """How it is typed: RUN, JOBS..., --out, --FIELD=VALUE."""
        word = self.name.upper()
        forms = {"word": word, "words": f"{word}...", "fields": "--FIELD=VALUE"}
        return forms.get(self.form) or flag_of(self.name)

    @property
    def value(self) -> str:
        """What its values look like, such as N or cpu|cuda; nothing for a switch."""
        return "" if self.form == "fields" else look_of(self.kind)

    @property
    def shown_default(self) -> str:
        """What holds where it is not given, unless that is nothing."""
        if self.default is NEEDED or self.default is False or self.default in (None, "", ()):
            return ""
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


@dataclass(frozen=True)
class Description:
    """What the signature and the docstring of a verb say."""

    name: str
    summary: str  # one line
    details: str  # what else its docstring says, or nothing
    example: str  # a verb and its words, as they are typed
    parameters: tuple[Parameter, ...]

    def of(self, *forms: str) -> list[Parameter]:
        """The parameters of some forms."""
        return [parameter for parameter in self.parameters if parameter.form in forms]

    @property
    def usage(self) -> str:
        """The verb, its words and the flags that it needs, those that may be left out in [ ]."""
        parts = [self.name]
        for one in self.of("word", "words"):
            needed = one.form == "word" and one.default is NEEDED
            parts.append(one.typed if needed else f"[{one.typed}]")
        flags = [one for one in self.of("flag") if one.default is NEEDED]
        return " ".join([*parts, *(f"{one.typed} {one.value}" for one in flags)])


def describe(verb: Function) -> Description:
    """Read what a verb says of itself, for its help and for the documentation."""
    text, _, example = (inspect.getdoc(verb) or "").partition("\n\nExample: ")
    summary, _, details = text.partition("\n\n")
    kinds, about = get_type_hints(verb, include_extras=True), _comments(verb)
    parameters = tuple(
        Parameter(name, _FORMS[one.kind], kinds[name], one.default, about.get(name, ""))
        for name, one in inspect.signature(verb).parameters.items()
    )
    return Description(verb.__name__, summary, details, example, parameters)


def _comments(verb: Function) -> dict[str, str]:
    """The comment of each parameter: on the lines above it, or beside it."""
    comments: dict[str, str] = {}
    lines: list[str] = []
    for line in inspect.getsource(verb).partition("\n) -> ")[0].splitlines():
        code, _, comment = line.partition("# ")
        lines.append(comment.strip())
        if parameter := re.match(r" +\**(\w+):", code):
            comments[parameter[1]] = " ".join(filter(None, lines))
        if code.strip():
            lines = []
    return comments


def flag_of(name: str) -> str:
    """The flag of a parameter."""
    return f"--{name.removesuffix('_')}"


def parse(verb: Function, typed: Sequence[str]) -> Verb:
    """Read the words and flags of a verb.

    Raises:
        UsageError: One is wrong, missing, or one too many; nothing has been done.
        OverrideError: The value of a field of a recipe holds what no text does.
    """
    known = describe(verb)
    words, given = fire.Fire(
        lambda *words, **flags: (words, flags),
        command=_quoted(known, typed),
        serialize=lambda _: None,
    )
    places, several = known.of("word"), known.of("words")
    rest = words[len(places) :]
    if rest and not several:
        takes = " ".join(place.typed for place in places) or "no words"
        raise UsageError(f"{known.name}: takes {takes}; '{rest[0]}' is one word too many")
    for place, word in zip(places, words, strict=False):
        if place.name in given:
            raise UsageError(f"{place.typed}: is given twice, as '{word}' and by its flag")
        given[place.name] = word
    values = {}
    for parameter in known.of("word", "flag"):
        if parameter.name in given:
            text = given.pop(parameter.name)
            values[parameter.name] = read_value(parameter.typed, text, parameter.kind)
        elif parameter.default is NEEDED:
            about = parameter.about[:1].lower() + parameter.about[1:].rstrip(".")
            raise UsageError(f"{known.name}: {parameter.typed} is missing, {about}; "
                             f"'{known.name} --help' shows an example")  # fmt: skip
    values |= {name: parse_value(text) for name, text in given.items()}
    read = (read_value(one.typed, word, one.kind) for one in several for word in rest)
    return Verb(verb, tuple(read), values)


def _quoted(known: Description, typed: Sequence[str]) -> list[str]:
    """Write the words so that Fire reads them as meant.

    Each flag is joined with its value, so that a switch does not eat the word behind it; values
    are quoted, so that a run named 12e45678 is no number; and those of a flag that may be given
    again are joined, a line each, of which Fire would keep the last.
    """
    words: list[str] = []
    given: dict[str, str] = {}
    left = deque(typed)
    while left:
        word = left.popleft()
        if not _is_flag(word):
            words.append(repr(word))
            continue
        flag, equals, value = word.partition("=")
        parameter = _parameter(known, flag)
        value = value if equals else _following(flag, parameter, left)
        name = parameter.name if parameter else flag.lstrip("-").replace("-", "_")
        if parameter and "=" in parameter.value:
            given[name] = "\n".join([*given.get(name, "").splitlines(), value])
        elif parameter is None:
            given[name] = value  # the last one counts: programs add to the fields of others
        elif given.setdefault(name, value) != value:
            raise UsageError(f"{flag}: is given twice, as '{given[name]}' and as '{value}'")
    return [*words, *(f"--{name}={value!r}" for name, value in given.items())]


def _is_flag(word: str) -> bool:
    return bool(re.match(r"-+[A-Za-z]", word))


def _following(flag: str, parameter: Parameter | None, left: deque[str]) -> str:
    """The value of a flag that was typed without one: the next word, or true for a switch."""
    if parameter and not parameter.value:
        return "true"
    if left and not _is_flag(left[0]):
        return left.popleft()
    if parameter:
        raise UsageError(f"{flag}: needs a value, {parameter.value}")
    return "true"


def _parameter(known: Description, flag: str) -> Parameter | None:
    """The parameter that a flag names, in full or by a letter; None for a field of a recipe.

    Raises:
        UsageError: The verb has no such flag.
    """
    plain = "--" + flag.lstrip("-").replace("-", "_")
    flags = {flag_of(parameter.name): parameter for parameter in known.of("word", "flag")}
    if plain in flags:
        return flags[plain]
    short = [name for name in flags if len(plain) == 3 and name.startswith(plain)]
    if len(short) > 1:
        raise UsageError(f"{flag}: may be {' or '.join(short)} of {known.name}; write it out")
    if short:
        return flags[short[0]]
    fields = _FIELDS if known.of("fields") else ()
    if plain.removeprefix("--").partition(".")[0] in fields:
        return None
    hint = nearest(plain, [*flags, *(f"--{name}" for name in fields)])
    raise UsageError(f"{flag}: no such flag of {known.name}; {hint}")
