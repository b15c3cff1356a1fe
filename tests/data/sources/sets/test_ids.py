"""Ids of the images of sets."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import typed
from made_sources import a_set, noise

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.sources.sets.ids import ids_of_sets, may_be_ids

PLACES = ["a[0]", "a[1]", "b[0]"]


def ids(asked="", **arrays):
    columns = [{n: np.array(v[:2]) for n, v in arrays.items()},
               {n: np.array(v[2:]) for n, v in arrays.items()}]  # fmt: skip
    return ids_of_sets("set", PLACES, columns, asked)


def test_an_array_of_a_usual_name_names_the_images_where_it_is_unique():
    note = "ids are those of the array 'object_id' (--id names another)"
    assert ids(object_id=[7, 8, 10**18], ra=[0, 1, 2]) == (
        ["7", "8", "1000000000000000000"], "object_id", [note],
    )  # fmt: skip
    assert ids(NAME=["a", "b ", "c"])[:2] == (["a", "b", "c"], "NAME")
    assert ids(name=["a", "b", "c"], id=[1, 2, 3])[:2] == (["1", "2", "3"], "id")
    found, name, notes = ids(id=[1, 2, 1])
    assert (found, name) == (PLACES, "") and "'id' is empty or equal for 1 image," in notes[0]
    assert ids(id=[1, 2, 1], name=["a", "b", "c"])[1] == "name"
    assert ids("none", id=[1, 2, 3]) == (PLACES, "", [])
    assert may_be_ids("OBJID") and not may_be_ids("ans")


def test_the_array_asked_for_names_them_or_is_refused():
    assert ids("n", id=[1, 2, 3], n=[4, 5, 6]) == (
        ["4", "5", "6"], "n", ["ids are those of the array 'n'"],
    )  # fmt: skip
    with pytest.raises(ShardError, match=r"set: --id: there is no array 'm' .* there are id, n"):
        ids("m", id=[1, 2, 3], n=[4, 5, 6])
    with pytest.raises(ShardError, match="'n' is empty or has the value of another for 1 of 3"):
        ids("n", n=[4, 4, 6])


def test_ids_of_a_set_are_kept_once(tmp_path):
    path = a_set(tmp_path / "set.npz", object_id=np.arange(10) + 50, mag=np.arange(10.0))
    report = pack(path, tmp_path / "out", id="object_id")
    split = open_split(tmp_path / "out", "train")
    assert set(split.ids()) <= {str(i + 50) for i in range(10)}
    assert sorted(split.columns()) == ["mag"] and "object" not in str(report.notes[-1])
    for id_, pixels in zip(split.ids(), split.images(), strict=True):
        assert (pixels == noise(int(id_) - 50)).all()


@pytest.mark.parametrize("flag", ["images_key", "labels_key", "id"])
def test_names_of_arrays_are_refused_where_there_is_no_set(tmp_path, capsys, flag):
    (tmp_path / "set").mkdir()
    np.save(tmp_path / "set/1.npy", noise())
    (tmp_path / "t.csv").write_text("id,path\n1,set/1.npy\n")
    for extra in ((), ("--pattern", "{id}.npy")):
        code, _, error = typed(
            capsys, "pack", tmp_path / "set", tmp_path / "out", f"--{flag}", "X", *extra
        )
        assert code == 3 and f"--{flag} names arrays of a set of images in one file" in error
    if flag != "id":
        code, _, error = typed(
            capsys, "pack", tmp_path / "t.csv", tmp_path / "out", f"--{flag}", "X"
        )
        assert code == 3 and f"--{flag} names arrays" in error and "t.csv is a catalogue" in error
