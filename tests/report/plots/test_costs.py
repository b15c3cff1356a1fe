"""Scores against what they cost: points, their labels, and the Pareto front."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from pictures import drawn, explained, line_of
from report_content import scored

from deeplense_batch.report.plots import costs


def points(count, seeds=1, named=True, **others):
    """Models as the figures of `costs` take them."""
    random = np.random.default_rng(1)
    models = [
        {"label": model["label"], "named": named,
         "runs": [[float(random.uniform(100, 900)), auc] for auc in model["seeds"]]}
        for model in scored(count, seeds)
    ]  # fmt: skip
    return {"models": models} | others


@pytest.mark.parametrize(("count", "seeds"), [(1, 1), (13, 1), (40, 2)])
def test_labels_of_points_do_not_overlap(count, seeds):
    devices = [points(count, seeds, device="GPU", comparable=True)]
    devices.append(points(1, device="CPU", comparable=True))
    figure = drawn(costs.auc_against_time(devices))
    assert ("one seed" in explained(figure)) == (seeds > 1)
    assert [axes.get_title("left") for axes in figure.axes] == ["GPU", "CPU"]
    labels = figure.axes[0].findobj(Annotation)
    assert {label.get_text() for label in labels} == {m["label"] for m in devices[0]["models"]}
    boxes = [Text.get_window_extent(label) for label in labels]
    for box in boxes:
        assert Bbox.union([box, figure.axes[0].bbox]).bounds == figure.axes[0].bbox.bounds
    for one, other in itertools.combinations(boxes, 2):
        assert Bbox.intersection(one, other) is None
    (first,), (second,) = (line_of(axes, "D") for axes in figure.axes)
    assert first.get_markerfacecolor() != second.get_markerfacecolor() == "white"


def test_the_pareto_front_is_what_none_beats_for_less():
    spots = {"cheap": (1, 0.7), "worse": (2, 0.6), "good": (3, 0.8), "equal": (4, 0.8),
             "dear": (9, 0.9)}  # fmt: skip
    models = [{"label": k, "named": False, "runs": [list(v)]} for k, v in spots.items()]
    figure = drawn(costs.auc_against_cost([{"name": "GFLOPs", "models": models}]))
    (axes,) = figure.axes
    (front,) = [line for line in axes.lines if line.get_marker() == "None"]
    end = axes.get_xlim()[1]
    corners = [[1, 0.7], [3, 0.7], [3, 0.8], [9, 0.8], [9, 0.9], [end, 0.9]]
    assert front.get_xydata().tolist() == corners
    named = {label.get_text() for label in axes.findobj(Annotation)}
    assert named == {"cheap", "good", "dear"}  # though none was asked for
    (crowd,) = line_of(axes, "o")
    assert sorted(crowd.get_xdata()) == [2, 4] and "model without a label" in explained(figure)


def test_hardware_that_may_be_of_several_kinds_has_no_front():
    for comparable in (True, False):
        figure = drawn(costs.auc_against_time([points(5, device="?", comparable=comparable)]))
        fronts = [line for line in figure.axes[0].lines if line.get_marker() == "None"]
        assert len(fronts) == comparable
        assert any("Pareto" in text for text in explained(figure)) == comparable


def test_only_costs_that_span_much_have_a_logarithmic_axis():
    for most, scale in ((1.2, "linear"), (1.0, "linear"), (5.0, "log")):
        models = [
            {"label": str(cost), "named": True, "runs": [[cost, 0.9]]} for cost in (1.0, most)
        ]
        (axes,) = drawn(costs.auc_against_cost([{"name": "GFLOPs", "models": models}])).axes
        assert axes.get_xscale() == scale
        low, high = axes.get_xlim()
        assert sum(low <= tick <= high for tick in axes.get_xticks()) >= 3


def test_two_costs_stand_side_by_side_unless_labels_are_many_or_long():
    two = [points(13, name="parameters"), points(13, name="GFLOPs")]
    figure = drawn(costs.auc_against_cost(two))
    assert [axes.get_xlabel() for axes in figure.axes] == ["parameters", "GFLOPs"]
    assert {axes.get_xscale() for axes in figure.axes} == {"log"}
    left, right = (axes.get_position() for axes in figure.axes)
    assert left.x1 < right.x0 and left.y0 == right.y0
    two[0]["models"][0]["label"] *= 2
    above, below = (axes.get_position() for axes in drawn(costs.auc_against_cost(two)).axes)
    assert above.y0 > below.y1
