"""Damaged and foreign shards: whatever stands in a file, it is a sentence with exit code 3."""

import os
import shutil
import socket

import h5py
import numpy as np
import pytest
from conftest import typed, write_split
from format_1 import to_format_1
from fuzz_shards import fuzz

from deeplense_batch.data import header
from deeplense_batch.data.digest import verify
from deeplense_batch.data.header import read_head
from deeplense_batch.data.shards import ShardError, data_digest, open_split, read_splits

ATTRIBUTES = (
    *("format", "split", "shard", "shards", "samples", "classes", "class_counts", "dtype", "mean"),
    *("sd", "pixel_scale", "source", "seed", "digest", "digests", "content"),
)
NAME = "train-00001-of-00002.h5"


def generate_dataset(root):
    write_split(root, "train", 12, seed=1, shard_size=7)
    return root


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The same images in format 2 and in format 1."""
    root = tmp_path_factory.mktemp("sets")
    generate_dataset(root / "2")
    generate_dataset(root / "1")
    to_format_1(root / "1")
    return root


@pytest.fixture(params=["1", "2"])
def damaged(sets, tmp_path, request):
    """A copy of a set in either format, to be damaged."""
    return shutil.copytree(sets / request.param, tmp_path / "set")


def replace(file, name, values, **options):
    del file[name]
    file.create_dataset(name, data=values, **options)


def link(file, name, link_):
    del file[name]
    file[name] = link_


DAMAGES = {
    **{
        f"no {name}": lambda f, name=name: f.attrs.__delitem__(name)
        for name in ATTRIBUTES
    },
    "text for numbers": lambda f: f.attrs.__setitem__("mean", "x"),
    "number for text": lambda f: f.attrs.__setitem__("split", 3),
    "number for texts": lambda f: f.attrs.__setitem__("classes", 3),
    "numbers for texts": lambda f: f.attrs.__setitem__("digests", [1, 2]),
    "text for a number": lambda f: f.attrs.__setitem__("pixel_scale", "0.05 arcsec"),
    "a fraction": lambda f: f.attrs.__setitem__("seed", 0.5),
    "a matrix": lambda f: f.attrs.__setitem__("class_counts", np.ones((2, 2), int)),
    "no value": lambda f: f.attrs.__setitem__("mean", h5py.Empty("f8")),
    "reference": lambda f: f.attrs.__setitem__("content", f["images"].ref),
    "unknown type": lambda f: f.attrs.__setitem__("dtype", "zz"),
    "type of no numbers": lambda f: f.attrs.__setitem__("dtype", "datetime64[s]"),
    "future format": lambda f: f.attrs.__setitem__("format", 99),
    "short mean": lambda f: f.attrs.__setitem__("mean", [1.0, 2.0]),
    "too few classes": lambda f: f.attrs.__setitem__("class_counts", [1, 2]),
    "no targets": lambda f: f.__delitem__("targets"),
    "no images": lambda f: f.__delitem__("images"),
    "no ids": lambda f: f.__delitem__("ids"),
    "no scale": lambda f: f.__delitem__("scale"),
    "group for array": lambda f: link(f, "targets", f.create_group("g")),
    "array for group": lambda f: f.create_dataset("truth", data=[1.0]),
    "soft link": lambda f: link(f, "targets", h5py.SoftLink("/ids")),
    "broken link": lambda f: link(f, "targets", h5py.SoftLink("/nowhere")),
    "external link": lambda f: link(f, "images", h5py.ExternalLink("other.h5", "/images")),
    "fewer targets": lambda f: replace(f, "targets", f["targets"][:-1]),
    "targets of text": lambda f: replace(f, "targets", ["a"] * 5),
    "targets of no class": lambda f: replace(f, "targets", f["targets"][:] + 7),
    "ids of numbers": lambda f: replace(f, "ids", np.arange(5)),
    "images of three axes": lambda f: replace(f, "images", f["images"][:, 0]),
    "complex images": lambda f: replace(f, "images", f["images"][:].astype(complex)),
    "bytes with a scale": lambda f: replace(f, "images", f["images"][:].astype("u1")),
    "signed bytes": lambda f: replace(f, "images", f["images"][:].astype("i1")),
    "scale of zeros": lambda f: replace(f, "scale", f["scale"][:] * 0),
    "scale of another shape": lambda f: replace(f, "scale", np.ones((5, 2))),
    "huge, of nothing": lambda f: (
        f.__delitem__("images"),
        f.create_dataset("images", (1 << 40, 1, 24, 24), np.uint16, chunks=(1, 1, 24, 24)),
    ),
    "external storage": lambda f: (
        f.__delitem__("images"),
        f.create_dataset("images", (5, 1, 24, 24), np.uint16, external=[("raw", 0, 5760)]),
    ),
    "unknown filter": lambda f: (
        f.__delitem__("images"),
        f.create_dataset(
            "images", (5, 1, 24, 24), np.uint16, chunks=(1, 1, 24, 24), compression=299,
            allow_unknown_filter=True,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_lost_or_odd_in_a_shard_is_a_sentence(damaged, damage, capsys):
    with h5py.File(damaged / NAME, "r+") as file:
        DAMAGES[damage](file)
    code, _, errors = typed(capsys, "unpack", damaged, damaged.parent / "out")
    assert code == 3 and len(errors.splitlines()) == 1, errors
    assert str(damaged) in errors and not (damaged.parent / "out").exists()
    with pytest.raises(ShardError):
        verify(read_splits(damaged)["train"])


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # such an address has a hundred letters at most


FILES = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "text": lambda path: path.write_text("id,label\n1,2\n"),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "cut in its head": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "longer": lambda path: path.write_bytes(path.read_bytes() * 2),
    "another's": lambda path: shutil.copy(path.with_name("train-00000-of-00002.h5"), path),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "socket": lambda path: (path.unlink(), a_socket(path)),
    "device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "loop": lambda path: (path.unlink(), path.symlink_to(path)),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_shard_is_a_sentence(damaged, kind, capsys, monkeypatch):
    monkeypatch.chdir(damaged)
    path = damaged / NAME
    FILES[kind](path)
    if kind == "longer" and h5py.is_hdf5(path) and read_head_or_none(path) is None:
        return  # of format 1, HDF5 reads what it knows of
    code, _, errors = typed(capsys, "unpack", damaged, damaged.parent / "out")
    assert code == 3 and len(errors.splitlines()) == 1 and str(damaged) in errors, errors


def read_head_or_none(path):
    try:
        return read_head(path)
    except ShardError:
        return "damaged"


def test_bytes_are_checked_before_hdf5_opens_the_file(sets, tmp_path, monkeypatch):
    root = shutil.copytree(sets / "2", tmp_path / "set")
    path, head = root / NAME, read_head(root / NAME)
    content = bytearray(path.read_bytes())
    monkeypatch.setattr(h5py, "File", lambda *_, **__: pytest.fail("opened"))
    for place in (head.head, head.head + 100, len(content) - 1):
        content[place] ^= 0x10
        path.write_bytes(content)
        with pytest.raises(
            ShardError, match=rf"{NAME}: is damaged .* packed as {head.bytes[:12]}"
        ):
            open_split(root, "train[7:]").images()
        content[place] ^= 0x10
    for place in (0, 40, 120):
        content[place] ^= 0x10
        path.write_bytes(content)
        with pytest.raises(ShardError, match="its head is damaged"):
            data_digest(root)
        content[place] ^= 0x10


def test_a_file_is_hashed_once_and_again_when_it_has_changed(sets, tmp_path, monkeypatch):
    root = shutil.copytree(sets / "2", tmp_path / "set")
    path, hashed = root / NAME, []
    original = header._digest
    monkeypatch.setattr(header, "_digest", lambda *a: hashed.append(a) or original(*a))
    data_digest(root)
    assert len(read_splits(root)["train"]) == 12 and not hashed  # a set is planned with heads
    split = open_split(root, "train[7:]")
    split.images()
    assert hashed  # so young a file may change and keep its time
    monkeypatch.setattr(header, "_SETTLED_NS", -(10**18))
    hashed.clear()
    for _ in range(3):
        split.images()
    assert len(hashed) == 1
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match="is damaged"):
        split.images()


def test_format_1_is_read_as_before(sets):
    digests = [data_digest(sets / one) for one in ("1", "2")]
    assert digests[0] != digests[1]
    old, new = (open_split(sets / one, "train") for one in ("1", "2"))
    assert old.images().tobytes() == new.images().tobytes()
    assert old.ids() == new.ids() and (old.targets() == new.targets()).all()
    same = {"files", "digests", "content", "pixel_scale"}
    for name in set(vars(old.info)) - same:
        assert getattr(old.info, name) == getattr(new.info, name), name
    verify(old.info)
    verify(new.info)


def test_shards_damaged_at_random(tmp_path):
    outcomes, wrong = fuzz(60, 1, tmp_path)
    assert not wrong and outcomes["refused"] > 40
