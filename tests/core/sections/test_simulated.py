"""What a recipe may say of images that are simulated, and how it is said in words."""

from __future__ import annotations

import pytest
from conftest import make_job

from deeplense_batch.core.sections.dotted import joined
from deeplense_batch.core.sections.simulated import SimulatedImages, simulated_in_words


@pytest.mark.parametrize("nested", [True, False])
def test_words(nested):
    changes = {"sphere": {"count": 30}} if nested else {"sphere.count": 30}
    section = {"images": 3000, "preset": "varied", "set": changes}
    words = "3000 new images of varied an epoch"
    assert simulated_in_words(section) == f"{words}, sphere.count = 30"
    assert simulated_in_words(SimulatedImages(images=3000, preset="varied").model_dump()) == words


def test_it_is_one_setting():
    fields = {"data.simulate.images": 9, "data.simulate.set.sphere.count": 30, "data.root": "a"}
    assert joined(fields) == {
        "data.simulate": {"images": 9, "set": {"sphere": {"count": 30}}}, "data.root": "a",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"simulate": {"images": 0}}, "images"),
        ({"simulate": {"preset": "varied"}}, "images"),
        ({"simulate": {"images": 9, "presets": "varied"}}, "presets"),
        ({"simulate": {"images": 9}, "roots": [{"root": "b"}]}, "leave out data.roots"),
        ({"simulate": {"images": 9}, "fold": "1/3"}, "data.simulate makes that anew"),
        ({"simulate": {"images": 9}, "register": True}, "leave it out with data.simulate"),
    ],
)
def test_what_cannot_be(data, says):
    with pytest.raises(ValueError, match=says):
        make_job("a", data=data)


def test_recipes_without_it_keep_their_identity():
    plain, new = make_job("a"), make_job("a", data={"simulate": {"images": 9}})
    assert "simulate" not in plain.data.identifying()
    assert plain.run_name("0" * 16) != new.run_name("0" * 16)
