"""Runs as models side by side: what may be compared, and the best first."""

from __future__ import annotations

import shutil

import numpy as np
import yaml
from made_runs import make_run
from made_transfer import Networks

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.report.collect import collect
from deeplense_batch.report.compare import compare, name_variants, pareto, repeated
from deeplense_batch.report.run_table import read_rows

CLASSES = ("no", "sphere", "vort")
TARGETS = np.repeat([0, 1, 2], 200)


def test_numbers_of_another_kind_are_another_comparison(tmp_path):
    """Two regressions of one slice: other truths, known of other samples, are never ranked."""
    random = np.random.default_rng(0)
    for name, known in (("theta_e", 600), ("log10 snr", 200)):
        run = make_run(tmp_path, name.partition(" ")[0], auc=None)
        true = np.where(np.arange(600) < known, random.normal(0, 1, 600), np.nan)
        np.savez(run.path / "outputs.npz", classes=CLASSES, ids=np.arange(600).astype(str),
                 targets=TARGETS, true=true, predicted=np.nan_to_num(true) + 0.1)  # fmt: skip
        metrics = run.read_json("metrics.json") | {"learns": name}
        metrics["valid"] |= {"monitor": "r2", "scores": {"r2": 0.9}}
        metrics["test"] |= {"scores": {"r2": 0.98, "mae": 2e-5}, "scored": known}
        run.write_json("metrics.json", metrics)
    summary = collect(tmp_path, tmp_path / "report").summary
    assert "on 600 samples" in summary and "on 200 samples" in summary
    page = (tmp_path / "report" / "report.md").read_text()
    headings = [line for line in page.splitlines() if line.startswith("## Data")]
    assert sorted(line.rpartition(" of ")[2] for line in headings) == ["log10 snr", "theta_e"]
    assert "R2 0.9800" in page and "2.0e-05" in page


def test_models_that_were_validated_elsewhere_are_not_ranked_together(tmp_path):
    for name, valid in (
        ("a", "val[:50%]"),
        ("b", "val[:50%]"),
        ("c", "train[95%:]"),
        ("old", None),
    ):
        run = make_run(tmp_path, name)
        metrics = run.read_json("metrics.json")
        metrics["data"] |= {"valid": valid} if valid else {}
        run.write_json("metrics.json", metrics)
    rows = read_rows(tmp_path)
    name_variants(rows)
    compared = [{model.label for model in models} for models in compare(rows)]
    assert compared == [{"a", "b", "old"}, {"c"}] or compared == [{"a", "b"}, {"c", "old"}]
    page = collect(tmp_path, tmp_path / "report") and (tmp_path / "report/report.md").read_text()
    assert r"validated on val\[:50%\]" in page and r"validated on train\[95%:\]" in page


def test_runs_on_several_sets_are_no_seeds_of_those_on_one(tmp_path):
    """Tested and validated on the same slices, one trained on `a` and two on `a` and `b`."""
    for seed in range(3):
        run = make_run(tmp_path, seed=seed, place="/data/a")
        job = yaml.safe_load((run.path / "job.yaml").read_text())
        if seed:
            sets = [{"root": f"/data/{name}", "digest": name * 16} for name in "ab"]
            job["data"]["roots"] = sets
            (run.path / "job.yaml").write_text(yaml.safe_dump(job))
    rows = read_rows(tmp_path)
    name_variants(rows)
    (models,) = compare(rows)
    assert {model.label: len(model.runs) for model in models} == {
        "resnet18 trained on a": 1,
        "resnet18 trained on a + b": 2,
    }


def test_pareto_front():
    points = [(1, 0.5), (2, 0.6), (2, 0.55), (3, 0.6), (None, 0.9), (1, 0.5), (4, None), (5, 0.7)]
    assert pareto(points) == [True, True, False, False, False, True, False, True]


def test_a_network_is_no_rival_of_itself(tmp_path):
    """Scored again on its own test slice, by evaluations; over symmetries is another matter."""
    networks = Networks(tmp_path, {"a": 90})
    runs = [networks.train("a", seed, 2.0) for seed in (0, 1)]
    again = [networks.evaluate(run, "a", 2.0) for run in runs]
    report = collect(tmp_path, tmp_path / "report")
    assert len(report.table) == 4 and report.models["runs"].tolist() == [2]
    assert report.summary.count("Best by validation: resnet18, ") == 1
    page = (tmp_path / "report" / "report.md").read_text()
    assert "2 runs score networks once more on the same images, which counts once" in page
    assert "recipes have been scored" not in page
    for run, averaged in zip([*runs, *again], [False, False, True, True], strict=True):
        metrics = run.read_json("metrics.json")
        metrics["test"]["tta"] = averaged
        run.write_json("metrics.json", metrics)
    assert collect(tmp_path, tmp_path / "report").models["runs"].tolist() == [2, 2]


def test_of_evaluations_alone_the_newest_counts(tmp_path):
    networks = Networks(tmp_path, {"a": 90, "b": 60})
    first = networks.evaluate(networks.train("a", 0, 2.0), "b", 1.0)
    second = RunDir(tmp_path / "elsewhere" / first.path.name)
    shutil.copytree(first.path, second.path)
    job = (second.path / "job.yaml").read_text().replace("evaluated_demo", "elsewhere")
    (second.path / "job.yaml").write_text(job)
    for run, updated in (
        (first, "2026-01-02T00:00:00+00:00"),
        (second, "2026-01-01T00:00:00+00:00"),
    ):
        status = run.read_json("status.json") | {"updated": updated}
        run.write_json("status.json", status)
    assert repeated(read_rows(tmp_path)) == {str(second.path): str(first.path)}
