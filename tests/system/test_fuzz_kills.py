"""A few of the kills that ``fuzz_kills.py`` makes without end."""

import pytest
from fuzz_kills import fuzz


def test_what_was_killed_goes_on(tmp_path):
    outcomes, wrong = fuzz(6, 1, tmp_path, ("pack", "predict", "simulate"))
    assert not wrong and sum(outcomes.values()) == 6


@pytest.mark.slow
def test_what_was_killed_forty_times_goes_on(tmp_path):
    outcomes, wrong = fuzz(40, 2, tmp_path)
    assert not wrong and sum(outcomes.values()) == 40
