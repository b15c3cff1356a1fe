"""Files by name, in a folder or in a zip: names are cleaned, and what cannot be read is told."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import PATIENCE, reachable_folder
from hostile_sources import make_source
from made_sources import SET, a_set, archive, fill, folder, listing, noise, told, zipped

from deeplense_batch.data.listing.archive import alike, open_tree, path_parts, stem
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError


@pytest.mark.parametrize(
    "written",
    [
        lambda name: name.replace("/", "\\"),
        lambda name: f"./{name}",
        lambda name: f"/{name}",
        lambda name: f"../{name}",
        lambda name: name.replace("/", "//"),
        lambda name: f"C:\\{name}".replace("/", "\\"),
        lambda name: f"other/../{name}",
    ],
)
def test_names_in_a_zip_are_cleaned(tmp_path, written):
    plain = pack(archive(tmp_path / "plain.zip", *SET), tmp_path / "plain")
    report = pack(archive(tmp_path / "odd.zip", *map(written, SET)), tmp_path / "odd")
    assert report.layout == "{split}/{class}/" and report.classes == ("no", "vort")
    assert report.digest == plain.digest


def test_a_folder_unpacked_from_a_zip_of_windows_is_read_as_folders(tmp_path):
    fill(tmp_path / "set", *(name.replace("/", "\\") for name in SET))
    report = pack(tmp_path / "set", tmp_path / "out")
    assert [split.class_counts for split in report.splits] == [{"no": 2, "vort": 2}] * 2


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", ["a/1.npy", "./a/1.npy", "a//1.npy", "a\\1.npy", "b/../a/1.npy"])
def test_two_files_of_one_name_are_refused(tmp_path, again):
    source = archive(tmp_path / "set.zip", "a/1.npy", "b/1.npy", again)
    with pytest.raises(ShardError, match=r"1 of its files has the name of another, such as a/1"):
        pack(source, tmp_path / "out")


def test_a_method_that_cannot_be_read_is_told_once_with_what_to_do(tmp_path):
    source = archive(tmp_path / "set.zip", *SET)
    data = bytearray(source.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = data.find(magic)
        while at >= 0:
            data[at + offset] = 9
            at = data.find(magic, at + 1)
    source.write_bytes(data)
    says = r"compressed by Deflate64, .* \(method 9\), such as data/.*; unpack it \(7z x, unzip\)"
    with pytest.raises(ShardError, match=says) as caught:
        pack(source, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_folder_behind_two_names_is_read_once_and_told(tmp_path):
    root = fill(tmp_path / "set", "train/a/1.npy", "train/b/1.npy")
    (root / "val").symlink_to("train")
    assert "WARNING: folder val is a link to one that is read already" in told(root)


def test_names_in_a_zip_are_only_names(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    archive = tmp_path / "a" / "b" / "evil.zip"
    buffer = io.BytesIO()
    np.save(buffer, noise())
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../no/1.npy", buffer.getvalue())
        file.writestr("../../vort/1.npy", buffer.getvalue())
    assert listing(archive)[2] == {"train": [("no/1.npy", 0), ("vort/1.npy", 1)]}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]


def test_links_are_followed_once(tmp_path):
    fill(tmp_path / "real", "no/1.npy", "vort/1.npy")
    root = tmp_path / "root"
    (root / "train").mkdir(parents=True)
    for class_ in ("no", "vort"):
        (root / "train" / class_).symlink_to(tmp_path / "real" / class_)
    (root / "train" / "no" / "back").symlink_to(root)
    assert listing(root)[2] == {"train": [("train/no/1.npy", 0), ("train/vort/1.npy", 1)]}


def test_a_damaged_zip(tmp_path):
    archive = zipped(fill(tmp_path / "folder", "no/1.npy", "vort/1.npy"), tmp_path / "set.zip")
    whole = archive.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for name, data in (
        ("cut.zip", whole[:-30]),
        ("begun.download", whole[:100]),
        ("other.zip", b"no zip at all"),
        ("spoilt.zip", whole[:directory] + b"xx" + whole[directory + 2 :]),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ShardError, match=f"{name}: is a damaged or incomplete zip; copy or"):
            listing(tmp_path / name)


def test_an_encrypted_zip_is_refused(tmp_path):
    archive = zipped(fill(tmp_path / "folder", "1.npy"), tmp_path / "set.zip")
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag of the central directory
    archive.write_bytes(data)
    with pytest.raises(ShardError, match="is encrypted"), open_tree(archive):
        pass


@pytest.mark.parametrize("name", ["a\nb.npy", "a\x1b[31m.npy", "a\tb.npy", "a\x85b.npy"])
def test_a_name_with_a_control_character_is_refused_in_one_line(tmp_path, name):
    np.save(folder(tmp_path / "set") / "train" / "no" / name, noise(99))
    with pytest.raises(ShardError, match="control character") as error:
        pack(tmp_path / "set", tmp_path / "out")
    assert str(error.value).isprintable()


def test_an_empty_zip_and_a_part_of_one_are_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(ShardError, match="is empty"):
        pack(tmp_path / "empty.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        for i in range(4):
            archive.writestr(f"no/{i}.npy", noise(i).tobytes())
    data = (tmp_path / "whole.zip").read_bytes()
    (tmp_path / "last.zip").write_bytes(data[len(data) // 2 :])
    with pytest.raises(ShardError, match="all parts as one file"):
        pack(tmp_path / "last.zip", tmp_path / "out")


@pytest.mark.parametrize("name", ["", "train/a", "train/a/0.npy"])
def test_what_may_not_be_read_is_told(name):
    """As root may read everything, a child gives up its rights first."""
    code = (
        "import os, sys\n"
        "from deeplense_batch.data.sources.sources import open_source\n"
        "from pathlib import Path\n"
        "if os.getuid() == 0: os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "try:\n"
        "    with open_source(Path(sys.argv[1])) as source:\n"
        "        [source.read(s) for s in source.splits['train']]\n"
        "except ValueError as error: print(error)\n"
        "except PermissionError as error: print(error)\n"
    )
    with reachable_folder() as above:
        root = make_source(above / "source")
        (root / name).chmod(0)
        words = [sys.executable, "-c", code, root]
        answer = subprocess.run(words, capture_output=True, text=True, cwd="/", timeout=PATIENCE)
        (root / name).chmod(0o755)
    said = f"{root / name}: cannot be read (Permission denied)"
    if name.endswith(".npy"):
        said = f"Permission denied: '{root / name}'"
    assert said in answer.stdout and not answer.stderr, answer


def test_a_hidden_folder_that_may_not_be_read_is_nothing(tmp_path):
    from deeplense_batch.data.listing import archive

    root = make_source(tmp_path / "source", {".Trash/1/9.npy": b"x"})
    walk = os.walk

    def refused(top, **options):
        options["onerror"](PermissionError(13, "Permission denied", f"{top}/.Trash/1"))
        yield from walk(top, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive.os, "walk", refused)
        assert pack(root, tmp_path / "out").splits[0].samples == 4


@pytest.mark.parametrize(
    ("name", "parts", "bare"),
    [
        ("a/b.fits", ("a", "b.fits"), "a/b"),
        ("a//./b.fits.GZ", ("a", "b.fits.GZ"), "a/b"),
        ("7", ("7",), "7"),
        ("a.b/7.npy", ("a.b", "7.npy"), "a.b/7"),
    ],
)
def test_a_name_has_parts_and_a_stem(name, parts, bare):
    assert path_parts(name) == parts and stem(name) == bare


def test_names_that_look_the_same_are_paired_with_the_first():
    names = ["lens", "Lens", "other", "lens ", "e\u0301", "\u00e9", "lens"]
    assert alike(names) == [("lens", "Lens"), ("lens", "lens "), ("e\u0301", "\u00e9")]


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_folder_and_its_zip_are_the_same_tree(tmp_path, form):
    root = fill(tmp_path / "set", "a/1.npy", "b/c/2.npy", ".git/3.npy")
    (root / "a" / "README.txt").write_text("about")
    source = root if form == "folder" else zipped(root, tmp_path / "set.zip", "./")
    with open_tree(source) as tree:
        assert sorted(tree.names) == ["a/1.npy", "a/README.txt", "b/c/2.npy"]
        assert tree.hidden == (".git/3.npy",) and tree.repeated == ()
        assert tree.read("a/README.txt") == b"about"
        with tree.open("b/c/2.npy") as file:
            assert (np.load(file) == noise(1)).all()
        assert tree.path("a/1.npy") == (root / "a/1.npy" if form == "folder" else source)
        tree.check(tree.names)


def test_an_npz_is_a_tree_of_itself(tmp_path):
    path = a_set(tmp_path / "set.npz")
    with open_tree(path) as tree:
        assert tree.names == ("set.npz",) and tree.path("set.npz") == path
