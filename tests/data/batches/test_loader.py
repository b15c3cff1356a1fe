"""Wherever the images are kept, the batches are the same; and little else is kept."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, PATIENCE, REPOSITORY, make_images, readers

from deeplense_batch.core.job import Augment
from deeplense_batch.data.batches import reader
from deeplense_batch.data.batches.loader import Loader, side_stream
from deeplense_batch.data.batches.sampling import order, share_of, shuffled
from deeplense_batch.data.pixels.photons import observed
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.writer import ShardWriter

CPU = torch.device("cpu")
KINDS = ("device", "host", "off")
ALL = Augment(dihedral=True, degrees=20, translate=0.1, blur=1.0, noise=0.1)


def write(
    root: Path, images: np.ndarray, *, shard_size: int = 16, compression: str | None = None,
    levels: float = 300.0, sky: float | None = None,
) -> Path:  # fmt: skip
    """Pack images, (N, C, H, W) uint8, uint16 or floats, as split ``train``."""
    counts = images.dtype == np.uint16
    with ShardWriter(
        root, split="train", shape=images.shape[1:], stored=images.dtype,
        dtype=np.dtype(np.float64), classes=CLASSES, source="tests", seed=0,
        shard_size=shard_size, compression=compression, sky=sky,
    ) as writer:  # fmt: skip
        writer.append(
            images,
            targets=np.arange(len(images)) % 3,
            ids=[str(i) for i in range(len(images))],
            scale=np.full(images.shape[:2], levels) if counts else None,
        )
        writer.publish()
    return root


@pytest.fixture(params=[None, "gzip"], ids=["contiguous", "gzip"])
def root(request, tmp_path) -> Path:
    """72 images of two channels in 5 shards."""
    images = np.concatenate([make_images(72, seed)[0] for seed in (1, 2)], 1)
    return write(tmp_path / "set", images, compression=request.param)


def load(root: Path, resident: str, slice_: str = "train", crop: int | None = None) -> Loader:
    transform = Transform(crop, 30, "asinh")
    return Loader(open_split(root, slice_), transform=transform, device=CPU, resident=resident)


def open_files(root: Path) -> int:
    """How many files below `root` this process holds open."""
    there = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the reader has closed it meanwhile
            there.append(os.path.realpath(descriptor))
    return sum(file.startswith(str(root)) for file in there)


@pytest.mark.parametrize(
    ("slice_", "crop"),
    [("train", None), ("train[7:61]", 15), ("train[folds 1,2,4,5/5]", 15)],
)
def test_all_kinds_give_the_same_bits(root, slice_, crop):
    places = [*order(shuffled(54, seed=1, epoch=0), 13), np.array([3, 3, 4, 5, 40, 2])]
    given = []
    for kind in KINDS:
        loader = load(root, kind, slice_, crop)
        assert loader.resident == kind
        loader.transform = loader.measured()
        given.append(list(loader.batches(places, ALL, seed=1, epoch=2)))
    split, transform = open_split(root, slice_), loader.transform
    plain = Transform(None, 30, "asinh", transform.mean, transform.sd)
    values = torch.from_numpy(split.images()).float()
    values = values if crop is None else values[:, :, 4:19, 4:19]
    for first, *others, place in zip(*given, places, strict=True):
        for other in others:
            assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
        assert first[2].tolist() == place.tolist()
        assert first[1].tolist() == split.targets()[place].tolist()
    for kind in KINDS:
        images, *_ = next(load_like(root, kind, slice_, crop, transform).batches([places[0]]))
        assert torch.allclose(images, plain(values[places[0]]), atol=1e-5)


def load_like(root: Path, kind: str, slice_: str, crop: int | None, transform) -> Loader:
    loader = load(root, kind, slice_, crop)
    loader.transform = transform
    return loader


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_streamed_as_they_are(tmp_path, dtype):
    images = np.random.default_rng(0).normal(size=(20, 1, 16, 16)).astype(dtype)
    write(tmp_path, images)
    for kind in KINDS:
        loader = Loader(
            open_split(tmp_path, "train"), transform=Transform(None, None, "linear"),
            device=CPU, resident=kind,
        )  # fmt: skip
        given, *_ = next(loader.batches([np.array([19, 0, 1])]))
        assert torch.equal(given, torch.from_numpy(images[[19, 0, 1]]).float())


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
        ]),
    ],
)  # fmt: skip
def test_pictures_kept_as_bytes_give_the_bits_that_counts_give(tmp_path, compression, device):
    pictures = np.random.default_rng(0).integers(0, 256, (40, 3, 12, 12)).astype(np.uint8)
    pictures[0, :, 0, :2] = 0, 255
    places = [*order(shuffled(40, seed=1, epoch=0), 13), np.array([3, 3, 4, 39, 2])]
    given = {}
    for images in (pictures, pictures.astype(np.uint16)):
        root = write(tmp_path / str(images.dtype), images, compression=compression, levels=1.0)
        split = open_split(root, "train")
        for kind in KINDS:
            loader = Loader(
                split, transform=Transform(10, 14, "asinh"), device=torch.device(device),
                resident=kind,
            )  # fmt: skip
            loader.transform = loader.measured()
            plain = [values.clone() for values in loader.decoded(places)]
            seen = [values.clone() for values, *_ in loader.batches(places, ALL, seed=1, epoch=2)]
            given[images.dtype.name, kind] = plain + seen
            assert plain[0].dtype == seen[0].dtype == torch.float32
            assert (plain[0].cpu().numpy() == pictures[places[0]][:, :, 1:11, 1:11]).all()
    first, *others = given.values()
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    one, other = (open_split(tmp_path / name, "train").info for name in ("uint8", "uint16"))
    assert (one.stored, one.mean, one.sd) == (np.uint8, other.mean, other.sd)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world", [2, 8])
def test_the_samples_of_all_ranks_are_those_of_one(root, kind, world):
    steps = order(shuffled(72, seed=0, epoch=4), 24)
    loader = load(root, kind)
    whole = [images for images, *_ in loader.batches(steps, ALL, seed=0, epoch=4)]
    for rank in range(world):
        mine = [share_of(step, rank=rank, world=world) for step in steps]
        own = loader.batches(mine[1:], ALL, seed=0, epoch=4)  # resumed after the first step
        for (images, *_), expected in zip(own, whole[1:], strict=True):
            assert torch.equal(images, expected[rank::world])


@pytest.mark.parametrize("kind", ["host", "off"])
def test_the_thread_and_the_files_end_with_the_loop(root, kind):
    loader, kept = load(root, kind), []

    def train() -> None:
        for _ in loader.batches([np.arange(8)] * 5):
            kept.append((len(readers()), open_files(root)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # which holds the frame of the loop
        train()
    assert kept == [(1, kept[0][1])] and (kept[0][1] > 0) == (kind == "off")
    assert not readers() and not open_files(root)
    assert list(loader.batches([])) == []


@pytest.mark.parametrize("harm", ["gone", "short", "not HDF5"])
def test_what_fails_in_the_thread_is_raised_in_the_loop(root, harm):
    loader = load(root, "off")
    path = sorted(root.glob("*.h5"))[2]  # samples 32 to 47
    if harm == "gone":
        path.unlink()
    elif harm == "short":
        os.truncate(path, 2000)
    else:
        path.write_bytes(b"")
    places, seen = [np.arange(0, 8), np.arange(8, 16), np.arange(28, 36)], 0
    with pytest.raises(ShardError, match=path.name):
        for _ in loader.batches(places):
            seen += 1
    assert 1 <= seen <= 2 and not readers()  # the files of a batch are opened one ahead


def test_few_files_are_open_at_once(root, monkeypatch):
    monkeypatch.setattr(reader, "_MOST_OPEN", 2)
    loader, most = load(root, "off"), 0
    places = order(shuffled(72, seed=0, epoch=0), 9)
    expected = [images for images, *_ in load(root, "device").batches(places)]
    for (images, *_), same in zip(loader.batches(places), expected, strict=True):
        most = max(most, open_files(root))
        assert torch.equal(images, same)
    assert 0 < most <= 2


def test_a_loader_is_good_on_both_sides_of_a_fork(root):
    loader = load(root, "off")
    places = order(shuffled(72, seed=0, epoch=0), 8)
    expected = [float(images.sum()) for images, *_ in load(root, "device").batches(places)]
    ours = loader.batches(places)
    got = [float(next(ours)[0].sum())]  # its files are open now
    context = multiprocessing.get_context("fork")
    theirs, end = context.Pipe(duplex=False)

    def child() -> None:
        end.send([float(images.sum()) for images, *_ in loader.batches(places)])

    process = context.Process(target=child)
    process.start()
    got += [float(images.sum()) for images, *_ in ours]
    assert got == expected
    assert theirs.poll(60) and theirs.recv() == expected
    process.join()


_CHILD = """
import resource, sys
import numpy as np, torch
from pathlib import Path
from deeplense_batch.data.batches.loader import Loader, side_stream
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import open_split
from deeplense_batch.core.job import Augment

