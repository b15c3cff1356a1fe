"""What is simulated, as data: a distribution for every parameter of a substructure set."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from deeplense_batch.simulation.presets import PRESETS
from deeplense_batch.simulation.scenes import draw_scene


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
