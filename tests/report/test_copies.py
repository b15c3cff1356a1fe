"""A run counts once, however many directories hold it; and what a spreadsheet must not run."""

from __future__ import annotations

import shutil

import pytest
from made_runs import make_run, read_csv
from pydantic import ValidationError

from deeplense_batch.cluster.site import Profile
from deeplense_batch.report.collect import collect


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


@pytest.mark.parametrize("name", ["a\ntouch x", "", "--mail", "a b", "a=b", "x;y", "mem\r"])
def test_a_name_of_an_sbatch_option_is_one_word(name):
    with pytest.raises(ValidationError):
        Profile.model_validate({"sbatch": {name: "y"}})
    Profile.model_validate({"sbatch": {"mail-user": "y"}})
