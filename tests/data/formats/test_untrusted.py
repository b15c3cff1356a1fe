"""Hostile and odd sources: told or refused with exit code 3; never a hang, never much memory."""

import gzip
import resource
import subprocess
import sys
import threading
import warnings
import zipfile

import numpy as np
import pytest
from conftest import cli, typed
from hostile_sources import ODD, claimed, fits, image, make_source, npy, png, savez, zipped

from deeplense_batch.data.formats.untrusted import unwarned
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split, read_splits

SMALL = 1 << 20  # bytes, in place of what any image may take
LARGE = 3 << 20


BOMBS = {
    "x.npz": lambda: savez(image=np.zeros(LARGE, np.uint8)),
    "x.fits.gz": lambda: gzip.compress(fits(600)),
    "x.png": lambda: png(2000, 2000),
}


@pytest.fixture
def small(monkeypatch):
    """So that bombs of the tests are small too."""
    monkeypatch.setattr("deeplense_batch.data.formats.untrusted._SMALL", SMALL)


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.usefixtures("small")
def test_a_bomb_is_refused_and_a_flag_reads_it(tmp_path, name):
    root = make_source(tmp_path / "source", {f"train/a/{name}": BOMBS[name]()})
    with pytest.raises(ShardError, match=r"MB that unpack to .* MB, over 100 times as much"):
        pack(root, tmp_path / "out")
    with pytest.raises(ShardError, match=r"shape|constant|pixels") as told:
        pack(root, tmp_path / "out", max_expansion=2000)
    assert "unpack" not in str(told.value)  # it was read, and is no image of this set
    report = pack(root, tmp_path / "out", skip_bad=True)
    assert [one.id for one in report.skipped] == [f"train/a/{name}"]


@pytest.mark.usefixtures("small")
def test_a_bomb_in_a_zip_takes_no_memory(tmp_path):
    path = zipped(make_source(tmp_path / "source"), tmp_path / "x.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/a/9.npy", bytes(LARGE))
    with pytest.raises(ShardError, match=r"9.npy: .* MB that unpack to 3.15 MB"):
        pack(path, tmp_path / "out")
    report = pack(path, tmp_path / "out", skip_bad=True)
    assert report.splits[0].samples == 4


def test_many_files_of_a_zip_may_be_a_bomb_together(tmp_path, monkeypatch):
    monkeypatch.setattr("deeplense_batch.data.formats.untrusted._SMALL_SET", 1 << 20)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(20):
            archive.writestr(f"a/{i}.npy", bytes(1 << 20))
    with pytest.raises(ShardError, match=r"x.zip: .* MB that unpack to 21 MB"):
        pack(path, tmp_path / "out")


def test_a_hole_in_a_file_is_no_image(tmp_path):
    root = make_source(tmp_path / "source")
    with (root / "train/a/9.npy").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ShardError, match=r"9.npy: 0 MB that unpack to"):
        pack(root, tmp_path / "out")


@pytest.mark.parametrize("shape", ["(1000000, 1000000)", "(9, -9)", "(0, 5)", "(1,) * 99", "x"])
def test_an_npy_header_that_promises_too_much(tmp_path, shape):
    root = make_source(tmp_path / "source", {"train/a/9.npy": claimed(shape)})
    with pytest.raises(ShardError, match=r"1 of 5 images cannot be packed"):
        pack(root, tmp_path / "out")


@pytest.mark.parametrize(
    "shape", ["(1000000000, 8, 8)", "(1000000000000, 0, 0)", "(5,)", "()", "(-4, 8, 8)"]
)
def test_a_set_that_promises_too_much(tmp_path, shape):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", claimed(shape))
    with pytest.raises(ShardError, match=r"x.npz: 'images' .*shape|x.npz: .*cannot be read"):
        pack(path, tmp_path / "out")


