"""Shards: what is written is read, slices are fair, and nothing half-written looks whole."""

from hashlib import sha256
from itertools import pairwise
from unittest.mock import patch

import h5py
import numpy as np
import pytest
from format_1 import to_format_1
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplense_batch.data import digest as facts_module
from deeplense_batch.data.digest import file_digest, verify
from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.shards import (
    FORMAT,
    ShardError,
    Split,
    SplitInfo,
    data_digest,
    open_split,
    read_splits,
)
from deeplense_batch.data.writer import ShardWriter, refuse_shards, stratified_order

CLASSES = ("no", "sphere", "vort")


def images_of(n, *, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 900, (n, channels, 4, 5)).astype(COUNTS)


def write(root, n=10, *, split="train", append=10, seed=0, dtype=np.float64, **options):
    """Counts of 1/899 in `n` samples of rotating classes, appended in pieces."""
    images = images_of(n, seed=seed)
    options = {"shard_size": 4, "classes": CLASSES, "source": "here", "seed": 3} | options
    writer = ShardWriter(
        root, split=split, shape=(1, 4, 5), stored=COUNTS, dtype=np.dtype(dtype), **options
    )
    with writer:
        for i in range(0, n, append):
            part = slice(i, min(i + append, n))
            writer.append(
                images[part],
                targets=[j % 3 for j in range(n)[part]],
                ids=[f"{split}/ü{j}.npy" for j in range(n)[part]],
                scale=np.full((len(images[part]), 1), 899.0),
                truth={"theta_e": np.arange(n)[part] / 8},
            )
        writer.publish()
    return images


def test_what_is_written_is_read(tmp_path):
    images = write(tmp_path, 10, pixel_scale=0.05)
    split = open_split(tmp_path, "train")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"train-{i:05d}-of-00003.h5" for i in range(3)
    ]
    values = images / 899.0
    assert split.images().dtype == np.float64
    assert split.images().tobytes() == values.tobytes()
    stored, scale = split.stored()
    assert (stored == images).all() and (scale == 899).all() and scale.shape == (10, 1)
    assert split.targets().tolist() == [i % 3 for i in range(10)]
    assert split.ids() == [f"train/ü{i}.npy" for i in range(10)]
    assert split.truth("theta_e").tolist() == [i / 8 for i in range(10)]
    info = split.info
    assert (info.counts, info.shape, info.stored) == ((4, 4, 2), (1, 4, 5), COUNTS)
    assert (info.classes, info.class_counts) == (CLASSES, (4, 3, 3))
    assert (info.source, info.seed, info.pixel_scale) == ("here", 3, 0.05)
    assert info.mean == pytest.approx((values.mean(),), rel=1e-12)
    assert info.sd == pytest.approx((values.std(),), rel=1e-12)


def test_a_file_has_every_attribute_of_the_specification(tmp_path):
    write(tmp_path, 6)
    with h5py.File(tmp_path / "train-00001-of-00002.h5") as file:
        assert set(file.attrs) == {
            *("format", "split", "shard", "shards", "samples", "classes", "class_counts"),
            *("dtype", "mean", "sd", "pixel_scale", "source", "seed", "digest", "digests"),
            "content",
        }
        assert file.attrs["format"] == FORMAT
        assert (file.attrs["shard"], file.attrs["shards"], file.attrs["samples"]) == (1, 2, 6)
        assert file.attrs["digest"] == file.attrs["digests"][1]
        assert file["images"].chunks is None  # contiguous
        assert np.isnan(file.attrs["pixel_scale"])


@given(n=st.integers(1, 12), shard_size=st.integers(1, 13), append=st.integers(1, 13))
@settings(deadline=None, max_examples=15)
def test_how_samples_come_changes_no_file(tmp_path_factory, n, shard_size, append):
    whole, pieces = (tmp_path_factory.mktemp("shards") for _ in range(2))
    images = write(whole, n, append=n, shard_size=shard_size)
    write(pieces, n, append=append, shard_size=shard_size)
    assert read_splits(whole)["train"].digests == read_splits(pieces)["train"].digests
    assert (open_split(pieces, "train").stored()[0] == images).all()


