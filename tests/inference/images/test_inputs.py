"""Images to predict on, of shards and of files: in one order, and each bad one told by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.io import fits
from conftest import make_images
from made_catalogues import header as sky_header
from made_catalogues import write as write_image
from made_sources import two_unusable

from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.inference.images.inputs import open_inputs
from deeplense_batch.inference.images.piecewise import Piece

SHAPE = (1, 24, 24)
AS_THEY_ARE = Transform(None, None, "linear", (0.0,), (1.0,))
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    return two_unusable(tmp_path / "images")


def test_batches_are_what_the_network_sees_in_order(shards):
    transform = Transform(20, None, "linear", (3.0,), (2.0,))
    with open_inputs(shards, "val[5:15]", SHAPE) as inputs:
        (piece,) = inputs.pieces(50)
        batches = list(inputs.batches(piece, transform, CPU, size=4))
    assert [len(batch.images) for batch in batches] == [4, 4, 2]
    seen = torch.cat([batch.images for batch in batches])
    packed = torch.from_numpy(open_split(shards, "val[5:15]").images()).float()
    assert torch.allclose(seen, (packed[:, :, 2:22, 2:22] - 3) / 2, atol=1e-5)
    assert all(batch.problems == {} and not batch.truth for batch in batches)


def test_images_of_another_shape_are_refused_and_so_is_a_slice_of_files(shards, folder, tmp_path):
    wrong = r"has images of 1 x 24 x 24 \(channels .*\), this network takes 3 x 24 x 24"
    for root, told in ((shards, wrong), (folder, rf"0.npy {wrong}; so do 5 of 6 looked at")):
        with pytest.raises(ShardError, match=told), open_inputs(root, "", (3, 24, 24)):
            pass
    with (
        pytest.raises(ShardError, match="is no folder of shards, so it has no slice 'val'"),
        open_inputs(folder, "val", SHAPE),
    ):
        pass
    (tmp_path / "bad").mkdir()
    np.save(tmp_path / "bad" / "0.npy", np.full(SHAPE, np.nan))
    with (
        pytest.raises(ShardError, match=r"no image can be read \(0.npy: 576 of 576 pixels"),
        open_inputs(tmp_path / "bad", "", SHAPE),
    ):
        pass


def test_another_writing_of_the_bands_is_the_same_image(tmp_path):
    for i, names in enumerate((("G", "R"), ("HSC-G", "HSC-R"), ("R", "G"))):
        cube = fits.PrimaryHDU(make_images(2, seed=i)[0][:, 0].astype(np.float32))
        cube.header.update({f"BAND{band}": name for band, name in enumerate(names)})
        cube.writeto(tmp_path / f"{i}.fits")
    with open_inputs(tmp_path, "", (2, 24, 24)) as inputs:
        (batch,) = inputs.batches(inputs.pieces(9)[0], AS_THEY_ARE, CPU, size=9)
    assert batch.problems == {2: "has the bands r, g; the other images have g, r"}


def test_flags_of_pack_are_told_as_they_are_given_here(folder, caplog):
    def refused(table, reading=None):
        (folder / "t.csv").write_text(table)
        with (
            pytest.raises(ShardError) as error,
            open_inputs(folder / "t.csv", "", SHAPE, reading=reading),
        ):
            pass
        return str(error.value)

    here = "; a flag such as --{0} is given here as --reading '{{{0}: ...}}'".format
    assert refused("id,place\n1,2\n").endswith(here("path"))
    assert refused("id,path\n1,{band}.npy\n").endswith(here("bands"))
    assert refused("id,path\n1,/gone/1.npy\n").endswith(here("images"))
    assert refused("id,path\n").endswith("only the columns id, path")
    below = folder / "test" / "vort"
    (below / "t.csv").write_text("id,file\n1,1.npy\n")
    with open_inputs(below, "", SHAPE):
        assert here("images") in caplog.text


def test_headers_of_files_are_read_with_the_images_and_null_without(tmp_path):
    for i, image in enumerate(make_images(40, seed=5)[0].astype(np.float32)):
        cards = sky_header(10 + i, -5, name=f"J{i}") if i != 1 else None
        write_image(tmp_path / f"{i}.fits", image, cards=cards)
    with open_inputs(tmp_path, "", SHAPE) as inputs:
        (piece,) = inputs.pieces(100)
        batches = list(inputs.batches(piece, AS_THEY_ARE, CPU, size=33))
        headers = [header for batch in batches for header in batch.headers]
        assert [header.object for header in headers][:3] == ["J0", "", "J2"] and len(headers) == 40
        columns = inputs.names(piece, headers).columns
        assert columns["object"].to_pylist()[:3] == ["J0", None, "J2"]
        assert columns["ra"].to_pylist()[1] is None and columns["ra"].null_count == 1
        ((_, known),) = inputs.firsts([Piece("train", 2, 40)])
        assert known.columns["object"].to_pylist() == ["J2"]
        assert inputs.names(piece).columns["ra"].null_count == 40
    with open_inputs(tmp_path, "", SHAPE, columns=("none",)) as inputs:
        assert not next(inputs.batches(piece, AS_THEY_ARE, CPU, size=8)).headers


def test_a_network_that_sees_the_middle_takes_files_of_any_size_that_has_it(tmp_path):
    """Each of another size: none is wider than the crop by the same margin."""
    images = make_images(4, seed=5)[0].astype(np.float32)
    for i, image in enumerate(images):
        margin = ((0, 0), (i, i), (2 * i, 0))
        np.save(tmp_path / f"{i}.npy", np.pad(image, margin, constant_values=-1))
    np.save(tmp_path / "small.npy", images[0, :, :12])
    transform = replace(AS_THEY_ARE, crop=16)
    with open_inputs(tmp_path, "", (1, 24, 24), crop=16) as inputs:
        (piece,) = inputs.pieces(9)
        (batch,) = inputs.batches(piece, transform, CPU, size=9)
        ids = inputs.names(piece).ids
    assert batch.images.shape == (5, 1, 16, 16)
    small = ids.index("small.npy")
    assert batch.problems == {
        small: "has images of 1 x 12 x 24 (channels x height x width), this network takes "
        "1 x 24 x 24, or any other size of 16 x 16 pixels or more"
    }
    for i, image in enumerate(images):
        middle = np.pad(image, ((0, 0), (0, 0), (2 * i, 0)))[:, 4:20, 4 + i : 20 + i]
        assert np.array_equal(batch.images[ids.index(f"{i}.npy")].numpy(), middle)
