"""What a page says of the ensembles of a comparison."""

from __future__ import annotations

import pytest

from deeplense_batch.report.plots.pictures import draw
from deeplense_batch.report.studies.ensembles_block import ensembles_block


def gain(value, *, resolved=True):
    p_value = 0.003 if resolved else 0.4
    return {"gain": value, "low": value - 0.002, "high": value + 0.002, "p_value": p_value,
            "resolved": resolved}  # fmt: skip


def row(label="resnet18", value=0.005, *, resolved=True, **numbers):
    made = {"label": label, "members": 3, "runs": ["a", "b", "c"], "best_run": "a",
            "calibrated": 3, "valid_score": 0.97, "member_scores": [0.96, 0.95, 0.961],
            "mean_score": 0.957, "best_score": 0.96, "ece_floor": 0.02}  # fmt: skip
    for name, score in {"auc": 0.965, "accuracy": 0.9, "nll": 0.3, "ece": 0.01}.items():
        made |= {name: score, f"{name}_low": score - 0.005, f"{name}_high": score + 0.005}
    made |= {"over_best": gain(value, resolved=resolved), "over_mean": gain(0.008)}
    return made | numbers


def test_the_table_has_the_scores_and_both_gains():
    (block,) = ensembles_block(1, "auc", [row()])
    cells = dict(zip(block.head, *block.lines, strict=True))
    assert cells["model"] == "resnet18" and cells["members"] == "3"
    assert cells["valid AUC"] == "0.9700"
    assert cells["test AUC"] == "0.9650 [0.960, 0.970]"
    assert cells["best member"] == "0.9600"
    assert cells["gain over it"] == "+0.0050 [+0.0030, +0.0070]"
    assert cells["verdict"] == "better, p 0.003"
    assert cells["gain over their mean"].startswith("+0.0080")
    assert cells["ECE"] == "0.0100 [0.005, 0.015]" and cells["ECE floor"] == "0.0200"


def test_sentences_say_which_ensembles_are_better_than_their_best_member():
    rows = [row("a"), row("b", -0.004), row("c", 0.001, resolved=False)]
    (block,) = ensembles_block(1, "auc", rows, ["a note"])
    said = "\n".join(block.sentences)
    assert "Better than its best member: a, +0.0050 [+0.0030, +0.0070], p 0.003." in said
    said = said.replace("\N{MINUS SIGN}", "-")
    assert "Worse than its best member: b, -0.0040 [-0.0060, -0.0020], p 0.003." in said
    unresolved = (
        "Not resolved, compared with its best member: c, +0.0010 [-0.0010, +0.0030], p 0.400."
    )
    assert unresolved in said
    assert "Note: a note." in block.sentences and "these networks alone" in said


def test_what_is_not_known_takes_no_column():
    (block,) = ensembles_block(1, "auc", [row(over_best=None, best_score=None, valid_score=None)])
    assert not {"valid AUC", "best member", "gain over it", "verdict"} & set(block.head)
    assert "gain over their mean" in block.head


def test_a_regression_has_no_probabilities():
    made = row()
    kept = {
        name: made[name]
        for name in made
        if name.split("_")[0] not in ("accuracy", "nll", "ece", "auc")
    }
    kept |= {
        "r2": 0.9,
        "r2_low": 0.8,
        "r2_high": 0.95,
        "mae": 0.1,
        "mae_low": 0.08,
        "mae_high": 0.12,
    }
    (block,) = ensembles_block(1, "r2", [kept])
    assert "test R2" in block.head and "mae" in block.head and "ECE" not in block.head
    assert "numbers" in block.sentences[0]


def test_there_is_no_block_without_ensembles_or_notes():
    assert ensembles_block(1, "auc", []) == []
    (block,) = ensembles_block(1, "auc", [], ["no ensemble of a: outputs.npz is missing"])
    assert block.sentences == ["Note: no ensemble of a: outputs.npz is missing."]
    assert not block.lines and not block.pictures


@pytest.mark.parametrize(("number", "name"), [(1, "ensembles"), (2, "ensembles-2")])
def test_the_figure_is_drawn_from_the_rows_and_says_what_it_leaves_out(number, name):
    rows = [row(f"model {i}") for i in range(41)]
    (block,) = ensembles_block(number, "auc", rows)
    (picture,) = block.pictures
    assert picture.name == name and picture.caption.endswith("leaves out 1.")
    labels = [text.get_text() for text in draw(picture).axes[0].get_yticklabels()]
    assert sorted(labels) == sorted(f"model {i}" for i in range(40))
