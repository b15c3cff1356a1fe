"""The record of a submission: a folder of its own, with the runs and the command."""

from __future__ import annotations

import json
import socket
import sys

from deeplense_batch.cluster.record import open_record, write_record


def test_every_submission_has_a_folder_of_its_own_that_others_may_read(tmp_path):
    folders = {open_record(tmp_path / "runs") for _ in range(5)}
    assert len(folders) == 5
    for folder in folders:
        assert folder.parent == tmp_path / "runs" / ".submit" and folder.is_dir()
        assert f"-{socket.gethostname()}-" in folder.name and ":" not in folder.name
        assert folder.stat().st_mode & 0o777 == 0o755


def test_a_record_has_a_line_for_each_run_and_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["deeplense-batch", "submit", "my jobs.yaml"])
    runs = [{"run": f"/runs/a/{i}", "element": f"t_{i}"} for i in range(3)]
    write_record(tmp_path, runs, cluster="slurm", jobs=["7"])
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == runs
    content = json.loads((tmp_path / "submission.json").read_text())
    assert content["command"] == "deeplense-batch submit 'my jobs.yaml'"
    assert (content["cluster"], content["jobs"]) == ("slurm", ["7"])
    assert {"deeplense_batch", "torch"} <= set(content["versions"]) and content["time"]


def test_a_record_that_is_written_again_has_what_is_known_now(tmp_path):
    write_record(tmp_path, [{"run": "/runs/a"}], cluster="local")
    write_record(tmp_path, [{"run": "/runs/b"}], cluster="local", jobs=["1", "2"])
    assert json.loads((tmp_path / "runs.jsonl").read_text()) == {"run": "/runs/b"}
    assert json.loads((tmp_path / "submission.json").read_text())["jobs"] == ["1", "2"]
