"""The test images that the most models get wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_galaxies import galaxies, write_galaxies
from pictures import drawn

from deeplense_batch.data.shards import data_digest, open_split
from deeplense_batch.report.pages.compose import compose_hardest
from deeplense_batch.report.plots.hardest import hardest
from deeplense_batch.report.plots.pictures import Picture, draw, redraw, write
from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.run_table import CollectError


def answers(rows, targets=(0, 1, 2, 0, -1)):
    """What one model says: the class it answers for each of the samples a, b, ..., surely."""
    ids = np.array(list("abcde")[: len(rows)])
    probabilities = np.full((len(rows), 3), 0.1)
    probabilities[np.arange(len(rows)), rows] = 0.8
    return Predictions(
        ids, np.array(targets[: len(rows)]), ("no", "sphere", "vort"), probabilities
    )


def shuffled(samples, seed):
    order = np.random.default_rng(seed).permutation(len(samples.ids))
    ids, targets = samples.ids[order], samples.targets[order]
    return Predictions(ids, targets, samples.classes, samples.probabilities[order])


def test_the_hardest_are_those_that_the_most_models_get_wrong():
    models = [answers([0, 2, 1, 2, 1]), answers([1, 2, 1, 0, 1]), answers([0, 1, 0, 0, 1])]
    models[2].probabilities[1, 2] = 0.5  # of b the truth becomes no likelier, of c less likely
    models[2].probabilities[2, 2] = 0.05
    found = hardest([shuffled(model, seed) for seed, model in enumerate(models)])
    assert [(one["id"], one["truth"], one["said"], one["wrong"], one["of"]) for one in found] == [
        ("c", "vort", "sphere", 3, 3),
        ("b", "sphere", "vort", 2, 3),
        ("a", "no", "sphere", 1, 3),  # as d, whose truth is as likely: by id
        ("d", "no", "vort", 1, 3),
    ]  # nothing of e, which has no label
    assert hardest(models, most=2) == found[:2]
    models[1].probabilities[0, 0] = 0.7  # of a the truth becomes likelier
    assert [one["id"] for one in hardest(models)][2:] == ["d", "a"]


def test_models_of_different_samples_have_no_common_hardest():
    one = answers([0, 1, 2])
    for other in (answers([0, 1]), replace(one, classes=("x", "y", "z"))):
        pictures, (note,) = compose_hardest(1, [one, other], "", "", "")
        assert pictures == [] and note.endswith(
            "the models were tested on different samples or classes"
        )


def test_the_hardest_images_are_shown_with_what_they_are(shards, tmp_path):
    split = open_split(shards, "val[50%:]")
    ids, targets = np.array(split.ids()), split.targets()
    models = [
        Predictions(ids, targets, ("no", "sphere", "vort"), np.eye(3)[targets + (targets == 1)]),
        Predictions(ids, targets, ("no", "sphere", "vort"), np.eye(3)[targets]),
    ]
    place = (str(shards), data_digest(shards), "val[50%:]")
    (picture,), notes = compose_hardest(2, models, *place)
    assert notes == [] and picture.name == "hardest-2"
    figure = drawn(draw(picture))
    count = min(24, int(np.sum(targets == 1)))
    assert len([axes for axes in figure.axes if axes.images]) == count
    first = min(ids[targets == 1])
    title = f"{first}\ntrue sphere\ntaken for vort\nwrong in 1 of 2"
    assert figure.axes[0].get_title() == title
    shown = figure.axes[0].images[0].get_array()
    at = int(np.flatnonzero(ids == first)[0])
    assert np.corrcoef(shown.ravel(), split.images()[at, 0].ravel())[0, 1] > 0.8
    write(tmp_path, [picture])
    assert len(redraw(tmp_path)) == 2
    assert compose_hardest(1, [models[1]], *place) == ([], [])
    numbers = replace(models[0], probabilities=None, numbers=np.zeros((len(ids), 2)))
    assert compose_hardest(1, [numbers], *place) == ([], [])


def test_what_catalogues_of_several_runs_know_of_the_images_is_shown(shards, tmp_path):
    split = open_split(shards, "val")
    ids, targets = np.array(split.ids()), split.targets()
    wrong = Predictions(ids, targets, split.info.classes, np.eye(3)[(targets + 1) % 3])
    for fold in (1, 2):  # each knows its half
        (tmp_path / f"{fold}").mkdir()
        table = pa.table({"id": ids[fold - 1 :: 2], "ra": np.full(len(ids[fold - 1 :: 2]), fold)})
        pq.write_table(table, tmp_path / f"{fold}" / "catalogue.parquet")
    runs = [tmp_path / "1", tmp_path / "2"]
    place = (str(shards), data_digest(shards), "val")
    (picture,), notes = compose_hardest(1, [wrong], *place, runs=runs)
    fold_of = dict(zip(ids.tolist(), [1, 2] * len(ids), strict=False))
    shown = {one["id"]: one["catalogue"]["ra"] for one in picture.arguments["samples"]}
    assert len(shown) == 24 and not notes
    assert shown == {id_: fold_of[id_] for id_ in shown} and {*shown.values()} == {1, 2}


def test_bands_that_are_not_there_are_a_note_and_a_warning(tmp_path, caplog):
    options = {"classes": ("no", "sphere", "vort"), "targets": [0, 1, 2, 0]}
    root = write_galaxies(tmp_path / "set", {"val": galaxies(4)}, **options)
    split = open_split(root, "val")
    ids, targets = np.array(split.ids()), split.targets()
    wrong = Predictions(ids, targets, split.info.classes, np.eye(3)[(targets + 1) % 3])
    place = (str(root), data_digest(root), "val")
    pictures, (note,) = compose_hardest(1, [wrong], *place, rgb=("z", "r", "g"))
    assert pictures == [] and "--rgb: there is no band 'z'" in note
    assert [record.getMessage() for record in caplog.records] == [note]
    caplog.clear()
    (_,), notes = compose_hardest(1, [wrong], *place, rgb=("i", "r", "g"))
    assert notes == [] and not caplog.records


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"root": "/nowhere"}, "are not shown: /nowhere: no such folder of shards"),
        ({"digest": "0" * 16}, "are not shown: .* holds other data now"),
        ({"test": "test"}, "are not shown: .* has no split 'test'"),
        ({"test": "val[:1]"}, "are not shown: .* has no 'val/"),
    ],
)
def test_images_that_are_not_at_hand_are_a_note(shards, change, reason):
    split = open_split(shards, "val")
    ids, targets = np.array(split.ids()), split.targets()
    wrong = Predictions(ids, targets, split.info.classes, np.eye(3)[(targets + 1) % 3])
    place = {"root": str(shards), "digest": data_digest(shards), "test": "val"} | change
    pictures, (note,) = compose_hardest(1, [wrong], **place)
    assert pictures == []
    samples = hardest([wrong])
    with pytest.raises(CollectError, match=reason) as error:
        draw(Picture("hardest", "hardest", place | {"samples": samples}, ""))
    assert str(error.value) == note and "\n" not in note
