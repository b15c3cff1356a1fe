"""The collector, on run directories made by hand: every state, damage, and several comparisons."""

from __future__ import annotations

import csv
import json
import os
import re
import statistics
import subprocess
import sys

import pytest

from deeplense_batch.cluster.status import incomplete, status
from deeplense_batch.core.job import Job
from deeplense_batch.core.rundir import RunDir, Status
from deeplense_batch.data.shards import data_digest
from deeplense_batch.report.collect import CollectError, collect
from deeplense_batch.report.run_table import read_rows, run_row
from deeplense_batch.report.significance import auc_standard_error

FIGURES = {"auc", "accuracy", "time", "auc_time"}


def make_run(root, model="resnet18", *, seed=0, job="demo", state="done", reason=None, train=None,
             message=None, test="val[50%:]", **numbers):  # fmt: skip
    """A run directory as `run` leaves it, with history and, if done, `metrics.json`."""
    n = {"auc": 0.9, "valid": 0.91, "accuracy": 0.8, "seconds": 60.0, "digest": "a" * 16}
    n |= {"device": "AMD EPYC, 1 thread", "notes": [], "commit": "abc123", "place": "/data"}
    n |= numbers
    content = {"name": job, "model": {"name": model}, "seed": seed, "train": train or {}}
    recipe = Job.model_validate(content | {"data": {"root": n["place"], "test": test}})
    run = RunDir.create(root / job / recipe.run_name(n["digest"]), recipe.to_yaml())
    (run.path / "log.txt").write_text("a line\n")
    for epoch, auc in enumerate((n["valid"] - 0.1, n["valid"], n["valid"] - 0.05), start=1):
        valid = {"loss": 1 / epoch, "auc": auc}
        run.append("history.jsonl", {"epoch": epoch, "train": {"loss": 1.0}, "valid": valid})
    if state == "done":
        run.write_json("metrics.json", metrics_of(n, test))
    run.write_status(
        Status(state=state, reason=reason, message=message, attempt=1, epoch=3, epochs=15)
    )
    return run


def metrics_of(n, test):
    scores = {"auc": n["auc"], "auc_no": n["auc"], "auc_sphere": n["auc"], "auc_vort": None}
    scores |= {"accuracy": n["accuracy"], "balanced_accuracy": 0.7, "nll": 0.5}
    return {
        "schema": 1,
        "data": {"digest": n["digest"], "test": test, "samples": {"test": 600}},
        "valid": {"epoch": 2, "loss": 0.5, "scores": {"auc": n["valid"]}},
        "test": {"scores": scores, "notes": n["notes"]},
        "commit": n["commit"],
        "cost": {"epochs": 3, "train_seconds": n["seconds"], "images_per_s": 420.0,
                 "parameters": 11_170_000, "gflops": 1.8},
        "device": {"name": n["device"], "count": 1},
    }  # fmt: skip


def lose(run):
    """Make a run look as if its process had been killed."""
    run.write_json("status.json", run.read_json("status.json") | {"pid": 2**22 + 1})


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_that_has_lost_its_job_is_a_row(tmp_path):
    run = make_run(tmp_path)
    make_run(tmp_path, "whole")
    (run.path / "job.yaml").unlink()
    row, _ = sorted(read_rows(tmp_path), key=lambda row: row["state"] == "done")
    assert row["state"] == "unreadable" and "job.yaml: is missing" in row["reason"]
    assert "1 of 2 runs done" in collect(tmp_path, tmp_path / "report").summary


