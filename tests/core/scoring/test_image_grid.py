"""Sheets of images: what is written on them can be read."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import drawn

from deeplense_batch.core.scoring.colours import stretched
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


def test_sheets_show_the_channels_that_are_chosen():
    image = np.random.default_rng(0).random((4, 8, 8))
    for sheet in (
        contact_sheet([image], ["a"], "t", rgb=(3, 1, 0)),
        map_sheet([image], ["a"], [{"a": image[0]}], "t", common="a", rgb=(3, 1, 0)),
    ):
        shown = np.asarray(sheet.axes[0].images[0].get_array())
        assert np.array_equal(shown, stretched(image, rgb=(3, 1, 0)))
