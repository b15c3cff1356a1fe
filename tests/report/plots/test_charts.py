"""Figures of a comparison, a row for each model: what they say, and that nothing overlaps."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import drawn, explained, line_of, texts
from report_content import scored

from deeplense_batch.core.scoring.figures import DPI
from deeplense_batch.report.plots import charts, costs, lines

INTERVAL = "95%, test sample and seeds"
WORDS = {"score": "test AUC", "by": "validation"}


@pytest.mark.parametrize(("count", "seeds"), [(1, 1), (3, 2), (40, 1)])
def test_scores_are_ordered_dots_on_an_axis_that_says_where_it_starts(count, seeds):
    models = scored(count, seeds)
    figure = drawn(charts.score_dots(models, **WORDS, compared="test AUC"))
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [m["label"] for m in sorted(models, key=lambda m: m["mean"])]
    assert axes.get_xlabel() == "test AUC\naxis does not start at 0"
    marks = {"difference in test AUC not resolved", INTERVAL}
    assert explained(figure) == marks | ({"one seed"} if seeds > 1 else set())
    assert f"{max(m['mean'] for m in models):.4f}" in texts(figure)
    assert axes.get_xlim()[1] <= 1.01
    circles, (means,) = line_of(axes, "o"), line_of(axes, "D")
    assert sum(len(line.get_xdata()) for line in circles) == (count * seeds if seeds > 1 else 0)
    assert sorted(means.get_xdata()) == sorted(m["mean"] for m in models)
    for line in circles:  # beside the mean, which hides none
        assert not set(line.get_ydata()) & set(means.get_ydata())
        assert line.get_zorder() > means.get_zorder()


def test_ensembles_are_above_their_members():
    models = [
        {"label": "low", "ensemble": 0.93, "low": 0.92, "high": 0.94, "members": [0.9, 0.91],
         "best": 0.91, "mean": 0.905},
        {"label": "high", "ensemble": 0.97, "low": None, "high": None,
         "members": [0.95, 0.96, 0.94], "best": None, "mean": 0.95},
    ]  # fmt: skip
    figure = drawn(charts.ensembles(models, "test AUC"))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["low", "high"]
    (ensembles,), (best,) = line_of(axes, "D"), line_of(axes, "*")
    assert list(ensembles.get_xdata()) == [0.93, 0.97] and list(best.get_xdata()) == [0.91]
    circles = {tuple(line.get_xdata()): set(line.get_ydata()) for line in line_of(axes, "o")}
    assert set(circles) == {(0.9, 0.91), (0.95, 0.96, 0.94)}
    heights = [max(circles[tuple(model["members"])]) for model in models]
    assert all(low < high for low, high in zip(heights, ensembles.get_ydata(), strict=True))
    place = axes.transData.transform  # a star covers no circle, nor the mean
    (star,), radius = place(best.get_xydata()), best.get_markersize() / 2 * figure.dpi / 72
    beside = np.concatenate([line.get_xydata() for kind in "o|" for line in line_of(axes, kind)])
    assert np.hypot(*(place(beside) - star).T).min() > radius
    assert axes.bbox.y0 < star[1] - radius / 2
    (whiskers,) = axes.collections
    assert [tuple(s[:, 0]) for s in whiskers.get_segments()] == [(0.92, 0.94)]
    assert explained(figure) == {
        "95%, test sample", "ensemble", "mean of its members", "its best member by validation",
        "one member",
    }  # fmt: skip
    assert {"0.9300", "0.9050", "-"} <= set(texts(figure))


@pytest.mark.parametrize("mark", ["resolved", "not resolved"])
def test_the_legend_of_three_models_takes_no_more_room_than_their_plot(mark):
    models = [m | {"mark": mark, "label": "resnet18"} for m in scored(3, 2)]
    models[0]["mark"] = "best"
    plain = [m | {"difference": m["mean"] - 1, "p": 0.2, "seeds": None} for m in models]
    for figure in (charts.score_dots(models, **WORDS, compared="test AUC"),
                   charts.differences(plain, **WORDS)):  # fmt: skip
        drawn(figure)
        (axes,), (legend,) = figure.axes, figure.legends
        assert legend.get_window_extent().height <= axes.get_window_extent().height


def test_numbers_of_ticks_are_whole_however_near_scores_are():
    models = [m | {"mean": 0.99 + i * 1e-6, "low": None} for i, m in enumerate(scored(3))]
    (axes,) = drawn(charts.score_dots(models, **WORDS, compared="test AUC")).axes
    assert not axes.xaxis.get_offset_text().get_text()
    assert all(label.get_text().startswith("0.99") for label in axes.get_xticklabels()[1:-1])


def test_whiskers_are_the_intervals_that_are_known_and_need_not_be_even():
    models = scored(3)
    models[1]["low"] = None
    (axes,) = drawn(charts.score_dots(models, **WORDS, compared="test AUC")).axes
    (whiskers,) = axes.collections
    ends = {tuple(segment[:, 0]) for segment in whiskers.get_segments()}
    assert ends == {(models[i]["low"], models[i]["high"]) for i in (0, 2)}
    for model in models:
        model["high"] = None
    figure = drawn(charts.score_dots(models, **WORDS, compared="test AUC"))
    assert not figure.axes[0].collections and INTERVAL not in explained(figure)


def test_intervals_of_two_kinds_are_told_apart():
    models = scored(3)
    models[0]["interval"] = "Hanley-McNeil"
    models[1]["interval"] = None
    figure = drawn(charts.score_dots(models, **WORDS, compared="test AUC"))
    one, other = figure.axes[0].collections
    assert one.get_linestyle() != other.get_linestyle()
    assert {INTERVAL, "95%, number of test samples"} < explained(figure)


def test_how_a_model_stands_to_the_best_is_told_by_shape_and_filling():
    models = [one | {"mark": mark} for one, mark in zip(scored(4), charts.MARKS, strict=True)]
    figure = drawn(charts.score_dots(models, **WORDS, compared="test AUC"))
    assert explained(figure) == {
        "best by validation", "difference in test AUC not resolved",
        "difference in test AUC resolved", "difference not known", INTERVAL,
    }  # fmt: skip
    looks = {(line.get_marker(), line.get_markerfacecolor()) for line in figure.axes[0].lines}
    assert {shape for shape, _ in looks} == {"*", "D", "s"}
    assert ("D", "white") in looks and len(looks) == 4


def test_differences_have_a_line_at_none_and_their_numbers():
    best = {"label": "best", "difference": 0.0, "low": None, "high": None, "p": None}
    best["interval"] = "samples and seeds"
    models = [
        {"label": "far", "difference": -0.02, "low": -0.03, "high": -0.01, "p": 0.00004,
         "interval": "samples and seeds", "mark": "resolved"},
        best | {"mark": "best"},
        {"label": "near", "difference": 0.001, "low": -0.002, "high": 0.004, "p": 0.25,
         "interval": "samples and seeds", "mark": "not resolved"},
    ]  # fmt: skip
    figure = drawn(charts.differences(models, **WORDS))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["far", "best", "near"]
    assert axes.get_xlabel() == "test AUC minus that of the best by validation"
    found = {"−0.0200", "[−0.0300, −0.0100]", "<0.001", "+0.0010", "[−0.0020, +0.0040]", "0.250"}  # noqa: RUF001
    assert found | {"difference", "interval", "p (Holm)"} <= set(texts(figure))
    assert any(list(line.get_xdata()) == [0, 0] for line in axes.lines)
    assert len(axes.collections[0].get_segments()) == 2


def test_times_are_bars_from_zero_with_a_panel_for_each_device():
    first = [{"label": "a", "seconds": [30, 60]}, {"label": "b", "seconds": [90]}]
    second = {"device": "GPU", "models": [{"label": "c", "seconds": [9000]}]}
    figure = drawn(charts.time_bars([{"device": "CPU, 1 thread", "models": first}, second]))
    assert [axes.get_title("left") for axes in figure.axes] == ["CPU, 1 thread", "GPU"]
    assert [axes.get_xlabel()[-4:] for axes in figure.axes] == [" (s)", " (h)"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [90, 45]
    assert figure.axes[0].get_xlim()[0] == 0
    assert {"90.0", "45.0", "2.50"} <= set(texts(figure))
    assert explained(figure) == {"mean of the seeds", "one seed"}
    assert not drawn(charts.time_bars([second])).legends


def test_figures_of_the_longest_labels_are_no_wider_than_a_page():
    models = [one | {"label": f"{'w' * 40}_{i:02d}"} for i, one in enumerate(scored(40, 2))]
    runs = [{"label": m["label"], "named": True, "runs": [[60.0, m["mean"]]]} for m in models]
    apart = [m | {"difference": -m["mean"] / 50, "p": 0.1} for m in models]
    timed = [{"label": m["label"], "seconds": [60.0]} for m in models]
    curves = [{"label": m["label"], "x": [0.0, 0.1, 1.0], "y": [0.0, 0.9, 1.0], "area": 0.5,
               "point": [0.5, 0.5]} for m in models[: lines.MOST_LINES]]  # fmt: skip
    for figure in (
        charts.score_dots(models, **WORDS, compared="test AUC"),
        charts.differences(apart, **WORDS),
        charts.time_bars([{"device": "CPU", "models": timed}]),
        costs.auc_against_time([{"device": "CPU", "comparable": True, "models": runs}]),
        costs.auc_against_cost([{"name": "GFLOPs", "models": runs}] * 2),
        lines.roc_low_fpr(curves),
        lines.precision_recall(curves, 0.1),
    ):
        assert drawn(figure).get_size_inches()[0] * DPI <= 2000
