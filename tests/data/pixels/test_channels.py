"""Which of the stored channels a network sees: by name, by number, or their mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_sets import write_set
from made_shards import write_shards

from deeplense_batch.core.sections.data import DataSection
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.pixels.channels import Choice, choose
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError, open_split

BANDS = ("HSC-G", "HSC-R2", "i")


@pytest.mark.parametrize(
    ("channels", "places"),
    [(("g", "r"), (0, 1)), (("i", "HSC-G"), (2, 0)), ((1,), (1,)), ((2, "g"), (2, 0))],
)
def test_channels_are_found_by_filter_and_by_number(channels, places):
    choice = choose(channels, 3, BANDS)
    assert choice == Choice(places) and choice.bands(BANDS) == tuple(BANDS[p] for p in places)
    assert choose(tuple(places), 3, ()).bands(()) == ()


def test_all_channels_are_no_choice_and_the_mean_is_one_channel():
    assert choose(None, 3, BANDS) is None
    mean = choose("mean", 3, BANDS)
    assert len(mean) == 1 and mean.bands(BANDS) == ("mean",)


@pytest.mark.parametrize(
    ("channels", "bands", "sentence"),
    [
        (("z",), BANDS, "there is no band 'z'; the images have HSC-G, HSC-R2, i"),
        (("g",), (), "there is no band 'g'; the images have 3 without names, by numbers from 0"),
        ((3,), (), "there is no channel 3; the images have 3, numbered from 0"),
        (("g", 0), BANDS, "g, 0 name one channel twice; expected each once"),
    ],
)
def test_a_channel_that_is_not_there_is_refused_with_those_that_are(channels, bands, sentence):
    with pytest.raises(ShardError, match=f"data.channels: {sentence}"):
        choose(channels, 3, bands)


@pytest.mark.parametrize("resident", ["device", "off"])
@pytest.mark.parametrize("stored", [np.float32, np.uint8])
@pytest.mark.parametrize("channels", [(2, 0), (1,), (0, 1, 2), "mean"])
def test_batches_and_images_hold_the_chosen_channels_of_the_crop(
    tmp_path, resident, stored, channels
):
    write_set(tmp_path, shape=(3, 12, 10), dtype=stored)
    split = open_split(tmp_path, "train[3:15]")
    whole = split.images().astype(np.float32)
    expected = whole.mean(1, keepdims=True) if channels == "mean" else whole[:, list(channels)]
    seen = replace(split, info=split.info.with_channels(channels))
    assert seen.info.shape == expected.shape[1:] and seen.as_stored.info == split.info
    np.testing.assert_allclose(seen.images(), expected, rtol=1e-6)
    loader = Loader(
        seen, transform=Transform(8, None, "linear"), device=torch.device("cpu"), resident=resident
    )
    (values,) = loader.decoded([np.array([5, 0, 7])])
    np.testing.assert_allclose(values.numpy(), expected[[5, 0, 7], :, 2:10, 1:9], rtol=1e-6)


def test_counts_of_chosen_channels_are_divided_by_their_own_scale(tmp_path):
    counts = np.random.default_rng(0).integers(1, 900, (6, 2, 8, 8)).astype(np.uint16)
    write_shards(tmp_path, "train", counts, np.arange(6) % 3)
    split = open_split(tmp_path, "train")
    seen = replace(split, info=split.info.with_channels((1,)))
    assert np.array_equal(seen.images(), split.images()[:, 1:])
    transform = Transform(None, None, "linear")
    (values,) = Loader(seen, transform=transform, device=torch.device("cpu")).decoded(
        [np.arange(6)]
    )
    np.testing.assert_allclose(values.numpy(), split.images()[:, 1:], rtol=1e-6)


def test_a_choice_comes_back_from_the_weights_of_a_run():
    assert Choice.of(Choice((2, 0)).stored(3)) == (Choice((2, 0)), 3)
    assert Choice.of({}) == (None, None)


@pytest.mark.parametrize("given", [[], ["g", "g"], [-1], "g"])
def test_a_recipe_names_each_channel_once_or_says_mean(given):
    with pytest.raises(ValueError, match="expected"):
        DataSection(root="a", channels=given)