torch.set_num_threads(1)
root, small, kind = sys.argv[1:4]
memory = lambda field: next(
    int(line.split()[1]) / 1024
    for line in Path("/proc/self/status").read_text().splitlines()
    if line.startswith(field)
)

def epoch(root, kind):
    loader = Loader(
        open_split(root, "train"), transform=Transform(None, None, "linear"),
        device=torch.device("cpu"), resident=kind,
    )
    loader.transform = loader.measured()
    places = np.random.default_rng(0).permutation(len(loader))
    total = 0
    for images, *_ in loader.batches(np.array_split(places, len(places) // 64)):
        total += len(images)
    assert total == len(loader)
    return loader.resident

for _ in range(5):
    epoch(small, kind.replace("auto", "off"))  # what torch and a batch take, whatever the set
if kind == "auto":
    room = (int(memory("VmSize")) + 250) << 20
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
before = memory("VmHWM")
kept = epoch(root, kind)
print(kept, memory("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> tuple[Path, Path]:
    """A set of 300 MB in one shard, the worst case, and one of 13 MB; 150 x 150 counts."""
    folder = tmp_path_factory.mktemp("large")
    pixels = np.random.default_rng(0).integers(0, 300, (300, 1, 150, 150)).astype(np.uint16)
    write(folder / "small", pixels, shard_size=10_000)
    with ShardWriter(
        folder / "large", split="train", shape=(1, 150, 150), stored=np.dtype(np.uint16),
        dtype=np.dtype(np.float64), classes=CLASSES, source="tests", seed=0, shard_size=6900,
    ) as writer:  # fmt: skip
        for i in range(23):
            writer.append(
                pixels, targets=np.arange(300) % 3, ids=[f"{i}/{n}" for n in range(300)],
                scale=np.full((300, 1), 300.0), digests=[bytes(32)] * 300,
            )  # fmt: skip
        writer.publish()
    return folder / "large", folder / "small"


@pytest.mark.parametrize(
    ("asked", "kept", "most"),
    [("device", "device", 1.15 * 296), ("host", "host", 1.15 * 296), ("off", "off", 0.15 * 296),
     ("auto", "off", 0.15 * 296)],
)  # fmt: skip
def test_memory_is_that_of_the_stored_images_or_of_a_batch(large, asked, kept, most):
    # Holes that the allocator keeps between freed blocks come to 50 MB by chance: give all back.
    malloc = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *map(str, large), asked],
        capture_output=True, text=True, timeout=PATIENCE,
        env=os.environ | malloc | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    was, grown = done.stdout.split()
    assert was == kept
    assert float(grown) < most, f"{grown} MB more than before"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_all_kinds_give_the_same_bits_on_a_gpu(root):
    places = order(shuffled(72, seed=1, epoch=0), 8) * 20
    device, given = torch.device("cuda", 0), []
    for kind in KINDS:
        transform = Transform(15, 30, "asinh")
        loader = Loader(
            open_split(root, "train"), transform=transform, device=device, resident=kind
        )
        loader.transform = loader.measured()
        given.append([i.clone() for i, *_ in loader.batches(places, ALL, seed=1, epoch=2)])
        assert given[-1][0].device == device
    for first, *others in zip(*given, strict=True):
        assert all(torch.equal(first, other) for other in others)


def test_images_come_to_a_gpu_by_one_stream(monkeypatch):
    """Predictions on many images open a loader for each piece of them."""
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: [device])
    side_stream.cache_clear()
    first, other = (side_stream(torch.device("cuda", i)) for i in (0, 1))
    assert side_stream(torch.device("cuda", 0)) is first is not other
    assert side_stream(torch.device("cpu")) is None
    side_stream.cache_clear()


SKY = 12.0
NOISE = Augment(photon_noise=True)


@pytest.fixture
def clean(tmp_path) -> Path:
    """30 images of expected counts, (1, 20, 20)."""
    means = np.random.default_rng(0).uniform(0, 300, (30, 1, 20, 20)).astype(np.float16)
    return write(tmp_path / "clean", means, sky=SKY)


class TestPhotons:
    """Expected counts are observed as whole frames, before all else."""

    PLAIN = Transform(None, None, "linear", photons=True)

    def images(
        self, root, slice_="train", *, augment=None, transform=PLAIN, resident="device", batch=7,
        seed=0, epoch=0,
    ):  # fmt: skip
        """All images of a slice, in order."""
        split = open_split(root, slice_)
        loader = Loader(split, transform=transform, device=CPU, resident=resident)
        batches = order(np.arange(len(split)), batch)
        given = loader.batches(batches, augment or Augment(), seed=seed, epoch=epoch)
        return torch.cat([images for images, *_ in given])

    def test_training_draws_anew_and_as_the_seed_epoch_and_sample_say(self, clean):
        means = torch.from_numpy(open_split(clean, "train").images()).float()
        for seed, epoch in ((1, 0), (1, 1), (2, 0)):
            expected = observed(means, SKY, seed=seed, epoch=epoch, index=torch.arange(30))
            for resident, batch in (("device", 7), ("off", 30)):
                found = self.images(
                    clean, augment=NOISE, seed=seed, epoch=epoch, resident=resident, batch=batch
                )
                assert torch.equal(found, expected)

    def test_images_that_are_scored_are_drawn_once_by_their_ids(self, clean):
        whole = self.images(clean)
        assert torch.equal(self.images(clean, seed=3, epoch=5), whole)
        assert torch.equal(self.images(clean, "train[11:]"), whole[11:])  # as in another slice
        assert not torch.equal(self.images(clean, augment=NOISE), whole)

    def test_a_frame_is_observed_before_it_is_cropped(self, clean):
        cropped = self.images(clean, transform=replace(self.PLAIN, crop=10))
        assert torch.equal(cropped, self.images(clean)[:, :, 5:15, 5:15])

    def test_what_normalises_is_measured_on_observations(self, clean):
        loader = Loader(open_split(clean, "train"), transform=self.PLAIN, device=CPU)
        images = self.images(clean).double()
        measured = loader.measured()
        assert measured.mean == pytest.approx((float(images.mean()),), rel=1e-6)
        assert measured.sd == pytest.approx((float(images.std(correction=0)),), rel=1e-6)

    def test_without_it_they_are_as_packed_and_observed_images_always(self, clean, root):
        packed = torch.from_numpy(open_split(clean, "train").images()).float()
        assert torch.equal(
            self.images(clean, transform=replace(self.PLAIN, photons=False)), packed
        )
        values = torch.from_numpy(open_split(root, "train").images()).float()
        assert torch.allclose(self.images(root, augment=NOISE), values, atol=1e-6)
