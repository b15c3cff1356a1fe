"""Delta chi^2 from the file of truth beside a set."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.data.shards import data_digest, open_split
from deeplense_batch.simulation.simulate import simulate
from deeplense_batch.simulation.truth.known import FILE, known_delta_chi2
from deeplense_batch.simulation.truth.maps import Truth, write_truth


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    simulate("substructure", root, preset="varied", images=12, size=48, seed=3)
    write_truth(root, "val", root / FILE, maps=False)
    return root


def test_what_was_written_is_found(root):
    truth = Truth(root, "val")
    known, notes = known_delta_chi2(root, data_digest(root), truth.split.ids())
    expected = [float(truth.numbers(i)["delta_chi2"]) for i in range(len(truth.split))]
    assert known == pytest.approx(expected) and not notes
    assert (known > 0).tolist() == (truth.split.targets() > 0).tolist()


def test_images_that_it_lacks(root):
    digest, val = data_digest(root), open_split(root, "val").ids()
    train = open_split(root, "train").ids()
    known, notes = known_delta_chi2(root, digest, [*train, *val])
    assert np.isnan(known[: len(train)]).all() and np.isfinite(known[len(train) :]).all()
    assert notes == [f"delta chi^2 is known of {len(val)} of {len(val) + len(train)} images"]
    assert known_delta_chi2(root, digest, train) == (
        None, ["truth.h5 beside the shards has none of these images"]
    )  # fmt: skip


def test_a_file_of_other_images_is_not_used(root, tmp_path):
    known, notes = known_delta_chi2(root, "f" * 16, ["a"])
    assert known is None and "is of other images" in notes[0]
    assert known_delta_chi2(tmp_path, "f" * 16, ["a"]) == (None, [])
    (tmp_path / FILE).write_bytes(b"damaged")
    known, notes = known_delta_chi2(tmp_path, "f" * 16, ["a"])
    assert known is None and "cannot be read" in notes[0]


def test_the_set_is_the_same_with_it(root):
    before = data_digest(root)
    (root / FILE).rename(root / "elsewhere")
    assert data_digest(root) == before
    (root / "elsewhere").rename(root / FILE)
