"""What headers say of the sky is kept, and held against the table and the flags."""

import re

import numpy as np
import pytest
from made_catalogues import SCALE, N, header, pixels, samples, sky, write

from deeplense_batch.data.formats.parts import Header
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.packing.sky import columns_of, known_columns, plain_scale
from deeplense_batch.data.shards import ShardError, open_split


def survey(root, count=5, *, scales=(), shifted=()):
    """Cutouts and the table of their positions; some of another scale or off their positions."""
    table = sky(count)
    table["file"] = [f"{id_}.fits" for id_ in table.id]
    for row in table.itertuples():
        ra = row.ra + (N * SCALE / 3600 if row.Index in shifted else 0)
        cards = header(ra, row.dec, name=f"name {row.Index}",
                       scale=0.4 if row.Index in scales else SCALE)  # fmt: skip
        write(root / row.file, pixels(row.Index), cards=cards)
    table.to_csv(root / "t.csv", index=False)
    return table


def test_images_of_two_pixel_scales_are_refused_or_left_out(tmp_path):
    survey(tmp_path / "s", scales=(0, 2))
    with pytest.raises(ShardError, match=r"2 of 5 images cannot be packed:\n  J0000.fits: pixel "
                       r"scale 0.4 arcsec, most images have 0.168"):  # fmt: skip
        pack(tmp_path / "s", tmp_path / "out")
    report = pack(tmp_path / "s", tmp_path / "out", skip_bad=True)
    assert [one.id for one in report.skipped] == ["J0000.fits", "J0002.fits"]
    assert open_split(tmp_path / "out", "train").info.pixel_scale == SCALE


def test_a_scale_that_headers_contradict_is_a_warning(tmp_path):
    survey(tmp_path / "s", scales=(3,))
    report = pack(tmp_path / "s", tmp_path / "out", pixel_scale=SCALE)
    assert (
        "1 image has another pixel scale by the header than --pixel_scale 0.168, such as "
        "J0003.fits: 0.4 arcsec"
    ) in report.warnings
    assert open_split(tmp_path / "out", "train").info.pixel_scale == SCALE


def test_a_position_outside_of_the_image_is_a_warning(tmp_path):
    table = survey(tmp_path / "s", shifted=(1,))
    report = pack(tmp_path / "s/t.csv", tmp_path / "out", label="kind")
    assert (
        "1 image has the position of the table outside of the image, by the header, such as "
        "J0001: 12 pixels from its centre"
    ) in report.warnings
    found = samples(tmp_path / "out")
    for row in table.itertuples():
        assert found[row.id][2] == {"ra": row.ra, "dec": row.dec, "object": f"name {row.Index}"}


def test_images_without_headers_beside_others_have_empty_columns(tmp_path):
    survey(tmp_path / "s", 3)
    write(tmp_path / "s/plain.fits", pixels(9))
    pack(tmp_path / "s", tmp_path / "out")
    kept = samples(tmp_path / "out")["plain.fits"][2]
    assert np.isnan(kept["ra"]) and np.isnan(kept["dec"]) and kept["object"] == ""


def test_bands_that_headers_contradict_are_refused(tmp_path):
    for band, said in (("g", "HSC-R"), ("r", "HSC-R")):
        write(tmp_path / f"s/1_{band}.fits", pixels(1), cards=header(1, 2, band=said))
    with pytest.raises(ShardError, match=r"is band g by its name, but .* by its header"):
        pack(tmp_path / "s", tmp_path / "out")


def test_bands_of_one_object_whose_headers_name_others_are_a_warning(tmp_path):
    for i, names in enumerate((("other", "mine"), ("one", "one"))):
        for band, name in zip("gr", names, strict=True):
            cards = header(1, 2, band=band, name=name)
            write(tmp_path / f"s/{i}_{band}.fits", pixels(i, ord(band)), cards=cards)
    report = pack(tmp_path / "s", tmp_path / "out")
    assert (
        "1 image has bands whose headers name different objects, such as 0.fits: other, mine; "
        "none of these names is kept"
    ) in report.warnings
    kept = samples(tmp_path / "out")
    assert [kept[id_][2]["object"] for id_ in ("0.fits", "1.fits")] == ["", "one"]


def of_bands(root, *said):
    """An image of one channel for each of the bands that headers say."""
    for i, band in enumerate(said):
        write(root / f"{i}.fits", pixels(i), cards=header(i, 2, band=band))
    return root


MIXED = "images are of the bands r (3, such as 1.fits), g (1, such as 0.fits) by their headers"


def test_images_of_one_channel_in_several_bands_are_refused(tmp_path):
    root = of_bands(tmp_path / "s", "g", "r", "HSC-R2", "r DECam", "", "NB816")
    with pytest.raises(ShardError, match=f"^{re.escape(f'{root}: {MIXED}; as')}.* --bands names"):
        pack(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bands_may_be_mixed_where_the_channel_is_named(tmp_path):
    root = of_bands(tmp_path / "s", "g", "r", "HSC-R2", "r")
    report = pack(root, tmp_path / "out", bands="red")
    assert f"{MIXED}: all are one channel, as --bands says" in report.warnings
    assert open_split(tmp_path / "out", "train").info.bands == ("red",)


@pytest.mark.parametrize("said", [("r", "HSC-R2", ""), ("NB816", "NB921"), ("g+r", "r")])
def test_images_of_one_filter_however_it_is_written_are_one_set(tmp_path, said):
    report = pack(of_bands(tmp_path / "s", *said), tmp_path / "out")
    assert not any("of the bands" in warning for warning in report.warnings)


def test_cubes_may_say_any_band(tmp_path):
    for i, band in enumerate("gr"):
        cube = np.stack([pixels(i), pixels(i, 1)])
        write(tmp_path / f"s/{i}.fits", cube, cards=header(i, 2, band=band))
    pack(tmp_path / "s", tmp_path / "out")
    assert open_split(tmp_path / "out", "train").images().shape == (2, 2, N, N)


def test_columns_and_scales():
    headers = [Header(SCALE, 1.0, 2.0, "x"), Header()]
    assert known_columns(headers[0], {"ra": np.zeros(1)}) == {"dec", "object"}
    assert columns_of(frozenset({"object"}), headers)["object"].tolist() == ["x", ""]
    assert plain_scale(0.16799999999) == 0.168
