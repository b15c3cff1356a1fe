"""A heat map says every number in its cell, and which cells are empty."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from pictures import drawn, explained, texts

from deeplense_batch.report.plots.heat_map import heat_map

TESTS = [{"name": "a", "images": 3750}, {"name": "b", "images": 18}]


def cell(training, test, value, **changed):
    numbers = {"low": value - 0.03, "high": value + 0.02, "own": training == test, "note": None}
    return {"training": training, "test": test, "value": value} | numbers | changed


def frames(axes):
    boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(box.get_center(), box.get_linewidth() > 1) for box in boxes]


def test_cells_have_numbers_and_intervals_and_missing_ones_are_empty():
    cells = [cell("a", "a", 0.96), cell("b", "a", 0.71, low=None, note="2 of 3 runs")]
    cells.append(cell("b", "b", -0.2))
    figure = drawn(heat_map("test AUC", ["a", "b"], TESTS, cells))
    said = set(texts(figure))
    assert {"0.960", "[0.930, 0.980]", "0.710", "2 of 3 runs", "test AUC"} < said
    assert {"\N{MINUS SIGN}0.200", "a\n3,750 images", "b\n18 images"} < said
    axes = figure.axes[0]
    found = {(round(x), round(y)): framed for (x, y), framed in frames(axes)}
    assert found == {(0, 0): True, (1, 1): True, (1, 0): False}  # the last is empty: a on b
    assert explained(figure) == {"own test set"}
    (image,) = axes.images
    assert np.ma.filled(image.get_array(), np.nan)[1, 0] == 0.71


def test_numbers_are_read_on_every_shade_also_in_grey():
    values = np.linspace(0.5, 1, 9)
    tests = [{"name": f"{i}", "images": 100} for i in range(9)]
    cells = [cell("x", f"{i}", value, own=False) for i, value in enumerate(values)]
    figure = drawn(heat_map("test AUC", ["x"], tests, cells))
    axes = figure.axes[0]
    (image,) = axes.images
    grey = image.to_rgba(values)[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) < 0).all()  # the higher, the darker
    inks = [text for text in axes.texts if text.get_fontsize() > 8]
    for shade, ink in zip(grey, inks, strict=True):
        assert abs(shade - (ink.get_color() == "white")) > 0.35


def test_small_differences_are_not_made_to_look_large():
    cells = [cell("a", "a", 0.960), cell("b", "a", 0.955)]
    (image,) = heat_map("test AUC", ["a", "b"], TESTS[:1], cells).axes[0].images
    shades = image.to_rgba(np.array([0.960, 0.955]))
    assert np.abs(shades[0] - shades[1]).max() < 0.1


@pytest.mark.parametrize("count", [1, 7])
def test_long_names_leave_the_cells_their_room(count):
    trainings = [f"a set of images with $a_long name, number {i}" for i in range(count)]
    cells = [cell(name, "a", 0.9) for name in trainings]
    drawn(heat_map("test AUC", trainings, TESTS[:1], cells))


def test_long_names_are_read_to_their_end():
    names = [f"benchmark train[:50%] adapted to varied by {by}" for by in ("coral", "dann")]
    cells = [cell(name, "a", 0.9) for name in names]
    axes = drawn(heat_map("test AUC", names, TESTS[:1], cells)).axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert [text.replace("\n", " ") for text in shown] == names
    assert all(max(map(len, text.split("\n"))) <= 30 for text in shown)
