"""A slice of a split: its arrays, across files, as they were written."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from format_1 import to_format_1
from made_shards import write

from deeplense_batch.data.digest import verify
from deeplense_batch.data.shards import open_split
from deeplense_batch.data.writer import ShardWriter


def test_a_slice_reads_what_it_names_across_files(tmp_path):
    images = write(tmp_path, 11)
    for slice_, samples in (
        ("train[3:9]", range(3, 9)),
        ("train[:50%]", range(5)),
        ("train[50%:]", range(5, 11)),
        ("train[8:]", range(8, 11)),
        ("train[:]", range(11)),
        ("train[5:1000]", range(5, 11)),
    ):
        split = open_split(tmp_path, slice_)
        assert len(split) == len(samples)
        assert split.ids() == [f"train/ü{i}.npy" for i in samples]
        assert (split.stored()[0] == images[samples]).all()
        assert split.truth("theta_e").tolist() == [i / 8 for i in samples]


def test_bands_and_catalogue_come_back_as_they_were_written_and_change_no_content(
    tmp_path,
):
    columns = {
        "ra": np.array([1.5, np.nan, 3.0]),
        "object": np.array(["a", "", "β"], object),
        "tile": np.array([2**62, -1, 0]),
    }
    for folder, catalogue in (("with", columns), ("without", None)):
        with ShardWriter(
            tmp_path / folder,
            split="train",
            shape=(2, 4, 4),
            stored=np.dtype(np.float32),
            dtype=np.dtype(np.float32),
            classes=(),
            source="here",
            seed=0,
            shard_size=2,
            bands=("g", "r") if catalogue else (),
            group="tile" if catalogue else "",
        ) as writer:
            images = np.arange(96, dtype=np.float32).reshape(3, 2, 4, 4)
            writer.append(images, targets=[-1] * 3, ids=["x", "y", "z"], catalogue=catalogue)
            writer.publish()
    split, plain = (open_split(tmp_path / folder, "train") for folder in ("with", "without"))
    assert (split.info.bands, split.info.group, split.columns()) == (
        ("g", "r"), "tile", ["ra", "object", "tile"],
    )  # fmt: skip
    for name, values in columns.items():
        np.testing.assert_array_equal(split.catalogue(name), values)
    verify(split.info)
    assert (plain.info.bands, plain.columns(), plain.info.content) == ((), [], split.info.content)
    assert plain.info.digests != split.info.digests


def test_classes_get_other_names_and_those_of_one_name_are_one(tmp_path):
    write(tmp_path, 11)  # no, sphere, vort in turn
    split = open_split(tmp_path, "train[2:8]")
    renamed = split.info.renamed({"sphere": "substructure", "vort": "substructure"})
    assert renamed.classes == ("no", "substructure") and renamed.class_counts == (4, 7)
    assert replace(split, info=renamed).targets().tolist() == [1, 0, 1, 1, 0, 1]
    assert renamed.as_stored == split.info and split.info.renamed({"other": "x"}) is split.info
    verify(renamed.as_stored)


def test_classes_are_numbered_as_others_number_the_same_names(tmp_path):
    write(tmp_path, 11)
    split = open_split(tmp_path, "train[:6]")
    numbered = split.info.renamed({"no": "none"}).numbered_as(("vort", "x", "none"))
    assert numbered.classes == ("vort", "x", "none") and numbered.class_counts == (3, 0, 4)
    assert replace(split, info=numbered).targets().tolist() == [2, -1, 0, 2, -1, 0]


@pytest.mark.parametrize("slice_", ["train", "train[3:9]", "train[folds 1,3/3]"])
def test_parts_of_a_slice_are_its_samples_one_after_another(tmp_path, slice_):
    images = write(tmp_path, 11)
    split = open_split(tmp_path, slice_)
    assert (images[split.places] == split.stored()[0]).all()
    parts = [split.part(first, first + 2) for first in range(0, len(split), 2)]
    assert [len(part) for part in parts[:-1]] == [2] * (len(parts) - 1)
    assert [id_ for part in parts for id_ in part.ids()] == split.ids()
    assert np.concatenate([part.places for part in parts]).tolist() == split.places.tolist()
    assert (np.concatenate([part.stored()[0] for part in parts]) == images[split.places]).all()
    within = split.part(1, 4).part(1, 2)
    assert within.ids() == split.ids()[2:3]


def test_truths_that_all_files_have_and_those_that_one_lacks(tmp_path):
    write(tmp_path, 10)  # three files
    to_format_1(tmp_path)  # which nothing keeps from being changed
    split = open_split(tmp_path, "train")
    assert split.shared_truths() == ({"theta_e": ()}, {})
    _, second, _ = split.info.files
    with h5py.File(second, "r+") as file:
        del file["truth/theta_e"]
    assert split.shared_truths() == ({}, {"theta_e": second})
    assert open_split(tmp_path, "train[:4]", {"train": split.info}).shared_truths() == (
        {"theta_e": ()},
        {},
    )
