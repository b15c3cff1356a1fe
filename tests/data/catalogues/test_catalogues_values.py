"""Words of splits and numbers to learn: what is allowed, what is unknown, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deeplense_batch.data.catalogues.values import numbers_to_learn, splits_of


def test_splits_by_their_usual_words():
    found = splits_of("part", pd.Series(["Train", "valid", " testing", "", "no"]), ValueError)
    assert found.values.tolist()[:3] == ["train", "val", "test"]
    assert [*found.faults] == [3, 4] and "column part is 'no', and no split" in found.faults[4]
    with pytest.raises(
        ValueError, match="--split: part is 'a' in the first row, and no row of it is one of"
    ):
        splits_of("part", pd.Series(["a", "b"]), ValueError)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["1.5", "", "nan", "large", "inf"]),
        pd.Series([1.5, None, np.nan, "large", "inf"]),
    ],
)
def test_an_unknown_number_is_no_fault_but_text_and_infinity_are(column):
    found = numbers_to_learn("z", pd.Series(column), ValueError)
    np.testing.assert_array_equal(found.values[:3], [1.5, np.nan, np.nan])
    assert [*found.faults] == [3, 4] and found.notes == ["z is unknown in 2 of 5 rows: NaN there"]
    assert found.faults[3] == "z is 'large', and networks learn numbers"


def test_a_column_without_a_number_is_refused():
    with pytest.raises(ValueError, match=r"--truth: z holds no numbers, but values such as 'a'"):
        numbers_to_learn("z", pd.Series(["", "a"]), ValueError)
    with pytest.raises(ValueError, match="--truth: z holds no numbers, it is empty"):
        numbers_to_learn("z", pd.Series([np.nan, np.nan]), ValueError)
