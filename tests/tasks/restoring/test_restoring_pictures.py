"""Figures of a restoration."""

from __future__ import annotations

import numpy as np
import pytest
from made_arrays import rings

from deeplense_batch.tasks.restoring import pictures
from deeplense_batch.tasks.restoring.lens_physics import measure


@pytest.fixture(scope="module")
def images():
    truth = rings(8, 3)[0]
    noise = np.random.default_rng(0).normal(0, 0.02, (2, *truth.shape)).astype(np.float32)
    return {"truth": truth, "restored": truth + noise[0], "fitted": truth + 3 * noise[1]}


def test_the_sheet_has_a_panel_for_each_image_and_residuals_in_sd_of_the_noise(images):
    shown = {name: some[:3] for name, some in images.items()}
    shown["input"] = shown["truth"][..., ::2, ::2]
    figure = pictures.sheet(shown, 0.02, ["a", "b", "c"])
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 3 * 6
    assert [axes.get_title() for axes in panels[:6]] == [
        "input", "bicubic, fitted", "restored", "truth",
        "bicubic, fitted - truth", "restored - truth",
    ]  # fmt: skip
    residual = np.asarray(panels[5].images[0].get_array())
    expected = (shown["restored"] - shown["truth"])[0].mean(0) / 0.02
    assert np.allclose(residual, expected, atol=1e-5)
    with_clean = pictures.sheet({**shown, "clean": shown["truth"]}, 0.02, ["a", "b", "c"])
    assert len([axes for axes in with_clean.axes if axes.images]) == 3 * 7


def test_the_spectrum_is_the_ratio_of_mean_powers(images):
    made = {name: images[name] for name in ("restored", "fitted")}
    outputs = measure(made, images["truth"], 0.02)
    side = images["truth"].shape[-1]
    figure = pictures.spectrum(outputs, (side, side), 2, 0.05, 0.02)
    (axes,) = figure.axes
    line = axes.lines[0]
    expected = outputs["power_restored"].mean(0) / outputs["power_truth"].mean(0)
    assert np.allclose(line.get_ydata(), expected, rtol=1e-4)
    assert line.get_xdata()[-1] == pytest.approx(0.5 / 0.05) and "arcsec" in axes.get_xlabel()
    assert axes.lines[3].get_xdata()[0] == pytest.approx(5)  # what pixels twice as wide show


def test_the_physics_has_its_four_panels_with_and_without_noise(images):
    made = {name: images[name] for name in ("restored", "fitted")}
    for noise in (0.02, 0.0):
        outputs = measure(made, images["truth"], noise)
        outputs |= {"psnr": np.linspace(40, 41, 8), "psnr_fitted": np.full(8, 39.0)}
        figure = pictures.physics(outputs, np.nan)
        assert "pixels" in figure.axes[1].get_xlabel()
        assert "median 1.5" in figure.axes[0].get_legend().get_texts()[0].get_text()
        assert bool(figure.axes[3].patches) == (noise > 0)