def test_compression_changes_no_content(tmp_path):
    write(tmp_path / "plain", 9)
    write(tmp_path / "gzip", 9, compression="gzip")
    plain, packed = open_split(tmp_path / "plain", "train"), open_split(tmp_path / "gzip", "train")
    assert packed.images().tobytes() == plain.images().tobytes()
    assert data_digest(tmp_path / "plain") == data_digest(tmp_path / "gzip")


def test_the_digest_of_a_set_does_not_depend_on_how_it_is_cut_into_files(tmp_path):
    for size in (1, 4, 100):
        write(tmp_path / f"{size}", 10, shard_size=size)
    assert len({data_digest(tmp_path / f"{size}") for size in (1, 4, 100)}) == 1
    write(tmp_path / "fewer", 9)
    assert data_digest(tmp_path / "fewer") != data_digest(tmp_path / "1")


@pytest.mark.parametrize("classes", [CLASSES, ()])
def test_a_file_read_again_has_the_digest_in_its_attribute(tmp_path, classes, monkeypatch):
    monkeypatch.setattr(facts_module, "_BLOCK", 3)
    options = {"classes": classes, "shard_size": 8, "compression": "gzip"}
    if classes:
        write(tmp_path, 10, **options)
    else:
        writer = ShardWriter(
            tmp_path, split="train", shape=(2, 4, 5), stored=np.dtype(np.float32),
            dtype=np.dtype(np.float32), source="", seed=0, **options,
        )  # fmt: skip
        with writer:
            images = images_of(5, channels=2).astype(np.float32)
            writer.append(images, targets=[-1] * 5, ids=list("abcdé"))
            writer.publish()
    info = read_splits(tmp_path)["train"]
    assert [file_digest(path) for path in info.files] == list(info.digests)
    info.files[0].write_bytes(b"no shard")
    with pytest.raises(ShardError, match="is no shard, or its head is damaged"):
        file_digest(info.files[0])


@pytest.mark.parametrize("name", ["images", "targets", "ids"])
def test_what_is_changed_in_a_file_is_found(tmp_path, name):
    write(tmp_path / "2", 6)
    write(tmp_path / "1", 6)
    to_format_1(tmp_path / "1")
    for root, said in ((tmp_path / "2", "bytes"), (tmp_path / "1", "content")):
        info = read_splits(root)["train"]
        verify(info)
        with h5py.File(info.files[1], "r+") as file:
            before = file[name][1]
            file[name][1] = b"train/x7.npy" if name == "ids" else before - 1
        with pytest.raises(ShardError, match=rf"00001-of-00002.h5: is damaged .*\({said} "):
            verify(info)


@pytest.mark.parametrize(
    "change", ["images", "targets", "ids", "scale", "truth", "classes", "dtype", "pixel_scale"]
)
def test_the_digest_names_the_content(tmp_path, change):
    digests = set()
    for other in (False, True):
        changed = change if other else ""
        root = tmp_path / f"{other}"
        writer = ShardWriter(
            root,
            split="train",
            shape=(1, 4, 5),
            stored=COUNTS,
            dtype=np.dtype(np.float32 if changed == "dtype" else np.float64),
            pixel_scale=0.1 if changed == "pixel_scale" else 0.05,
            classes=("a", "c") if changed == "classes" else ("a", "b"),
            source=str(other),
            seed=0,
        )
        with writer:
            writer.append(
                images_of(2, seed=int(changed == "images")),
                targets=[0, int(changed == "targets")],
                ids=["1", "3" if changed == "ids" else "2"],
                scale=np.full((2, 1), 900.0 if changed == "scale" else 899.0),
                truth={"mass": np.array([1.0, 2.0 if changed == "truth" else 1.0])},
            )
            writer.publish()
        digests.add(data_digest(root))
    assert len(digests) == 2


