"""What the words of a command line mean, by the kinds of their parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from deeplense_batch.cli.values import (
    Device,
    Limit,
    Positive,
    UsageError,
    look_of,
    read_value,
    several,
)

Picture = Annotated[Path, Limit(endings=(".png", ".svg"))]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("TRUE", bool, True),
        ("false", bool, False),
        ("0", int, 0),
        ("12", Positive, 12),
        ("-1e-3", float, -0.001),
        ("inf", float, float("inf")),
        ("a b", str, "a b"),
        ("", str, ""),
        ("a/b.zip", Path, Path("a/b.zip")),
        ("looks.svg", Picture, Path("looks.svg")),
        ("cuda", Device, "cuda"),
        ("", Device | None, None),
        ("none", int | None, None),
        ("none", Path | None, Path("none")),
        ("none", str | None, "none"),
        ("7", int | None, 7),
        ("png, svg,", tuple[str, ...], ("png", "svg", "")),
        ("", tuple[str, ...], ()),
        ("queued", tuple[Literal["queued", "running"], ...], ("queued",)),
        ("a=x/y\nb=z", dict[str, Path], {"a": Path("x/y"), "b": Path("z")}),
        ("a.b = [1, 2]", dict[str, Any], {"a.b": [1, 2]}),
        ("a=b=c", dict[str, Any], {"a": "b=c"}),
    ],
)
def test_a_value_is_read_by_its_kind(text, kind, value):
    found = read_value("--flag", text, kind)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("yes", bool, "expected true or false, got 'yes'"),
        ("1.5", int, "expected a whole number, 0 or more, got '1.5'"),
        ("-3", int, "expected a whole number, 0 or more, got '-3'"),
        ("0", Positive, "expected a whole number, 1 or more, got '0'"),
        ("", float, "expected a number, got ''"),
        ("", Path, "expected a path (an unset variable?), got ''"),
        ("looks.jpg", Picture, "expected a name that ends in .png or .svg, got 'looks.jpg'"),
        ("gpu", Device, "got 'gpu'; allowed: cpu, cuda"),
        ("queued,done", tuple[Literal["queued"], ...], "got 'done'; allowed: queued"),
        ("a", dict[str, Path], "expected NAME=FOLDER, got 'a'"),
        ("=1", dict[str, Any], "expected FIELD=VALUE, got '=1'"),
        ("a=1\na=2", dict[str, Any], "'a' is given twice"),
    ],
)
def test_a_value_of_another_kind_is_one_sentence_that_names_the_flag(text, kind, says):
    with pytest.raises(UsageError) as caught:
        read_value("--flag", text, kind)
    assert str(caught.value) == f"--flag: {says}" and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("kind", "look"),
    [
        (bool, ""),
        (int | None, "N"),
        (Positive, "N"),
        (float, "X"),
        (Picture, "PATH"),
        (str, "TEXT"),
        (Device | None, "cpu|cuda"),
        (tuple[str, ...], "A,B"),
        (dict[str, Path] | None, "NAME=FOLDER"),
        (dict[str, Any] | None, "FIELD=VALUE"),
    ],
)
def test_help_shows_what_a_value_looks_like(kind, look):
    assert look_of(kind) == look


def test_several_paths_have_commas_between_unless_one_has_that_name(tmp_path):
    assert several(Path("runs/a")) == [Path("runs/a")]
    assert several(Path("runs/a, runs/b")) == [Path("runs/a"), Path("runs/b")]
    (tmp_path / "a,b").mkdir()
    assert several(tmp_path / "a,b") == [tmp_path / "a,b"]
    with pytest.raises(UsageError, match=r"a,,b: expected paths with commas between, and none is"):
        several(Path("a,,b"))
