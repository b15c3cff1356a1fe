"""What is advised about images that cannot be packed as they are."""

from __future__ import annotations

import numpy as np
import pytest
from made_sources import noise

from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.listing.listing import Sample
from deeplense_batch.data.packing.advice import mends
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.packing.storage import BadImage, Form, Storage
from deeplense_batch.data.shards import ShardError


def fill(root, images):
    root.mkdir()
    for name, image in images.items():
        np.save(root / name, image)
    return root


def test_the_flags_that_mend_bad_images_are_named(tmp_path):
    images = {f"{i}.npy": noise(i, (1, 8, 9)) for i in range(5)}
    fill(tmp_path / "set", images | {"5.npy": noise(5, (1, 10, 9))})
    said = (
        r"by --skip_bad; --crop N cuts larger images to N pixels, --pad N fills up smaller ones$"
    )
    with pytest.raises(ShardError, match=said):
        pack(tmp_path / "set", tmp_path / "out")
    images["5.npy"] = np.where(np.arange(9) == 4, np.nan, noise(5, (1, 8, 9)))
    fill(tmp_path / "nan", images)
    said = r"by --skip_bad; --mask_value nan gives .* --fill_nan 0.1 NaN and infinite ones where"
    with pytest.raises(ShardError, match=said):
        pack(tmp_path / "nan", tmp_path / "out")
    assert pack(tmp_path / "nan", tmp_path / "mended", mask_value=np.nan).splits[0].samples == 6


def test_nothing_is_advised_where_no_flag_helps():
    storage = Storage((1, 8, 9), np.dtype("f4"), {})
    sample = Sample("a", ("a",), "train", -1)
    other = BadImage(sample, "shape (2, 8, 9), most images have (1, 8, 9)", Form((2, 8, 9)))
    unknown = BadImage(sample, "3 of 72 pixels are NaN or infinite")
    assert mends([other, BadImage(sample, "empty file")], storage, Reading()) == ""
    assert mends([unknown], storage, Reading(fill_nan=0.0)) == ""
    assert "--fill_nan 0.1" in mends([other, unknown], storage, Reading())


def test_images_without_a_label_beside_others_are_a_warning(tmp_path):
    fill(tmp_path / "cuts", {f"{i}.npy": noise(i) for i in range(16)})
    rows = [f"{i},{i}.npy,{'' if i in (3, 7) else 'ab'[i % 2]}" for i in range(16)]
    table = tmp_path / "cuts" / "t.csv"
    table.write_text("\n".join(["id,path,label", *rows]))
    (warning,) = pack(table, tmp_path / "out").warnings
    assert warning.startswith("2 of 16 images have no label (empty or -1; train 2): tasks that")
    table.write_text("\n".join(["id,path,label", "16,3.npy,", *rows[4:7]]))
    assert any(
        warning.startswith("1 of 4 images has no label")
        for warning in pack(table, tmp_path / "one").warnings
    )
    table.write_text("\n".join(["id,path", *(f"{i},{i}.npy" for i in range(16))]))
    assert not pack(table, tmp_path / "none").warnings
