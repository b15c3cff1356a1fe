"""A few of the hostile sources that ``fuzz_hostile.py`` makes without end."""

from fuzz_hostile import fuzz


def test_hostile_sources_at_random(tmp_path):
    outcomes, wrong = fuzz(25, 1, tmp_path)
    assert not wrong and set(outcomes) == {"0", "3"}
