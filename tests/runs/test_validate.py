"""Whether a job can be carried out: all that can be known of it before anything runs."""

from __future__ import annotations

import pytest

from deeplense_batch.runs.validate import Memo


def test_what_is_asked_again_is_found_once_and_an_error_is_not_kept():
    memo, found = Memo(), []
    for _ in range(3):
        assert memo.once(("a", 1), lambda: found.append(1) or len(found)) == 1
    with pytest.raises(ZeroDivisionError):
        memo.once("b", lambda: 1 / 0)
    assert memo.once("b", lambda: 2) == 2
