"""Names of models that a reader takes in at a glance, and that stay different from each other.

A name is a network and the settings that tell it from others: ``vit train.lr=0.03,
train.freeze=none``. Settings that are long lists are shortened everywhere (`setting_texts`), names
that are long only in figures (`short_names`), where they end in their place in the table, which
has them whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

__all__ = ["cut", "in_legend", "named_networks", "setting_texts", "short_names"]

_LONGEST = 68  # characters of a name in a figure
_MORE_OF_FEWER = "train.epochs"  # which goes with the number of images, where it varies
_FREEZE = "train.freeze"
_IN_LEGEND = 96  # of one that has a line of a legend for itself
_LONG = 24  # of a list, written as Python does
_SETTING = re.compile(r"(?:^|(?<= ))([a-z_]+\.)+(?=[a-z_]+=)")  # the sections before a field
_NUMBER = re.compile(r",? (\w+)=[-+.\de]+(?=,|$)")  # a setting that is a number
_VALUE = re.compile(r"(?<==)[^,]+")  # of a setting
_COMMA = re.compile(r"^([^ ,=]+),(?= )")  # left behind a network that lost its first setting


def setting_texts(values: Sequence[Any]) -> list[str]:
    """Write what runs have in one setting: no list as ``none``, a long one by its first entry.

    Arguments:
        values: Of the runs; different ones stay different.
    """
    short = [_shortened(value) for value in values]
    whole = [str(value) for value in values]
    alike = len(set(short)) < len(set(whole))
    return whole if alike else short


def named_networks(runs: Sequence[Mapping[str, Any]], but: Collection[str] = ()) -> list[str]:
    """Networks with the settings that tell them from others of their job, whatever they learnt.

    Not how long they trained: recipes give fewer images more epochs. Where only some have frozen
    parts, the others say that the whole network is trained.

    Arguments:
        runs: Rows, with ``model`` and, where it is known, ``settings`` (`compare.name_variants`).
        but: Settings that are said elsewhere.
    """
    settings = [run.get("settings") or {} for run in runs]
    named: list[list[str]] = [[] for _ in runs]
    for field in dict.fromkeys(field for own in settings for field in own):
        if field == _MORE_OF_FEWER or field in but:
            continue
        texts = setting_texts([own.get(field) for own in settings])
        for own, said, text in zip(settings, named, texts, strict=True):
            value = own.get(field)
            if field == _FREEZE and field in own:
                said.append(f"frozen {text}" if value else "whole network")
            elif value not in (None, []):
                said.append(f"{field}={text}")
    return [
        " ".join([run["model"], ", ".join(said)]).strip()
        for run, said in zip(runs, named, strict=True)
    ]


def short_names(names: Sequence[str]) -> list[str]:
    """Names for figures: where one is too long, those that are lose what is not needed.

    First the sections of fields (``train.lr`` is ``lr``), then numbers that follow from other
    settings, as epochs from the slice that is trained on; then the middles of long values, and at
    last that of the name. What was changed ends in its place in the table, ``#2``.

    Arguments:
        names: Of the models of one table, in its order.
    """
    if all(len(name) <= _LONGEST for name in names):
        return list(names)
    short = _without_numbers([_SETTING.sub("", name) for name in names])
    return [
        name if len(name) <= _LONGEST else f"{_fitted(new, _LONGEST - len(place))}{place}"
        for name, new, place in (
            (name, new, f" #{i}")
            for i, (name, new) in enumerate(zip(names, short, strict=True), start=1)
        )
    ]


def in_legend(names: Sequence[str]) -> list[str]:
    """Names for the lines of a legend, each on a line of its own, numbered where they are cut."""
    short = [cut(name, _IN_LEGEND) for name in names]
    if len(set(short)) == len(set(names)):
        return short
    return [f"{i}: {cut(name, _IN_LEGEND - 4)}" for i, name in enumerate(names, start=1)]


def cut(text: str, longest: int) -> str:
    """A text of at most so many characters; a longer one loses its middle."""
    if len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}…{text[len(text) - end :]}"


def _fitted(name: str, longest: int) -> str:
    """A name of at most so many characters, of whose settings something is left if possible."""
    for most in range(24, 7, -1):
        short = _VALUE.sub(_cutting(most), name)
        if len(short) <= longest:
            return short
    return cut(name, longest)


def _shortened(value: Any) -> str:
    if isinstance(value, list) and not value:
        return "none"
    if isinstance(value, list) and len(str(value)) > _LONG:
        more = len(value) - 1
        return f"{value[0]} and {more} more" if more else str(value[0])
    return str(value)


def _without_numbers(names: Sequence[str]) -> Sequence[str]:
    """Names without the settings that are numbers, where all stay different without them."""
    for field in dict.fromkeys(field for name in names for field in _NUMBER.findall(name)):
        without = [_NUMBER.sub(_dropping(field), name) for name in names]
        if len(set(without)) == len(set(names)):
            names = [_COMMA.sub(r"\1", name) for name in without]
    return names


def _cutting(most: int) -> Callable[[re.Match[str]], str]:
    return lambda found: cut(found[0], most)


def _dropping(field: str) -> Callable[[re.Match[str]], str]:
    return lambda found: "" if found[1] == field else found[0]
