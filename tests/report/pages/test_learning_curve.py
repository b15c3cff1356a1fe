"""A learning curve is of one training data: more images of another set are no more of the same."""

from __future__ import annotations

from deeplense_batch.report.pages.learning_curve import learning_curves
from deeplense_batch.report.trained_on import trained_on

A, B = "a" * 16, "b" * 16


def run(images, *names, train="train", weight=None):
    """A run on a set, or on those that are joined."""
    digests = {"a": A, "b": B}
    data = {"root": f"/data/{names[0]}", "train": train}
    if len(names) > 1:
        data["roots"] = [
            {"root": f"/data/{name}", "digest": digests[name], "train": train, "weight": weight}
            for name in names
        ]
    training = trained_on(data, digests[names[0]])
    return {"model": "m", "train_samples": images, "auc": images / 1000, "training": training}


def drawn(*runs):
    return [model for picture in learning_curves(runs) for model in picture.arguments["models"]]


def test_runs_of_other_sets_are_not_joined():
    assert drawn(run(480, "a"), run(960, "a", "b"), run(400, "b")) == []
    assert drawn(run(960, "a", "b"), run(900, "a", "b", weight=0.5)) == []


def test_slices_of_one_set_are_a_curve():
    assert drawn(run(480, "a"), run(480, "a"), run(48, "a", train="train[:10%]")) == [
        {"label": "m", "runs": [[480, 0.48], [480, 0.48], [48, 0.048]]}
    ]


def test_curves_of_one_model_are_named_by_their_data():
    found = drawn(run(48, "a", train="train[:10%]"), run(480, "a"), run(960, "a", "b"),
                  run(96, "a", "b", train="train[:10%]"))  # fmt: skip
    assert [(one["label"], len(one["runs"])) for one in found] == [
        ("m, trained on a", 2), ("m, trained on a + b", 2)
    ]  # fmt: skip


def test_what_is_left_out_is_said():
    runs = [run(n, "a") | {"model": f"m{i}"} for i in range(9) for n in (10, 20)]
    (picture,) = learning_curves(runs)
    assert len(picture.arguments["models"]) == 8
    assert picture.caption.endswith("; it shows the first 8 lines and leaves out 1.")
    (picture,) = learning_curves(runs[:2])
    assert picture.caption.endswith("training data.")


def test_each_setting_of_a_job_has_a_curve():
    runs = [
        run(n, "a") | {"settings": {"train.init": init, "train.epochs": 900 // n}}
        for init in (None, "m/a")
        for n in (9, 99)
    ]
    assert [one["label"] for one in drawn(*runs)] == ["m", "m train.init=m/a"]