def test_a_finished_run_is_a_row(tmp_path):
    run = make_run(tmp_path)
    row = run_row(run)
    assert row == {
        "job": "demo", "task": "classification", "model": "resnet18", "variant": None, "more": {},
        "learns": None, "monitor": "auc", "valid_score": 0.91, "train_samples": None,
        "seed": 0, "state": "done",
        "reason": None, "attempts": 1, "epochs": 3, "planned_epochs": 15, "best_epoch": 2,
        "valid_auc": 0.91, "auc": 0.9, "auc_no": 0.9, "auc_sphere": 0.9, "auc_vort": None,
        "accuracy": 0.8, "balanced_accuracy": 0.7, "nll": 0.5, "train_seconds": 60.0,
        "images_per_s": 420.0, "device": "AMD EPYC, 1 thread", "parameters_m": 11.17,
        "gflops": 1.8, "reference_hours": None,
        "data_digest": "a" * 16, "test": "val[50%:]", "test_samples": 600,
        "notes": None, "data_root": "/data", "commit": "abc123",
        "updated": run.status().updated, "run": str(run.path), "log": str(run.path / "log.txt"),
    }  # fmt: skip


def test_an_unfinished_run_is_a_row_of_what_is_known(tmp_path):
    run = make_run(tmp_path, state="failed", reason="oom", message="CUDA out of memory")
    row = run_row(run)
    assert (row["state"], row["reason"]) == ("failed", "oom: CUDA out of memory")
    assert (row["valid_auc"], row["best_epoch"], row["auc"]) == (0.91, 2, None)
    lost = make_run(tmp_path, seed=1, state="running")
    lose(lost)
    assert run_row(lost)["state"] == "lost"


def test_metrics_of_an_earlier_attempt_are_not_a_result(tmp_path):
    run = make_run(tmp_path)
    run.write_status(Status(state="running", epoch=1))
    assert run_row(run)["auc"] is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b'{"schema": 1, "data": {"dig'),
        ("metrics.json", b"[]"),
        ("metrics.json", b'{"schema": 2}'),
        ("metrics.json", b'{"schema": 1, "data": 3, "device": 4, "cost": 5}'),
        ("metrics.json", None),
        ("status.json", b"\xff\xfe"),
        ("status.json", b'{"state": 7}'),
        ("status.json", b'{"state": "running", "pid": "x", "host": "elsewhere", "updated": "y"}'),
        ("history.jsonl", b'{"epoch": 1}\n{"epoch": \n'),
        ("job.yaml", b"name: [unclosed"),
        ("job.yaml", b"\x00\x01"),
        ("job.yaml", b""),
    ],
)
def test_a_damaged_file_costs_its_own_row_only(tmp_path, name, content):
    bad = make_run(tmp_path)
    make_run(tmp_path, seed=1)
    (bad.path / name).unlink()
    if content is not None:
        (bad.path / name).write_bytes(content)
    row = run_row(bad)
    assert row["state"] == "unreadable" and name in row["reason"]
    assert incomplete(tmp_path)
    assert status(tmp_path).endswith("2 runs: 1 done, 1 unreadable")


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


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("job.yaml", b"a text", r"is not a job this program wrote \(TypeError: .*\)"),
        ("job.yaml", b"name: [unclosed", r"is damaged or cut short \(did not find .*\)"),
        ("status.json", b'{"state": 7}', r"has a wrong state, 7"),
        ("history.jsonl", b'{"epoch": 1}\n', r"is not a history this program wrote .*'valid'\)"),
        ("metrics.json", b'{"schema": 1, "da', r"is damaged or cut short \(Untermin.*\)"),
        ("metrics.json", b'{"schema": 2}', "has schema 2, expected 1"),
        ("metrics.json", b"", "is empty"),
        ("metrics.json", None, "is missing, though the run is said to be done"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_a_sentence(tmp_path, name, content, reason):
    bad = make_run(tmp_path)
    (bad.path / name).unlink()
    if content is not None:
        (bad.path / name).write_bytes(content)
    assert re.fullmatch(f"{name}: {reason}", run_row(bad)["reason"])


def test_a_reason_ends_with_how_to_go_on(tmp_path):
    message = "many words " * 40
    make_run(tmp_path, state="failed", reason="oom", message=message)
    make_run(tmp_path, seed=1, state="failed")
    make_run(tmp_path, seed=2, state="stopped", reason="signal", message="SIGTERM")
    make_run(tmp_path, seed=3, state="planned")
    lose(make_run(tmp_path, seed=4, state="running"))
    (make_run(tmp_path, seed=5).path / "metrics.json").unlink()
    lines = status(tmp_path).splitlines()
    ends = [line.split("  ")[-1] for line in lines[1:-1]]
    assert sum(end.endswith("...; submit --retry tries it again") for end in ends) == 1
    assert "submit --retry tries it again" in ends and "-" in ends
    assert "signal: SIGTERM; submit goes on with it" in ends
    assert "its process ended without a word; submit goes on with it" in ends
    assert any(end.endswith("to be done; submit --force starts it over") for end in ends)


def test_status_is_an_aligned_table_and_counts(tmp_path):
    make_run(tmp_path)
    make_run(tmp_path, "a_longer_name", state="stopped", reason="signal", message="SIGUSR2\n came")
    for seed in (1, 2):
        make_run(tmp_path, seed=seed, state="planned")
    lines = status(tmp_path).splitlines()
    assert lines[-1] == "4 runs: 1 done, 2 planned, 1 stopped"
    starts = {line.index("3/15") for line in lines[1:-1]}
    assert len(starts) == 1 and lines[0].index("epoch") in starts
    assert any("signal: SIGUSR2 came" in line and "0.9100" in line for line in lines)


def test_runs_put_aside_are_not_counted(tmp_path):
    run = make_run(tmp_path)
    aside = tmp_path / "demo" / ".old" / run.path.name
    aside.parent.mkdir()
    run.path.rename(aside)
    make_run(tmp_path, seed=1)
    assert status(tmp_path / "demo").endswith("1 run: 1 done")


def test_a_job_that_is_a_bomb_of_aliases_is_one_unreadable_run(tmp_path):
    good, bomb = (make_run(tmp_path / "runs", seed=seed) for seed in (0, 1))
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 12))
    (bomb.path / "job.yaml").write_text(f"name: bomb\nl0: &l0 [0]\n{levels}")
    assert run_row(good)["state"] == "done"
    row = run_row(bomb)
    assert row["state"] == "unreadable"
    assert "job.yaml: is damaged or cut short (more than" in row["reason"]


