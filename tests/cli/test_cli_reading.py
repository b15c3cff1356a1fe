"""A reading of files as one flag."""

from __future__ import annotations

import math

import pytest

from deeplense_batch.cli.reading import read_reading
from deeplense_batch.cli.values import UsageError
from deeplense_batch.data.formats.reading import Reading


def test_values_are_those_that_pack_would_read():
    assert read_reading("--reading", "{mask_value: -99, allow_pickle: true}") == Reading(
        allow_pickle=True, mask_value=-99.0
    )
    assert math.isnan(read_reading("--reading", "{mask_value: nan}").mask_value)
    assert read_reading("--reading", "{mask_value: null}") == Reading()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mask_value", "expected {NAME: VALUE, ...}, such as {mask_value: -99}, got 'mask_value'"),
        (
            "{mask_valeu: 1}",
            "has no such flag of reading, 'mask_valeu'; did you mean 'mask_value'?",
        ),
        ("{mask_value: sky}", "--reading mask_value: expected a number, got 'sky'"),
        ("{allow_pickle: 7}", "--reading allow_pickle: expected true or false, got '7'"),
    ],
)
def test_what_is_none_is_named(text, says):
    with pytest.raises(UsageError) as refused:
        read_reading("--reading", text)
    assert says in str(refused.value)
