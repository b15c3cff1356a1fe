"""What images are stored as: the smallest form that is exact, or the one that was asked for."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from made_sources import noise

from deeplense_batch.data.packing.storage import (
    BadImage,
    Form,
    Packed,
    Storage,
    convert,
    first_storage,
    widened_by_firsts,
)
from deeplense_batch.data.sources.sources import open_source

COUNTS = np.arange(1, 61).reshape(1, 6, 10) % 50  # from 0 to 49
UINT8, UINT16, FLOAT32, FLOAT64 = map(np.dtype, ("uint8", "uint16", "float32", "float64"))


@pytest.fixture
def converted(tmp_path):
    """What comes of an image in a storage: of values of a type, stored as another."""

    def convert_it(image, dtype="float64", stored="uint16", asked=None, shape=(1, 6, 10)):
        np.save(tmp_path / "1.npy", image)
        with open_source(tmp_path) as source:
            (sample,) = source.splits["train"]
            asked = None if asked is None else np.dtype(asked)
            storage = Storage(shape, np.dtype(dtype), {"train": np.dtype(stored)}, asked)
            return convert(source, sample, storage)

    return convert_it


def test_counts_divided_by_a_constant_are_stored_as_counts(converted):
    packed = converted(COUNTS / 49)
    assert isinstance(packed, Packed) and packed.stored.dtype == UINT16
    assert (packed.stored == COUNTS).all() and packed.record.scale == (49.0,)
    assert (packed.record.least, packed.record.most, packed.record.error) == (0.0, 1.0, 0.0)
    assert packed.record.digest == hashlib.sha256(packed.stored.tobytes()).digest()
    assert np.isnan(packed.record.axion_mass_ev) and packed.record.changes == ()


@pytest.mark.parametrize(
    ("image", "stored", "needs"),
    [
        (noise(0, (1, 6, 10)).astype("f8"), "uint16", FLOAT32),  # all of them are float32 values
        (noise(0, (1, 6, 10)).astype("f8") / 3, "uint16", FLOAT64),
        (noise(0, (1, 6, 10)).astype("f8") / 3, "float32", FLOAT64),
    ],
)
def test_what_does_not_fit_says_which_storage_it_needs(converted, image, stored, needs):
    wider = converted(image, stored=stored)
    assert isinstance(wider, Storage) and wider.stored == {"train": needs}
    packed = converted(image, stored=needs)
    assert packed.stored.dtype == needs and (packed.stored == image).all()
    assert packed.record.scale is None and packed.record.error == 0.0


def test_wider_values_than_those_before_begin_again(converted):
    wider = converted(COUNTS / 49, dtype="float32")
    assert isinstance(wider, Storage) and wider.dtype == FLOAT64
    assert wider.stored == {"train": UINT16}  # that is found out in the next pass


def test_bytes_are_stored_as_they_are_until_wider_values_come(converted):
    picture = COUNTS.astype("u1")
    packed = converted(picture, dtype="uint8", stored="uint8")
    assert packed.stored.dtype == UINT8 and (packed.stored == picture).all()
    assert (packed.record.scale, packed.record.error) == (None, 0.0)
    assert packed.record.digest == hashlib.sha256(picture.tobytes()).digest()
    wider = converted(picture.astype("u2"), dtype="uint8", stored="uint8")
    assert (wider.dtype, wider.stored) == (UINT16, {"train": UINT16})
    asked = converted(picture, dtype="uint8", stored="float32", asked="float32")
    assert asked.stored.dtype == FLOAT32 and (asked.stored == picture).all()


def test_equal_images_have_one_content_whatever_they_are_stored_as(converted):
    one, other = converted(COUNTS / 49), converted(COUNTS / 49, stored="float64")
    assert one.stored.dtype != other.stored.dtype and one.record.digest != other.record.digest
    assert one.record.content == other.record.content
    assert converted(COUNTS / 98).record.content != one.record.content


def test_a_type_that_is_asked_for_rounds_and_says_by_how_much(converted):
    image = COUNTS / 49
    packed = converted(image, stored="float16", asked="float16")
    off = np.abs(packed.stored.astype("f8") - image).max()
    assert packed.stored.dtype == np.float16 and packed.record.error == off > 0
    bad = converted(image * 1e6, stored="float16", asked="float16")
    assert isinstance(bad, BadImage) and "do not fit float16" in bad.reason


def test_an_odd_shape_is_a_bad_image_and_an_unreadable_one_has_none(converted):
    bad = converted(noise(0, (1, 6, 9)))
    assert bad.reason == "shape (1, 6, 9), most images have (1, 6, 10)"
    assert bad.form == Form((1, 6, 9), (), None) and bad.sample.id == "1.npy"
    assert converted(np.zeros((1, 6, 10))).form is None  # constant: none was read


def test_the_first_good_image_or_the_first_of_a_shape_suggests_the_storage(tmp_path):
    (tmp_path / "0.npy").write_bytes(b"none")
    np.save(tmp_path / "1.npy", noise(1, (1, 5, 5)))
    np.save(tmp_path / "2.npy", COUNTS / 49)
    np.save(tmp_path / "3.npy", np.arange(49, dtype="u1").reshape(1, 7, 7))
    with open_source(tmp_path) as source:
        first = first_storage(source, None)
        assert (first.shape, first.dtype, first.stored) == ((1, 5, 5), FLOAT32, {"train": UINT16})
        second = first_storage(source, np.dtype("f2"), form=Form((1, 6, 10), (), None))
        assert (second.shape, second.dtype) == ((1, 6, 10), FLOAT64)
        assert second.stored == {"train": np.dtype("f2")} and second.asked == np.dtype("f2")
        assert first_storage(source, None, form=Form((9, 9, 9), (), None)).shape == ()
        third = first_storage(source, None, form=Form((1, 7, 7), (), None))
        assert (third.dtype, third.stored) == (UINT8, {"train": UINT8})


def test_the_first_image_of_each_split_widens_the_storage_before_a_pass(tmp_path):
    for split, image in (("train", COUNTS / 49), ("val", noise(1, COUNTS.shape).astype("f8"))):
        (tmp_path / split).mkdir()
        for i in range(2):
            np.save(tmp_path / split / f"{i}.npy", np.roll(image, i))
    with open_source(tmp_path) as source:
        storage = widened_by_firsts(source, first_storage(source, None))
        assert storage.stored == {"train": UINT16, "val": FLOAT32}
        for samples in source.splits.values():
            assert all(isinstance(convert(source, s, storage), Packed) for s in samples)
