"""One pass over a source: written in one storage, or told which one it needs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from astropy.io import fits
from made_sources import noise

from deeplense_batch.data.packing.one_pass import OnePass
from deeplense_batch.data.packing.storage import Form, first_storage
from deeplense_batch.data.shards import open_split
from deeplense_batch.data.sources.sources import open_source
from deeplense_batch.data.writer import ShardWriter

COUNTS = np.arange(60).reshape(1, 6, 10) / 59


def new_writer(root, split, storage):
    return ShardWriter(
        root, split=split, shape=storage.shape, stored=storage.stored[split],
        dtype=storage.dtype, classes=(), source="tests", seed=0, shard_size=4,
    )  # fmt: skip


@pytest.fixture
def one_pass(tmp_path):
    """A pass over images by their names, in the storage of the first; beginning again with it."""
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    opened = []

    def begin(images=None, *, storage=None, skip_bad=False):
        for name, image in (images or {}).items():
            np.save(source / name, image)
        if opened:
            opened.pop().__exit__(None, None, None)
        opened.append(open_source(source))
        found = opened[0].__enter__()
        storage = storage or first_storage(found, None)
        return OnePass(found, storage, partial(new_writer, out), seed=0, skip_bad=skip_bad)

    yield begin, out
    opened.pop().__exit__(None, None, None)


def test_images_are_published_or_leave_nothing(one_pass):
    begin, out = one_pass
    images = {f"{i}.npy": np.roll(COUNTS, i) for i in range(6)}
    with begin(images) as work:
        assert work.run() is None
        assert work.finish() == [f"train-0000{i}-of-00002.h5" for i in range(2)]
        assert all(path.name.startswith(".") for path in out.iterdir())
    assert list(out.iterdir()) == []
    with begin() as work:
        assert work.run() is None
        work.publish()
    split = open_split(out, "train")
    assert sorted(split.ids()) == sorted(images)
    for id_, image in zip(split.ids(), split.images(), strict=True):
        assert (image == images[id_]).all()


def test_what_is_known_of_the_images_is_gathered(one_pass):
    begin, _ = one_pass
    marked = COUNTS.copy()
    marked[0, 2:4, 3:6] = -99
    images = {"1.npy": COUNTS, "2.npy": 2 * COUNTS, "3.npy": COUNTS, "4.npy": marked}
    with begin(images | {"5.npy": noise(0, (1, 6, 10)).astype("f8") / 3}) as work:
        wider = work.run()
        assert wider is not None and wider.stored == {"train": np.dtype("f8")}
    with begin(storage=wider) as work:
        assert work.run() is None
        same = [[s.id for s in samples] for samples in work.same_images.values()]
        assert sorted(map(sorted, same)) == [["1.npy", "3.npy"], ["2.npy"], ["4.npy"], ["5.npy"]]
        assert work.ranges["train"] == (-99.0, 2.0, 0.0)
        assert [(sample.id, doubt.kind) for sample, doubt in work.doubts] == [("4.npy", "apart")]


@pytest.mark.parametrize("skip_bad", [False, True])
def test_after_a_bad_image_more_are_looked_for_and_written_only_if_it_is_skipped(
    one_pass, skip_bad
):
    begin, out = one_pass
    images = {f"{i}.npy": np.roll(COUNTS, i) for i in range(5)}
    images |= {"9.npy": np.zeros((1, 6, 10)), "8.npy": noise(0, (1, 3, 3))}
    with begin(images, skip_bad=skip_bad) as work:
        assert work.run() is None
        assert [bad.sample.id for bad in work.sorted_bad()] == ["8.npy", "9.npy"]
        assert len(work.same_images) == 5
        work.publish()
    assert len(list(out.glob("train-*"))) == (2 if skip_bad else 0)
    if skip_bad:
        assert len(open_split(out, "train")) == 5


def test_the_most_frequent_shape_is_that_of_the_set(one_pass):
    """The first image has another one: it is bad in the next pass, and the others are not."""
    begin, _ = one_pass
    images = {f"{i}.npy": np.roll(COUNTS, i) for i in range(1, 4)}
    images["0.npy"] = np.arange(9).reshape(1, 3, 3) / 8
    with begin(images) as work:
        again = work.run()
        assert len(work.bad) == 3 and again.shape == (1, 6, 10)
    with begin(storage=again) as work:
        assert work.run() is None and [bad.sample.id for bad in work.bad] == ["0.npy"]


def write_fits(path, size, *, scale, bands):
    header = fits.Header()
    header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=10.0, CRVAL2=0.0)
    header.update(CRPIX1=size / 2, CRPIX2=size / 2, CDELT1=-scale / 3600, CDELT2=scale / 3600)
    header.update({f"BAND{i}": band for i, band in enumerate(bands)})
    fits.writeto(path, noise(len(path.name), (len(bands), size, size)), header)


def test_what_most_images_are_is_chosen_once_by_shape_bands_and_pixel_scale(one_pass):
    begin, out = one_pass
    source = out.parent / "source"
    kinds = [  # of 20 pixels most, of them in g, r, i most, of these of 0.2 arcsec most
        (12, 24, 0.2, "gri"), (1, 20, 0.2, "rgi"), (11, 20, 0.2, "gri"), (10, 20, 0.4, "gri"),
    ]  # fmt: skip
    for number, (count, size, scale, bands) in enumerate(kinds):
        for i in range(count):
            write_fits(source / f"{number}-{i}.fits", size, scale=scale, bands=bands)
    passes, storage = 0, None
    while passes == 0 or storage is not None:
        with begin(storage=storage, skip_bad=True) as work:
            used, storage, passes = work.storage, work.run(), passes + 1
            reasons = {bad.sample.id[0]: bad.reason for bad in work.bad}
        assert passes < 5
    assert used.form == Form((3, 20, 20), ("g", "r", "i"), 0.2)
    assert reasons == {
        "0": "shape (3, 24, 24), most images have (3, 20, 20)",
        "1": "bands r, g, i, most images have g, r, i",
        "3": "pixel scale 0.4 arcsec, most images have 0.2",
    }
