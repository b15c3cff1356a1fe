"""The table of pairs: each preset of images makes some, and all that is said of one holds."""

import pytest

from deeplense_batch.simulation.pairs.pair_presets import PAIR_PRESETS
from deeplense_batch.simulation.presets import CLASSES, PRESETS
from deeplense_batch.simulation.simulate import generator_class


@pytest.mark.parametrize("name", PAIR_PRESETS)
def test_pairs_can_be_made_of_every_preset(name):
    preset = PAIR_PRESETS[name]
    assert (preset.name, preset.base in PRESETS) == (name, True)
    assert (preset.telescope is not None) == (preset.how == "telescope")
    maker = generator_class("super_resolution")(preset=name)
    assert maker.size == preset.size and set(maker.classes) <= set(CLASSES)
    assert sum(maker.counts(30)["train"].values()) == 24
    assert set(PRESETS) < set(PAIR_PRESETS)
