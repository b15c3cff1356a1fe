"""The search for one class of two, by a threshold that validation chose."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.core.job import JobError
from deeplense_batch.tasks import build_task

CLASSES = ("no", "sphere", "vort")


def test_a_detection_keeps_the_threshold_of_the_validation_slice():
    task = build_task("detection", classes=("nonlenses", "lenses"), purity=0.95, prevalence=0.5)
    score = np.linspace(-3, 3, 20)
    outputs = {"logits": np.stack([-score, score], 1), "targets": (score > 0.5).astype(int)}
    assert task.score(outputs)[0]["threshold"] is None
    task.calibrate(outputs)
    other = {"logits": outputs["logits"], "targets": (score > -1).astype(int)}
    scores, _ = task.score(other)
    threshold = 1 / (1 + np.exp(-2 * score[score > 0.5][0]))
    assert scores["threshold"] == pytest.approx(threshold)
    assert scores["purity"] == 1 and scores["completeness"] < 1
    again = build_task("detection", classes=("nonlenses", "lenses"), purity=0.9, prevalence=0.5)
    again.load_state_dict(task.state_dict())
    assert again.score(other)[0] == scores
    with pytest.raises(ValueError, match="detection needs two classes"):
        build_task("detection", classes=CLASSES)
    with pytest.raises(ValueError, match="purity: should be between 0 and 1"):
        build_task("detection", classes=("a", "b"), purity=1.5)


@pytest.mark.parametrize(
    ("classes", "positive", "searched"),
    [
        (("nonlenses", "lenses"), None, "lenses"),
        (("lens", "nonlens"), None, "lens"),
        (("Lens", "Other"), None, "Lens"),
        (("no", "yes"), "yes", "yes"),
        (("lenses", "rings"), "rings", "rings"),
        (("no", "yes"), None, None),
        (("lens", "lenses"), None, None),
        (("lens", "nonlens"), "lenses", None),
    ],
)
def test_a_detection_knows_which_class_is_searched_for(classes, positive, searched):
    """Wherever it stands: folders are read in the order of their names."""
    if searched is None:
        with pytest.raises(JobError, match=f"is searched for, {' or '.join(classes)}; got "):
            build_task("detection", classes=classes, positive=positive)
        return
    task = build_task("detection", classes=classes, positive=positive)
    assert task.spec.target_name == searched
    lens = np.arange(200) % 10 == 0
    logits = np.zeros((200, 2))
    logits[:, classes.index(searched)] = np.where(lens, 2.0, -2.0)
    targets = np.where(lens, classes.index(searched), 1 - classes.index(searched))
    outputs = {"logits": logits, "targets": targets, "ids": np.arange(200).astype(str)}
    task.calibrate(outputs)
    scores, notes = task.score(outputs)
    assert scores["average_precision"] == scores["tpr0"] == scores["completeness"] == 1
    assert any("of 180 galaxies that are no lenses" in note for note in notes)
    curves = [text.get_text() for text in task.draw(outputs, [])["roc"].legends[0].get_texts()]
    assert curves == ["chance, 0.5", f"{searched}, AUC 1.0000"]