def test_known_digests_are_those_the_writer_would_find(tmp_path):
    images = images_of(5)
    for name, digests in (("own", None), ("given", [sha256(image).digest() for image in images])):
        writer = ShardWriter(
            tmp_path / name,
            split="train",
            shape=(1, 4, 5),
            stored=COUNTS,
            dtype=np.dtype(np.float64),
            classes=(),
            source="",
            seed=0,
            shard_size=2,
        )
        with writer:
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
    with pytest.raises(RuntimeError, match="half way"):
        writer = ShardWriter(
            root,
            split="train",
            shape=(1, 4, 5),
            stored=COUNTS,
            dtype=np.dtype(np.float64),
            classes=(),
            source="",
            seed=0,
            shard_size=2,
        )
        with writer:
            assert not left.exists()
            writer.append(images_of(5), targets=[-1] * 5, ids=list("abcde"), scale=np.ones((5, 1)))
            assert len(list(root.iterdir())) == 2
            with pytest.raises(ShardError, match="holds no shards"):
                read_splits(root)
            raise RuntimeError("half way")
    assert not list(root.iterdir())


def split_of(n):
    """A split that is only counted."""
    nothing = {"files": (), "shape": (1, 1, 1), "stored": COUNTS, "dtype": COUNTS, "classes": ()}
    nothing |= {"class_counts": (), "mean": (), "sd": (), "pixel_scale": 1.0, "source": ""}
    return SplitInfo(name="train", counts=(n,), seed=0, digests=(), content="", **nothing)


@given(n=st.integers(1, 300), cuts=st.lists(st.integers(0, 100), max_size=4))
@settings(deadline=None, max_examples=60)
def test_complementary_slices_partition_a_split(n, cuts):
    for unit, limit in (("%", 100), ("", n)):
        edges = [0, *sorted(min(cut, limit) for cut in cuts), limit]
        names = [f"train[{a}{unit}:{b}{unit}]" for a, b in pairwise(edges)]
        parts = []
        with patch("deeplense_batch.data.shards.read_splits", lambda _: {"train": split_of(n)}):
            for name in names:
                try:
                    parts.append(open_split("root", name))
                except ShardError as error:  # only an empty slice may be refused
                    assert "holds none" in str(error)
        assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
        assert all(isinstance(part, Split) and len(part) > 0 for part in parts)


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


@pytest.mark.parametrize(
    ("slice_", "message"),
    [
        ("val", r"has no split 'val' .*; it has train"),
        ("train[5:5]", "holds none of the 10 samples"),
        ("train[:1%]", "holds none of the 10 samples"),
        ("train[90%]", "is not a split or a slice of one"),
        ("train[:150%]", r"'train\[:150%\]' goes to 150%; percentages end at 100%"),
        ("train[101%:]", "goes to 101%; percentages end at 100%"),
        ("train[-1:]", "is not a split or a slice of one"),
        ("", "is not a split or a slice of one"),
    ],
)
def test_slices_that_mean_nothing_are_refused(tmp_path, slice_, message):
    write(tmp_path)
    with pytest.raises(ShardError, match=message):
        open_split(tmp_path, slice_)
    with pytest.raises(ShardError, match="has no 'truth/mass'"):
        open_split(tmp_path, "train").truth("mass")


def test_broken_sets_are_refused(tmp_path):
    with pytest.raises(ShardError, match="no such folder of shards; make one with 'pack"):
        read_splits(tmp_path / "nowhere")
    with pytest.raises(ShardError, match="holds no shards"):
        read_splits(tmp_path)
    write(tmp_path, 10)
    second = tmp_path / "train-00001-of-00003.h5"
    whole = second.read_bytes()

    second.unlink()
    with pytest.raises(ShardError, match=r"2 of 3 shards; train-00001-of-00003.h5 is missing"):
        read_splits(tmp_path)
    second.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ShardError, match=r"00001-of-00003.h5: has \d+ bytes of \d+ written"):
        read_splits(tmp_path)
    write(tmp_path / "other", 10, seed=1)
    second.write_bytes((tmp_path / "other" / second.name).read_bytes())
    with pytest.raises(ShardError, match="belongs to another packing"):
        read_splits(tmp_path)
    second.write_bytes(whole)
    write(tmp_path / "one", 10, shard_size=10)
    (tmp_path / "one" / "train-00000-of-00001.h5").rename(tmp_path / "train-00000-of-00001.h5")
    with pytest.raises(ShardError, match="has split train twice, in two packings"):
        read_splits(tmp_path)


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
