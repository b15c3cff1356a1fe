"""Figures of samples."""

from __future__ import annotations

import numpy as np

from deeplense_batch.tasks.restoring import uncertainty_pictures


def test_the_sheet_shows_deviations_in_sd_of_the_samples():
    random = np.random.default_rng(0)
    names = ("restored", "truth", "sample_1", "sample_2", "sd")
    outputs = {f"shown_{name}": random.uniform(1, 2, (2, 1, 16, 16)) for name in names}
    outputs["shown_input"] = random.normal(size=(2, 1, 8, 8))
    outputs |= {"shown": np.array([3, 0]), "coverage_68": np.array([0.7, 0, 0, 0.6])}
    figure = uncertainty_pictures.sheet(outputs)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 2 * 7 and panels[0].get_ylabel() == "60% in the\n68 % interval"
    shown = np.asarray(panels[-1].images[0].get_array())
    away = (outputs["shown_restored"] - outputs["shown_truth"]) / outputs["shown_sd"]
    assert np.allclose(shown, away[1, 0])
    assert np.allclose(panels[5].images[0].get_array(), outputs["shown_sd"][0, 0])


def test_ranks_are_over_those_of_samples_like_the_truth():
    shares = np.array([[0.5, 0.25, 0.25], [0.3, 0.25, 0.45]])
    (axes,) = uncertainty_pictures.ranks(shares).axes
    assert np.allclose([bar.get_height() for bar in axes.patches], [1.2, 0.75, 1.05])
    assert axes.get_xlabel() == "samples, of 2, below the truth"
