"""Sheets of images: what is written on them can be read."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import drawn

from deeplense_batch.core.scoring.image_grid import contact_sheet, map_sheet

RUN = "wide_field-classification-resnet18-data.train=train[:10%]-seed=3-0123456789"


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("name", [RUN, "$" + "TITLE_IN_CAPITALS_" * 8 + "$"])
@pytest.mark.parametrize("kind", ["contact", "map"])
def test_a_long_title_is_broken_not_cut(kind, name, count):
    images, maps = np.random.default_rng(0).random((2, count, 1, 8, 8))
    names = ["1.npy"] * count
    title = f"table.parquet: the {count} highest scores of class lenses; asinh stretch\n{name}"
    if kind == "contact":
        figure = contact_sheet(images, names, title)
    else:
        figure = map_sheet(images, names, [{"a": one[0]} for one in maps], title, common="a")
    shown = drawn(figure).get_suptitle()
    assert shown.replace("\\$", "$").replace("\n", "").endswith(name)
