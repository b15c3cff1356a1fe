"""Lines of a comparison, one a model, which differ in dashes and markers."""

from __future__ import annotations

import pytest
from pictures import drawn, explained, texts

from deeplense_batch.report.plots import lines


def test_auc_against_labels_has_the_mean_and_every_seed():
    runs = {"a": [[100, 0.7], [100, 0.8], [1000, 0.9]], "_b": [[1000, 0.85], [100, 0.6]]}
    figure = drawn(lines.auc_against_labels([{"label": k, "runs": v} for k, v in runs.items()]))
    (axes,) = figure.axes
    means = [line for line in axes.lines if line.get_ls() != "None"]
    assert means[0].get_xydata().tolist() == [[100, pytest.approx(0.75)], [1000, 0.9]]
    assert means[1].get_xydata().tolist() == [[100, 0.6], [1000, 0.85]]
    assert sum(len(line.get_xdata()) for line in axes.lines if line.get_ls() == "None") == 5
    assert axes.get_xscale() == "log" and explained(figure) == {"a", "_b"}


def test_a_search_is_shown_where_false_positives_are_few():
    model = {"label": "a", "x": [0, 0, 1e-4, 1], "y": [0, 0.5, 0.7, 1], "area": 0.6, "point": None}
    models = [model, model | {"label": "_b", "point": [0.5, 0.25]}]
    figure = drawn(lines.roc_low_fpr(models))
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and 1e-5 < axes.get_xlim()[0] < 1e-4
    first, second = axes.lines
    assert first.get_xdata()[1] == axes.get_xlim()[0]  # of no false positive: the left edge
    assert first.get_linestyle() != second.get_linestyle()
    assert first.get_marker() != second.get_marker()
    figure = drawn(lines.precision_recall(models, 0.01))
    assert explained(figure) == {"a, 0.6000", "_b, 0.6000"}
    assert any("at the stated threshold" in text for text in texts(figure))
    spots = [tuple(line.get_xydata()[0]) for line in figure.axes[0].lines if line.get_ms() == 8]
    assert spots == [(0.5, 0.25)]
    assert not any("stated" in text for text in texts(drawn(lines.precision_recall([model], 0.1))))


def test_a_gain_without_an_interval_has_no_bar():
    curves = [{"label": "vit", "gains": [[10, 0.1, 0.0, 0.2], [100, 0.05, None, None]]}]
    (axes,) = lines.gain_against_labels(curves, "test AUC").axes
    (bars,) = axes.collections
    ends = [segment[:, 1].tolist() for segment in bars.get_segments() if len(segment)]
    assert ends == [[0.0, 0.2]]
    assert axes.lines[0].get_ydata().tolist() == [0.1, 0.05]


def test_a_long_name_is_whole_in_the_legend_and_the_figure_holds_it():
    label = "vit train.lr=0.0003, whole network, masked_small/masked_autoencoder of a long name"
    runs = [[10, 0.5], [100, 0.7]]
    figure = drawn(lines.auc_against_labels([{"label": label, "runs": runs}]))
    assert explained(figure) == {label}
    curves = [{"label": f"{'x' * 70}{i}{'y' * 70}", "gains": [[10, 0, -1, 1]]} for i in range(2)]
    figure = drawn(lines.gain_against_labels(curves, "test AUC"))
    assert len(explained(figure)) == 2 and all("…" in one for one in explained(figure))
