"""The block of a selection function: what its sentences, its table and its figures say."""

from __future__ import annotations

import pytest

from deeplense_batch.report.plots.pictures import write
from deeplense_batch.report.studies.selection.page import selection_blocks


def cell(value, low=None, high=None):
    return {"value": value, "low": low, "high": high, "runs": [value]}


def found(number=1, **changed):
    """A study in two bins, of as many models."""
    numbers = {"completeness": [cell(0.5, 0.25, 0.75), None], "auc": [cell(0.9), cell(1.0)]}
    return {
        "edges": [0.5, 1.0, 2.0], "labels": ["0.5 to 1", "1 to 2"], "medians": [0.8, 1.4],
        "equal": True, "counts": {"lens": [40, 3]}, "without": {"galaxy": 500}, "unknown": 0,
        "outside": 0, "searched": "lens", "resampled": None, "notes": [],
        "measures": ["completeness", "auc"],
        "models": [{"label": f"model {i}", "runs": 1, "numbers": numbers} for i in range(number)],
    } | changed  # fmt: skip


def test_numbers_and_counts_are_in_the_table():
    (block,) = selection_blocks(1, {"theta_e": found()})
    assert block.title == "By theta_e"
    assert block.head == ["theta_e", "lens", "completeness", "AUC"]
    assert block.lines == [
        ["0.5 to 1", "40", "0.500 [0.250, 0.750]", "0.900"], ["1 to 2", "3", "-", "1.000"]
    ]  # fmt: skip
    text = " ".join(block.sentences)
    assert "theta_e is unknown or 0 in every image of class galaxy (500)" in text
    assert "fewer than 5 images" in text


def test_bins_that_ties_make_uneven_are_said_to_be():
    def said(counts):
        (block,) = selection_blocks(1, {"theta_e": found(counts=counts)})
        return " ".join(block.sentences)

    assert "hold about equally many images of class lens." in said({"lens": [9, 8]})
    assert (
        "Bins of theta_e hold 6 to 34 images of class lens: not equally many, since equal values "
        "are never parted."
    ) in said({"lens": [6, 34]})


def test_bins_without_a_class_are_named():
    study = found(searched=None, counts={"sphere": [20, 0], "vort": [20, 40]}, without={})
    (block,) = selection_blocks(1, {"mass": study})
    assert "Bins without any image of a class: 1 to 2 (sphere)." in block.sentences
    (block,) = selection_blocks(1, {"mass": found(counts={"lens": [9, 8]})})
    assert not any("without any image" in sentence for sentence in block.sentences)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.00783, 0.00188, 0.0159), "0.0078 [0.0019, 0.0159]"),
        ((-1.2158, -2.811, -0.328), "−1.22 [−2.81, −0.33]"),  # noqa: RUF001
        ((1.0, 0.97, 1.0), "1.0000 [0.9700, 1.0000]"),
        ((0.25, None, None), "0.250"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_allows(numbers, text):
    study = found()
    study["models"][0]["numbers"]["auc"] = [cell(*numbers), None]
    (block,) = selection_blocks(1, {"theta_e": study})
    assert block.lines[0][-1] == text


def test_of_several_classes_those_that_lack_it_are_named():
    (block,) = selection_blocks(1, {"mass": found(
        searched=None, counts={"vort": [40, 39]}, without={"no": 50, "sphere": 60}
    )})  # fmt: skip
    text = " ".join(block.sentences)
    assert "about equally many images of class vort." in text
    assert "in every image of class no (50) and sphere (60), which has none of it" in text


def test_the_share_of_the_searched_is_beside_the_purity():
    numbers = {"purity": [cell(0.5, 0.25, 0.75), None]}
    (block,) = selection_blocks(1, {"mag": found(
        counts={"galaxy": [60, 9], "lens": [40, 0]}, without={}, measures=["purity"],
        models=[{"label": "a", "runs": 1, "numbers": numbers}],
    )})  # fmt: skip
    assert block.head == ["mag", "galaxy", "lens", "share of lens", "purity"]
    assert block.lines[0] == ["0.5 to 1", "60", "40", "0.400", "0.500 [0.250, 0.750]"]


def test_images_of_no_bin_are_counted():
    (block,) = selection_blocks(1, {"theta_e": found(equal=False, unknown=1, outside=7)})
    text = " ".join(block.sentences)
    assert "1 further image whose theta_e is not known is in no bin." in text
    assert "7 further images whose theta_e is outside of the edges are in no bin." in text


def test_each_model_has_a_figure_and_few_share_one(tmp_path):
    (block,) = selection_blocks(2, {"theta_e": found(3)})
    assert [picture.name for picture in block.pictures] == [
        "by_theta_e-2", "by_theta_e_model_1-2", "by_theta_e_model_2-2", "by_theta_e_model_3-2"
    ]  # fmt: skip
    assert [len(picture.arguments["models"]) for picture in block.pictures] == [3, 1, 1, 1]
    assert {path.suffix for path in write(tmp_path, block.pictures)} == {".json", ".png", ".svg"}


def test_what_a_model_has_no_number_of_is_not_drawn():
    study = found(2)
    study["models"][1] = study["models"][1] | {"numbers": {"completeness": [None, None],
                                                           "auc": [cell(0.9), None]}}  # fmt: skip
    (block,) = selection_blocks(1, {"theta_e": study})
    assert [[*p.arguments["panels"]] for p in block.pictures] == [
        ["completeness", "auc"], ["completeness", "auc"], ["auc"]
    ]  # fmt: skip
    study["models"][1]["numbers"]["auc"] = [None, None]
    (block,) = selection_blocks(1, {"theta_e": study})
    assert [p.name for p in block.pictures] == ["by_theta_e", "by_theta_e_model_1"]


def test_of_many_models_the_first_are_shown_and_the_others_named_as_missing():
    (block,) = selection_blocks(1, {"theta_e": found(11)})
    assert len(block.pictures[0].arguments["models"]) == 6
    assert "the first 6 of 11 models" in block.pictures[0].caption
    assert len(block.pictures) == 9 and len(block.lines) == 16
    assert (
        "The first 8 models are shown; results.json has the numbers of 3 more." in block.sentences
    )


@pytest.mark.parametrize("columns", [("Mag", "mag"), ("a.1", "a_1")])
def test_columns_of_like_names_have_files_of_their_own(columns):
    blocks = selection_blocks(1, {column: found() for column in columns})
    names = [picture.name for block in blocks for picture in block.pictures]
    assert len(set(names)) == 2


def test_a_study_that_failed_is_a_sentence():
    (block,) = selection_blocks(1, {"theta_e": {"fault": "the shards are gone"}})
    assert block.sentences == ["No selection function: the shards are gone."]
    assert not block.lines and not block.pictures
