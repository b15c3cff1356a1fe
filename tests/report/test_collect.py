"""The collector, on run directories made by hand: every state, damage, and several comparisons."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from itertools import product

import pytest
from made_runs import lose, make_run, read_csv
from made_transfer import Networks

from deeplense_batch.core.scoring.auc import auc_interval
from deeplense_batch.data.shards import data_digest
from deeplense_batch.report.collect import CollectError, collect

FIGURES = {"auc", "accuracy", "time", "auc_time"}


def test_a_damaged_run_is_in_the_report_but_in_no_comparison(tmp_path):
    bad = make_run(tmp_path / "runs", "bad")
    (bad.path / "job.yaml").write_bytes(b"")
    make_run(tmp_path / "runs")
    report = collect(tmp_path / "runs", tmp_path / "report")
    assert sorted(report.table["state"]) == ["done", "unreadable"]
    assert list(report.models["model"]) == ["resnet18"]
    assert (
        "job.yaml: is empty; submit --force starts"
        in (tmp_path / "report" / "report.md").read_text()
    )


def test_seeds_are_summed_up_by_model(tmp_path):
    aucs, seconds = (0.90, 0.93, 0.945), (60.0, 61.0, 65.0)
    for seed, (auc, spent) in enumerate(zip(aucs, seconds, strict=True)):
        make_run(tmp_path / "runs", seed=seed, auc=auc, seconds=spent)
    make_run(tmp_path / "runs", "alone", auc=0.95, valid=0.8)
    report = collect(tmp_path / "runs", tmp_path / "report")
    first, alone = read_csv(tmp_path / "report" / "models.csv")
    assert (first["model"], first["runs"], alone["model"]) == ("resnet18", "3", "alone")
    assert float(first["auc_mean"]) == pytest.approx(statistics.fmean(aucs))
    assert float(first["auc_sd"]) == pytest.approx(statistics.stdev(aucs))
    assert (float(first["auc_min"]), float(first["auc_max"])) == (0.90, 0.945)
    assert float(first["train_seconds"]) == pytest.approx(62.0)
    ends = float(first["auc_low"]), float(first["auc_high"])
    assert ends == pytest.approx(auc_interval(statistics.fmean(aucs), 200, 400), abs=1e-5)
    assert first["interval"] == "Hanley-McNeil"
    assert alone["auc_sd"] == "" and float(alone["auc_mean"]) == 0.95
    assert report.complete
    # validation picks, though the test score of the other is higher
    assert "Best by validation: resnet18, validation AUC 0.9100, test AUC 0.9250" in report.summary


def test_seconds_of_two_devices_are_not_averaged(tmp_path):
    make_run(tmp_path / "runs", seed=0)
    make_run(tmp_path / "runs", seed=1, device="NVIDIA H100")
    (row,) = collect(tmp_path / "runs", tmp_path / "report").models.to_dict("records")
    assert row["device"] == "AMD EPYC, 1 thread; NVIDIA H100"
    assert row["train_seconds"] is None


def test_hours_of_a_reference_device_compare_runs_of_several(tmp_path):
    root, bench = tmp_path / "runs", tmp_path / "bench.json"
    for name, device in (("resnet18", "NVIDIA H100"), ("resnet34", "AMD EPYC")):
        run = make_run(root, name, device=device)
        metrics = run.read_json("metrics.json")
        metrics["data"]["samples"]["train"] = 30_000
        run.write_json("metrics.json", metrics)
    models = [{"model": "resnet18", "images_per_s": 500.0}]
    bench.write_text(json.dumps({"device": {"name": "NVIDIA T4", "count": 1}, "models": models}))
    collect(root, tmp_path / "report", bench=bench)
    rows = {row["model"]: row for row in read_csv(tmp_path / "report" / "models.csv")}
    assert float(rows["resnet18"]["reference_hours"]) == pytest.approx(3 * 30_000 / 500 / 3600)
    assert rows["resnet34"]["reference_hours"] == ""
    assert "those of NVIDIA T4: images seen" in (tmp_path / "report" / "report.md").read_text()
    bench.write_text("{}")
    with pytest.raises(CollectError, match="is not what 'bench --out' wrote"):
        collect(root, tmp_path / "other", bench=bench)
    with pytest.raises(CollectError, match="absent: No such file"):
        collect(root, tmp_path / "other", bench=tmp_path / "absent")
    assert not (tmp_path / "other").exists()


def test_other_settings_are_no_seeds(tmp_path):
    for seed in (0, 1):
        for lr in (1e-3, 1e-4):
            make_run(tmp_path / "runs", seed=seed, train={"lr": lr}, digest="b" * 16)
    make_run(tmp_path / "runs", job="other", digest="b" * 16)
    report = collect(tmp_path / "runs", tmp_path / "report")
    assert sorted(report.models["variant"].dropna()) == ["train.lr=0.0001", "train.lr=0.001"]
    assert sorted(report.models["runs"]) == [1, 2, 2]


def test_a_variant_names_what_finished_runs_of_one_comparison_differ_in(tmp_path):
    root = tmp_path / "runs"
    for seed in (0, 1):
        make_run(root, seed=seed)
    make_run(root, train={"lr": 1e-5}, state="failed")
    make_run(root, train={"epochs": 20}, digest="b" * 16)
    make_run(root, train={"batch_size": 8}, test="val")
    report = collect(root, tmp_path / "report")
    assert report.models["variant"].isna().all() and sorted(report.models["runs"]) == [1, 1, 2]
    table = report.table.set_index("state")["variant"]
    assert table["done"].isna().all()
    assert "train.lr=1e-05" in table["failed"]
    make_run(root, train={"lr": 1e-4})
    models = collect(root, tmp_path / "report").models
    assert sorted(models["variant"].dropna()) == ["train.lr=0.0001", "train.lr=0.0003"]


def test_labels_in_figures_are_short_and_end_in_their_place_in_the_table(tmp_path):
    train = {"batch_size": 128, "weight_decay": 0.001, "optimizer": "sgd"}
    for lr in (1e-3, 1e-4):
        make_run(tmp_path / "runs", train=train | {"lr": lr}, valid=0.9 + lr)
    make_run(tmp_path / "runs")
    report = collect(tmp_path / "runs", tmp_path / "report")
    first, *_ = json.loads((tmp_path / "report" / "figures.json").read_text())["figures"]
    drawn = [model["label"] for model in first["arguments"]["models"]]
    assert len(set(drawn)) == 3 and max(map(len, drawn)) <= 68
    page = (tmp_path / "report" / "report.md").read_text()
    for place, row in enumerate(report.models.to_dict("records"), start=1):
        assert drawn[place - 1].endswith(f" #{place}")
        assert f"| {place} | {row['label']}" in page


def test_notes_of_runs_reach_the_reader(tmp_path):
    notes = ["auc: over 2 of 3 classes", "data: 2 image(s) in two splits; beware"]
    make_run(tmp_path / "runs", notes=notes)
    make_run(tmp_path / "runs", "alone", notes=notes[:1])
    make_run(tmp_path / "runs", "other_data", digest="c" * 16)
    collect(tmp_path / "runs", tmp_path / "report")
    _, first, other, _ = (tmp_path / "report" / "report.md").read_text().split("\n## ")
    told = [line for line in first.split("\n\n") if line.startswith("Note")]
    assert told[:2] == [
        "Note: auc: over 2 of 3 classes (all models).",
        "Note: data: 2 image(s) in two splits; beware (resnet18).",
    ]
    assert "over 2 of 3" not in other
    rows = {row["model"]: row for row in read_csv(tmp_path / "report" / "results.csv")}
    assert rows["resnet18"]["notes"] == "; ".join(notes) and rows["other_data"]["notes"] == ""
    content = json.loads((tmp_path / "report" / "results.json").read_text())
    assert [row["notes"] for row in content["rows"]].count(notes) == 1


def test_a_section_says_what_the_data_are_and_by_whom_the_numbers_are(tmp_path, shards):
    root, digest = tmp_path / "runs", data_digest(shards)
    for seed in (0, 1):
        make_run(root, seed=seed, digest=digest, place=str(shards), auc=0.9 + seed / 50)
    make_run(root, "other", digest="c" * 16, place=str(shards), commit=None)
    for number, run in enumerate(sorted((root / "demo").iterdir())):
        path = run / "status.json"
        updated = {"updated": f"2026-02-0{number + 1}T10:00:00+00:00"}
        path.write_text(json.dumps(json.loads(path.read_text()) | updated))
    collect(root, tmp_path / "report")
    _, first, other, _ = (tmp_path / "report" / "report.md").read_text().split("\n## ")
    name = shards.name
    assert f"Data: folder {name}, made from tests; classes no, sphere, vort; 600 test" in first
    assert f"Data: folder {name}; classes" in other  # which holds other images now
    assert "Code abc123; runs finished 2026-02-02 to 2026-02-03." in first
    assert "Code of unknown commit; runs finished 2026-02-01." in other
    lines = [re.sub(" +", " ", line) for line in first.splitlines() if line[:1] == "|"]
    head, _, row, more, _, others = lines
    assert head.startswith("| # | model | seeds | valid AUC | test AUC | accuracy |")
    assert row.startswith(r"| 1 | resnet18 | 2 | 0.9100 | 0.9100 \[0.877, 0.935\]\* | 0.80")
    assert more.startswith("| # | model | job | AUC sd | ") and "| AUC no | AUC sphere |" in more
    assert others.startswith("| 1 | resnet18 | demo | 0.0141 |")
    (first_row, _) = read_csv(tmp_path / "report" / "models.csv")
    assert float(first_row["auc_no_mean"]) == pytest.approx(0.91)
    assert first_row["auc_vort_mean"] == ""


def test_the_report_tells_all(tmp_path):
    root, out = tmp_path / "runs", tmp_path / "report"
    for seed in (0, 1):
        make_run(root, seed=seed)
    make_run(root, "other_data", digest="c" * 16, job="b_job")
    make_run(root, "other_slice", test="val", job="b_job")
    make_run(root, "broken", state="failed", reason="error", message="a | b\nsecond")
    report = collect(root, out)
    page = (out / "report.md").read_text()
    assert page.index("**incomplete: 4 of 5 runs done**") < page.index("\n## ")
    sections = re.split(r"\n## ", page)
    assert sections[1].startswith(r"Data aaaaaaaaaaaaaaaa, test slice val\[50%:\]")
    assert not any("other_data" in section and "resnet18" in section for section in sections[1:4])
    assert r"error: a \| b second" in sections[4] and "log.txt" in sections[4]
    for link in re.findall(r"!\[.*?\]\((.*?)\)", page):
        assert (out / link).read_bytes().startswith(b"\x89PNG")
    names = FIGURES | {f"{name}-{k}" for name in FIGURES for k in (2, 3)}
    for kind in ("png", "svg"):
        assert {path.stem for path in out.glob(f"*.{kind}")} == names
    assert set(report.paths) == {*out.iterdir()}
    for block in re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE):
        assert len({len(line) for line in block.splitlines()}) == 1  # aligned


def test_the_tables_agree_and_know_no_nan(tmp_path):
    make_run(tmp_path / "runs")
    make_run(tmp_path / "runs", seed=1, state="failed")
    out = tmp_path / "report"
    collect(tmp_path / "runs", out)
    content = json.loads((out / "results.json").read_text(), parse_constant=pytest.fail)
    rows = read_csv(out / "results.csv")
    assert content["schema"] == 2 and content["complete"] is False
    assert [row["state"] for row in content["rows"]] == [row["state"] for row in rows]
    assert rows[0]["epochs"] == "3" and rows[0]["auc_vort"] == "" and rows[1]["auc"] == ""
    assert content["rows"][0]["auc"] == float(rows[0]["auc"])
    names = list(rows[0])
    assert names[names.index("auc") + 1 :][:3] == ["auc_no", "auc_sphere", "auc_vort"]


def test_collecting_twice_gives_the_same_and_drops_figures_of_old_comparisons(tmp_path):
    root, out = tmp_path / "runs", tmp_path / "report"
    make_run(root)
    extra = make_run(root, "other", digest="c" * 16)
    collect(root, out)
    (out / "mine.png").touch()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    collect(root, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    lose(extra)
    extra.write_json("status.json", extra.read_json("status.json") | {"state": "running"})
    collect(root, out)
    assert {path.stem for path in out.glob("*.png")} == FIGURES | {"mine"}
    assert {path.stem for path in out.glob("*.svg")} == FIGURES


def test_before_anything_is_done_there_is_a_report_without_figures(tmp_path):
    make_run(tmp_path / "runs", state="planned")
    report = collect(tmp_path / "runs", tmp_path / "report")
    assert len(report.table) == 1 and report.models.empty and not report.complete
    assert read_csv(tmp_path / "report" / "models.csv") == []
    assert not list((tmp_path / "report").glob("*.png"))


def test_scores_that_are_undefined_are_left_out_of_figures(tmp_path):
    make_run(tmp_path / "runs", auc=None, valid=0.5)
    make_run(tmp_path / "runs", "other", auc=float("nan"))
    report = collect(tmp_path / "runs", tmp_path / "report")
    names = {path.name for path in report.paths if path.suffix == ".png"}
    assert names == {"accuracy.png", "time.png"}


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("status(root); incomplete(root)", {"torch", "pandas", "matplotlib", "sklearn"}),
        ("collect(root, root / 'report')", {"torch", "matplotlib.pyplot"}),
    ],
)
def test_what_is_not_loaded(tmp_path, code, absent):
    make_run(tmp_path)
    script = f"""
