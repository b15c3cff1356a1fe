"""Restored images beside their baselines, in the words of a report."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.significance import infer
from deeplense_batch.report.statistics.resamples import Resamples
from deeplense_batch.report.studies.restoration import restoration_blocks, restored
from deeplense_batch.report.studies.selection.bins import Bins
from deeplense_batch.report.studies.selection.measures import InBins, measures

IMAGES = 60
FITTED = 40.0


def row_of(folder, gain, *, seed=0, seen=()):
    """A finished run that restores `gain` dB better than the fitted image, on average."""
    random = np.random.default_rng(seed)
    sky = np.random.default_rng(9).normal(0, 2, IMAGES)  # by which images are hard for all
    psnr = FITTED + gain + sky + random.normal(0, 0.1, IMAGES)
    targets = np.arange(IMAGES) % 3
    arrays = {
        "ids": np.arange(IMAGES).astype(str),
        "targets": targets,
        "classes": np.array(["a", "b", "c"]),
        "psnr": psnr, "ssim": np.full(IMAGES, 0.9), "mse": 10 ** (-psnr / 10),
        "psnr_fitted": FITTED + sky, "psnr_bicubic": FITTED - 1 + sky,
    }  # fmt: skip
    for strength, name in enumerate(seen):
        arrays[f"seen_{name}"] = strength * np.eye(3)[targets] + random.normal(0, 1, (IMAGES, 3))
        arrays["seen_targets"] = targets
    folder.mkdir(parents=True)
    np.savez(folder / "outputs.npz", **arrays)
    own = psnr - arrays["psnr_fitted"]
    more = {"psnr": psnr.mean(), "ssim": 0.9, "gain": own.mean(), "mse": arrays["mse"].mean()}
    more |= {"ring_error": 0.01, "ring_error_fitted": 0.03, "power_error": 0.8}
    return {
        "run": str(folder), "job": "j", "model": folder.name, "seed": seed, "monitor": "psnr",
        "task": "restoration", "learns": None, "variant": None, "valid_score": gain,
        "data_digest": "d", "test": "test", "valid": "val", "test_samples": IMAGES,
        "auc": None, "accuracy": None, "more": more, "device": "cpu",
    }  # fmt: skip


def of(*models):
    resamples = Resamples.of(models)
    inferred, _, notes = infer(models, resamples)
    assert not notes
    return inferred, restored(inferred, resamples)


def test_gains_are_paired_so_that_hard_images_do_not_widen_them(tmp_path):
    models = [
        ModelRuns("good", [row_of(tmp_path / "good", 0.5)]),
        ModelRuns("poor", [row_of(tmp_path / "poor", -0.3, seed=1)]),
    ]
    inferred, rows = of(*models)
    assert [row["label"] for row in rows] == ["good", "poor", "bicubic, fitted", "bicubic"]
    good, poor, fitted, bicubic = rows
    assert good["gain"] == pytest.approx(0.5, abs=0.05)
    assert 0 < good["gain_high"] - good["gain_low"] < 0.1 < good["psnr_high"] - good["psnr_low"]
    assert good["gain_low"] > 0 > poor["gain_high"]
    assert bicubic["gain"] == pytest.approx(-1) and "gain" not in fitted
    assert fitted["ring_error"] == 0.03 and good["ring_error"] == 0.01
    assert inferred[1].inferred["resolved"] and inferred[1].inferred["difference"] < 0


def test_what_classifiers_see_has_a_block_of_its_own(tmp_path):
    seen = ("fitted", "restored", "truth")
    _, rows = of(ModelRuns("edsr", [row_of(tmp_path / "edsr", 0.2, seen=seen)]))
    titles = [block.title for block in restoration_blocks(rows)]
    assert titles == [
        "Restored images", "What of the lens is kept", "What of the substructure survives",
    ]  # fmt: skip
    assert [one["networks"] for one in rows[0]["seen"]] == [1]
    _, rows = of(ModelRuns("edsr", [row_of(tmp_path / "unasked", 0.2)]))
    assert "seen" not in rows[0]


def test_the_tables_have_a_line_for_each_network_and_baseline(tmp_path):
    _, rows = of(ModelRuns("edsr", [row_of(tmp_path / "edsr", 0.5)]))
    quality, physics = restoration_blocks(rows)
    assert quality.head[:2] == ["images by", "PSNR (dB)"]
    assert [line[0] for line in quality.lines] == ["edsr", "bicubic, fitted", "bicubic"]
    assert "dB over fitted bicubic" in quality.headline
    assert [line[0] for line in physics.lines] == ["edsr", "bicubic, fitted"]
    assert physics.lines[0][1] == "0.0100"


def test_nothing_is_said_where_nothing_was_restored():
    assert restored([], Resamples({}, {}, {})) == [] and restoration_blocks([]) == []


def test_they_are_studied_by_a_quantity(tmp_path):
    model = ModelRuns("edsr", [row_of(tmp_path / "edsr", 0.5)])
    samples = Resamples.of([model]).samples
    bins = Bins(np.arange(IMAGES) // 30, ("near", "far"), None)
    found = measures(samples, InBins(bins, samples.targets, (), None))
    assert {*found} == {"psnr", "gain", "ssim"}
    once = np.ones((IMAGES, 1), np.uint8)
    for k, one in enumerate(found["psnr"]):
        here = samples.measured["psnr"][30 * k : 30 * k + 30]
        assert one.statistic(once)[0] == pytest.approx(here.mean())
