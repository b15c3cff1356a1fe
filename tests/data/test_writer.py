"""Writing shards: nothing half-written stays, nothing is written over, slices are fair."""

from __future__ import annotations

import json
from hashlib import sha256

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_shards import images_of, write, write_shards

from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.shards import ShardError, data_digest, open_split, read_splits
from deeplense_batch.data.writer import (
    ShardWriter,
    make_folder,
    own_folder,
    refuse_packing,
    refuse_shards,
    stratified_order,
    usual_class,
)


def unlabelled(root):
    """A writer of images without labels, two in a file."""
    return ShardWriter(
        root, split="train", shape=(1, 4, 5), stored=COUNTS, dtype=np.dtype(np.float64),
        classes=(), source="", seed=0, shard_size=2,
    )  # fmt: skip


@given(n=st.integers(1, 12), shard_size=st.integers(1, 13), append=st.integers(1, 13))
@settings(deadline=None, max_examples=15)
def test_how_samples_come_changes_no_file(tmp_path_factory, n, shard_size, append):
    whole, pieces = (tmp_path_factory.mktemp("shards") for _ in range(2))
    images = write(whole, n, append=n, shard_size=shard_size)
    write(pieces, n, append=append, shard_size=shard_size)
    assert read_splits(whole)["train"].digests == read_splits(pieces)["train"].digests
    assert (open_split(pieces, "train").stored()[0] == images).all()


def test_what_a_killed_writer_left_goes_and_not_what_others_write_below(tmp_path):
    for left in (tmp_path / ".train.tmp", tmp_path / "other" / ".train.tmp"):
        left.parent.mkdir(exist_ok=True)
        left.write_text("half a shard")
    with own_folder(tmp_path):
        assert [path.parent.name for path in tmp_path.rglob(".train.tmp")] == ["other"]


def test_compression_changes_no_content(tmp_path):
    write(tmp_path / "plain", 9)
    write(tmp_path / "gzip", 9, compression="gzip")
    plain, packed = open_split(tmp_path / "plain", "train"), open_split(tmp_path / "gzip", "train")
    assert packed.images().tobytes() == plain.images().tobytes()
    assert data_digest(tmp_path / "plain") == data_digest(tmp_path / "gzip")


def test_known_digests_are_those_the_writer_would_find(tmp_path):
    images = images_of(5)
    for name, digests in (("own", None), ("given", [sha256(image).digest() for image in images])):
        with unlabelled(tmp_path / name) as writer:
            writer.append(
                images, targets=[-1] * 5, ids=list("abcde"), scale=np.ones((5, 1)), digests=digests
            )
            writer.publish()
    assert data_digest(tmp_path / "own") == data_digest(tmp_path / "given")
    assert open_split(tmp_path / "own", "train").info.class_counts == ()


def test_nothing_unpublished_stays_or_can_be_read(tmp_path):
    root = tmp_path / "shards"
    root.mkdir()
    left = root / ".train-00007.tmp.h5"
    left.write_bytes(b"what a killed packing left")
    with pytest.raises(RuntimeError, match="half way"), unlabelled(root) as writer:
        assert not left.exists()
        writer.append(images_of(5), targets=[-1] * 5, ids=list("abcde"), scale=np.ones((5, 1)))
        assert len(list(root.iterdir())) == 2
        with pytest.raises(ShardError, match="holds no shards"):
            read_splits(root)
        raise RuntimeError("half way")
    assert not list(root.iterdir())


def test_shards_are_never_written_over(tmp_path):
    refuse_shards(tmp_path / "new")
    refuse_shards(tmp_path)
    write(tmp_path, 2)
    with pytest.raises(ShardError, match="holds shards already"):
        refuse_shards(tmp_path)
    with pytest.raises(ShardError, match="is a file; shards need a folder"):
        refuse_shards(tmp_path / "train-00000-of-00001.h5")


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_every_slice_has_the_class_shares_of_the_whole(counts, seed, ends):
    targets = np.repeat(np.arange(len(counts)), counts)
    order = stratified_order(targets, seed)
    assert sorted(order) == list(range(len(targets)))
    start, stop = sorted(round(end * len(targets)) for end in ends)
    for class_, count in enumerate(counts):
        there = np.count_nonzero(targets[order[start:stop]] == class_)
        assert abs(there - count * (stop - start) / max(len(targets), 1)) <= len(counts) + 1


def test_the_order_is_a_function_of_the_seed():
    targets = [0, 1] * 50
    assert (stratified_order(targets, 1) == stratified_order(targets, 1)).all()
    assert (stratified_order(targets, 1) != stratified_order(targets, 2)).any()
    inside = stratified_order(targets, 1)
    assert (np.diff(inside[inside % 2 == 0]) < 0).any()  # shuffled within a class


def test_one_process_packs_into_a_folder_and_what_a_killed_one_left_is_removed(tmp_path):
    left = [tmp_path / name for name in (".naming.json", "train-00000-of-00002.h5")]
    left[0].write_text(json.dumps({"by": "a process that was killed", "shards": [left[1].name]}))
    left[1].touch()
    write(tmp_path / "set", 3)
    with own_folder(tmp_path):
        assert (tmp_path / ".packing").is_dir() and not left[1].exists()
        with pytest.raises(ShardError, match="a pack is at work there; wait for it"):
            refuse_packing(tmp_path)
    assert not (tmp_path / ".packing").exists()
    refuse_packing(tmp_path)
    with pytest.raises(ShardError, match="holds shards already"), own_folder(tmp_path / "set"):
        pass
    (tmp_path / ".parts").mkdir()
    (tmp_path / ".parts" / "plan.json").write_text("{}")
    with pytest.raises(ShardError, match="a simulation was begun here"), own_folder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    make_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ShardError, match=r"file/b: no shards can be written there \(Not a direc"):
        make_folder(tmp_path / "file" / "b")


def test_long_truths_with_room_take_little_and_read_back(tmp_path):
    """Such as the halos of an image, of which most rows are zeros; short ones stay as they are."""
    halos = np.zeros((6, 2000, 3))
    halos[1::3, :500] = np.random.default_rng(0).random((2, 500, 3)).astype(np.float32)
    images, truth = images_of(6), {"halos": halos, "theta_e": np.arange(6) / 8}
    write_shards(tmp_path, "train", images, [0, 1, 2] * 2, truth=truth)
    assert (open_split(tmp_path, "train").truth("halos") == halos).all()
    (path,) = tmp_path.glob("*.h5")
    assert path.stat().st_size < halos.nbytes / 5
    with h5py.File(path) as file:
        assert file["truth/theta_e"].chunks is None


def test_groups_stay_side_by_side_and_classes_interleaved():
    groups = np.repeat(np.arange(60), [1, 2, 3] * 20)
    targets = (groups >= 20).astype(int)
    order = stratified_order(targets, 1, groups)
    assert sorted(order) == list(range(len(groups)))
    runs = groups[order][np.flatnonzero(np.diff(groups[order], prepend=-1))]
    assert len(runs) == 60 and (order != np.arange(len(order))).any()
    for part in np.array_split(targets[order], 4):
        assert abs(part.mean() - targets.mean()) < 0.2
    assert (stratified_order(targets, 1, groups) == order).all()


def test_the_class_of_a_group_is_its_most_frequent():
    groups, targets = np.array([0, 0, 0, 1, 1, 2]), np.array([4, 4, 1, 3, 2, -1])
    assert usual_class(groups, targets).tolist() == [4, 2, -1]
