"""Arrays in files: what is no array, or more than one, is refused."""

import io

import numpy as np
import pytest

from deeplense_batch.data.formats.arrays import read_arrays, read_npy, read_npz
from deeplense_batch.data.formats.untrusted import ImageError


def saved(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file


def test_some_arrays_of_a_file_are_read_without_the_others():
    file = saved(a=np.arange(3), b=np.array([None]))
    assert list(read_arrays(file, only={"a"})) == ["a"]
    with pytest.raises(ImageError, match="a pickled object"):
        read_arrays(file)


def test_an_image_is_the_only_array():
    assert (read_npz(saved(x=np.eye(3)).getvalue()).array == np.eye(3)).all()
    with pytest.raises(ImageError, match=r"holds 2 arrays \(x, y\), an image is one"):
        read_npz(saved(x=np.eye(3), y=np.eye(3)).getvalue())


def test_an_array_in_the_order_of_fortran():
    array, file = np.arange(12.0).reshape(3, 4), io.BytesIO()
    np.save(file, np.asfortranarray(array))
    assert (read_npy(file.getvalue()).array == array).all()
    with pytest.raises(ImageError, match="cut short"):
        read_npy(file.getvalue()[:-8])
