"""What is simulated, as data: a distribution for every parameter of a substructure set."""

from __future__ import annotations

import numpy as np
import pytest
from lenstronomy.SimulationAPI.ObservationConfig.Euclid import Euclid
from lenstronomy.SimulationAPI.ObservationConfig.HST import HST
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from deeplense_batch.simulation.presets import PRESETS, SIZES
from deeplense_batch.simulation.scenes import draw_scene
from deeplense_batch.simulation.substructure import Substructure


@pytest.mark.parametrize("name", ["common_test_1", "varied", "physical"])
def test_all_that_is_not_substructure_tells_nothing(name):
    """Boosted trees on every other number of a scene: chance."""
    preset, columns, targets = PRESETS[name], [], []
    for target in range(3):
        for i in range(700):
            scene = draw_scene(preset, target, np.random.default_rng([target, i]))
            other = [v for k, v in scene.items() if k not in ("halos", "vortex")]
            columns.append(np.concatenate([np.ravel(v) for v in other[:-1]]))
            assert list(scene)[-1] == "substructure_fraction"
            targets.append(target)
    model = HistGradientBoostingClassifier(max_iter=40, random_state=0)
    scores = cross_val_predict(model, columns, targets, cv=3, method="predict_proba")
    auc = roc_auc_score(targets, scores, multi_class="ovr")
    assert auc == pytest.approx(0.5, abs=0.03), auc


@pytest.mark.parametrize("name", ["model_2", "model_3"])
def test_the_telescopes_of_models_2_and_3_are_those_of_lenstronomy(name):
    """Which DeepLenseSim takes them from."""
    telescope = Euclid() if name == "model_2" else HST(band="WFC3_F160W", psf_type="GAUSSIAN")
    known, preset = telescope.kwargs_single_band(), PRESETS[name]
    assert preset.pixel_scale == known["pixel_scale"]
    assert preset.camera.psf_sigma == pytest.approx(known["seeing"] / 2.35482, rel=1e-5)


@pytest.mark.parametrize("name", ["model_2", "model_3"])
def test_images_of_models_2_and_3_have_next_to_no_noise(name):
    maker = Substructure(name, size=SIZES[name])
    drawn = maker.draw("train", range(3), seed=0)
    bare = maker.tracer.images(drawn.optics)
    made = maker.expose(drawn, bare)
    for image, scale, true in zip(made.images[:, 0], made.scale[:, 0], bare, strict=True):
        flux = image / scale
        slope, zero = np.polyfit(true.ravel(), flux.ravel(), 1)
        assert np.std(flux - slope * true - zero) == pytest.approx(1 / 3e4, rel=0.1)


def test_vortices_of_model_2_are_as_long_as_its_axions_are_light():
    masses = 10.0 ** np.array([-24, -22])  # eV, between which log10 of them is uniform
    assert PRESETS["model_2"].vort.length.range == pytest.approx((0.06, 6.0))
    assert 2 * 0.03 * 1e-22 / masses == pytest.approx([6.0, 0.06])
