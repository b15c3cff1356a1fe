"""Shards of pairs: both images come back bit for bit, are in the digest, and are checked."""

import hashlib
import json
import shutil

import h5py
import numpy as np
import pytest
from made_pairs import write_pairs
from made_shards import write

from deeplense_batch.data.digest import file_digest, verify
from deeplense_batch.data.header import ratio_of, read_head, write_head
from deeplense_batch.data.shards import ShardError, data_digest, open_split, read_splits


@pytest.mark.parametrize("counts", [True, False], ids=["counts", "floats"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_pairs_come_back_as_they_were_written(tmp_path, counts, compression):
    images, inputs = write_pairs(tmp_path, 10, counts=counts, compression=compression)
    split = open_split(tmp_path, "train[3:9]")
    assert (split.images() == images[3:9]).all()
    assert (split.of("inputs").images() == inputs[3:9]).all()
    assert (split.of("clean").images() == (images[3:9] + 1).astype(np.float32)).all()
    assert split.of("inputs").images().dtype == inputs.dtype
    info = split.info
    assert (info.ratio, info.pixel_scale, info.inputs_pixel_scale) == (2, 0.05, 0.1)
    assert info.inputs.shape == (1, 8, 8) == split.of("inputs").info.shape
    np.testing.assert_allclose(info.inputs.mean, inputs.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(info.inputs.sd, inputs.std((0, 2, 3)), rtol=1e-6)
    verify(info)
    assert [file_digest(path) for path in info.files] == list(info.digests)


def test_channels_are_chosen_of_both(tmp_path):
    _, inputs = write_pairs(tmp_path, 5, channels=3)
    info = open_split(tmp_path, "train").info.with_channels((2, 0))
    chosen = info.of("inputs")
    assert chosen.shape == (2, 8, 8)
    assert chosen.mean == (info.inputs.mean[2], info.inputs.mean[0])
    assert chosen.as_stored.shape == (3, 8, 8)
    mean = open_split(tmp_path, "train").info.with_channels("mean").of("inputs")
    assert (mean.shape, np.isnan(mean.sd).all()) == ((1, 8, 8), True)
    np.testing.assert_allclose(mean.mean, [inputs.mean()], rtol=1e-6)


def test_inputs_and_clean_images_are_part_of_the_content(tmp_path):
    for name, options in {
        "one": {}, "cut": {"shard_size": 3}, "floats": {"counts": False},
        "noisy": {"clean": False}, "ratio": {"ratio": 4},
    }.items():  # fmt: skip
        write_pairs(tmp_path / name, 10, **options)
    digests = {path.name: data_digest(path) for path in tmp_path.iterdir()}
    assert digests["one"] == digests["cut"]
    assert len(set(digests.values())) == 4


def test_the_content_of_a_file_of_pairs_is_as_it_is_documented(tmp_path):
    """Name, type, shape and sha256 of each array, pixels by the sha256 of each sample."""
    write_pairs(tmp_path, 3)
    info = read_splits(tmp_path)["train"]
    text = '["float64", [], 0.05, "float64"]\n3\n'
    with h5py.File(info.files[0]) as file:
        for name in sorted(file):
            values = file[name][:]
            if name == "ids":
                content = b"".join(one + b"\n" for one in values)
                kind = "object ()"
            else:
                whole = name in ("images", "inputs", "clean")
                parts = [hashlib.sha256(one.tobytes()).digest() for one in values]
                content = b"".join(parts) if whole else values.tobytes()
                kind = f"{values.dtype} {values.shape[1:]}"
            text += f"{name} {kind} {hashlib.sha256(content).hexdigest()}\n"
    assert info.digests == (hashlib.sha256(text.encode()).hexdigest(),)


def test_a_set_without_pairs_says_nothing_of_them(tmp_path):
    write(tmp_path, 4)
    info = read_splits(tmp_path)["train"]
    assert (info.inputs, info.has_clean, info.ratio) == (None, False, 1)
    line = info.files[0].read_bytes().split(b"\n")[2]
    assert not {"inputs", "clean"} & set(json.loads(line))
    for name in ("inputs", "clean"):
        with pytest.raises(ShardError, match=f"split train has no '{name}'"):
            info.of(name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.__delitem__("inputs_scale"), "'inputs_scale' goes with uint16 inputs"),
        (lambda file: file.__delitem__("inputs"), "'inputs_scale' goes with uint16 inputs and no"),
        (lambda file: _put(file, "clean", np.zeros((4, 1, 8, 8), np.float32)), "'clean' has the"),
        (lambda file: _put(file, "clean", np.zeros((4, 1, 16, 16))), "'clean' is float64"),
        (lambda file: _put(file, "inputs", np.zeros((3, 1, 8, 8), np.uint16)), "'inputs' is uint"),
    ],
)
def test_shards_of_other_programs_are_checked(tmp_path, change, said):
    write_pairs(tmp_path, 4)
    info = read_splits(tmp_path)["train"]
    path = info.files[0]
    head = read_head(path).model_dump()
    with h5py.File(path, "r+") as file:
        change(file)
    write_head(path, head["head"], {k: v for k, v in head.items() if k not in ("size", "bytes")})
    with pytest.raises(ShardError, match=said):
        open_split(tmp_path, "train").images()


def test_a_head_of_sizes_in_no_whole_ratio_is_refused(tmp_path):
    write_pairs(tmp_path, 4)
    path = read_splits(tmp_path)["train"].files[0]
    head = read_head(path).model_dump()
    head["inputs"]["shape"] = [1, 5, 5]
    write_head(path, head["head"], {k: v for k, v in head.items() if k not in ("size", "bytes")})
    with pytest.raises(ShardError, match=r"inputs of shape \[1, 5, 5\] beside images"):
        read_splits(tmp_path)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    ("sides", "inputs", "ratio"),
    [((16, 16), (8, 8), 2), ((16, 8), (8, 4), 2), ((16, 16), (8, 4), None), ((8, 8), (8, 8), 1),
     ((8, 8), (16, 16), None), ((9, 9), (2, 2), None)],
)  # fmt: skip
def test_the_ratio_is_whole_and_the_same_both_ways(sides, inputs, ratio):
    assert ratio_of(sides, inputs) == ratio


def _put(file, name, values):
    del file[name]
    file[name] = values
