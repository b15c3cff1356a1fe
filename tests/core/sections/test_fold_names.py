"""Names of folds: what they say, and what no fold is called."""

from __future__ import annotations

import pytest

from deeplense_batch.core.sections.fold_names import Folded, FoldName, as_given, fold_of


def test_a_name_says_split_numbers_and_how_many_and_reads_back():
    one, some = FoldName("train", (3,), 5), FoldName("real", (1, 2, 10), 12)
    assert (str(one), str(some)) == ("train[fold 3/5]", "real[folds 1,2,10/12]")
    assert FoldName.parse(str(one)) == one and FoldName.parse(str(some)) == some


@pytest.mark.parametrize("other", ["train", "train[:50%]", "train[fold 3]", "[fold 1/5]", ""])
def test_other_slices_are_no_folds(other):
    assert FoldName.parse(other) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a[fold 1/2]", r"'a\[fold 1/2\]' has 2 folds; allowed are 3 to 100"),
        ("a[fold 1/101]", "has 101 folds"),
        ("a[fold 6/5]", "numbers of folds from 1 to 5 that rise"),
        ("a[fold 0/5]", "numbers of folds from 1 to 5"),
        ("a[folds 2,1/5]", "that rise"),
        ("a[folds 1,1/5]", "that rise"),
        ("a[folds 3/5]", r"'a\[folds 3/5\]': expected a\[fold 3/5\]"),  # one run has one name
        ("a[fold 1,2/5]", r"expected a\[folds 1,2/5\]"),
        ("a[fold 03/05]", r"expected a\[fold 3/5\]"),
    ],
)
def test_folds_that_cannot_be_are_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        FoldName.parse(text)


def test_the_next_fold_validates_and_the_others_train():
    assert Folded.of("t", 3, 5) == ("t[folds 1,2,5/5]", "t[fold 4/5]", "t[fold 3/5]")
    assert Folded.of("t", 3, 3) == ("t[fold 2/3]", "t[fold 1/3]", "t[fold 3/3]")
    for folds in (3, 4, 100):
        for fold in range(1, folds + 1):
            names = [FoldName.parse(name) for name in Folded.of("t", fold, folds)]
            numbers = [number for name in names for number in name.numbers]
            assert sorted(numbers) == [*range(1, folds + 1)]


def test_slices_that_a_fold_stands_for_are_not_named_beside_it():
    slices = {"data.train": "real[folds 1,4/4]", "data.valid": "real[fold 3/4]",
              "data.test": "real[fold 2/4]"}  # fmt: skip
    given = {"seed": 1, "data.fold": "2/4"} | slices
    by_fold = {"data.fold": "2/4", "data.train": "real"}
    assert as_given(given) == {"seed": 1} | by_fold
    for spelt in ({}, {"data.fold": None}, {"data.fold": "02/4"}):
        assert as_given(slices | spelt) == by_fold
    others = ({"data.test": "real[fold 3/4]"}, {"data.valid": "real[fold 1/4]"},
              {"data.test": "real"}, {"data.test": "real[fold 2/5]"},
              {"data.test": "real[fold 9/4]"}, {"data.test": "real[folds 2,3/4]"},
              {"data.train": "sim[folds 1,4/4]"})  # fmt: skip
    for other in others:
        assert as_given(slices | other) == slices | other
    assert as_given({"data.train": "train"}) == {"data.train": "train"}


def test_a_fold_is_a_number_of_several():
    assert fold_of("3/5") == (3, 5) and fold_of("100/100") == (100, 100)
    for wrong in ("0/5", "6/5", "1/2", "1/101", "3", "a/b", "3/5 ", "-1/5"):
        with pytest.raises(ValueError, match=r"expected K/N, .* N is from 3 to 100"):
            fold_of(wrong)
