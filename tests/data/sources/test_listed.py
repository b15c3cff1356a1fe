"""Pairs in one file of two arrays, and in the rows of a catalogue."""

import numpy as np
import pytest
from made_pair_files import arrays, write_files

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split, read_splits

IMAGES, INPUTS = arrays()


def found_in(out):
    """Images and inputs of all splits, by id."""
    splits = [open_split(out, name) for name in read_splits(out)]
    return {
        id_: (image, own)
        for split in splits
        for id_, image, own in zip(
            split.ids(), split.images(), split.of("inputs").images(), strict=True
        )
    }


@pytest.mark.parametrize(
    ("names", "pair"),
    [(("hr", "lr"), ()), (("HR", "LR"), ()), (("images", "inputs"), ()), (("y", "x"), "y,x")],
)
def test_a_set_of_two_arrays_holds_pairs(tmp_path, names, pair):
    np.savez(tmp_path / "a.npz", **dict(zip(names, (IMAGES, INPUTS), strict=True)))
    report = pack(tmp_path / "a.npz", tmp_path / "out", pair=pair)
    found = found_in(tmp_path / "out")
    assert [split.samples for split in report.splits] == [5, 1]
    assert f"inputs are those of the array '{names[1]}'" in report.notes and not report.warnings
    for i in range(6):
        image, own = found[f"a.npz[{i}]"]
        assert (image == IMAGES[i]).all() and (own == INPUTS[i]).all()


def test_labels_of_a_set_of_pairs_are_those_of_its_images(tmp_path):
    labels = [0, 1, 0, 1, 0, 1]
    np.savez(tmp_path / "train.npz", images=IMAGES, inputs=INPUTS, labels=labels)
    pack(tmp_path / "train.npz", tmp_path / "out")
    split = open_split(tmp_path / "out", "train")
    assert {id_: int(t) for id_, t in zip(split.ids(), split.targets(), strict=True)} == {
        f"train.npz[{i}]": label for i, label in enumerate(labels)
    }


@pytest.mark.parametrize(
    ("arrays_", "said"),
    [
        ({"hr": IMAGES, "lr": INPUTS[:4]}, "array 'hr' of a.npz holds 6 images, 'lr' 4; expected"),
        ({"hr": IMAGES, "low": INPUTS}, "has no array 'lr'"),
    ],
)
def test_arrays_that_do_not_go_together_are_refused(tmp_path, arrays_, said):
    np.savez(tmp_path / "a.npz", **arrays_)
    with pytest.raises(ShardError, match=said):
        pack(tmp_path / "a.npz", tmp_path / "out", pair="hr,lr")


def test_a_catalogue_names_both_files_of_a_pair(tmp_path):
    write_files(tmp_path / "cut", [f"x{i}" for i in range(6)], IMAGES, INPUTS)
    rows = [f"obj{i},cut/HR/x{i}.npy,cut/LR/x{(i + 1) % 6}.npy" for i in range(6)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["id,sharp,poor", *rows]) + "\n")
    report = pack(table, tmp_path / "out", path="sharp", inputs="poor", id="id")
    assert not report.warnings
    for id_, (image, own) in found_in(tmp_path / "out").items():
        i = int(id_.removeprefix("obj"))
        assert (image == IMAGES[i]).all() and (own == INPUTS[(i + 1) % 6]).all()
    table.write_text("\n".join(["id,sharp,poor", *rows[:5], "obj5,cut/HR/x5.npy,cut/no.npy"]))
    with pytest.raises(
        ShardError,
        match=r"obj5 .*: column poor: its input is missing, there is no file cut/no\.npy",
    ):
        pack(table, tmp_path / "again", path="sharp", inputs="poor", id="id")
    with pytest.raises(ShardError, match=r"--inputs: there is no column 'nocolumn'"):
        pack(table, tmp_path / "again", path="sharp", inputs="nocolumn", id="id")
    with pytest.raises(ShardError, match="--inputs names columns or files of a catalogue"):
        pack(tmp_path / "cut", tmp_path / "again", inputs="poor")
