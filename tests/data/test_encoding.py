"""Images as integer counts: exact, or not at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deeplense_batch.data.encoding import COUNTS, decode, encode_counts, is_exact

FLOATS = [np.float32, np.float64]


def round_trip(image):
    encoded = encode_counts(image)
    assert encoded is not None
    counts, scale = encoded
    assert counts.dtype == COUNTS and counts.shape == image.shape
    assert scale.dtype == np.float64 and scale.shape == image.shape[:1]
    return decode(counts[None], scale[None], image.dtype)[0]


def assert_same_bits(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@st.composite
def count_images(draw):
    """An image of k / L with its background at 0, and one pixel of a single count."""
    levels = draw(st.integers(1, 65535))
    shape = (draw(st.integers(1, 3)), draw(st.integers(2, 6)), draw(st.integers(2, 6)))
    counts = draw(hnp.arrays(np.uint16, shape, elements=st.integers(0, levels)))
    counts[:, 0, :2] = 0, 1
    counts[:, 1, 0] = levels
    return counts, levels


@given(count_images(), st.sampled_from(FLOATS))
def test_every_image_of_counts_is_found_and_comes_back_bit_for_bit(drawn, dtype):
    counts, levels = drawn
    image = counts.astype(dtype) / dtype(levels)
    stored, scale = encode_counts(image)
    assert (stored == counts).all() and (scale == levels).all()
    assert_same_bits(round_trip(image), image)


@given(
    hnp.arrays(
        st.sampled_from(
            [np.float16, np.float32, np.float64, np.int8, np.int32, np.int64, np.uint8]
        ),
        (2, 4, 5),
    )
)
def test_whatever_is_encoded_comes_back_bit_for_bit(image):
    with np.errstate(all="ignore"):
        if encode_counts(image) is not None:
            assert_same_bits(round_trip(image), image)


@given(st.integers(1, 60), st.integers(2, 8), st.sampled_from(FLOATS))
def test_counts_are_found_without_a_pixel_of_a_single_count(first, step, dtype):
    neighbours = np.arange(first, first + 20).reshape(1, 4, 5)
    assert_same_bits(round_trip(image := neighbours.astype(dtype) / dtype(200)), image)
    multiples = np.array([0, step, 2 * step + 1, 199] * 5).reshape(1, 4, 5)
    assert_same_bits(round_trip(image := multiples.astype(dtype) / dtype(199)), image)


def test_each_channel_has_its_own_scale():
    counts = np.arange(18).reshape(2, 3, 3)
    image = counts / np.array([7.0, 900.0])[:, None, None]
    stored, scale = encode_counts(image)
    assert scale.tolist() == [7.0, 900.0]
    assert (stored == counts).all()


def test_integers_are_their_own_counts():
    image = np.arange(65536 - 12, 65536).reshape(1, 3, 4)
    for dtype in (np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64):
        stored, scale = encode_counts(image.astype(dtype))
        assert (stored == image).all() and scale.tolist() == [1.0]
        assert_same_bits(round_trip(image.astype(dtype)), image.astype(dtype))


@pytest.mark.parametrize(
    "pixel", [-0.0, -1.0, np.nan, np.inf, -np.inf, 65536.0, 5e-324, 1e-30, 0.1234567]
)
def test_one_pixel_that_is_no_count_makes_the_image_floats(pixel):
    image = np.linspace(0, 1, 26).reshape(1, 2, 13)
    image = np.rint(image * 25) / 25
    assert encode_counts(image) is not None
    image[0, 1, 3] = pixel
    with np.errstate(invalid="ignore"):
        assert encode_counts(image) is None


def test_noise_is_no_counts_and_read_only_or_strided_images_are():
    random = np.random.default_rng(0)
    for dtype in FLOATS:
        assert encode_counts(random.random((1, 64, 64)).astype(dtype)) is None
    counts = random.integers(0, 900, (20, 30, 2))
    image = (counts / 899).transpose(2, 0, 1)
    image.flags.writeable = False
    before = image.copy()
    assert_same_bits(round_trip(image), np.ascontiguousarray(image))
    assert (image == before).all()


@pytest.mark.filterwarnings("error")
def test_is_exact_asks_for_every_bit():
    assert is_exact(np.array([0.5, -0.0, 2.0**-149]), np.dtype(np.float32))
    assert not is_exact(np.array([0.1]), np.dtype(np.float32))
    assert not is_exact(np.array([1e300]), np.dtype(np.float32))
    assert is_exact(np.array([2**24, -(2**24)]), np.dtype(np.float32))
    assert not is_exact(np.array([2**24 + 1]), np.dtype(np.float32))
    assert not is_exact(np.array([2**53 + 1]), np.dtype(np.float64))
    assert not is_exact(np.array([2**63 - 2**40 + 1]), np.dtype(np.float32))  # rounds to 2^63


def test_floats_stored_as_they_are_are_only_cast_back():
    stored = np.array([[[[0.5, 1.0]]]], np.float32)
    assert_same_bits(decode(stored, None, np.dtype(np.float64)), stored.astype(np.float64))
