"""docs/performance.md: tables from results files, whatever these have and lack."""

from __future__ import annotations

import json

import pytest

from benchmarks import page
from benchmarks.documents import document, measured, read, show, table, write

FAST = "batch 64, bf16, channels_last"


def made(device: str, date: str, *numbers: dict, card: bool = True, **more: object) -> dict:
    machine = {"kind": "machine", "device": device, "date": date} | more
    machine["card"] = device if card else None
    return document([machine, *numbers]) | {"file": f"{device}.json"}


def rate(name: str, values: float | list[float], part: str = "throughput") -> dict:
    return measured(part, name, values, "images/s")


def cells(found: page.Table) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in found.rows}


def test_a_document_is_read_as_it_was_written_and_shown_as_a_table(tmp_path, capsys):
    check = {"kind": "check", "part": "c", "name": "right", "passed": False, "why": "it is wrong"}
    part = {"kind": "part", "part": "round", "name": "data", "state": "cut off"}
    end = {"kind": "end", "part": "round", "done": 0}
    written = made("X", "2026-01-01", rate("a", [1.0, 9.0, 2.0]), check, part, end)
    path = tmp_path / "x.json"
    show(written, str(path))
    assert read(path) == written and [p.name for p in tmp_path.iterdir()] == ["x.json"]
    shown = capsys.readouterr().out
    assert "throughput  a  2 images/s  (1 to 9)" in shown
    assert "FAILED: c: right: it is wrong\nPART data: cut off" in shown
    assert table(document([])) == ""


def test_what_is_no_results_file_is_refused(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"schema": 2}))
    with pytest.raises(ValueError, match=r"x\.json: expected a results file"):
        read(tmp_path / "x.json")


def test_rehearsals_are_left_out_and_the_newest_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    for name, date, small in (("a", "2026-01-01", False), ("b", "2026-01-02", False),
                              ("c", "2026-01-03", True)):  # fmt: skip
        write(tmp_path / f"{name}.json", made(name, date, small=small))
    assert [d["file"] for d in page.documents()] == ["b.json", "a.json"]


@pytest.mark.parametrize("name", page.TABLES)
def test_without_a_file_every_number_is_not_yet_measured(name):
    for empty in page.TABLES[name]([]):
        for row in empty.rows:
            assert len(row) == len(empty.head)
            assert set(row[1:]) <= {"not yet measured", "-"}


@pytest.mark.parametrize("name", page.TABLES)
def test_the_rows_of_the_files_in_the_project_have_as_many_cells_as_heads(name):
    for one in page.TABLES[name](page.documents()):
        assert one.rows and all(len(row) == len(one.head) for row in one.rows)


def test_steps_show_what_a_card_has_and_say_what_it_lacks():
    numbers = rate(f"ours: {FAST}", [9000.0, 8000.0, 9900.0]), rate(f"bare: {FAST}", 10_000.0)
    ratio, launches = measured("throughput", f"ours over bare: {FAST}", 0.9), 512.0
    counted = measured("throughput", f"ours: {FAST}: launches a step", launches)
    (one,) = page.steps([made("H100", "2026-01-01T10:00:00", *numbers, ratio, counted)])
    assert one.title == "H100, 2026-01-01 10:00"
    row = cells(one)[FAST]
    assert row[:4] == ("10,000", "9,000 (8,000 to 9,900)", "0.9", "512")
    assert set(row[4:]) == {"not yet measured"} == set(cells(one)["batch 64, float32"])


def test_of_one_processor_the_file_with_most_of_a_table_is_taken_and_of_a_card_each():
    names = [f"simulator: {c}" for c in ("no", "sphere")]
    cells_of = [("simulator", name) for name in names]
    many = [rate(name, 1.0, "simulator") for name in names]
    old = made("A", "2026-01-01", *many, card=False)
    few = made("A", "2026-01-03", many[0], card=False)
    other = made("B", "2026-01-02", many[0], card=False)
    assert page._chosen([few, other, old], cells_of) == [old, other]
    again = made("A", "2026-01-04", *many, card=False)
    assert page._chosen([again, few, old], cells_of) == [again], "the newest of equals"
    rounds = [made("H100", f"2026-01-01T1{hour}:00:00", many[0]) for hour in range(2)]
    assert page._chosen(rounds, cells_of) == rounds


def test_peers_are_told_by_setting_and_a_processor_is_no_gpu():
    two = [
        rate(f"{s}: {n}", v, "peers") for s in ("x", "y") for n, v in (("ours", 4), ("timm", 2))
    ]
    (one,) = page.peers([made("cpu", "2026-01-01", *two, card=False)])
    assert [row[:4] for row in one.rows] == [
        ("cpu, 2026-01-01", "x", "4", "2"), ("cpu, 2026-01-01", "y", "4", "2"),
        ("a GPU", "-", "not yet measured", "not yet measured"),
    ]  # fmt: skip
    (one,) = page.peers([made("H100", "2026-01-01", *two)])
    assert "a GPU" not in cells(one)


def test_what_was_measured_again_counts_and_scores_keep_four_digits():
    numbers = [measured("training", "fast: test AUC", value) for value in (0.5, 0.98761)]
    numbers.append(measured("training", "fast: training", 9000.0))
    fast, _ = page.job([made("H100", "2026-01-01", *numbers)])
    assert cells(fast)["H100, 2026-01-01"][2] == "0.9876"


def test_a_machine_tells_its_checks_and_what_did_not_end():
    checks = [{"kind": "check", "passed": p} for p in (True, True, False, None)]
    parts = [{"kind": "part", "name": n, "state": s} for n, s in (("a", "done"), ("b", "cut"))]
    (one,) = page.machines([made("H100", "2026-01-01", *checks, *parts)])
    link = "[H100.json](../benchmarks/results/H100.json)"
    assert one.rows == [("H100, 2026-01-01", "2", "1", "1", "b", link)]
