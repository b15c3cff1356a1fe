"""The mean answer of a model's runs: its scores, and its gain over its members."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made_answers import CLASSES, TARGETS, answers, compared, model_run, with_scores, write_outputs
from made_folds import FOLDS, fold_run, logits_of
from made_folds import SAMPLES as OF_FOLDS
from made_folds import TARGETS as TARGETS_OF_FOLDS
from made_runs import make_run
from scipy.special import expit, log_softmax
from scipy.special import softmax as scipy_softmax
from scipy.stats import t
from sklearn.metrics import log_loss, mean_absolute_error, r2_score, roc_auc_score

from deeplense_batch.report.collect import collect
from deeplense_batch.report.compare import ModelRuns, compare, name_variants
from deeplense_batch.report.plots.pictures import redraw
from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.run_table import read_rows
from deeplense_batch.report.statistics import bootstrap, resamples
from deeplense_batch.report.statistics.resamples import Resamples
from deeplense_batch.report.studies import folds
from deeplense_batch.report.studies.ensembles import ensembles

SEEDS = (0, 1, 2)
TEMPERATURES = (1.7, 0.8, 1.2)
VALIDS = (0.90, 0.93, 0.91)  # the second is picked


def members(root, name="resnet18", own=1.0, **numbers):
    """Three runs of one model; their logits."""
    logits = [answers(2.0, seed=seed, own=own) for seed in SEEDS]
    for seed in SEEDS:
        numbers |= {"valid": VALIDS[seed], "scores": {"temperature": TEMPERATURES[seed]}}
        run = model_run(root, name, logits[seed], seed=seed, **numbers)
        write_outputs(run, logits[seed][::-1], "validated.npz", targets=TARGETS[::-1])
    return [own.astype(float) for own in logits]


def found(root):
    models = compared(root)
    return ensembles(models, Resamples.of(models))


def macro_auc(targets, scores):
    return np.mean([roc_auc_score(targets == k, scores[:, k]) for k in range(3)])


def mean_of(logits):
    """The mean of the calibrated probabilities, by scipy."""
    pairs = zip(logits, TEMPERATURES, strict=True)
    return np.mean([scipy_softmax(own / one, axis=1) for own, one in pairs], axis=0)


def test_scores_are_those_of_the_mean_probabilities(tmp_path):
    logits = members(tmp_path)
    ((row,), notes) = found(tmp_path)
    mean = mean_of(logits)
    assert not notes and row["members"] == row["calibrated"] == 3
    assert row["auc"] == pytest.approx(macro_auc(TARGETS, mean), abs=1e-12)
    assert row["accuracy"] == (mean.argmax(1) == TARGETS).mean()
    assert row["nll"] == pytest.approx(log_loss(TARGETS, mean), abs=1e-9)
    confidence, right = mean.max(1), mean.argmax(1) == TARGETS
    gaps = [(right - confidence)[np.ceil(confidence * 15) == k].sum() for k in range(1, 16)]
    assert row["ece"] == pytest.approx(np.abs(gaps).sum() / 600, abs=1e-12)
    assert row["valid_score"] == pytest.approx(row["auc"], abs=1e-12)  # the same answers
    aucs = [macro_auc(TARGETS, log_softmax(own, axis=1)) for own in logits]
    assert row["member_scores"] == pytest.approx(aucs, abs=1e-12)
    assert row["best_score"] == pytest.approx(aucs[1], abs=1e-12)
    assert "-s1-" in row["best_run"] and len(set(row["runs"])) == 3
    assert row["over_best"]["gain"] == pytest.approx(row["auc"] - aucs[1], abs=1e-12)
    assert row["over_mean"]["gain"] == pytest.approx(row["auc"] - np.mean(aucs), abs=1e-12)
    for name in ("auc", "accuracy", "nll", "ece"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]


def resampled_aucs(logits):
    """Macro AUCs of several (600, 3) on the resamples of a comparison, by counting pairs."""
    counts = np.concatenate([*bootstrap._resamples(TARGETS, 2000, 0)], axis=1).astype(float)
    aucs = []
    for scores in logits:
        areas = []
        for k in range(3):
            above, below = counts[k == TARGETS], counts[k != TARGETS]
            gaps = scores[k == TARGETS, k][:, None] - scores[k != TARGETS, k]
            wins = (gaps > 0) + 0.5 * (gaps == 0)
            areas.append((above * (wins @ below)).sum(0) / above.sum(0) / below.sum(0))
        aucs.append(np.mean(areas, axis=0))
    return aucs


def test_the_interval_of_a_gain_is_that_of_a_direct_bootstrap(tmp_path):
    logits = members(tmp_path)
    ((row,), _) = found(tmp_path)
    ensemble, *own = resampled_aucs([mean_of(logits), *(log_softmax(one, 1) for one in logits)])
    for over, before in (("over_best", own[1]), ("over_mean", np.mean(own, axis=0))):
        sd, gain = (ensemble - before).std(ddof=1), row[over]
        half = t.ppf(0.975, 597) * sd
        assert gain["high"] - gain["gain"] == pytest.approx(half, abs=1e-9)
        assert gain["gain"] - gain["low"] == pytest.approx(half, abs=1e-9)
        assert gain["p_value"] == pytest.approx(2 * t.sf(gain["gain"] / sd, 597), rel=1e-6)
    assert row["over_mean"]["resolved"] and row["over_mean"]["gain"] > 0.01


def test_p_values_are_adjusted_over_the_ensembles(tmp_path):
    members(tmp_path / "one", "resnet18", own=0.1)
    (alone,), _ = found(tmp_path / "one")
    members(tmp_path / "both", "resnet18", own=0.1)
    members(tmp_path / "both", "resnet34", own=2.0)
    rows, _ = found(tmp_path / "both")
    by_label = {row["label"]: row["over_best"]["p_value"] for row in rows}
    assert by_label["resnet34"] < by_label["resnet18"]
    single = alone["over_best"]["p_value"]
    assert by_label["resnet18"] == pytest.approx(single)  # Holm: the larger of two stays
    (other,), _ = found_alone(tmp_path, "resnet34", 2.0)
    assert by_label["resnet34"] == pytest.approx(2 * other["over_best"]["p_value"])


def found_alone(root, name, own):
    members(root / "alone", name, own=own)
    return found(root / "alone")


def test_intervals_of_gains_cover_what_very_many_images_show(monkeypatch):
    """Of fixed networks: what they answer to an image is drawn anew for each test sample."""
    random = np.random.default_rng(3)

    def sampled(size):
        targets = np.arange(size) % 3
        shared = 2 * np.eye(3)[targets] + random.normal(size=(size, 3))
        return targets, [shared + random.normal(size=(size, 3)) for _ in SEEDS]

    def gain_of(targets, logits):
        return macro_auc(targets, scipy_softmax(logits, 2).mean(0)) - macro_auc(
            targets, scipy_softmax(logits[0], 1)
        )

    true, covered = gain_of(*sampled(100_000)), []
    monkeypatch.setattr(resamples, "predictions_of", lambda run: run["answers"])
    for _ in range(60):
        targets, logits = sampled(150)
        ids = np.arange(150).astype(str)
        runs = []
        for seed, values in enumerate(logits):
            made = Predictions(ids, targets, CLASSES, scipy_softmax(values, axis=1))
            row = {"run": str(seed), "learns": None, "answers": made, "valid_score": -seed}
            runs.append(row | {"auc": macro_auc(targets, made.probabilities)})
        models = [ModelRuns("made", runs)]
        ((row,), _) = ensembles(models, Resamples.of(models))
        covered.append(row["over_best"]["low"] <= true <= row["over_best"]["high"])
    assert np.mean(covered) >= 0.88  # 0.95, less 2.5 times the noise of 60 comparisons


def test_a_search_is_calibrated_by_slope_and_offset(tmp_path):
    targets, random = (np.arange(600) % 10 == 0).astype(int), np.random.default_rng(0)
    fitted, odds = ((0.7, -1.0), (1.4, 0.5)), []
    for seed, (slope, offset) in enumerate(fitted):
        values = random.normal(0, 1, 600) + 2 * targets
        run = make_run(tmp_path, "finder", seed=seed)
        # the lens is the first class
        logits, numbers = np.stack([values, np.zeros(600)], axis=1), 1 - targets
        write_outputs(run, logits, classes=["lens", "other"], targets=numbers)
        area = roc_auc_score(targets, values)
        with_scores(run, auc=area, temperature=1.3, slope=slope, offset=offset)
        metrics = run.read_json("metrics.json")
        run.write_json("metrics.json", metrics | {"learns": "lens"})
        odds.append(slope * values + offset)
    ((row,), notes) = found(tmp_path)
    lens = expit(odds).mean(axis=0)
    assert row["auc"] == pytest.approx(roc_auc_score(targets, lens), abs=1e-12)
    assert row["nll"] == pytest.approx(log_loss(targets, lens), abs=1e-9)
    assert row["accuracy"] == ((lens > 0.5) == targets).mean()
    assert notes == ["no validation score of the ensemble of finder: validated.npz is missing"]
    assert row["valid_score"] is None


def test_pooled_folds_are_calibrated_each_by_its_own_run(tmp_path):
    fold_of = np.arange(OF_FOLDS) % FOLDS + 1
    temperatures = {0: (0.5, 1.0, 2.0), 1: (3.0, 0.7, 1.5)}  # by seed, of each fold
    for seed, own in temperatures.items():
        for fold, temperature in enumerate(own, start=1):
            fold_run(tmp_path, fold, seed=seed, scores={"temperature": temperature})
    rows = read_rows(tmp_path)
    pooled = folds.pool(rows)
    name_variants([*rows, *pooled])
    (models,) = compare(folds.compared(rows, pooled))
    ((row,), notes) = ensembles(models, Resamples.of(models))
    honest = [
        scipy_softmax(logits_of("resnet18", seed, fold, 1.0)[i] / own[fold - 1])
        for seed, own in temperatures.items()
        for i, fold in enumerate(fold_of.tolist())
    ]
    mean = np.reshape(honest, (2, OF_FOLDS, 3)).mean(axis=0)
    assert row["members"] == row["calibrated"] == 2
    assert row["nll"] == pytest.approx(log_loss(TARGETS_OF_FOLDS, mean), abs=1e-9)
    assert row["auc"] == pytest.approx(macro_auc(TARGETS_OF_FOLDS, mean), abs=1e-12)
    assert not any("as they answered" in note for note in notes)


def test_numbers_of_a_regression_are_averaged(tmp_path):
    random = np.random.default_rng(0)
    true = np.where(np.arange(600) % 3, random.normal(-22, 0.5, 600), np.nan)
    known, predicted = np.isfinite(true), []
    for seed, valid in enumerate((0.6, 0.5)):
        predicted.append(np.nan_to_num(true + random.normal(0, 0.3, 600)))
        run = make_run(tmp_path, seed=seed, auc=None)
        for name in ("outputs.npz", "validated.npz"):
            np.savez(run.path / name, classes=CLASSES, ids=np.arange(600).astype(str),
                     targets=TARGETS, true=true, predicted=predicted[-1])  # fmt: skip
        metrics = run.read_json("metrics.json")
        metrics["valid"] |= {"monitor": "r2", "scores": {"r2": valid}}
        metrics["test"]["scores"] = {"r2": r2_score(true[known], predicted[-1][known])}
        run.write_json("metrics.json", metrics)
    ((row,), notes) = found(tmp_path)
    mean = np.mean(predicted, axis=0)[known]
    assert not notes and "nll" not in row
    assert row["r2"] == pytest.approx(r2_score(true[known], mean), abs=1e-12)
    assert row["mae"] == pytest.approx(mean_absolute_error(true[known], mean), abs=1e-12)
    assert row["valid_score"] == pytest.approx(row["r2"])
    assert row["over_best"]["gain"] > 0.05 and row["over_best"]["resolved"]
    assert row["r2_low"] < row["r2"] < row["r2_high"]


def test_members_that_are_alike_gain_nothing(tmp_path):
    for seed in SEEDS:
        model_run(tmp_path, "resnet18", answers(2.0), seed=seed, scores={"temperature": 1.0})
    ((row,), _) = found(tmp_path)
    for over in ("over_best", "over_mean"):
        assert row[over]["gain"] == 0 and row[over]["p_value"] == 1
        assert not row[over]["resolved"]


def test_what_cannot_be_averaged_is_named(tmp_path):
    members(tmp_path / "runs", "whole")
    model_run(tmp_path / "runs", "single", answers(2.0))
    for seed in SEEDS:
        run = model_run(tmp_path / "runs", "partly", answers(2.0), seed=seed)
    (run.path / "outputs.npz").unlink()
    for seed, classes in enumerate((CLASSES, ("no", "sphere", "other"))):
        run = model_run(tmp_path / "runs", "mixed", answers(2.0), seed=seed)
        write_outputs(run, answers(2.0), classes=classes)
    for seed in (0, 1):
        model_run(tmp_path / "runs", "plain", answers(2.0, seed=seed, own=1), seed=seed)
    rows, notes = found(tmp_path / "runs")
    assert {row["label"] for row in rows} == {"whole", "plain"}
    assert set(notes) == {
        "no ensemble of partly: outputs.npz is missing",
        "no ensemble of mixed: its runs learnt different classes",
        "no validation score of the ensemble of plain: validated.npz is missing",
        "members without a temperature count as they answered: plain (2 of 2)",
    }


def test_an_ensemble_that_was_evaluated_is_no_member_of_another(tmp_path):
    members(tmp_path)
    models = compared(tmp_path)
    for run in models[0].runs:
        run["ensemble"] = 2
    assert ensembles(models, Resamples.of(models)) == ([], [])


def test_validation_answers_to_different_samples_are_not_averaged(tmp_path):
    logits = members(tmp_path)
    run = next(tmp_path.glob("demo/resnet18-s2-*"))
    with np.load(run / "validated.npz") as before:
        changed = dict(before) | {"ids": np.arange(5, 605).astype(str)}
    np.savez(run / "validated.npz", **changed)
    ((row,), notes) = found(tmp_path)
    assert row["valid_score"] is None and row["auc"] == macro_auc(TARGETS, mean_of(logits))
    assert notes == [
        "no validation score of the ensemble of resnet18: its runs were validated on different "
        "samples"
    ]


def test_a_report_has_them_in_its_json_on_its_pages_and_as_a_figure(tmp_path):
    logits = members(tmp_path / "runs")
    report = collect(tmp_path / "runs", tmp_path / "report")
    content = json.loads((tmp_path / "report" / "results.json").read_text())
    (comparison,) = content["comparisons"]
    (row,) = comparison["ensembles"]
    assert row["auc"] == pytest.approx(macro_auc(TARGETS, mean_of(logits)), abs=1e-12)
    page = (tmp_path / "report" / "report.md").read_text()
    assert "### Ensembles" in page and f"{row['auc']:.4f} " in page
    assert "<h3>Ensembles</h3>" in (tmp_path / "report" / "report.html").read_text()
    assert tmp_path / "report" / "ensembles.png" in report.paths
    (tmp_path / "report" / "ensembles.svg").unlink()
    assert tmp_path / "report" / "ensembles.svg" in redraw(tmp_path / "report")
