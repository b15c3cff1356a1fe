"""Tars are read in place, and give what their folder gives."""

import io
import tarfile

import numpy as np
import pytest
from made_sources import fill, listing

from deeplense_batch.data.listing.tars import is_tar, open_tar
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError

NAMES = ("train/no/1.npy", "train/vort/1.npy", "val/no/2.npy", "val/vort/2.npy")


def tarred(folder, path, mode="w"):
    with tarfile.open(path, mode) as archive:
        archive.add(folder, ".")
    return path


def test_a_tar_packs_to_the_shards_of_its_folder(tmp_path):
    folder = fill(tmp_path / "set", *NAMES)
    path = tarred(folder, tmp_path / "set.tar")
    assert is_tar(path) and listing(path) == listing(folder)
    reports = [pack(root, tmp_path / f"{root.name}-out") for root in (folder, path)]
    assert reports[0].digest == reports[1].digest


@pytest.mark.parametrize(("mode", "kind"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path, mode, kind):
    path = tarred(fill(tmp_path / "set", *NAMES), tmp_path / "set.tar", mode)
    with pytest.raises(ShardError, match=f"is a tar compressed by {kind}, .* unpack it"):
        listing(path)


def test_names_in_a_tar_are_only_names(tmp_path):
    data = io.BytesIO()
    np.save(data, np.eye(4))
    path = tmp_path / "a" / "evil.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for name in ("../../no/1.npy", "/vort/1.npy"):
            info = tarfile.TarInfo(name)
            info.size = len(data.getvalue())
            archive.addfile(info, io.BytesIO(data.getvalue()))
    assert listing(path)[2] == {"train": [("no/1.npy", 0), ("vort/1.npy", 1)]}
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_images_that_are_links_are_refused(tmp_path, kind):
    path = tarred(fill(tmp_path / "set", *NAMES), tmp_path / "set.tar")
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("train/no/9.npy")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ShardError, match="1 image in it is links, devices or files with holes"):
        listing(path)


def test_a_damaged_tar(tmp_path):
    path = tarred(fill(tmp_path / "set", *NAMES), tmp_path / "set.tar")
    whole = path.read_bytes()
    path.write_bytes(b"no tar at all" * 100)
    with pytest.raises(ShardError, match="is a damaged or incomplete tar"):
        listing(path)
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        last = max(member.offset_data for member in archive.getmembers() if member.isreg())
    path.write_bytes(whole[: last + 50])
    with pytest.raises(ShardError, match=r"damaged or incomplete|cut short"):
        pack(path, tmp_path / "out")


def test_a_name_twice_is_refused(tmp_path):
    path = tarred(fill(tmp_path / "set", *NAMES), tmp_path / "set.tar")
    with tarfile.open(path, "a") as archive:
        archive.add(tmp_path / "set" / NAMES[0], f"./{NAMES[0]}")
    with (
        pytest.raises(ShardError, match="1 of its files has the name of another"),
        open_tar(path),
    ):
        pass
