"""Figures of generated images: what is written and drawn is what was measured."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import StepPatch
from pictures import drawn, texts

from deeplense_batch.inference.generation.figures import (
    distributions,
    neighbour_sheet,
    power_spectra,
    sample_sheet,
)
from deeplense_batch.inference.generation.image_statistics import Statistics

SETS = ("generated", "training", "held-out")
UNKNOWN = float("nan")


def images(count, factor=1.0, seed=0):
    return factor * np.random.default_rng(seed).random((count, 1, 8, 8)).astype(np.float32)


def statistics(factor=1.0, rings=True):
    """Of 20 images."""
    random = np.random.default_rng(0)
    return Statistics(
        wavenumbers=np.array([0.125, 0.25, 0.5]),
        power=factor * np.array([100.0, 10.0, 1.0]),
        pixels=random.normal(size=1000).astype(np.float32),
        einstein_radii=random.uniform(8, 12, 20) if rings else np.full(20, np.nan),
        fluxes=random.normal(50, 5, 20),
        peaks=random.integers(0, 4, 20),
    )


def measured(**changed):
    """The three sets, and how far two of them are from the third."""
    sets = {name: statistics() for name in SETS} | changed
    names = ("power_spectrum", "pixels", "einstein_radius", "flux", "peaks")
    return sets, {name: {"generated": 0.25, "real": 0.01} for name in names}


def test_as_many_of_each_class_are_shown_as_every_class_has():
    rows = {"no": (images(5), images(3)), "vort": (images(4), images(4)), "none": ([], images(4))}
    figure = drawn(sample_sheet(rows, "some"))
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    kinds = ("generated no", "held-out no", "generated vort", "held-out vort")
    assert titles == [kind for kind in kinds for _ in range(3)]
    nameless = sample_sheet({"": (images(2), images(2))}, "some")
    assert [axes.get_title() for axes in nameless.axes] == ["generated"] * 2 + ["held-out"] * 2


def test_a_generated_image_that_is_too_faint_looks_faint():
    figure = sample_sheet({"": (images(1, factor=0.1), images(1))}, "some")
    faint, real = (axes.images[0].get_array() for axes in figure.axes)
    assert real.max() == 1 and faint.max() < 0.7


def test_neighbours_stand_below_the_images_that_they_are_nearest_to():
    figure = drawn(neighbour_sheet(images(3), images(3, seed=1), [0.1, 1.0, 2.349], "some"))
    titles = [axes.get_title() for axes in figure.axes]
    assert (
        titles
        == [f"generated\nratio {r}" for r in ("0.10", "1.00", "2.35")] + ["nearest training"] * 3
    )
    assert figure.axes[0].get_position().y0 > figure.axes[3].get_position().y1


@pytest.mark.parametrize(
    ("scale", "unit", "first"), [(0.05, "arcsec", 2.5), (UNKNOWN, "pixel", 0.125)]
)
def test_a_spectrum_stands_above_its_ratio_to_that_of_held_out_images(scale, unit, first):
    sets, away = measured(generated=statistics(factor=10.0))
    figure = drawn(power_spectra(sets, away, scale))
    upper, lower = figure.axes
    lines = {line.get_label().partition(",")[0]: line for line in upper.lines}
    assert set(lines) == set(SETS)
    assert lines["generated"].get_ydata().tolist() == [1000, 100, 10]
    assert lines["generated"].get_xdata()[0] == pytest.approx(first)
    assert sorted(line.get_ydata().tolist() for line in lower.lines) == [[0] * 3, [0] * 3, [1] * 3]
    assert lower.get_xlabel() == f"wavenumber (cycles per {unit})"
    assert {"held-out", "training, 0.01", "generated, 0.25"} <= set(texts(figure))


def test_distributions_are_shares_of_each_set():
    sets, away = measured(generated=statistics(rings=False))
    away["einstein_radius"]["generated"] = None
    figure = drawn(distributions(sets, away, 0.05))
    pixels, rings, fluxes, peaks = figure.axes
    assert rings.get_xlabel() == "ring radius (arcsec)"
    for axes in (fluxes, peaks):
        for patch in axes.findobj(StepPatch):
            assert patch.get_data().values.sum() == pytest.approx(1, abs=0.11)  # but for the tails
    shares = {p.get_label(): p.get_data().values.sum() for p in rings.findobj(StepPatch)}
    assert shares["generated"] == 0 and shares["training, 0.01"] > 0.8  # it shows no rings
    (counted, *_) = peaks.findobj(StepPatch)
    assert set(counted.get_data().edges % 1) == {0.5}  # a whole number is in the middle of its bar
    assert pixels.get_yscale() == "log"
    assert distributions(sets, away, UNKNOWN).axes[1].get_xlabel() == "ring radius (pixels)"


def test_sheets_show_the_bands_that_are_chosen():
    real = np.random.default_rng(0).random((2, 3, 8, 8))
    rgb = (0, 1, 2)
    sheets = {
        "samples": lambda chosen: sample_sheet({"": [real, real]}, "a", chosen),
        "neighbours": lambda chosen: neighbour_sheet([*real], [*real], [1.0, 2.0], "a", chosen),
    }
    for sheet in sheets.values():
        usual, turned = (
            np.asarray(sheet(chosen).axes[0].images[0].get_array()) for chosen in (None, rgb)
        )
        assert usual.shape == (8, 8, 3)
        assert usual == pytest.approx(turned[..., ::-1])
