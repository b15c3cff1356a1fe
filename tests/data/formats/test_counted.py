"""One thing is not called several, nor several one."""

import pytest

from deeplense_batch.data.formats.counted import counted, counted_of


@pytest.mark.parametrize(("number", "said"), [(0, "0 images"), (1, "1 image"), (12, "12 images")])
def test_several_have_an_s(number, said):
    assert counted(number, "image") == said


def test_what_has_another_plural_is_told_so():
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
    assert [counted(n, "image has", "images have") for n in (1, 2)] == [
        "1 image has",
        "2 images have",
    ]


def test_the_verb_goes_with_the_part_and_the_noun_with_the_whole():
    assert counted_of(1, 7, "image", "has", "have") == "1 of 7 images has"
    assert counted_of(2, 7, "image", "has", "have") == "2 of 7 images have"
    assert counted_of(1, 1, "image", "has", "have") == "1 of 1 image has"