@pytest.mark.parametrize("kind", sorted(set(ODD) - {"a folder"}))
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_no_image(tmp_path, kind, linked):
    root = make_source(tmp_path / "source")
    ODD[kind](tmp_path / "odd.npy" if linked else root / "train/a/9.npy")
    if linked:
        (root / "train/a/9.npy").symlink_to(tmp_path / "odd.npy")
    link = "is a link to .*, which (is not there|leads back)"
    why = {"No such file": link, "Too many levels": link}.get(kind, kind)
    with pytest.raises(ShardError, match=rf"9.npy: .*{why}"):
        pack(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert pack(root, tmp_path / "out", skip_bad=True).skipped[0].id == "train/a/9.npy"


@pytest.mark.parametrize("kind", sorted(set(ODD) - {"a folder"}))
@pytest.mark.parametrize("name", ["x", "x.zip", "x.npz"])
def test_what_is_no_file_is_no_source(tmp_path, kind, name, capsys):
    ODD[kind](tmp_path / name)
    code, _, errors = typed(capsys, "pack", tmp_path / name, tmp_path / "out")
    assert code == 3 and len(errors.splitlines()) == 1, errors


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "pickled"])
def test_a_damaged_npz_in_a_zip(tmp_path, damage, skip_bad, capsys):
    data = bytearray(savez(image=image(5)))
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flipped":
        data[70:90] = bytes(20)
    elif damage == "text":
        data = bytearray(b"no zip at all")
    else:
        data = bytearray(savez(image=np.array([{}], object)))
    root = make_source(tmp_path / "source", {"train/a/0.npz": bytes(data)})
    words = [zipped(root, tmp_path / "x.zip"), tmp_path / "out", *["--skip_bad"] * skip_bad]
    code, out, errors = typed(capsys, "pack", *words)
    assert code == (0 if skip_bad else 3) and "Traceback" not in errors
    assert "train/a/0.npz: " in (out if skip_bad else errors)


def test_a_damaged_member_of_a_zip_is_told(tmp_path, capsys):
    path = zipped(make_source(tmp_path / "source"), tmp_path / "x.zip")
    content = bytearray(path.read_bytes())
    at = content.find(b"train/a/0.npy") + 40
    content[at : at + 60] = bytes(60)
    path.write_bytes(content)
    code, _, errors = typed(capsys, "pack", path, tmp_path / "out")
    assert code == 3 and "train/a/0.npy: cannot be read" in errors


LOSSES = [
    (1e-17 * image(1, "f8"), "float16", r"would be off by \d+% of that in float16"),
    (1000 + 0.1 * image(1, "f8"), "float16", r"would be off by \d+% of that in float16"),
    (1e5 * image(1, "f8"), "float16", r"do not fit float16"),
    (1 + 1e-9 * image(1, "f8"), "float32", r"are all equal in float32"),
    (1e-50 * image(1, "f8"), "exact", r"are all equal in float32"),
    (np.where(np.eye(12) > 0, image(1, "f8"), 1e-9), "float16", r"132 of 144 pixels .* become 0"),
]


@pytest.mark.parametrize(("pixels", "dtype", "message"), LOSSES)
def test_a_type_that_loses_images_is_refused(tmp_path, pixels, dtype, message):
    root = make_source(tmp_path / "source", {"train/a/9.npy": npy(pixels)})
    with pytest.raises(ShardError, match=rf"train/a/9.npy: .*{message}"):
        pack(root, tmp_path / "out", dtype=dtype)


def test_what_a_type_loses_is_told_relative_to_the_values(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.stack([40 * image(i, "f8") for i in range(4)]))
    report = pack(tmp_path / "x.npz", tmp_path / "out", dtype="float16")
    packed = {int(i[6:-1]): p for i, p in zip(*ids_and_images(tmp_path / "out"), strict=True)}
    errors = [
        np.abs(packed[i][0] - 40 * image(i, "f8")).max() / np.ptp(40 * image(i, "f8"))
        for i in range(4)
    ]
    assert report.splits[0].error == pytest.approx(max(errors), rel=1e-12)
    assert f"off by {max(errors):.2g} of the range" in str(report)


