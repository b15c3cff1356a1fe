"""From words to a verb with all that it was given, before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deeplense_batch.cli.parse import NEEDED, describe, parse
from deeplense_batch.cli.values import Device
from deeplense_batch.cli.verbs import VERBS


def every_kind(
    first: Path,
    *more: str,
    switch: bool = False,
    count: int = 1,
    share: float | None = 0.5,  # Of one.
    # Where it runs, in words that do not
    # fit beside it.
    device: Device | None = None,
    names: tuple[str, ...] = (),
    set_: dict[str, Any] | None = None,
    import_: Path | None = None,
    **fields: Any,
) -> int:
    """Take a value of every kind."""
    return 0


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("a --switch", {"switch": True}),
        ("--switch a", {"switch": True}),
        ("a --switch=False", {"switch": False}),
        ("a -c 7", {"count": 7}),
        ("a --share 1e-3", {"share": 0.001}),
        ("a --share -1", {"share": -1.0}),
        ("a --share=none", {"share": None}),
        ("a --device cuda", {"device": "cuda"}),
        ("a --device=", {"device": None}),
        ("a --names x,y", {"names": ("x", "y")}),
        ("a --set p.q=1 --set=r=[1,2]", {"set_": {"p.q": 1, "r": [1, 2]}}),
        ("a --import b", {"import_": Path("b")}),
        ("a --train.lr 3e-5 --model.name=12", {"train.lr": 3e-5, "model.name": 12}),
        ("a --data.augment.flips", {"data.augment.flips": True}),
        ("12e45678", {"first": Path("12e45678")}),
        ("--first=a", {}),
    ],
)
def test_values_are_read_by_the_annotation_of_their_parameter(line, values):
    found = parse(every_kind, line.split())
    assert {"first": Path("a")} | values == found.values and found.words == ()
    for name, value in values.items():
        assert type(found.values[name]) is type(value)


def test_words_without_a_name_of_their_own_keep_their_order():
    found = parse(every_kind, ["a", "--switch", "c", "--count=2", "b"])
    assert found.words == ("c", "b") and found.values["first"] == Path("a")


def test_a_description_is_what_the_documentation_is_made_from():
    known = describe(VERBS["simulate"])
    by_name = {parameter.name: parameter for parameter in known.parameters}
    assert known.example.startswith("simulate substructure ")
    assert [p.typed for p in known.parameters[:3]] == ["KIND", "OUT", "--preset"]
    assert by_name["out"].default is NEEDED and by_name["images"].default == 600
    assert (by_name["set_"].typed, by_name["set_"].value) == ("--set", "FIELD=VALUE")
    assert by_name["device"].value == "cpu|cuda"


def test_a_parameter_is_described_by_the_comment_beside_or_above_it():
    about = {one.name: one.about for one in describe(every_kind).parameters if one.about}
    assert about == {
        "share": "Of one.", "device": "Where it runs, in words that do not fit beside it."
    }  # fmt: skip
