"""Write what the pages in docs/ take from the code and from results: fields, models, numbers.

    .venv/bin/python scripts/write_docs.py

A page holds ``<!-- NAME -->`` and ``<!-- end of NAME -->`` where table NAME of `PARTS` belongs.
The lines between are replaced, all others are kept. The meaning of a field is the comment beside
or above it in its class. Run this after a change of a field, a task's option, a model or a verb,
and where benchmarks/results/ has a new file.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from deeplense_batch.cli.help import PROGRAM
from deeplense_batch.cli.parse import NEEDED, Description, Parameter, describe
from deeplense_batch.cli.verbs import GROUPS
from deeplense_batch.cluster.site import Profile
from deeplense_batch.core.job import Evaluation, Job, Simulation
from deeplense_batch.models import MODELS
from deeplense_batch.tasks import TASKS

DOCS = Path(__file__).resolve().parents[1] / "docs"

Row = tuple[str, ...]

_TYPES = {
    bool: "true or false", int: "whole number", float: "number", str: "text",
    dict: "mapping", list: "list",
}  # fmt: skip
_LIMITS = {  # by the names that pydantic gives the rules of a field
    "ge": "{:g} or more", "gt": "above {:g}", "le": "{:g} at most", "lt": "below {:.10g}",
    "pattern": "letters, digits, `_`, `.`, `-`; a letter first",
    "max_length": "{} characters at most",
}  # fmt: skip
_PART = re.compile(r"<!-- (?P<name>[\w-]+) -->\n.*?<!-- end of (?P=name) -->", re.S)


def rendered(page: str) -> str:
    """The text of a page with every part of it as the code has it now.

    Raises:
        KeyError: The page asks for a part that there is none of.
    """
    return _PART.sub(
        lambda found: (
            f"<!-- {found['name']} -->\n{PARTS[found['name']]().strip()}\n"
            f"<!-- end of {found['name']} -->"
        ),
        page,
    )


def sections(model: type[BaseModel]) -> str:
    """A table for each section of a recipe, and one for the fields beside them."""
    own = {name: field for name, field in model.model_fields.items() if not _section(field)}
    meanings = comments(model)
    parts = [
        _table(_row(name, field, meanings[name], field.default) for name, field in own.items())
    ]
    for name, field in model.model_fields.items():
        if kind := _section(field):
            about = _plain(inspect.getdoc(kind) or "") + " Optional." * (field.default is None)
            parts.append(f"### `{name}`\n\n{about}\n\n{_table(_rows(kind, name, field.default))}")
    return "\n\n".join(parts)


def fields(model: type[BaseModel]) -> str:
    """One table of the fields of a model."""
    return _table(_rows(model))


def tasks() -> str:
    """What each task is, and a table of its options."""
    parts = []
    for name, place in TASKS.items():
        module, _, kind_name = place.partition(":")
        kind = getattr(importlib.import_module(module), kind_name)
        about, meanings = _documented(kind)
        head = f"### Task `{name}`\n\n{_plain(about)}"
        parameters = inspect.signature(kind).parameters.values()
        rows = [
            (f"`{p.name}`", f"`{_yaml(p.default)}`", _plain(meanings[p.name]))
            for p in parameters
            if p.name not in ("classes", "frame")
        ]
        parts.append(f"{head}\n\n{_cells(('option', 'default', 'meaning'), rows)}")
    return "\n\n".join(parts)


def models() -> str:
    """The table of models."""
    rows = [(f"`{name}`", f"{row.parameters_m:.3f}", row.about) for name, row in MODELS.items()]
    return _cells(("model", "parameters, M", "what it is"), rows)


def verbs() -> str:
    """Every verb: how it is typed, what it does, an example, its words and flags."""
    parts = []
    for group, functions in GROUPS.items():
        parts.append(f"## {group}")
        parts += [_verb(describe(function)) for function in functions]
    return "\n\n".join(parts)


def measured(name: str) -> str:
    """Tables of what was measured, from the files in benchmarks/results/."""
    if str(DOCS.parent) not in sys.path:
        sys.path.append(str(DOCS.parent))  # benchmarks/ is no part of the package
    page = importlib.import_module("benchmarks.page")
    parts = []
    for table in page.TABLES[name](page.documents()):
        title = f"{table.title}:\n\n" if table.title else ""
        parts.append(title + _cells(table.head, table.rows))
    return "\n\n".join(parts)


_MEASURED = (
    "machines", "training", "steps", "peers", "job", "options", "simulator", "predictions", "many",
    "comparison",
)  # fmt: skip

PARTS: dict[str, Callable[[], str]] = {
    "fields": lambda: sections(Job),
    "simulate-fields": lambda: sections(Simulation),
    "evaluate-fields": lambda: sections(Evaluation),
    "site-fields": lambda: fields(Profile),
    "tasks": tasks,
    "models": models,
    "verbs": verbs,
} | {f"measured-{name}": partial(measured, name) for name in _MEASURED}


def comments(model: type[BaseModel]) -> dict[str, str]:
    """The comment of each field: the one on its lines, after those on the lines right above.

    Fields that a base class declares are those of the base class.
    """
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if kind in (object, BaseModel) or not issubclass(kind, BaseModel):
            continue
        source = textwrap.dedent(inspect.getsource(kind))
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
        notes = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
        alone = {
            t.start[0]
            for t in tokens
            if t.type == tokenize.COMMENT and not t.line[: t.start[1]].strip()
        }
        (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
        for node in body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                first = node.lineno
                while first - 1 in alone:
                    first -= 1
                lines = range(first, (node.end_lineno or node.lineno) + 1)
                found[node.target.id] = " ".join(notes[line] for line in lines if line in notes)
    return found


def _rows(model: type[BaseModel], prefix: str = "", defaults: Any = None) -> Iterator[Row]:
    """A row for each field, those of sections in the place of these.

    Arguments:
        model: A section.
        prefix: Its dotted name.
        defaults: An instance of it that holds where nothing is said, if there is one.
    """
    meanings = comments(model)
    for name, field in model.model_fields.items():
        dotted = f"{prefix}.{name}" if prefix else name
        default = getattr(defaults, name, field.default)
        if section := _section(field):
            if field.default is None:
                yield _row(dotted, field, meanings[name], default)
            yield from _rows(section, dotted, default)
        else:
            yield _row(dotted, field, meanings[name], default)
            if section := _listed(field):
                yield from _rows(section, f"{dotted}[]")


def _row(name: str, field: FieldInfo, meaning: str, default: Any) -> Row:
    kind, optional = _without_none(field.annotation)
    shown = "needed" if default is PydanticUndefined else f"`{_yaml(default)}`"
    shown = "the file's name" if name == "name" else shown  # which `load_jobs` fills in
    return f"`{name}`", _type(kind), shown, _allowed(kind, field, optional), meaning


def _table(rows: Iterable[Row]) -> str:
    return _cells(("field", "type", "default", "allowed", "meaning"), rows)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind, _ = _without_none(field.annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _listed(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field is a list of."""
    item = next(iter(get_args(field.annotation)), None)
    return item if isinstance(item, type) and issubclass(item, BaseModel) else None


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """What a field may be, besides null, and whether it may be null."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return (kinds[0] if len(kinds) == 1 else annotation), True
    return annotation, False


def _type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "word"
    if get_origin(kind) is tuple:
        items = [_TYPES.get(item, "mappings") for item in get_args(kind) if item is not Ellipsis]
        return f"list of {items[0]}" if Ellipsis in get_args(kind) else "two numbers"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "mapping"
    return _TYPES.get(get_origin(kind) or kind, "text")


def _allowed(kind: Any, field: FieldInfo, optional: bool) -> str:
    if get_origin(kind) is Literal:
        allowed = [", ".join(f"`{value}`" for value in get_args(kind))]
    else:
        limits = {
            name: getattr(rule, name)
            for rule in field.metadata
            for name in _LIMITS
            if getattr(rule, name, None) is not None
        }
        allowed = [_LIMITS[name].format(limit) for name, limit in limits.items()]
    return ", ".join(filter(None, allowed)) + (", or null" if allowed else "null") * optional


def _yaml(value: Any) -> str:
    """A value as one writes it in a recipe."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return '""' if value == "" else str(value)


