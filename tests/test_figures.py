"""Figures: what is drawn and written on them, and that nothing overlaps or is cut off."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from deeplense_batch import figures, metrics
from deeplense_batch.report import charts

CLASSES = ("no", "sphere", "vort")


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def drawn(figure):
    """Draw, and check that nothing reaches beyond the edge."""
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert box.x0 >= 0 and box.y0 >= 0
    assert (box.max <= figure.get_size_inches()).all()
    return figure


def explained(figure):
    """Texts of the legend."""
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def models(count, seeds=1, seed=0):
    random = np.random.default_rng(seed)
    return {f"model_{i}_of_many": list(0.9 + 0.09 * random.random(seeds)) for i in range(count)}


def test_confusion_shows_count_and_share_in_every_cell():
    figure = drawn(figures.confusion([[30, 10], [0, 0]], ("lens", "nonlens")))
    assert {"30\n75.0%", "10\n25.0%", "0\nno sample", "lens", "40 samples"} <= set(texts(figure))


def test_roc_labels_areas_and_enlarges_the_corner_where_curves_pass():
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 300)
    for skill, corners in ((4.0, 1), (0.0, 0)):
        logits = random.normal(size=(300, 3)) + skill * np.eye(3)[targets]
        scores, _ = metrics.classification_scores(targets, logits, CLASSES)
        p = metrics.softmax(logits)
        curves = {name: metrics.roc(targets == k, p[:, k]) for k, name in enumerate(CLASSES)}
        figure = drawn(figures.roc(curves, metrics.macro_roc(curves), scores))
        assert f"macro average, AUC {scores['auc']:.4f}" in texts(figure)
        assert f"sphere, AUC {scores['auc_sphere']:.4f}" in texts(figure)
        assert len(figure.axes[0].child_axes) == corners
        styles = {line.get_linestyle() for line in figure.axes[0].lines[1:4]}
        assert len(styles) == 3  # told apart without colour
    drawn(figures.roc({}, metrics.macro_roc({}), {"auc": None}))


def test_history_marks_the_best_epoch():
    def lines(*aucs):
        return [
            {"epoch": k, "train": {"loss": 1 / k}, "valid": {"loss": 2 / k, "auc": auc}}
            for k, auc in enumerate(aucs, start=1)
        ]

    assert "best: epoch 2, AUC 0.8000" in texts(drawn(figures.history(lines(0.7, 0.8, None))))
    assert "best: epoch 1, AUC 0.7000" in texts(drawn(figures.history(lines(0.7))))
    unscored = drawn(figures.history(lines(None, None)))
    assert "best: epoch 2, loss 1.0000" in texts(unscored)
    assert len(unscored.axes) == 1
    drawn(figures.history([{"epoch": 1, "train": {"loss": None}, "valid": {"loss": None}}]))


@pytest.mark.parametrize(("count", "seeds"), [(1, 1), (3, 2), (40, 1)])
def test_scores_are_ordered_dots_on_an_axis_that_says_where_it_starts(count, seeds):
    values = models(count, seeds)
    figure = drawn(charts.auc_bars(values, dict.fromkeys(values, 0.004)))
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == sorted(values, key=lambda name: np.mean(values[name]))
    assert "axis does not start at 0" in axes.get_xlabel()
    whisker = "standard error by the size of the test slice"
    single, several = {"one run"}, {"mean of the seeds", "one seed"}
    marks = several if seeds > 1 else single
    assert explained(figure) == marks | {whisker}
    best = max(np.mean(seeds) for seeds in values.values())
    assert f"{best:.4f}" in texts(figure)
    assert axes.get_xlim()[1] <= 1.01
    circles = [line for line in axes.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in circles) == (count * seeds if seeds > 1 else 0)
    (means,) = [line for line in axes.lines if line.get_marker() == "D"]
    assert all(line.get_zorder() > means.get_zorder() for line in circles)  # none is hidden
    assert all(line.get_markersize() < means.get_markersize() for line in circles)
    assert explained(drawn(charts.accuracy_bars(values))) == marks


def test_times_are_bars_from_zero_with_a_panel_for_each_device():
    figure = drawn(
        charts.time_bars({"CPU, 1 thread": {"a": [30, 60], "b": [90]}, "GPU": {"c": [9000]}})
    )
    assert [axes.get_title("left") for axes in figure.axes] == ["CPU, 1 thread", "GPU"]
    assert [axes.get_xlabel()[-4:] for axes in figure.axes] == [" (s)", " (h)"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [90, 45]
    assert figure.axes[0].get_xlim()[0] == 0
    assert explained(figure) == {"mean of the seeds", "one seed"}
    assert not drawn(charts.time_bars({"GPU": {"c": [9000]}})).legends


def test_auc_against_labels_has_the_mean_and_every_seed():
    points = {"a": [(100, 0.7), (100, 0.8), (1000, 0.9)], "b": [(1000, 0.85), (100, 0.6)]}
    (axes,) = drawn(charts.auc_against_labels(points)).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["a"] == [[100, pytest.approx(0.75)], [1000, 0.9]]
    assert lines["b"] == [[100, 0.6], [1000, 0.85]]
    assert sum(len(line.get_xdata()) for line in axes.lines if line.get_ls() == "None") == 5
    assert axes.get_xscale() == "log"


def test_figures_of_the_longest_labels_are_no_wider_than_a_page():
    values = {f"{'w' * 40}_{i:02d}": [0.9 + i / 1000] for i in range(99)}
    timed = {name: [(60.0 + i, *auc)] for i, (name, auc) in enumerate(values.items())}
    for figure in (
        charts.auc_bars(values), charts.accuracy_bars(values), charts.time_bars({"CPU": values}),
        charts.auc_against_time({"CPU": timed}),
    ):  # fmt: skip
        assert drawn(figure).get_size_inches()[0] * charts.DPI <= 2000


@pytest.mark.parametrize(("count", "seeds"), [(1, 1), (13, 1), (40, 2)])
def test_labels_of_points_do_not_overlap(count, seeds):
    random = np.random.default_rng(1)
    points = {
        name: [(float(random.uniform(100, 900)), auc) for auc in aucs]
        for name, aucs in models(count, seeds).items()
    }
    figure = drawn(charts.auc_against_time({"GPU": points, "CPU": {"other": [(5.0, 0.8)]}}))
    assert ("one seed" in explained(figure)) == (seeds > 1)
    assert [axes.get_title("left") for axes in figure.axes] == ["GPU", "CPU"]
    labels = figure.axes[0].findobj(Annotation)
    assert {label.get_text() for label in labels} == set(points)
    boxes = [Text.get_window_extent(label) for label in labels]
    for box in boxes:
        assert Bbox.union([box, figure.axes[0].bbox]).bounds == figure.axes[0].bbox.bounds
    for one, other in itertools.combinations(boxes, 2):
        assert Bbox.intersection(one, other) is None


def test_save_replaces_whole_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "figures" / "a.png"
    figures.save(figures.confusion([[1]], ("one",)), path)
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")
    figure = figures.confusion([[1]], ("one",))
    figures.save(figure, path)
    assert path.read_bytes() == before

    def broken(file, **options):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        figures.save(figure, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_neither_torch_nor_pyplot_is_loaded():
    code = """import sys, deeplense_batch.figures
print({"torch", "matplotlib.pyplot"} & {*sys.modules})"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
