"""A run counts once, however many directories hold it; and what a spreadsheet must not run."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import make_run, read_csv
from pydantic import ValidationError

from deeplense_batch.cluster.site import Profile
from deeplense_batch.data.sources.layouts import is_lens
from deeplense_batch.report.collect import collect
from deeplense_batch.report.csv_text import plain_text, safe_text
from deeplense_batch.runs.validate import Memo


@pytest.fixture
def runs(tmp_path):
    """Two seeds of one model."""
    for seed in (0, 1):
        make_run(tmp_path / "runs", seed=seed, auc=0.9 + seed / 100)
    return tmp_path / "runs"


def models(runs):
    report = collect(runs, runs.parent / "report")
    (row,) = read_csv(runs.parent / "report" / "models.csv")
    return row, (runs.parent / "report" / "report.md").read_text(), report


def test_a_backup_and_links_are_no_further_seeds(runs):
    before, _, _ = models(runs)
    shutil.copytree(runs / "demo", runs / "demo_backup")
    first = sorted((runs / "demo").iterdir())[0]
    (runs / "demo" / "latest").symlink_to(first)
    (runs / "elsewhere").symlink_to(runs / "demo")
    after, page, _ = models(runs)
    assert after == before and before["runs"] == "2"
    assert "the same run, which counts once" in page


def test_a_run_that_was_renamed_is_the_same_run(runs):
    before, _, _ = models(runs)
    first = sorted((runs / "demo").iterdir())[0]
    shutil.copytree(first, runs / "demo" / f"{first.name}_old")
    assert models(runs)[0] == before


def test_two_results_of_one_run_are_a_contradiction_and_not_averaged(runs):
    before, _, _ = models(runs)
    first = sorted((runs / "demo").iterdir())[0]
    copy = runs / "copy" / first.name
    shutil.copytree(first, copy)
    text = (copy / "metrics.json").read_text()
    assert "0.9" in text
    (copy / "metrics.json").write_text(text.replace("0.9,", "0.7,").replace("0.9}", "0.7}"))
    after, page, _ = models(runs)
    assert "CONTRADICTION" in page and after["runs"] == before["runs"] == "2"
    assert float(after["auc_mean"]) in (pytest.approx(0.905), pytest.approx(0.805))


@given(st.text())
def test_every_text_comes_back_from_a_cell(text):
    assert plain_text(safe_text(text)) == text
    assert not safe_text(text).startswith(("=", "@", "\t", "\r"))


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("@SUM(1)", "'@SUM(1)"),
        ("-1e-5", "-1e-5"),
        ("+3", "+3"),
        ("-cmd", "'-cmd"),
        ("'=1", "''=1"),
        ("resnet18", "resnet18"),
    ],
)
def test_formulas_are_text_and_numbers_stay_numbers(text, cell):
    assert safe_text(text) == cell


@pytest.mark.parametrize("name", ["a\ntouch x", "", "--mail", "a b", "a=b", "x;y", "mem\r"])
def test_a_name_of_an_sbatch_option_is_one_word(name):
    with pytest.raises(ValidationError):
        Profile.model_validate({"sbatch": {name: "y"}})
    Profile.model_validate({"sbatch": {"mail-user": "y"}})


def test_what_is_asked_again_is_found_once_and_an_error_is_not_kept():
    memo, found = Memo(), []
    for _ in range(3):
        assert memo.once(("a", 1), lambda: found.append(1) or len(found)) == 1
    with pytest.raises(ZeroDivisionError):
        memo.once("b", lambda: 1 / 0)
    assert memo.once("b", lambda: 2) == 2


def test_lens_is_what_is_searched_for_whatever_the_alphabet():
    assert [is_lens(name) for name in ("lens", "Lenses", "nonlens", "nonlenses", "nolens")] == [
        *(True, True),
        *(False, False, False),
    ]
