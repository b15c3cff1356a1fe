"""Shifts between the two images of a pair are found where they are known, and told apart."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from made_pairs import SHIFTS, write_shifted

from deeplense_batch.data.pairs.registration import (
    Registration,
    check_installed,
    register,
    write_registrations,
)
from deeplense_batch.data.shards import ShardError


def test_shifts_are_those_by_which_inputs_were_moved(tmp_path):
    found = register(write_shifted(tmp_path))
    np.testing.assert_allclose(found.shifts[:5], SHIFTS[:5], atol=0.08)
    assert found.found.tolist() == [True] * 5 + [False]
    assert (found.shifts[5] == 0).all()
    assert (found.correlations[:5] > 0.8).all() and found.correlations[5] < 0.3


def test_what_was_found_is_said_in_a_sentence():
    shifts = np.array([[0.3, 0.4], [0.0, 0.1], [3.0, 4.0], [0.0, 0.0]])
    some = Registration(shifts, np.array([0.9, 0.8, 0.7, 0.1]), np.array([True] * 3 + [False]))
    said = "shifts of 0.10 to 5.00 pixels of the inputs, median 0.50; 1 of 3 shifts is above 0.5"
    assert some.about("abcd") == f"{said}; 1 of 4 pairs shows no common sky and is not moved (d)"
    all_ = Registration(shifts[:3], np.ones(3), np.ones(3, bool))
    assert all_.about("abc") == said
    none = Registration(shifts * 0, np.zeros(4), np.zeros(4, bool))
    assert none.about("abcd").endswith(
        "4 of 4 pairs show no common sky and are not moved (a, b, c, ...)"
    )


def test_the_table_has_every_pair_of_every_slice(tmp_path):
    one = Registration(np.array([[0.5, -0.25]]), np.array([0.9]), np.array([True]))
    write_registrations(tmp_path / "r.csv", {"train": (["a"], one), "val[:50%]": (["b"], one)})
    table = pd.read_csv(tmp_path / "r.csv")
    assert table.to_dict("list") == {
        "slice": ["train", "val[:50%]"], "id": ["a", "b"], "rows": [0.5] * 2,
        "columns": [-0.25] * 2, "correlation": [0.9] * 2, "registered": [True] * 2,
    }  # fmt: skip


def test_without_scikit_image_it_is_said_how_to_get_it(monkeypatch):
    check_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ShardError, match=r"pip install 'deeplense-batch\[register\]'"):
        check_installed()
