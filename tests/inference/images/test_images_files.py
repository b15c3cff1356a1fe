"""Images in files, each bad one told by itself; any change makes them another source."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from conftest import make_images
from made_sources import two_unusable

from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.inference.images.inputs import open_inputs

SHAPE = (1, 24, 24)
AS_THEY_ARE = Transform(None, None, "linear", (0.0,), (1.0,))
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    return two_unusable(tmp_path / "images")


def test_images_in_files_that_cannot_be_used_are_rows_like_others(folder):
    with open_inputs(folder, "", SHAPE) as inputs:
        (piece,) = inputs.pieces(50)
        names = inputs.names(piece)
        (batch,) = inputs.batches(piece, AS_THEY_ARE, CPU, size=64)
    files = [id_.rpartition("/")[2] for id_ in names.ids]
    assert files == ["0.npy", "2.npy", "4.npy", "6.npy", "1.npy", "3.npy", "5.npy"]
    assert names.labels == ["no"] * 4 + ["vort"] * 3 and set(names.splits) == {"test"}
    assert batch.problems[1] == "576 of 576 pixels are NaN or infinite"
    assert batch.problems[6].startswith("has images of 1 x 24 x 20 (channels x height x width)")
    assert batch.with_image == [0, 2, 3, 4, 5]
    expected = make_images(7, seed=5)[0].astype(np.float32)
    assert np.allclose(batch.images[batch.with_image], expected[[0, 4, 6, 1, 3]], atol=1e-5)
    assert not batch.images[[1, 6]].any()


def test_a_file_that_changes_is_another_source(folder):
    def digest():
        with open_inputs(folder, "", SHAPE) as inputs:
            return inputs.digest

    before = digest()
    assert digest() == before
    file = folder / "test" / "no" / "0.npy"
    os.utime(file, ns=(1, 1))
    changed = digest()
    assert changed != before
    file.rename(file.with_name("zero.npy"))
    assert digest() not in (before, changed)


def test_a_table_that_gives_an_id_another_file_or_label_is_another_source(tmp_path):
    for i, image in enumerate(make_images(4, seed=5)[0].astype(np.float32)):
        np.save(tmp_path / f"{i}.npy", image)

    def digest(files="0123", labels="abab"):
        both = zip(files, labels, strict=True)
        rows = [f"J{i},{file}.npy,{label}\n" for i, (file, label) in enumerate(both)]
        (tmp_path / "t.csv").write_text("".join(["id,path,label\n", *rows]))
        with open_inputs(tmp_path / "t.csv", "", SHAPE) as inputs:
            return inputs.digest

    digests = [digest(), digest(files="1023"), digest(labels="baab"), digest(labels="cbcb")]
    assert len(set(digests)) == 4 and digest() == digests[0]
