"""What the folders of an image say about it: its split and its class."""

from __future__ import annotations

from deeplense_batch.data.listing.layouts import is_lens


def test_lens_is_what_is_searched_for_whatever_the_alphabet():
    assert [is_lens(name) for name in ("lens", "Lenses", "nonlens", "nonlenses", "nolens")] == [
        *(True, True),
        *(False, False, False),
    ]
