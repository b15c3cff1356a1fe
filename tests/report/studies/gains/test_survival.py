"""What of the substructure survives restoration, by each classifier that was asked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.statistics.resamples import Resamples
from deeplense_batch.report.studies.gains.survival import seen_by_classifiers, survival_block

IMAGES = 240
TARGETS = np.arange(IMAGES) % 3
SEEN = ("fitted", "restored", "truth")
GOOD = {"fitted": 0.2, "restored": 1.0, "truth": 3.0}  # how well it tells classes apart


def asked(folder, classifier, strengths, *, seed=0):
    """An evaluation that asked a classifier; what it says of each kind of image."""
    random = np.random.default_rng(seed)
    noise = random.normal(0, 1, (IMAGES, 3))
    logits = {
        name: strength * np.eye(3)[TARGETS] + noise + random.normal(0, 0.2, (IMAGES, 3))
        for name, strength in strengths.items()
    }
    folder.mkdir(parents=True)
    np.savez(
        folder / "outputs.npz", ids=np.arange(IMAGES).astype(str), targets=TARGETS,
        classes=np.array(["a", "b", "c"]), psnr=np.full(IMAGES, 40.0) + random.normal(size=IMAGES),
        seen_targets=TARGETS, **{f"seen_{name}": values for name, values in logits.items()},
    )  # fmt: skip
    if classifier:
        (folder / "job.yaml").write_text(f"name: e\nevaluate: {{classifier: {classifier}}}\n")
    return logits


def row(folder):
    unknown = dict.fromkeys(("learns", "auc", "accuracy"))
    return {"run": str(folder), "seed": 0, "monitor": "psnr", "task": "restoration", "more": {},
            "test_samples": IMAGES} | unknown  # fmt: skip


def found_in(folders, label="edsr"):
    model = ModelRuns(label, [row(folders[0])], again=[str(f) for f in folders[1:]])
    return {"label": label, "seen": seen_by_classifiers(model, Resamples.of([model]))}


def auc(logits):
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return roc_auc_score(TARGETS, shares, multi_class="ovr", average="macro")


def test_classifiers_are_not_averaged(tmp_path):
    first = asked(tmp_path / "a", "/runs/narrow/resnet-s0-0123456789", GOOD)
    weak = dict.fromkeys(SEEN, 1.5)
    second = asked(tmp_path / "b", "/runs/wide/resnet-s0-9876543210", weak, seed=1)
    rows = found_in([tmp_path / "a", tmp_path / "b"])["seen"]
    names = ["narrow/resnet-s0-0123456789", "wide/resnet-s0-9876543210"]
    assert [one["classifier"] for one in rows] == names
    assert [one["networks"] for one in rows] == [1, 1]
    for one, logits in zip(rows, (first, second), strict=True):
        for name in SEEN:
            assert one[name]["value"] == pytest.approx(auc(logits[name]))
            assert one[name]["low"] < one[name]["value"] < one[name]["high"]
        for name, (more, less) in {
            "gain": ("restored", "fitted"), "loss": ("truth", "restored"),
        }.items():  # fmt: skip
            assert one[name]["value"] == pytest.approx(auc(logits[more]) - auc(logits[less]))
    block = survival_block([{"label": "edsr", "seen": rows}])
    assert [line[:3] for line in block.lines] == [["edsr", name, "1"] for name in names]


def test_one_classifier_is_averaged_over_the_networks_of_a_model(tmp_path):
    logits = [asked(tmp_path / f"{k}", "/runs/c/r-s0-0123456789", GOOD, seed=k) for k in (0, 1)]
    (one,) = found_in([tmp_path / "0", tmp_path / "1"])["seen"]
    assert one["networks"] == 2
    assert one["truth"]["value"] == pytest.approx(np.mean([auc(own["truth"]) for own in logits]))


def test_the_page_says_what_is_resolved(tmp_path):
    asked(tmp_path / "a", "/runs/c/r-s0-0123456789", GOOD)
    block = survival_block([found_in([tmp_path / "a"])])
    assert "edsr, by c/r-s0-0123456789: more survives than in fitted bicubic" in block.headline
    assert "and less than in the true images (truth - restored +" in block.headline
    asked(tmp_path / "b", "/runs/c/r-s0-0123456789", dict.fromkeys(SEEN, 2.0))
    block = survival_block([found_in([tmp_path / "b"])])
    assert block.headline.count("is not resolved") == 2 and block.headline in block.sentences


def test_a_classifier_that_sees_nothing_in_the_true_images_judges_nothing(tmp_path):
    asked(tmp_path / "a", None, dict.fromkeys(SEEN, 0.0))
    rows = [found_in([tmp_path / "a"], label) for label in ("edsr", "rcan")]
    (said,) = survival_block(rows).sentences[1:]  # once for all networks
    assert "the classifier tells nothing apart on the true images themselves" in said
    assert "contains 0.5" in said and "nothing can be said of what survives" in said
    assert "name is not known" in said


def test_where_nothing_was_asked_there_is_no_row(tmp_path):
    lone = SimpleNamespace(runs=[{"run": str(tmp_path / "none")}], again=())
    assert seen_by_classifiers(lone, None) == [] and survival_block([]).lines == []
