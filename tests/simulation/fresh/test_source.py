"""An image is a function of seed, epoch and number, in whatever batches it is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.simulation.fresh.source import Source, seed_of
from deeplense_batch.simulation.pairs.super_resolution import SuperResolution
from deeplense_batch.simulation.substructure import Substructure

MAKER = Substructure(preset="varied", size=32)
N = 20


def asked(*cuts):
    return [np.array(cut) for cut in cuts]


def epoch_of(source, epoch, batches):
    made = [source.made(epoch, batches, place) for place in range(len(batches))]
    return np.concatenate([each.images for each in made])


@pytest.fixture(scope="module")
def first() -> np.ndarray:
    return epoch_of(Source(MAKER, images=N, seed=1), 0, asked(range(N)))


def test_an_image_does_not_depend_on_its_batch(first):
    some = asked([3, 19, 0], range(4, 15))
    found = epoch_of(Source(MAKER, images=N, seed=1), 0, some)
    assert (found == first[np.concatenate(some)]).all()


def test_every_epoch_and_seed_has_other_images(first):
    source = Source(MAKER, images=N, seed=1)
    epochs = [epoch_of(source, epoch, asked(range(N))) for epoch in range(3)]
    other = epoch_of(Source(MAKER, images=N, seed=2), 0, asked(range(N)))
    images = np.concatenate([*epochs, other])
    assert len({image.tobytes() for image in images}) == 4 * N
    assert (epochs[0] == first).all()


def test_classes_are_those_of_the_number_in_every_epoch():
    """20 images are no whole number of rounds of three classes."""
    source = Source(MAKER, images=N, seed=1)
    for epoch in range(2):
        truth = source.made(epoch, asked(range(N)), 0).truth["index"]
        assert (truth.astype(int) % 3 == np.arange(N) % 3).all()


def test_it_goes_on_in_mid_epoch_and_with_other_batches(first):
    source = Source(MAKER, images=N, seed=1)
    batches = asked(range(0, 8), range(8, 16), range(16, N))
    made = [source.made(0, batches, place).images for place in (2, 0, 1)]
    assert (np.concatenate([made[1], made[2], made[0]]) == first).all()
    again = Source(MAKER, images=N, seed=1)
    later = np.concatenate([epoch_of(again, 0, batches[1:]), epoch_of(again, 1, batches)])
    assert (later == np.concatenate([first[8:], epoch_of(source, 1, batches)])).all()


def test_epochs_that_ask_for_the_same_are_one_stream(monkeypatch):
    begun = []
    stream = Substructure.stream
    monkeypatch.setattr(Substructure, "stream", lambda *a, **k: begun.append(1) or stream(*a, **k))
    source = Source(MAKER, images=6, seed=1)
    for epoch in range(3):
        epoch_of(source, epoch, asked([0, 1], [2, 3]))
    assert len(begun) == 1
    epoch_of(source, 3, asked([0, 1], [2, 4]))
    assert len(begun) == 2
    source.close()


def test_pairs_are_made_once():
    maker = SuperResolution(preset="iii_a_substructure", size=32)
    source, batches = Source(maker, images=12, seed=1), asked(range(12))
    made = source.made(0, batches, 0)
    assert source.made(0, batches, 0) is made
    assert made.pairs is not None and made.pairs.inputs.shape == (12, 1, 16, 16)
    assert made.pairs.clean is not None and made.pairs.clean.shape == (12, 1, 32, 32)
    alone = maker.make("train", [12], seed=seed_of(1))
    assert (alone.images == made.images[:1]).all()
    assert alone.pairs is not None and (alone.pairs.clean == made.pairs.clean[:1]).all()


def test_no_set_has_its_seed():
    """`simulate` takes seeds below 2^63."""
    seeds = {seed_of(seed) for seed in range(100)}
    assert len(seeds) == 100 and min(seeds) >= 1 << 63
