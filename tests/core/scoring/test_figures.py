"""Figures: what is drawn and written on them, and that nothing overlaps or is cut off."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from pictures import drawn, texts

from deeplense_batch.core.scoring import calibration, curves, figures, metrics

CLASSES = ("no", "sphere", "vort")


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
        roc_curves = {name: curves.roc(targets == k, p[:, k]) for k, name in enumerate(CLASSES)}
        figure = drawn(figures.roc(roc_curves, curves.macro_roc(roc_curves), scores))
        assert f"macro average, AUC {scores['auc']:.4f}" in texts(figure)
        assert f"sphere, AUC {scores['auc_sphere']:.4f}" in texts(figure)
        assert len(figure.axes[0].child_axes) == corners
        styles = {line.get_linestyle() for line in figure.axes[0].lines[1:4]}
        assert len(styles) == 3  # told apart without colour
    drawn(figures.roc({}, curves.macro_roc({}), {"auc": None}))


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


def test_history_marks_the_epoch_of_the_score_that_picks_it():
    """Of a restoration, whose losses of training and validation are different quantities."""
    lines = [
        {"epoch": k, "train": {"loss": 1 / k}, "valid": {"loss": loss, "psnr": psnr, "auc": auc}}
        for k, loss, psnr, auc in ((1, 3.0, 30.0, 0.5), (2, 1.0, 29.0, None), (3, 2.0, 31.0, 0.6))
    ]
    scores = {"psnr": ("PSNR (dB)", "PSNR"), "other": ("other", "O"), "auc": ("AUC", "AUC")}
    figure = drawn(figures.history(lines, scores, loss="training loss", alike=False))
    losses, psnr, auc = figure.axes
    assert "best: epoch 3, PSNR 31.0000" in texts(figure)
    assert [panel.get_ylabel() for panel in figure.axes] == ["training loss", "PSNR (dB)", "AUC"]
    assert [line.get_ydata().tolist() for line in losses.lines[:-1]] == [[1, 1 / 2, 1 / 3]]
    assert psnr.lines[0].get_ydata().tolist() == [30, 29, 31]
    assert auc.lines[0].get_xdata().tolist() == [1, 3]
    assert all(panel.lines[-1].get_xdata() == [3, 3] for panel in figure.axes)


def test_history_draws_the_part_of_the_training_loss_that_validation_has():
    lines = [{"epoch": 1, "train": {"loss": 5.0, "cross_entropy": 2.0}, "valid": {"loss": 1.0}}]
    for part, first in (("cross_entropy", 2.0), ("unknown", 5.0)):
        (panel,) = drawn(figures.history(lines, part=part)).axes
        assert [line.get_ydata().tolist() for line in panel.lines[:2]] == [[first], [1.0]]


def test_calibration_shows_both_errors_and_leaves_empty_bins_out():
    random = np.random.default_rng(0)
    targets, p = random.integers(0, 3, 500), metrics.softmax(3 * random.normal(size=(500, 3)))
    bins = {
        "as trained": calibration.reliability(targets, p),
        "T = 3": calibration.reliability([], p[:0]),
    }
    errors, floors = {"as trained": 0.25, "T = 3": 0.125}, {"as trained": 0.02, "T = 3": 0.03}
    figure = drawn(figures.calibration(bins, errors, floors))
    assert "as trained: ECE 0.2500 (perfect: below 0.0200)" in texts(figure)
    assert "T = 3: ECE 0.1250 (perfect: below 0.0300)" in texts(figure)
    _, first, second = figure.axes[0].lines
    assert len(first.get_xdata()) == np.count_nonzero(bins["as trained"][2]) < 15
    assert len(second.get_xdata()) == 0
    assert first.get_linestyle() != second.get_linestyle()
    assert first.get_marker() != second.get_marker()
    assert figure.axes[1].get_yscale() == "log"


def test_a_rare_class_is_held_against_its_probability_on_log_axes():
    random = np.random.default_rng(0)
    p = 10 ** random.uniform(-5, 0, 5000)
    lens = random.random(5000) < p
    bins = {
        "as trained": calibration.rare_reliability(lens, np.sqrt(p)),
        "moved": calibration.rare_reliability(lens, p),
    }
    sums = {"as trained": np.sqrt(p).sum(), "moved": p.sum()}
    figure = drawn(figures.rare_calibration(bins, sums, "lens"))
    upper, lower = figure.axes
    assert upper.get_xscale() == upper.get_yscale() == lower.get_xscale() == "log"
    assert f"moved: sum {p.sum():.1f}, {lens.sum()} are lens" in texts(figure)
    assert texts(figure).count("no lens there: upper end of 95 %") == 1
    (moved,) = (one for one in upper.containers if one.get_label().startswith("moved"))
    places, shares = moved[0].get_data()
    sure = places > 0.1  # where lenses are many
    assert sure.sum() == 3 and np.allclose(shares[sure], places[sure], rtol=0.2)
    none = np.zeros(3, bool)
    empty = {"as trained": calibration.rare_reliability(none, [0.1, 0.2, 0.3])}
    drawn(figures.rare_calibration(empty, {"as trained": 0.6}, "lens"))


def test_precision_is_drawn_in_steps_with_the_threshold():
    curve = curves.precision_recall([1, 0, 1, 0], [4, 3, 2, 1])
    figure = drawn(figures.precision_recall(curve, 0.8333, 0.5, (2.0, 1.0, 0.6667)))
    found = {"average precision 0.8333", "chance, 0.5"}
    assert {*found, "threshold 2: recall 1.0000, precision 0.6667"} <= set(texts(figure))
    assert figure.axes[0].lines[1].get_drawstyle() == "steps-pre"
    assert "threshold" not in " ".join(texts(drawn(figures.precision_recall(curve, 0.8, 0.5))))


def test_names_are_shown_as_they_are():
    nasty = "_$x^2$ <b>&%\nend"
    figure = drawn(figures.confusion([[1, 0], [0, 1]], (nasty, "b")))
    label = figure.axes[0].get_xticklabels()[0]
    assert label.get_text() == figures.plain(nasty) == r"_\$x^2\$ <b>&% end"
    shown, is_math = label._preprocess_math(label.get_text())
    assert (shown, is_math) == ("_$x^2$ <b>&% end", False)
    assert figures.plain("a\0b\x1b\udc80") == r"a\x00b\x1b\udc80"


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


def test_one_figure_is_one_file_whenever_it_is_drawn(tmp_path):
    code = """import sys
