"""YAML as recipes are written: text, numbers, truth values, lists and mappings, and nothing else.

Plain scalars are those of YAML 1.2, as far as both versions agree: ``3e-5`` is a number, ``no`` is
text, and so are dates, ``.inf``, and ``010``, ``1_000``, ``0o17`` and ``1:2:3``, which YAML 1.1
reads as numbers that nobody means. Anchors, aliases and merge keys are understood; what they add
up to is counted before anything is built.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

__all__ = ["YamlError", "dump", "load"]

_MOST_CHARACTERS = 1_000_000
_MOST_NODES = 100_000  # with what aliases repeat
_MOST_DEPTH = 40
_MOST_DIGITS = 30

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$")
_FLOAT = re.compile(
    r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*|(?:0|[1-9][0-9]*)(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
)
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_KINDS = {"int": _INT, "float": _FLOAT, "bool": _BOOL, "null": _NULL}
_CALLED = {"int": "whole number", "float": "number", "bool": "truth value", "null": "null"}


class YamlError(ValueError):
    """A text is not YAML of this kind.

    Arguments:
        problem: What is wrong, without a full stop.
        line: Where, from 1.
    """

    exit_code = 1  # always caught: its reader names the file

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


def load(text: str) -> Any:
    """Read one document: None, text, a number, a truth value, a list, or a mapping by text.

    Raises:
        YamlError: It is none, or holds what a recipe cannot; in one sentence.
    """
    if len(text) > _MOST_CHARACTERS:
        raise YamlError(f"{len(text):,} characters, more than {_MOST_CHARACTERS:,}")
    if _SURROGATE.search(text):
        raise YamlError("holds a character that is none of Unicode")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
        if problem.startswith("but "):
            problem = f"{getattr(error, 'context', '')} {problem}"
        raise YamlError(" ".join(problem.split()), mark and mark.line + 1) from None
    except RecursionError:
        raise YamlError("nested too deeply") from None


def dump(content: Any) -> str:
    """Write what `load` reads back as it was; other readers of YAML read the same."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Builds the few kinds of values, and refuses doubled keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _wrong("expected a mapping", node)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _wrong("a key should be text, not a list or a mapping", key)
            if key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                raise _wrong(f"key {key.value} should be text; quote it", key)
            if key.value in seen:
                raise _wrong(f"key '{key.value}' twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_value(self, node: yaml.Node) -> Any:
        """A scalar of a known kind."""
        kind = node.tag.removeprefix(_TAG)
        text = str(self.construct_scalar(node))
        if _UNPRINTABLE.search(text):
            raise _wrong("holds a control character", node)
        if kind == "str":
            return text
        if not _KINDS[kind].match(text) and not (kind == "float" and _INT.match(text)):
            raise _wrong(f"'{text[:40]}' is no {_CALLED[kind]}", node)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if len(text) > _MOST_DIGITS or not math.isfinite(float(text)):
            raise _wrong(f"'{text[:_MOST_DIGITS]}' is too large or too long a number", node)
        return int(text) if kind == "int" else float(text)

    def construct_unknown(self, node: yaml.Node) -> Any:
        """A tag of another kind."""
        shown = node.tag.replace(_TAG, "!!")
        raise _wrong(f"the tag {shown[:60]} is none of text, numbers, lists and mappings", node)


_Loader.yaml_constructors = {
    **{f"{_TAG}{kind}": _Loader.construct_value for kind in ("str", *_KINDS)},
    f"{_TAG}seq": yaml.SafeLoader.construct_yaml_seq,
    f"{_TAG}map": yaml.SafeLoader.construct_yaml_map,
    None: _Loader.construct_unknown,
}
_Loader.yaml_implicit_resolvers = {
    "<": [(f"{_TAG}merge", re.compile(r"^<<$"))],
}


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.yaml_implicit_resolvers = {
    first: [*pairs] for first, pairs in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
for _resolving in (_Loader, _Dumper):
    _resolving.add_implicit_resolver(f"{_TAG}bool", _BOOL, list("tTfF"))
    _resolving.add_implicit_resolver(f"{_TAG}null", _NULL, ["~", "n", "N", ""])
    _resolving.add_implicit_resolver(f"{_TAG}int", _INT, list("-+0123456789"))
    _resolving.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+.0123456789"))


def _wrong(problem: str, node: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(None, None, problem, node.start_mark)


def _check_size(root: yaml.Node) -> None:
    """Count what a document adds up to, each alias as the value that it repeats.

    How deep the text itself may nest, libyaml limits before a node is built.
    """
    sizes: dict[int, int] = {}
    inside: set[int] = set()

    def size(node: yaml.CollectionNode, depth: int) -> int:
        if id(node) in inside:
            raise _wrong("an alias is inside the value that it repeats", node)
        if depth > _MOST_DEPTH:
            raise _wrong(f"nested more than {_MOST_DEPTH} deep, with what aliases repeat", node)
        if id(node) not in sizes:
            inside.add(id(node))
            sizes[id(node)] = 1
            for child in _children(node):
                if isinstance(child, yaml.CollectionNode):
                    sizes[id(node)] += size(child, depth + 1)
                else:
                    sizes[id(node)] += 1
            inside.remove(id(node))
        if sizes[id(node)] > _MOST_NODES:
            raise _wrong(f"more than {_MOST_NODES:,} values, counting what aliases repeat", node)
        return sizes[id(node)]

    if isinstance(root, yaml.CollectionNode):
        size(root, 0)


def _children(node: yaml.CollectionNode) -> Iterator[yaml.Node]:
    for child in node.value:
        if isinstance(child, tuple):
            yield from child
        else:
            yield child
