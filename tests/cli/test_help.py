"""The help of the program and of each verb."""

from __future__ import annotations

import shlex

import pytest
from conftest import REPOSITORY, typed

from deeplense_batch.cli.parse import describe
from deeplense_batch.cli.verbs import GROUPS, VERBS, read


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]], ids=str)
def test_the_bare_program_lists_every_verb_by_what_it_is_for(words, capsys):
    code, shown, error = typed(capsys, *words)
    assert (code, error) == (0, "")
    for group, verbs in GROUPS.items():
        section = shown.split(f"{group}\n")[1].split("\n\n")[0]
        names = [line.split()[0] for line in section.splitlines() if line[2] != " "]
        assert names == [verb.__name__ for verb in verbs]


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("width", [50, 90])
def test_every_verb_describes_itself_with_an_example(name, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    code, shown, error = typed(capsys, name, "--help")
    assert (code, error) == (0, "") and shown.isascii()
    known = describe(VERBS[name])
    example = shown.split("Example:\n")[1].splitlines()[0]
    for line in shown.splitlines()[1:]:
        assert len(line) <= width or line == example, line
    flat = " ".join(shown.split())
    for parameter in known.parameters:
        assert parameter.about and parameter.about in flat and parameter.typed in flat, parameter
    program, words = example.strip().split(known.name, 1)
    assert program == "python -m deeplense_batch "
    verb = read([known.name, *shlex.split(words)])
    assert verb.function is VERBS[name]
    for word in shlex.split(words):
        assert not word.startswith("jobs/") or (REPOSITORY / word).is_file(), word
