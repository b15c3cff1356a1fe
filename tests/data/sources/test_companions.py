"""Masks, noise maps and the like: what belongs to an image is no image of its own."""

from __future__ import annotations

import pytest
from made_sources import each, fill

from deeplense_batch.data.formats.masks import NO_LIGHT
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, read_splits
from deeplense_batch.data.sources.companions import refuse_companions


@pytest.mark.parametrize(
    ("pattern", "of", "companion", "image"),
    [
        ("{1}{0}.npy", ("", "_mask"), "0_mask.npy", "0.npy"),
        ("{1}_{0}.fits", ("sci", "wht"), "0_wht.fits", "0_sci.fits"),
        ("{0}/{1}.npy", ("images", "masks"), "masks/0.npy", "images/0.npy"),
        ("train/lens/{1}{0}.npy", ("", "-RMS"), "train/lens/0-RMS.npy", "train/lens/0.npy"),
        ("{0}/a{1}.npy", (".", "psf"), "psf/a0.npy", "a0.npy"),
        ("{0}{1}.npy", ("", "err_"), "err_0.npy", "0.npy"),
        ("J{1}_{0}.fits", ("drz", "wht"), "J0_wht.fits", "J0_drz.fits"),
        ("J{1}_{0}.fits", ("sci", "xyz"), "J0_xyz.fits", "J0_sci.fits"),
        (
            "train/lens/{0}-{1}.fits",
            ("SCI", "depth"),
            "train/lens/depth-0.fits",
            "train/lens/SCI-0.fits",
        ),
    ],
)
def test_what_belongs_to_an_image_is_none_of_its_own(tmp_path, pattern, of, companion, image):
    fill(tmp_path / "set", *(pattern.format(kind, i) for kind in of for i in range(3)))
    says = rf"{companion} is named as the mask, noise or the like of {image} \(3 such\)"
    with pytest.raises(ShardError, match=says):
        pack(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("word", ["wei", "wt", "sig", "conf", "resid", "xyz"])
def test_weights_in_several_bands_are_no_objects(tmp_path, word):
    names = [f"K{i}_{b}_{kind}.fits" for i in range(3) for b in "gri" for kind in ("sci", word)]
    fill(tmp_path / "set", *names)
    says = rf"K0_g_{word}.fits is named as the mask, noise or the like of K0_g_sci.fits \(9 such"
    with pytest.raises(ShardError, match=says):
        pack(tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize(
    "names", [each("{}/{}.npy", "noise signal"), ["mask_1.npy", "mask_2.npy"]]
)
def test_names_of_companions_alone_are_ordinary(tmp_path, names):
    fill(tmp_path / "set", *names)
    pack(tmp_path / "set", tmp_path / "out")
    assert sum(map(len, read_splits(tmp_path / "out").values())) == len(names)


@pytest.mark.parametrize(
    "ids",
    [
        ["1.npy", "1_r.npy"],
        ["noise/1.npy", "signal/2.npy"],
        ["mask_1.npy", "mask_2.npy", "3.npy"],
        ["unmasked/1.npy", "1.npy"],
        ["modelling.npy", "ling.npy"],
        ["science/1.npy", "junk/1.npy"],
        ["1_sci.fits", "2_sci.fits", "3_wei.fits"],
        ["1_drz.fits", "1_drc.fits"],
    ],
)
def test_a_word_within_another_or_without_its_image_means_nothing(ids):
    refuse_companions("set", ids)


@pytest.mark.parametrize("word", sorted(NO_LIGHT))
@pytest.mark.parametrize("pattern", ["7_{}.fits.gz", "{}-7.npy", "7 {}S.png"])
def test_every_word_for_a_companion_is_known_in_any_case_and_plural(word, pattern):
    companion = pattern.format(word.upper())
    with pytest.raises(ShardError, match=f"^set: {companion} is named as the mask, noise"):
        refuse_companions("set", ["7.npy", companion])
