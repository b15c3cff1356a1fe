"""Figures of posteriors: what the marks are, and that nothing unknown is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import drawn, explained

from deeplense_batch.core.scoring.posteriors.coverage import coverage, coverage_error
from deeplense_batch.core.scoring.posteriors.posterior_figures import (
    agreement_of,
    coverage_curves,
    draw_numbers,
    pull_histograms,
    rank_histograms,
)

LABELS = [("a", "arcsec"), ("log10 b", "dex")]


def made(images: int = 200) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    true = random.normal(size=(images, 2))
    predicted = true + random.normal(size=(images, 2))
    return {"true": true, "predicted": predicted, "sd": np.ones((images, 2)),
            "quantiles": predicted[..., None] + np.array([-1.6, -1, 0, 1, 1.6]),
            "rank": random.uniform(size=(images, 2)), "tarp": random.uniform(size=images),
            "log_prob": random.normal(size=images)}  # fmt: skip


def test_each_run_has_the_figures_of_what_it_keeps():
    outputs = made()
    assert set(draw_numbers(outputs, ["a", "b"], LABELS)) == {
        "predicted", "coverage", "ranks", "pulls",
    }  # fmt: skip
    plain = {name: outputs[name] for name in ("true", "predicted")}
    assert set(draw_numbers(plain, ["a", "b"], LABELS)) == {"predicted"}
    unknown = outputs | {"true": np.full((200, 2), np.nan)}
    assert set(draw_numbers(unknown, ["a", "b"], LABELS)) == {"predicted"}
    mixture = {name: v for name, v in outputs.items() if name not in ("quantiles", "tarp")}
    assert "coverage" in draw_numbers(mixture, ["a", "b"], LABELS)


def test_agreement_draws_known_samples_with_their_error_bars():
    outputs = made()
    outputs["true"][:50, 0] = np.nan
    ends = outputs["quantiles"][..., 1], outputs["quantiles"][..., 3]
    figure = agreement_of(outputs["true"], outputs["predicted"], ends, LABELS)
    first, second = figure.axes
    assert len(first.lines[-1].get_xdata()) == 150 and len(second.lines[-1].get_xdata()) == 200
    bars = first.collections[0].get_segments()
    assert len(bars) == 150 and np.ptp(bars[0][:, 1]) == pytest.approx(2)
    assert first.get_title().startswith("150 samples, RMSE")


def test_coverage_is_drawn_less_the_level_with_the_band_of_so_many_samples():
    outputs = made()
    figure = coverage_curves(outputs["rank"], outputs["tarp"], ["a", "b"])
    (axes,) = figure.axes
    drawn = axes.lines[-1]
    levels = drawn.get_xdata()
    assert drawn.get_ydata() == pytest.approx(coverage(outputs["tarp"], levels) - levels)
    assert f"TARP: error {coverage_error(outputs['tarp']):.4f}" in drawn.get_label()
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[0].startswith("right posterior, 200 samples") and len(texts) == 4


def test_histograms_count_every_sample():
    outputs = made()
    pulls = (outputs["true"] - outputs["predicted"]) * 3  # some beyond the last edge
    for figure in (
        rank_histograms(outputs["rank"], ["a", "b"]),
        pull_histograms(pulls, ["a", "b"]),
    ):
        for axes in figure.axes:
            assert axes.patches[0].get_data().values.sum() == 200


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_curve_and_band_of_ranks_and_pulls_are_explained(names):
    outputs = made()
    ranks = rank_histograms(outputs["rank"][:, : len(names)], names)
    pulls = pull_histograms((outputs["true"] - outputs["predicted"])[:, : len(names)], names)
    assert explained(drawn(ranks)) == {"95 % of bins, right posterior", "samples"}
    assert explained(drawn(pulls)) == {"normal, mean 0, sd 1", "samples"}
