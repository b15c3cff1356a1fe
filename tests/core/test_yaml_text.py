"""YAML of a recipe: what is text, what is a number, and what is refused."""

from __future__ import annotations

import os
import time

import pytest
import yaml
from conftest import typed
from fuzz_recipes import fuzz

from deeplense_batch.core.yaml_text import YamlError, dump, load

TEXT = ["010", "1:2:3", "1_000", "0o17", "0x1f", "0b1", ".inf", "-.inf", ".nan", "2020-01-01",
        "2001-12-14 21:59:43", "no", "yes", "on", "=", "00", "1e", "x"]  # fmt: skip


@pytest.mark.parametrize("text", TEXT)
def test_what_one_version_of_yaml_takes_for_something_else_is_text(text):
    assert load(f"a: {text}") == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [("3e-5", 3e-5), ("1e5", 1e5), (".5", 0.5), ("-1", -1), ("0", 0), ("1.0", 1.0), ("~", None),
     ("", None), ("null", None), ("true", True), ("'1'", "1"), ("!!str 1", "1")],
)  # fmt: skip
def test_values(text, value):
    found = load(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text", [*TEXT, "1e5", "3e-5", "true", "null", "~", "", "1", "a: b", "<<"]
)
def test_text_is_written_so_that_every_reader_reads_text(text):
    assert load(dump({"a": [text]})) == {"a": [text]}
    assert yaml.safe_load(dump({"a": [text]})) == {"a": [text]}


def test_anchors_and_merge_keys():
    text = "b: &b {x: 1, y: 2}\na: {<<: *b, y: 3}\nc: *b"
    assert load(text) == {"b": {"x": 1, "y": 2}, "a": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


def bomb(open_: str, close: str) -> str:
    levels = [f"a0: &a0 {open_}x{close}"]
    for i in range(1, 12):
        repeated = ", ".join(
            f"k{j}: *a{i - 1}" if open_ == "{" else f"*a{i - 1}" for j in range(9)
        )
        levels.append(f"a{i}: &a{i} {open_}{repeated}{close}")
    return "\n".join(levels)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: !!set {x}", "the tag !!set is none of"),
        ("a: !!binary aGk=", "the tag !!binary is none of"),
        ("a: !!python/object/apply:os.system [ls]", "the tag !!python/object/apply:os.system"),
        ("a: !mine 3", "the tag !mine is none of"),
        ("a: !!int 1:2", "'1:2' is no whole number"),
        ("a: !!map [1]", "expected a mapping"),
        ("a: &a [*a]", "an alias is inside the value that it repeats"),
        ("a: &a {<<: *a}", "an alias is inside the value that it repeats"),
        (bomb("[", "]"), "more than 100,000 values"),
        (bomb("{", "}"), "more than 100,000 values"),
        ("a: " + "[" * 60 + "]" * 60, "nested more than 40 deep"),
        ("a: " + "{b: " * 60 + "}" * 60, "nested more than 40 deep"),
        ("a: " + "[" * 200_000, "nest"),
        ("1: 2", "key 1 should be text"),
        ("true: 2", "key true should be text"),
        ("[a]: 2", "a key should be text, not a list"),
        ("a: 1\na: 2", "key 'a' twice"),
        ("a: 1e999", "too large"),
        ("a: " + "9" * 5000, "too large"),
        ("a: \0", "control characters are not allowed"),
        ('a: "\\0"', "control character"),
        ("a: '\ud800'", "none of Unicode"),
        ("--- 1\n--- 2", "expected a single document in the stream but found another"),
        ("a: *x", "undefined alias"),
        ("x" * 1_000_001, "1,000,001 characters, more than 1,000,000"),
    ],
    ids=lambda text: text[:24],
)
def test_what_is_refused_is_refused_at_once_in_one_sentence(text, sentence):
    started = time.process_time()
    with pytest.raises(YamlError) as error:
        load(text)
    assert sentence in str(error.value) and "\n" not in str(error.value)
    assert time.process_time() - started < 5


def test_what_is_no_recipe_ends_with_exit_code_3(tmp_path, capsys):

    files = {"utf16.yaml": "model: {name: x}".encode("utf-16"), "big.yaml": b"#" * 1_100_000}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "fifo.yaml")
    said = {
        "utf16": "not UTF-8 text",
        "big": "has 1.1 MB",
        "folder": "is no file",
        "fifo": "is no file",
    }
    for name, sentence in said.items():
        code, _, errors = typed(capsys, "submit", tmp_path / f"{name}.yaml", "--dry_run")
        assert code == 3 and sentence in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    "value", ["1:2:3", "010", "1_000", ".inf", "2020-01-01", "!!set {a}", "[1"]
)
def test_overrides_are_read_alike(value, tmp_path, capsys):
    (tmp_path / "j.yaml").write_text("model: {name: test_resnet}\ndata: {root: d}\n")
    code, _, errors = typed(capsys, "submit", tmp_path / "j.yaml", f"--train.lr={value}")
    assert (code, errors) == (2, f"--train.lr: expected a number, got '{value}'\n")


def test_a_grid_of_too_many_points_is_refused(tmp_path, capsys):
    axes = "\n".join(
        f"  train.{name}: {list(range(1, 100))}" for name in ("epochs", "lr", "warmup")
    )
    text = f"model: {{name: test_resnet}}\ndata: {{root: d}}\ngrid:\n{axes}\n"
    (tmp_path / "j.yaml").write_text(text)
    code, _, errors = typed(capsys, "submit", "--grid", tmp_path / "j.yaml")
    assert code == 3 and "grid: 970,299 runs; a recipe is at most 100,000" in errors


def test_mutated_recipes_load_or_are_refused(tmp_path):
    told = fuzz(60, 0, tmp_path)
    assert sum(told.values()) == 60 and min(told.values()) > 0