from pathlib import Path
from deeplense_batch.core.scoring import figures
for kind in figures.FORMATS:
    drawn = figures.confusion([[1, 2], [3, 4]], ("a", "b"))
    figures.save(drawn, Path(sys.argv[1]) / f"x.{kind}")"""
    for folder, day in (("a", "0"), ("b", "86400000")):  # which matplotlib takes for the time
        command = [sys.executable, "-c", code, str(tmp_path / folder)]
        subprocess.run(command, check=True, env=os.environ | {"SOURCE_DATE_EPOCH": day})
    for kind, start in {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}.items():
        one, other = ((tmp_path / folder / f"x.{kind}").read_bytes() for folder in "ab")
        assert one == other and one.startswith(start)


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a.jpg: a figure is a .png, .svg, .pdf file"):
        figures.save(figures.confusion([[1]], ("one",)), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_a_settled_figure_keeps_its_layout():
    figure = figures.confusion([[1, 0], [0, 1]], ("lens", "nonlens"))
    figures.fix_layout(figure)
    place = figure.axes[0].get_position().bounds
    figure.axes[0].set_title("a line\nand another\nthat came too late")
    figure.draw_without_rendering()
    assert figure.axes[0].get_position().bounds == place


def test_neither_torch_nor_pyplot_is_loaded():
    code = """import sys, deeplense_batch.core.scoring.figures
print({"torch", "matplotlib.pyplot"} & {*sys.modules})"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
