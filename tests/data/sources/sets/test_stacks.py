"""Arrays of many images are mapped, whatever file they are in; what is damaged is refused."""

import io
import tracemalloc

import h5py
import numpy as np
import pytest

from deeplense_batch.data.formats.untrusted import ImageError
from deeplense_batch.data.sources.sets import stacks
from deeplense_batch.data.sources.sets.stacks import open_stack

IMAGES = np.random.default_rng(0).random((20, 3, 8, 8)).astype("f4")
LABELS = np.arange(20) % 2


def npy(path):
    np.save(path, IMAGES)


def fortran(path):
    np.save(path, np.asfortranarray(IMAGES))


def npz(path):
    np.savez(path, labels=LABELS, images=IMAGES)


def packed_npz(path):
    np.savez_compressed(path, labels=LABELS, images=IMAGES)


def hdf5(path, **options):
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("images", data=IMAGES, **options)
        file["labels"] = LABELS


def chunked(path):
    hdf5(path, chunks=(7, *IMAGES.shape[1:-2], 4, 8), compression="gzip")


KINDS = {"npy": npy, "f.npy": fortran, "npz": npz, "z.npz": packed_npz, "h5": hdf5,
         "c.hdf5": chunked}  # fmt: skip


def opened(path, in_memory=False):
    return open_stack(path.name, io.BytesIO(path.read_bytes()) if in_memory else path.open("rb"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_memory", [False, True])
def test_images_are_mapped_and_stay_when_the_file_is_closed(
    tmp_path, monkeypatch, kind, in_memory
):
    monkeypatch.setattr(stacks, "_BLOCK", 3000)  # several blocks
    path = tmp_path / f"x.{kind}"
    KINDS[kind](path)
    with opened(path, in_memory) as stack:
        assert stack.forms["images"] == (IMAGES.shape, IMAGES.dtype)
        images = stack.mapped("images")
        if "labels" in stack.forms:
            assert (stack.read("labels") == LABELS).all()
    assert (images == IMAGES).all() and (images[3] == IMAGES[3]).all()


@pytest.mark.parametrize("kind", ["npy", "npz", "z.npz", "h5", "c.hdf5"])
def test_a_large_array_takes_little_memory(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(stacks, "_BLOCK", 1 << 16)
    monkeypatch.setitem(globals(), "IMAGES", np.zeros((400, 64, 64), "f4") + np.arange(64))
    path = tmp_path / f"x.{kind}"
    KINDS[kind](path)
    tracemalloc.start()
    with opened(path) as stack:
        total = sum(float(row.sum()) for row in stack.mapped("images"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == IMAGES.sum() and peak < IMAGES.nbytes / 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_file_is_told_in_one_sentence(tmp_path, kind, damage):
    path = tmp_path / f"x.{kind}"
    KINDS[kind](path)
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "text": b"no array", "empty": b""}[damage])
    with pytest.raises((ImageError, OSError)), opened(path) as stack:
        stack.mapped("images")


def test_a_flipped_bit_in_an_npz_is_found(tmp_path):
    path = tmp_path / "x.npz"
    npz(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with opened(path) as stack, pytest.raises(Exception, match="Bad CRC-32"):
        stack.mapped("images")


def test_hdf5_never_leads_to_other_files(tmp_path):
    np.save(tmp_path / "secret", IMAGES)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = h5py.ExternalLink("other.h5", "images")
        file["labels"] = LABELS
    with opened(tmp_path / "x.h5") as stack:
        assert list(stack.forms) == ["labels"]
    with h5py.File(tmp_path / "y.h5", "w") as file:
        outside = [(str(tmp_path / "secret.npy"), 0, IMAGES.nbytes)]
        file.create_dataset("images", IMAGES.shape, "f4", external=outside)
    with pytest.raises(ImageError, match="lies in other files"), opened(tmp_path / "y.h5"):
        pass


def test_hdf5_that_promises_too_much_is_a_bomb(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", (10**6, 64, 64), "f4", chunks=(1, 64, 64))
    with opened(tmp_path / "x.h5") as stack, pytest.raises(ImageError, match="a bomb"):
        stack.mapped("images")


def test_arrays_in_groups_are_known_by_the_last_part_of_their_path(tmp_path):
    """But by all of it, where two have the same."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i, path in enumerate(("z", "data/images", "a/ra", "b/ra", "meta/z", "meta/dec")):
            file[path] = np.full(3, i)
    with (tmp_path / "a.h5").open("rb") as file, open_stack("a.h5", file) as stack:
        found = {name: int(stack.read(name)[0]) for name in stack.forms}
        assert found == {"z": 0, "images": 1, "a/ra": 2, "b/ra": 3, "meta/z": 4, "dec": 5}
        assert (stack.mapped("images") == 1).all()
        assert stack.paths == {"images": "data/images", "dec": "meta/dec"}
