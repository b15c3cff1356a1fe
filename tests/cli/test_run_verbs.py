"""The verbs of one run, as they are typed."""

from __future__ import annotations

from conftest import typed


def test_models_lists_names_and_sizes(capsys):
    _, shown, _ = typed(capsys, "models")
    assert "resnet18" in shown and "11.172 M" in shown


def test_a_run_name_that_looks_like_a_number_stays_a_name(capsys):
    code, _, error = typed(capsys, "run", "12e45678")
    assert code == 3 and "12e45678: cannot be read" in error
