"""What the report of a packing says of the inputs of pairs."""

from dataclasses import replace

import numpy as np
import pytest
from made_pairs import write_pairs
from made_shards import write

from deeplense_batch.data.packing.pair_report import about_scales, inputs_of_split
from deeplense_batch.data.packing.storage import Storage
from deeplense_batch.data.shards import read_splits

FLOATS = np.dtype(np.float32)


@pytest.mark.parametrize(
    ("image", "own", "warns"),
    [(0.05, 0.1, False), (0.05, 0.168, True), (0.05, np.nan, False), (np.nan, 0.1, False)],
)
def test_headers_that_tell_of_other_fields_are_doubted(image, own, warns):
    inputs = Storage((1, 8, 8), FLOATS, {"train": FLOATS}, pixel_scale=own)
    storage = Storage((1, 16, 16), FLOATS, {"train": FLOATS}, pixel_scale=image, inputs=inputs)
    said = about_scales(storage)
    assert bool(said) == warns
    assert not warns or "is 0.168 arcsec wide, and the 2 of an image along it 0.1" in said[0]
    assert about_scales(replace(storage, inputs=None)) == []


def test_the_report_has_the_form_of_the_inputs(tmp_path):
    write_pairs(tmp_path / "a", 3)
    write(tmp_path / "b", 3)
    info, plain = (read_splits(tmp_path / name)["train"] for name in "ab")
    assert inputs_of_split(plain) is None
    assert inputs_of_split(info) == {
        "shape": (1, 8, 8), "dtype": "float64", "stored": "uint16",
    }  # fmt: skip
