"""A set made shard by shard: the same whoever makes it, and gone on with when it was cut off."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from made_generator import Numbers

from deeplense_batch.data.generate import generate_dataset
from deeplense_batch.data.shards import ShardError, data_digest, open_split
from deeplense_batch.data.writer import stratified_order

COUNTS = {"train": {"no": 7, "vort": 4}, "val": {"no": 1, "vort": 2}}


def made(root, maker=None, *, seed=3, shard_size=4, part=0, parts=1, on_batch=lambda: None):
    return generate_dataset(
        "simulate", maker or Numbers(), "numbers", COUNTS, root, seed=seed, shard_size=shard_size,
        part=part, parts=parts, on_batch=on_batch,
    )  # fmt: skip


def test_images_have_the_labels_names_and_truth_of_their_index(tmp_path):
    """Image j of class c of two has the index 2 j + c; a class that runs out leaves gaps."""
    report = made(tmp_path)
    assert (report.made, report.missing) == (14, 0) and report.digest == data_digest(tmp_path)
    split = open_split(tmp_path, "train")
    index = split.truth("index").astype(int).tolist()
    assert sorted(index) == [*range(8), 8, 10, 12]
    ordered = stratified_order([i % 2 for i in sorted(index)], 3)
    assert index == [sorted(index)[i] for i in ordered]
    assert split.targets().tolist() == [i % 2 for i in index]
    assert split.ids() == [f"train/{('no', 'vort')[i % 2]}/{i // 2}" for i in index]
    stored, scale = split.stored()
    assert (stored == np.stack([Numbers.image("train", i, 3) for i in index])).all()
    assert (scale == 100).all() and split.info.pixel_scale == 0.05
    assert split.info.source.startswith("simulate numbers, deeplense_batch ")
    assert split.info.counts == (4, 4, 3) and open_split(tmp_path, "val").info.counts == (3,)


def test_parts_make_the_set_of_one_process_and_the_last_completes_it(tmp_path):
    whole = made(tmp_path / "whole")
    makers = [Numbers() for _ in range(3)]
    reports = [made(tmp_path / "b", makers[i], part=i, parts=3) for i in (2, 0, 1)]
    assert [report.missing for report in reports] == [3, 1, 0]
    assert [report.digest for report in reports] == [None, None, whole.digest]
    assert sum(len(maker.made) for maker in makers) == 14
    assert "not complete: 3 files of other parts are missing" in str(reports[0])
    again = made(tmp_path / "b", makers[0])
    assert (again.made, again.digest) == (0, whole.digest)
    assert "all of this part was there already" in str(again)


def test_what_was_cut_off_is_gone_on_with_and_no_shard_is_made_twice(tmp_path):
    whole = made(tmp_path / "whole")
    sixth = int(open_split(tmp_path / "whole", "train").truth("index")[5])
    first, last = Numbers(fails_at=sixth), Numbers()
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "b", first)
    assert [path.name for path in (tmp_path / "b").iterdir()] == [".parts"]
    kept = [path.name for path in (tmp_path / "b" / ".parts").glob("*.h5")]
    assert kept == ["train-00000.h5"]
    rest = made(tmp_path / "b", last)
    assert rest.digest == whole.digest and rest.made == len(last.made) == 10
    assert "14 images of numbers" in str(rest) and "10 of them made by this process" in str(rest)


def test_the_manifest_says_how_it_was_made(tmp_path):
    maker = Numbers(about="other numbers")
    report = made(tmp_path, maker)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["kind"], manifest["seed"], manifest["about"]) == ("numbers", 3, maker.about)
    assert manifest["counts"] == COUNTS and manifest["data"] == report.digest
    lines = str(report).splitlines()
    assert lines[1:] == ["  train: 11 (7 no, 4 vort)", "  val: 3 (1 no, 2 vort)"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"part": 2, "parts": 2}, "numbers: part: expected 0 to 1, of 2; got 2"),
        ({"parts": 5}, "parts: 5 of 4 files; a part makes one or more"),
    ],
)
def test_parts_that_would_make_nothing_are_refused(tmp_path, options, says):
    with pytest.raises(ShardError, match=says):
        made(tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


class Named(Numbers):
    """Numbers that have names of their own, and a catalogue."""

    def make(self, split, indices, *, seed: int):
        names = np.array([f"{split}+{i}" for i in indices], object)
        columns = {"name": names, "ra": np.array(indices, float) / 8}
        made = super().make(split, indices, seed=seed)
        return dataclasses.replace(made, ids=names.tolist(), catalogue=columns)


def test_names_and_a_catalogue_of_the_generator(tmp_path):
    made(tmp_path, Named())
    split = open_split(tmp_path, "train")
    index = split.truth("index")
    assert split.ids() == [f"train+{i:g}" for i in index] == split.catalogue("name").tolist()
    assert (split.catalogue("ra") == index / 8).all()


def test_another_set_in_the_folder_is_refused(tmp_path):
    made(tmp_path / "whole")
    with pytest.raises(ShardError, match="holds shards already"):
        made(tmp_path / "whole", seed=4)
    made(tmp_path / "begun", parts=2)
    with pytest.raises(ShardError, match="another simulation was begun here"):
        made(tmp_path / "begun", Numbers(about="other"))