def _documented(kind: type) -> tuple[str, dict[str, str]]:
    """What a class's docstring says of it, and of each argument."""
    about, _, arguments = (inspect.getdoc(kind) or "").partition("\n\nArguments:\n")
    meanings = {}
    for names, text in re.findall(r"^    ([\w, ]+): (.*(?:\n {8}.*)*)", arguments, re.M):
        meanings |= {name.strip(): text for name in names.split(",")}
    return about, meanings


def _verb(verb: Description) -> str:
    parts = [f"### `{verb.usage}`", _plain(verb.summary)]
    parts += [_plain(verb.details)] if verb.details else []
    parts.append(f"```\n{PROGRAM} {verb.example}\n```")
    if verb.parameters:
        rows = [
            (f"`{f'{p.typed} {p.value}'.strip()}`", _default(p), p.about)
            for p in verb.of("word", "words") + verb.of("flag", "fields")
        ]
        parts.append(_cells(("argument", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _default(parameter: Parameter) -> str:
    if parameter.form in ("word", "flag") and parameter.default is NEEDED:
        return "needed"
    return f"`{shown}`" if (shown := parameter.shown_default) else ""


def _cells(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    escaped = ([_plain(cell).replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _plain(text: str) -> str:
    """One line of Markdown: code of docstrings is code here too."""
    return " ".join(text.split()).replace("``", "`")


def main() -> None:
    """Write every page anew, and say which changed."""
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := rendered(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(DOCS.parent)}: written")


if __name__ == "__main__":
    main()
