"""The columns of the models: one list, which every page renders."""

from __future__ import annotations

import re

import pytest
from report_content import comparison, content, draw, model, row

from deeplense_batch.report.columns import model_columns, score_text, table_cells
from deeplense_batch.report.pages.html import web_page
from deeplense_batch.report.pages.latex import latex_table
from deeplense_batch.report.pages.markdown import page
from deeplense_batch.report.run_table import score_of


def columns_of(models, **fields):
    return {column.name: column for column in model_columns(comparison(models, **fields))}


def texts(column):
    return [cell.text for cell in column.cells]


def test_a_score_keeps_its_name_from_a_run_to_a_cell():
    run = {"auc": 0.9, "more": {"r2": 0.7, "threshold": None}}
    assert [score_of(run, name) for name in ("auc", "r2", "threshold", "mae")] == [
        0.9, 0.7, None, None,
    ]  # fmt: skip
    models = [model(1, "a", r2_mean=0.71, r2_low=0.65, r2_high=0.75, valid_score=0.8)]
    columns = columns_of(models, score="r2")
    assert texts(columns["r2"]) == ["0.7100 [0.650, 0.750]"] and columns["r2"].head == "R2"
    assert columns["valid_score"].title == "valid R2"
    assert columns["valid_auc"].title == "valid AUC"


def test_every_page_writes_a_cell_alike(tmp_path):
    models = [model(1, "a"), model(2, "b", interval="Hanley-McNeil"), model(3, "c", resolved=True)]
    made = content([comparison(models)], [row(0)])
    draw(tmp_path, "auc")
    pages = page(made), web_page(made, tmp_path, {}), latex_table(made)
    columns = columns_of(models)
    for text in texts(columns["auc"]):
        plain = [re.sub(r"\\", "", one) for one in pages]
        assert all(text in one for one in plain)
    assert texts(columns["auc"])[1].endswith("*")  # and each page says what the star is
    assert all("Hanley and McNeil" in one for one in pages)
    verdicts = ["-", "not resolved, p 0.340", "lower, p 0.210"]
    assert texts(columns["verdict"]) == verdicts  # the best is not compared with itself


def test_what_no_model_knows_is_no_column():
    unknown = {name: None for name in model(1, "a") if name not in ("place", "label", "job")}
    assert list(columns_of([model(1, "a", **unknown)], classes=[])) == ["job"]


def test_generated_images_are_beside_real_ones():
    columns = columns_of([model(1, "a", fid=10.52, fid_real=1.6), model(2, "b", fid_real=None)])
    assert texts(columns["fid"]) == ["10.5 (1.6)", "-"]
    assert columns["fid"].first == "ascending" and columns["fid"].title == "FID (real)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"), (2e-5, "2.0e-05"), (0.0001424, "0.000142"), (-0.0005, "\u22120.0005"),
        (0.0015, "0.0015"), (0.91, "0.9100"), (None, "-"),
    ],
)  # fmt: skip
def test_a_tiny_score_is_not_written_as_zero(value, text):
    assert score_text(value) == text


def test_the_table_of_runs_says_what_was_scored_and_what_each_was_trained_on():
    def trained(name):
        return {"training": {"name": name, "digest": name, "sets": 0}}

    plain = {"job": "tr", "model": "a"}
    scored = {"job": "ev", "model": "a", "evaluated": {"job": "tr"}, "data_root": "/d/real"}
    rows = [
        row(0, **plain, **trained("bench")),
        row(1, **plain, **trained("varied"), variant="trained on varied"),
        row(2, **plain, **trained("varied"), variant="train.lr=0.1"),
        row(3, **scored, **trained("varied"), test="test"),
        row(4, **(plain | {"job": "alone"}), **trained("varied")),
    ]
    assert [cell for (cell,) in table_cells(rows, ["variant"])] == [
        "variant", "trained on bench", "trained on varied", "train.lr=0.1",
        "scored on test of real", "-",
    ]  # fmt: skip


def test_the_pages_head_the_table_of_runs_alike(tmp_path):
    made = content([comparison([model(1, "a"), model(2, "b")])], [row(0)])
    draw(tmp_path, "auc")
    for text in (page(made), web_page(made, tmp_path, {})):
        runs = text.partition("All runs")[2]
        assert all(head in runs for head in ("valid AUC", "test AUC", "training, s"))


def test_seeds_are_asked_for_only_where_more_of_them_could_resolve_a_difference():
    shared = {"difference": -0.1, "seed_sd": 0.01, "seeds_needed": None, "resolved": False}
    models = [
        model(1, "best", difference=None),
        model(2, "too few samples", **shared),
        model(3, "resolved", **shared | {"resolved": True}),
        model(4, "one seed", **shared | {"seed_sd": None}),
        model(5, "nine", **shared | {"seeds_needed": 9}),
    ]
    assert texts(columns_of(models)["seeds_needed"]) == ["-", "over 1,000", "-", "-", "9"]


def test_small_networks_have_a_size():
    models = [model(1, "a", parameters_m=size) for size in (0.0412, 0.3, 11.2, None)]
    assert texts(columns_of(models)["parameters_m"]) == ["0.041", "0.3", "11.2", "-"]