def test_nothing_to_collect_is_one_sentence(tmp_path):
    for act in (status, incomplete, collect):
        with pytest.raises(CollectError, match="no runs here"):
            act(tmp_path)
        with pytest.raises(CollectError, match="no such folder"):
            act(tmp_path / "absent")
    make_run(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CollectError, match="not a folder"):
        collect(tmp_path, tmp_path / "file")


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
    half = 1.96 * auc_standard_error(statistics.fmean(aucs), 200, 400)
    ends = float(first["auc_low"]), float(first["auc_high"])
    assert ends == pytest.approx((0.925 - half, 0.925 + half), abs=1e-5)
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


def test_labels_in_figures_are_cut_and_end_in_their_place_in_the_table(tmp_path):
    train = {"batch_size": 128, "weight_decay": 0.001, "optimizer": "sgd"}
    for lr in (1e-3, 1e-4):
        make_run(tmp_path / "runs", train=train | {"lr": lr}, valid=0.9 + lr)
    make_run(tmp_path / "runs")
    report = collect(tmp_path / "runs", tmp_path / "report")
    first, *_ = json.loads((tmp_path / "report" / "figures.json").read_text())["figures"]
    drawn = [model["label"] for model in first["arguments"]["models"]]
    assert len(set(drawn)) == 3 and max(map(len, drawn)) == 48
    page = (tmp_path / "report" / "report.md").read_text()
    for place, row in enumerate(report.models.to_dict("records"), start=1):
        assert drawn[place - 1].endswith(f"… #{place}")
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
    head, _, row = [re.sub(" +", " ", line) for line in first.splitlines() if line[:1] == "|"]
    assert head.startswith(
        "| # | model | seeds | job | valid AUC | test AUC | AUC sd | accuracy |"
    )
    assert head.endswith("| AUC no | AUC sphere |")
    assert row.startswith(
        r"| 1 | resnet18 | 2 | demo | 0.9100 | 0.9100 \[0.881, 0.939\]\* | 0.0141"
    )
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
