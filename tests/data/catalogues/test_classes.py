"""Labels are names or numbers; what is no class is a fault of its row."""

import pandas as pd
import pytest

from deeplense_batch.data.catalogues.classes import class_numbers
from deeplense_batch.data.catalogues.columns import Columns
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.shards import ShardError


def numbered(root, labels, **reading):
    """Class numbers, class names, and the rows that are faults."""
    pd.DataFrame({"label": labels}).to_csv(root / "t.csv", index=False)
    faults = {}
    columns = Columns(root / "t.csv", Reading(**reading))
    return *class_numbers(columns, faults.setdefault), faults


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["lens", "galaxy", "lens"], ("galaxy", "lens"), [1, 0, 1]),
        (["c10", "c2", ""], ("c2", "c10"), [1, 0, -1]),
        ([0, 2, -1], ("0", "1", "2"), [0, 2, -1]),
        ([1.0, 0.0, None], ("0", "1"), [1, 0, -1]),
        ([True, False, True], ("0", "1"), [1, 0, 1]),
    ],
)
def test_names_and_numbers(tmp_path, labels, classes, numbers):
    assert numbered(tmp_path, labels) == (numbers, classes, {})


def test_classes_may_be_named_and_what_is_none_is_a_fault(tmp_path):
    names = {"classes": "nonlens,lens"}
    assert numbered(tmp_path, [1, 0], **names) == ([1, 0], ("nonlens", "lens"), {})
    numbers, _, faults = numbered(tmp_path, ["lens", "ring"], **names)
    assert numbers == [1, -1] and faults == {1: "label 'ring' is no class: nonlens, lens"}


def test_only_what_is_missing_is_no_label_and_names_asked_for_win(tmp_path):
    words = ["none", "lens", "null", "nan", "", "-1"]
    assert numbered(tmp_path, words) == (
        [1, 0, 2, -1, -1, -1],
        ("lens", "none", "null"),
        {},
    )
    asked = {"classes": "lens,none,nan"}
    numbers, classes, faults = numbered(tmp_path, words, **asked)
    assert (numbers, classes) == ([1, 0, -1, 2, -1, -1], ("lens", "none", "nan"))
    assert faults == {2: "label 'null' is no class: lens, none, nan"}
    truths = numbered(tmp_path, ["true", "false"], classes="true,false")
    assert truths == ([0, 1], ("true", "false"), {})


def test_numbers_to_learn_are_no_classes(tmp_path):
    with pytest.raises(ShardError, match=r"label has 3 values such as 0.5, .* are --truth label"):
        numbered(tmp_path, [0.5, 1.25, 2.75])
    with pytest.raises(ShardError, match=r"which are no classes \(at most 1000\)"):
        numbered(tmp_path, range(1002))
