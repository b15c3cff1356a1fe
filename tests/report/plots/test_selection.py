"""The figure of a selection function: what is drawn where."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.report.plots.selection import by_quantity


def cells(*values):
    return [None if v is None else {"value": v, "low": v - 0.1, "high": v + 0.05,
                                    "runs": [v - 0.02, v + 0.02]} for v in values]  # fmt: skip


def drawn(models=1, edges=(0.5, 1.0, 2.0), values=(0.5, 0.8), **changed):
    numbers = dict.fromkeys(("completeness", "auc"), cells(*values))
    arguments = {
        "column": "theta_e", "labels": ["0.5 to 1", "1 to 2"], "edges": edges,
        "medians": edges and [0.8, 1.4], "panels": {"completeness": "completeness", "auc": "AUC"},
        "counts": {"lens": [40, 30]},
        "models": [{"label": f"m{i}", "numbers": numbers} for i in range(models)],
    }  # fmt: skip
    return by_quantity(**(arguments | changed))


def test_numbers_are_drawn_at_the_medians_with_their_intervals():
    completeness, auc, counts = drawn().axes
    line, *_ = completeness.containers[0]
    np.testing.assert_allclose(line.get_xydata(), [[0.8, 0.5], [1.4, 0.8]])
    (bars,) = completeness.containers[0][2]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[0.4, 0.55], [0.7, 0.85]])
    assert counts.get_xlabel() == "theta_e" and auc.get_ylabel() == "AUC"
    assert counts.get_xticks().tolist() == [0.5, 1, 2]
    assert {panel.get_xlim() for panel in (completeness, auc, counts)} == {counts.get_xlim()}
    (steps,) = counts.patches
    assert steps.get_data().values.tolist() == [40, 30]


def test_single_runs_are_thin_lines_of_one_model_alone():
    one, many = drawn(1).axes[0], drawn(3).axes[0]
    assert [line.get_linewidth() for line in one.lines].count(0.6) == 2
    assert 0.6 not in [line.get_linewidth() for line in many.lines]
    assert len(many.containers) == 3


def test_a_bin_without_a_number_is_left_open():
    line, *_ = drawn(values=(None, 0.8)).axes[0].containers[0]
    assert np.isnan(line.get_ydata()[0]) and line.get_ydata()[1] == 0.8


def test_bins_of_a_value_each_are_not_joined():
    figure = drawn(edges=None, labels=["field 0", "field $1"])
    line, *_ = figure.axes[0].containers[0]
    assert line.get_linestyle() == "None" and line.get_xdata().tolist() == [0, 1]
    assert [t.get_text() for t in figure.axes[-1].get_xticklabels()] == ["field 0", r"field \$1"]
    assert len(figure.axes[-1].patches) == 2  # a bar each


@pytest.mark.parametrize(("edges", "scale"), [((0.1, 1, 10), "log"), ((-1, 1, 10), "linear")])
def test_edges_far_apart_have_a_logarithmic_axis(edges, scale):
    assert drawn(edges=edges).axes[0].get_xscale() == scale


def test_edges_that_crowd_keep_their_ticks_but_not_their_labels():
    edges = (0.0, 0.01, 0.02, 2.0)
    figure = drawn(edges=edges, labels=["a", "b", "c"], medians=[0.005, 0.015, 1.0],
                   values=(0.5, 0.6, 0.7), counts={"lens": [5, 5, 5]})  # fmt: skip
    assert figure.axes[-1].get_xticks().tolist() == [*edges]
    assert [t.get_text() for t in figure.axes[-1].get_xticklabels()] == ["0", "", "", "2"]