def ids_and_images(root):
    split = open_split(root, "train")
    return split.ids(), split.images()


def test_two_packs_into_one_folder_at_the_same_time(tmp_path, capsys, monkeypatch):
    from deeplense_batch.data.packing import pack as pack_module

    root, out = make_source(tmp_path / "source"), tmp_path / "out"
    first_storage = pack_module.first_storage

    def another(*words):
        """While the first is at work, a second one comes, and a simulation."""
        second = cli("pack", root, out)
        assert second.returncode == 3 and "another pack is at work there" in second.stderr
        third = cli("simulate", "diffusion", out, "--images=2", "--size=32")
        assert third.returncode == 3 and "a pack is at work there" in third.stderr
        return first_storage(*words)

    monkeypatch.setattr(pack_module, "first_storage", another)
    pack(root, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "manifest.json", "train-00000-of-00001.h5",
    ]  # fmt: skip


def test_a_simulation_that_was_begun_is_not_packed_into(tmp_path):
    root, out = make_source(tmp_path / "source"), tmp_path / "out"
    (out / ".parts").mkdir(parents=True)
    (out / ".parts" / "plan.json").write_text("{}")
    with pytest.raises(ShardError, match="a simulation was begun here and is not complete"):
        pack(root, out)
    (out / ".parts" / "plan.json").unlink()  # what is left without it is nothing
    pack(root, out)
    assert not (out / ".parts").exists() and len(read_splits(out)["train"]) == 4


@pytest.mark.parametrize("verb", ["pack", "simulate"])
def test_a_full_disk_is_one_sentence(tmp_path, verb):
    """A limit of the system on the size of files stands in for it."""
    big = {f"train/a/{i}.npy": npy(np.random.default_rng(i).random((200, 200))) for i in range(9)}
    for name, content in big.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    words = ["pack", str(tmp_path / "source"), str(tmp_path / "out")]
    if verb == "simulate":
        words = ["simulate", "diffusion", str(tmp_path / "out"), "--images=60", "--size=100"]
    limit = resource.RLIMIT_FSIZE, (1 << 17, 1 << 17)
    found = subprocess.run(
        [sys.executable, "-m", "deeplense_batch", *words], capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(*limit), timeout=120,
    )  # fmt: skip
    assert found.returncode == 4, found
    last = found.stderr.splitlines()[-1]
    assert "File too large while it was written; make room" in last and str(tmp_path) in last
    assert "Traceback" not in found.stderr and "HDF5-DIAG" not in found.stderr
    assert not list((tmp_path).glob("out/**/*.h5"))


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/nowhere", "/nowhere, which is not there"),
        ("0.npy/9.npy", "0.npy/9.npy, which is not there"),
        ("9.npy", "9.npy, which leads back to it"),
    ],
)
def test_an_image_that_is_a_link_to_nothing_is_bad_and_said_to_be_one(tmp_path, target, why):
    root = make_source(tmp_path / "s", {"train/a/0.npy": npy(image(0))})
    (root / "train/a/9.npy").symlink_to(target)
    says = rf"1 of \d images .*:\n  train/a/9.npy: is a link to {why}\n"
    with pytest.raises(ShardError, match=says):
        pack(root, tmp_path / "out")
    report = pack(root, tmp_path / "out", skip_bad=True)
    assert [one.id for one in report.skipped] == ["train/a/9.npy"]


def test_warnings_come_back_when_the_last_of_several_threads_has_read():
    """The one that came first leaves first: the filters it found are not the last one's."""
    inside, leave = threading.Event(), threading.Event()

    def read() -> None:
        with unwarned:
            inside.set()
            assert leave.wait(60)

    with pytest.warns(UserWarning, match="heard") as heard:
        second = threading.Thread(target=read)
        with unwarned:
            second.start()
            assert inside.wait(60)
            warnings.warn("not heard", stacklevel=1)
        warnings.warn("nor this", stacklevel=1)
        leave.set()
        second.join()
        warnings.warn("heard", stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["heard"]
