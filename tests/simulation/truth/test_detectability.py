"""How visible substructure is: the best smooth lens, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.simulation.overrides import with_overrides
from deeplense_batch.simulation.presets import PRESETS, ReadoutCamera
from deeplense_batch.simulation.rays import render
from deeplense_batch.simulation.scenes import (
    Scenes,
    as_batch,
    draw_scene,
    observe,
    without_substructure,
)
from deeplense_batch.simulation.truth import detectability as module
from deeplense_batch.simulation.truth.detectability import detectability

SIZE = 150
VORT = 2


def scene_of(preset: str, target: int, *key: int) -> Scenes:
    return as_batch([draw_scene(PRESETS[preset], target, np.random.default_rng(key))])


@pytest.mark.parametrize("preset", ["common_test_1", "parity", "varied"])
def test_none_without_substructure(preset):
    assert detectability(PRESETS[preset], scene_of(preset, 0, 1), SIZE) == 0


def test_a_smooth_lens_is_found_again(monkeypatch):
    """From another start, the fit ends at nothing, and at the parameters of the scene."""
    preset = PRESETS["varied"]
    scene = scene_of("varied", 0, 2)
    image = render(preset, scene, SIZE).flatten(1)
    sd = module._noise(preset, scene, image)
    truth = module._SmoothLens(preset, scene, SIZE, sd, (image / sd)[0].numpy())
    moved = truth.start() + 0.03 * np.random.default_rng(1).normal(size=14)
    fit = module.least_squares(
        truth.residual, moved, truth.jacobian, method="lm", x_scale="jac", ftol=1e-10
    )
    assert 2 * fit.cost < 1e-3
    assert fit.x == pytest.approx(truth.start(), abs=1e-3)


def test_derivatives_are_those_of_the_model():
    """Central differences, of every parameter; of a round lens too."""
    preset = PRESETS["common_test_1"]
    scene = without_substructure(scene_of("common_test_1", VORT, 3))
    image = render(preset, scene, SIZE).flatten(1)
    sd = module._noise(preset, scene, image)
    smooth = module._SmoothLens(preset, scene, SIZE, sd, (image / sd)[0].numpy())
    assert smooth.residual(smooth.start()) == pytest.approx(0, abs=1e-6)
    found, step = smooth.jacobian(smooth.start()), 1e-3
    for k, column in enumerate(found.T):
        there, here = (smooth.residual(smooth.start() + sign * step * np.eye(14)[k])
                       for sign in (1, -1))  # fmt: skip
        expected = (there - here) / (2 * step)
        if k in (3, 4):  # an ellipticity of a round lens
            assert np.corrcoef(column, expected)[0, 1] > 0.99
        else:
            assert np.linalg.norm(column - expected) < 0.02 * np.linalg.norm(expected), k


def test_no_other_start_ends_lower(monkeypatch):
    preset, scene = PRESETS["parity"], scene_of("parity", VORT, 9, 7)
    found = detectability(preset, scene, SIZE)
    original, random = module._SmoothLens.start, np.random.default_rng(0)
    shifts = [0.03 * random.normal(size=14) for _ in range(2)]
    for shift in shifts:
        monkeypatch.setattr(module._SmoothLens, "start", lambda self, s=shift: original(self) + s)
        assert detectability(preset, scene, SIZE) == pytest.approx(found, rel=1e-3)


def test_matter_along_the_line_of_sight_is_in_the_smooth_lens():
    """The same image without it, by another lens and line, has the same delta chi^2."""
    tides = {"lens.los_convergence": 0.08, "lens.los_shear": 0.04}
    preset, stream = with_overrides(PRESETS["parity"], tides), np.random.default_rng(4)
    scene = as_batch([draw_scene(preset, VORT, stream)])
    factor = 1 / (1 - scene["los"][:, 0])
    other = {name: values.clone() for name, values in scene.items() if name != "los"}
    other["theta_e"] *= factor
    other["shear"] = (other["shear"] + scene["los"][:, 1:]) * factor
    other["source"][:, :3] *= factor
    other["vortex"][:, 0] *= factor
    found = detectability(preset, scene, SIZE)
    assert found > 5
    assert found == pytest.approx(detectability(PRESETS["parity"], other, SIZE), rel=1e-3)


def test_lines_added_to_a_lens_are_not_overrated():
    """Where the ring grows with the line, a linear fit leaves 2 to 12 times too much."""
    preset, ratios = PRESETS["parity"], []
    for k in range(4):
        scene = scene_of("parity", VORT, 9, k)
        ratios.append(linear(preset, scene) / detectability(preset, scene, SIZE))
    assert 3 < np.median(ratios) < 12 and min(ratios) > 2


def linear(preset, scene: Scenes) -> float:
    """What one linear step from the lens as it was drawn leaves."""
    image = render(preset, scene, SIZE).flatten(1)
    sd = module._noise(preset, scene, image)
    smooth = module._SmoothLens(
        preset, without_substructure(scene), SIZE, sd, (image / sd)[0].numpy()
    )
    left, slopes = smooth.residual(smooth.start()), smooth.jacobian(smooth.start())
    return float(np.square(left - slopes @ np.linalg.lstsq(slopes, left, rcond=None)[0]).sum())


@pytest.mark.parametrize("name", ["common_test_1", "varied"])
def test_in_units_of_the_noise_that_images_have(name):
    """The scatter of the pixels of many exposures is what is assumed for it."""
    preset, scene = PRESETS[name], draw_scene(PRESETS[name], 0, np.random.default_rng(5))
    image = render(preset, as_batch([scene]), SIZE)[0]
    made = [
        observe(preset, scene, image.numpy(), np.random.default_rng(seed))[0] for seed in range(40)
    ]
    made = [counts - np.mean(counts) for counts in made]  # they are above the least of each
    unit = 1.0  # counts in that of the image
    if isinstance(preset.camera, ReadoutCamera):
        unit = preset.camera.counts_per_sky_sd * float(scene["snr"]) / float(image.max())
    expected = unit * module._noise(preset, as_batch([scene]), image).numpy()
    assert (np.std(made, 0, ddof=1) / expected).mean() == pytest.approx(1, abs=0.02)
