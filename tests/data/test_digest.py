"""Digests: what they name, and what is found when a file was changed."""

from __future__ import annotations

import dataclasses
import hashlib

import h5py
import numpy as np
import pytest
from conftest import CLASSES
from format_1 import to_format_1
from made_generator import Numbers
from made_shards import images_of, write

from deeplense_batch.core.pieces import DamagedPieceError
from deeplense_batch.data import digest as facts_module
from deeplense_batch.data.digest import (
    ContentHash,
    Form,
    describe_split,
    file_digest,
    sha256,
    verify,
)
from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.generate import generate_dataset
from deeplense_batch.data.shards import ShardError, data_digest, read_splits
from deeplense_batch.data.writer import ShardWriter


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
    "change",
    ["images", "targets", "ids", "scale", "truth", "classes", "dtype", "pixel_scale", "sky"],
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
            sky=10.0 if changed == "sky" else None,
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


def test_the_digest_of_a_set_does_not_depend_on_how_it_is_cut_into_files(tmp_path):
    for size in (1, 4, 100):
        write(tmp_path / f"{size}", 10, shard_size=size)
    assert len({data_digest(tmp_path / f"{size}") for size in (1, 4, 100)}) == 1
    write(tmp_path / "fewer", 9)
    assert data_digest(tmp_path / "fewer") != data_digest(tmp_path / "1")


def test_the_digest_of_samples_is_the_same_however_they_are_added():
    """Of the form, and of name, type, shape and sha256 of each array, as documented."""
    images = images_of(3)
    arrays = {"images": images, "targets": np.arange(3), "ids": np.array(list("abü"), object)}
    form = Form("float64", ("no", "vort"), 0.05)
    whole, pieces = ContentHash(form), ContentHash(form)
    digests = [sha256(image) for image in images]
    whole.add(arrays, digests)
    for part in (slice(0, 1), slice(1, 3)):
        pieces.add({name: values[part] for name, values in arrays.items()}, digests[part])
    assert whole.hexdigest() == pieces.hexdigest()
    lines = {
        "ids": ("object ()", "a\nb\nü\n".encode()),
        "images": ("uint16 (1, 4, 5)", b"".join(digests)),
        "targets": ("int64 ()", np.arange(3).tobytes()),
    }
    text = '["float64", ["no", "vort"], 0.05]\n3\n'
    for name, (kind, content) in lines.items():
        text += f"{name} {kind} {hashlib.sha256(content).hexdigest()}\n"
    assert whole.hexdigest() == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Form("float64", ("a",), 0.05), '["float64", ["a"], 0.05]'),
        (Form("float64", (), None), '["float64", [], null]'),
        (Form("float64", (), float("nan")), '["float64", [], null]'),
        (Form("float64", ("a", "b"), 0.05, 1), "float64 ['a', 'b']"),
        (Form("float16", ("a",), 0.05, sky=10.0), '["float16", ["a"], 0.05, {"sky": 10.0}]'),
    ],
)
def test_the_form_of_samples_has_the_width_of_a_pixel_since_format_2(form, text):
    assert str(form) == text


def test_classes_that_were_counted_wrong_are_found(tmp_path):
    write(tmp_path, 6)
    split = read_splits(tmp_path)["train"]
    verify(split)
    wrong = dataclasses.replace(split, class_counts=(3, 2, 1))
    with pytest.raises(ShardError, match=r"split train has \[2, 2, 2\] samples of its classes"):
        verify(wrong)
    with pytest.raises(ShardError, match="split train has another digest than its files say"):
        verify(dataclasses.replace(split, content="0" * 64))


def test_files_of_a_split_are_described_once_and_only_by_their_own_kind(tmp_path):
    write(tmp_path, 10)
    paths = list(read_splits(tmp_path)["train"].files)
    before, seen = [path.stat().st_mtime_ns for path in paths], []
    describe_split(paths, simulation=None, on_batch=lambda: seen.append(1))
    assert len(seen) == 3 and [path.stat().st_mtime_ns for path in paths] == before
    with pytest.raises(ShardError, match="was made by another simulation; remove it"):
        describe_split(paths, simulation="{}", on_batch=lambda: None)
    with h5py.File(paths[1], "r+") as file:
        file["images"][0] += 1
    with pytest.raises(DamagedPieceError, match="00001-of-00003") as caught:
        describe_split(paths, simulation=None, on_batch=lambda: None)
    assert caught.value.path == paths[1]


def test_files_are_joined_alike_by_any_number_of_threads(tmp_path, monkeypatch):
    """Each was a split of its own before."""
    files = []
    for threads in (1, 2, 8):
        monkeypatch.setattr(facts_module, "cores", lambda threads=threads: threads)
        root, counts = tmp_path / str(threads), {"train": {"no": 12, "vort": 11}}
        generate_dataset(
            "simulate", Numbers(), "numbers", counts, root, seed=1, shard_size=2, part=0,
            parts=1, on_batch=lambda: None,
        )  # fmt: skip
        files.append([path.read_bytes() for path in sorted(root.glob("*.h5"))])
    assert len(files[0]) == 12 and files[0] == files[1] == files[2]


def test_no_more_files_are_read_ahead_than_there_are_threads(monkeypatch):
    monkeypatch.setattr(facts_module, "cores", lambda: 2)
    begun = []
    results = facts_module._by_threads(lambda i: begun.append(i) or 10 * i, range(9))
    assert next(results) == 0 and set(begun) <= {0, 1, 2}
    assert list(results) == [10 * i for i in range(1, 9)]