import pathlib, sys
from deeplense_batch.report.collect import collect
from deeplense_batch.cluster.status import incomplete, status
root = pathlib.Path({str(tmp_path)!r})
{code}
print(sorted({absent!r} & {{*sys.modules}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"


def test_what_is_trained_here_and_tested_there_is_a_matrix(tmp_path):
    networks = Networks(tmp_path / "runs", {"a": 60, "b": 60})
    for data, other in (("a", "b"), ("b", "a")):
        networks.evaluate(networks.train(data, 0, 2.0), other, 1.0)
    out = tmp_path / "report"
    report = collect(tmp_path / "runs", out)
    assert "Trained here, tested there: resnet18: the greatest loss of AUC" in report.summary
    cells = read_csv(out / "transfer.csv")
    assert [(cell["training"], cell["test"]) for cell in cells] == [*product("ab", "ab")]
    content = json.loads((out / "results.json").read_text())
    (matrix,) = content["transfer"]
    assert float(cells[1]["loss"]) == pytest.approx(matrix["cells"][1]["loss"])
    # evaluations of one model have no section; nothing else is left out, and every run has a row
    assert len(content["comparisons"]) == 2 and len(content["rows"]) == 4
    page = (out / "report.md").read_text()
    assert "## Trained here, tested there: resnet18" in page and "(transfer.png)" in page
    web = (out / "report.html").read_text()
    assert '<a href="#block-1">Trained here, tested there: resnet18</a>' in web
    shutil.rmtree(tmp_path / "runs" / "evaluated_demo")
    collect(tmp_path / "runs", out)
    assert not (out / "transfer.csv").exists() and not (out / "transfer.png").exists()


def test_a_page_of_evaluations_alone_has_its_matrix(tmp_path):
    networks = Networks(tmp_path / "runs", {"a": 60, "b": 60, "c": 60})
    run = networks.train("a", 0, 2.0)
    for data in ("b", "c"):
        networks.evaluate(run, data, 1.0)
    shutil.rmtree(run.path)
    collect(tmp_path / "runs", tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "there is nothing to compare" not in page and "Trained here, tested there" in page
    assert "No loss of AUC is known, since it takes a network that was tested on its own" in page
