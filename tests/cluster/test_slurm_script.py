"""What is handed to SLURM, and how its answers are read; SLURM itself is in test_slurm."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import require_programs, typed
from slurm_programs import profile, program

from deeplense_batch.core.job import Resources
from deeplense_batch.core.rundir import ELEMENT, RunBusyError, RunDir, Status, find_runs


def test_resources_share_processes_out():
    assert Resources(gpus=8, nodes=2).tasks == 8
    assert Resources(gpus=0, processes=4).tasks == 4
    with pytest.raises(ValueError, match="3 processes do not share out over 2 nodes"):
        Resources(gpus=3, nodes=2)
    with pytest.raises(ValueError, match="2 GPUs are a process each"):
        Resources(gpus=2, processes=4)


def test_scripts_are_plain_quoted_and_pass_shellcheck(recipe, capsys, monkeypatch):
    require_programs("shellcheck")
    container = ["apptainer", "exec", "my image.sif"]
    more = {"modules": ["cuda/12"], "setup": ["ulimit -c 0"], "sbatch": {"mail-type": "FAIL"}}
    profile(partition="gpu a'b", account="$(rm -rf ~)", container=container, **more)
    words = ["sbatch", "--grid", recipe, "--runs=my 'runs'", "--parallel=1", "--device=cpu"]
    code, shown, error = typed(capsys, *words)
    assert code == 0 and shown.splitlines()[-1] == "sbatch slurm/generated/small-0.sbatch", error
    path = Path("slurm/generated/small-0.sbatch")
    text = path.read_text()
    for line in (
        "# An array of 2 runs: 1 CPU, 8 GB, 1 h each.",
        "#SBATCH --array=0-1%1",
        "#SBATCH --partition='gpu a'\"'\"'b'",
        "#SBATCH --account='$(rm -rf ~)'",
        "#SBATCH --mail-type=FAIL",
        "#SBATCH --signal=USR2@120",
        "#SBATCH --time=60",
        "module load cuda/12",
        "ulimit -c 0",
    ):
        assert f"\n{line}\n" in text
    assert "apptainer exec 'my image.sif' python3 -u -m deeplense_batch run" in text
    assert text.count("my '\"'\"'runs'\"'\"'/small/test_resnet") == 2
    checked = subprocess.run(["shellcheck", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("words", "lines", "about"),
    [
        (["--device=cuda"], ["nodes=1", "ntasks-per-node=1", "gpus-per-node=1"], "1 GPU, 1 CPU"),
        (
            ["--device=cpu", "--resources.gpus=4", "--resources.nodes=2"],
            ["nodes=1", "ntasks-per-node=1"],
            "1 CPU",
        ),
    ],
)
def test_another_device_is_asked_for_as_the_run_will_use_it(recipe, capsys, words, lines, about):
    assert typed(capsys, "sbatch", "--grid", recipe, *words)[0] == 0
    text = Path("slurm/generated/small-0.sbatch").read_text()
    shape = re.findall(r"^#SBATCH --(.*(?:nodes?|gpus.*)=.*)$", text, re.MULTILINE)
    assert sorted(shape) == sorted(lines)
    assert f"# An array of 2 runs: {about}, 8 GB, 1 h each." in text
    shown = typed(capsys, "submit", "--grid", recipe, *words, "--cluster=slurm", "--dry_run")[1]
    assert f"array of 2 runs: {about}, 8 GB, 1 h each" in shown


def test_a_script_carries_out_its_runs_one_by_one(recipe, capsys):
    """With an srun of one process, as the script sees it."""
    words = ["sbatch", "--grid", recipe, "--train.epochs=1", "--seeds=[0]"]
    assert typed(capsys, *words)[0] == 0
    program("srun", 'while [ "${1:0:1}" = - ]; do [ "$1" = --output ] && shift; shift; done\n"$@"')
    program("scontrol", 'echo "$@" >> asked')
    variables = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "7", "SLURM_JOB_ID": "7",
                 "SLURM_JOB_NAME": "x-0-small", "SLURM_CPUS_PER_TASK": "1", "SLURM_PROCID": "0",
                 "SLURM_LOCALID": "0", "SLURM_NTASKS": "1",
                 "SLURM_JOB_NODELIST": "localhost"}  # fmt: skip
    script = Path("slurm/generated/small-0.sbatch")
    done = subprocess.run(["bash", script], env=os.environ | variables, capture_output=True)
    assert done.returncode == 0, done.stderr
    (run,) = find_runs(Path("runs"))
    assert run.status().state == "done" and run.status().element == "x-0-small_0"


@pytest.mark.parametrize(
    ("code", "restarts", "asked"),
    [
        (85, 0, ["requeue 7_3"]),
        (143, 0, ["requeue 7_3"]),
        (85, 20, []),
        (4, 0, ["requeue 7_3", "update JobId=7_3 ExcNodeList=n1"]),
        (4, 3, []),
        (1, 0, []),
        (0, 0, []),
    ],
)
def test_what_is_requeued(recipe, capsys, code, restarts, asked):
    assert typed(capsys, "sbatch", "--grid", recipe)[0] == 0
    program("srun", f"exit {code}")
    program("scontrol", 'echo "$@" >> asked')
    variables = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "7", "SLURM_JOB_ID": "10",
                 "SLURM_JOB_NAME": "x", "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_NODELIST": "n1",
                 "SLURM_RESTART_COUNT": str(restarts)}  # fmt: skip
    done = subprocess.run(
        ["bash", "slurm/generated/small-0.sbatch"], env=os.environ | variables, capture_output=True
    )
    assert done.returncode == code
    assert (Path("asked").read_text().splitlines() if asked else []) == asked
    assert Path("asked").exists() == bool(asked)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--name=$(rm -rf ~)"], 2, "allowed are letters, digits"),
        (["--name=a'b"], 2, "allowed are letters, digits"),
        (["--name=a\nb"], 2, "allowed are letters, digits"),
        (["--resources.hours=0.05"], 3, "0.05 h leaves no time to save after a warning of 120 s"),
        (["--out=a%b"], 3, "SLURM misreads % and line breaks in names"),
        (["--out=a\nb"], 3, "SLURM misreads % and line breaks in names"),
        (["--resources.nodes=2"], 2, "1 processes do not share out over 2 nodes"),
    ],
)
def test_what_slurm_cannot_hold_is_refused(recipe, capsys, words, code, sentence):
    answer = typed(capsys, "submit", "--grid", recipe, "--cluster=slurm", *words)
    assert answer[0] == code and sentence in answer[2] and len(answer[2].splitlines()) == 1
    assert not find_runs(Path())


def test_equal_resources_share_an_array_and_long_ones_are_split(recipe, capsys):
    program("scontrol", "echo 'MaxArraySize            = 1001'")
    words = ["submit", "--grid", recipe, "--cluster=slurm", "--dry_run"]
    code, shown, _ = typed(capsys, *words, f"--seeds={list(range(1500))}")
    assert code == 0 and "1500 runs, 1500 to do" in shown
    assert shown.count("array of") == 2
    assert "array of 1001 runs: 1 CPU" in shown and "array of 499 runs: 1 CPU" in shown
    other = yaml.safe_load(recipe.read_text()) | {"resources": {"gpus": 4, "nodes": 2, "hours": 2}}
    Path("other.yaml").write_text(yaml.safe_dump(other))
    Path("alike.yaml").write_text(recipe.read_text())
    code, shown, _ = typed(capsys, *words, "other.yaml", "alike.yaml")
    assert code == 0 and shown.count("array of") == 2
    assert "array of 4 runs: 1 CPU, 8 GB, 1 h each" in shown
    assert "array of 2 runs: 2 nodes, 4 GPUs, 4 CPUs, 8 GB, 2 h each" in shown
    assert not Path("runs").exists()


def test_slurm_that_is_not_there_or_refuses_is_one_sentence(recipe, capsys, monkeypatch):
    words = ["submit", "--grid", recipe, "--cluster=slurm"]
    monkeypatch.setenv("PATH", str(Path("bin").absolute()))
    code, _, error = typed(capsys, *words)
    assert code == 4 and error.splitlines()[-1] == "there is no sbatch on this machine"
    program("sbatch", "echo 'sbatch: error: invalid partition specified: gpux' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{Path('bin').absolute()}:/usr/bin:/bin")
    program("squeue", "exit 0")
    assert {run.status().state for run in find_runs(Path("runs"))} == {"planned"}
    code, _, error = typed(capsys, *words)
    assert code == 4 and "invalid partition specified: gpux" in error.splitlines()[-1]


def test_an_element_started_again_elsewhere_takes_its_run_over(tmp_path, monkeypatch):
    run = RunDir.create(tmp_path / "run", "")
    owner = {"host": "dead-node", "pid": 7, "started": 1.0, "element": "t-0-small_0"}
    (run.path / "claim").write_text(json.dumps(owner))
    with pytest.raises(RunBusyError, match="process 7 on dead-node is at work"), run.claim():
        pass
    monkeypatch.setenv(ELEMENT, "t-0-small_0")
    with run.claim():
        assert json.loads((run.path / "claim").read_text())["host"] == socket.gethostname()


@pytest.mark.parametrize(("files", "shown"), [("running", "lost"), ("failed", "failed")])
def test_a_killed_element_is_submitted_again_at_once(recipe, capsys, caplog, files, shown):
    """SLURM knows that it has ended, though it was alive on another node a moment ago."""
    program("sbatch", "echo Submitted batch job 7")
    program("squeue", "exit 0")
    words = ["submit", "--grid", recipe, "--cluster=slurm", "--seeds=[0]", "--retry"]
    assert typed(capsys, *words)[0] == 0
    (run,) = find_runs(Path("runs"))
    owner = {"host": "elsewhere", "pid": 7, "started": 1.0, "element": run.status().element}
    (run.path / "claim").write_text(json.dumps(owner))
    state = run.read_json("status.json") | owner | {"state": files, "attempt": 1}
    run.write_json("status.json", state)
    caplog.clear()
    code, told, _ = typed(capsys, *words)
    assert code == 0 and f"  {shown}  " in told and "job 7: array of 1 run" in caplog.text
    assert run.status().state == "queued" and run.status().element != owner["element"]
    # Another submit has it: its own element is the one that has not ended.
    (run.path / "claim").write_text(json.dumps(owner | {"element": "another"}))
    run.write_json("status.json", state)
    caplog.clear()
    typed(capsys, *words)
    assert "process 7 on elsewhere is at work on it" in caplog.text
    assert "job 7" not in caplog.text
    assert run.read_json("status.json") == state


def test_clean_removes_checkpoints_of_what_is_done(recipe, capsys):
    words = ["submit", "--grid", recipe, "--cluster=debug", "--train.epochs=1"]
    assert typed(capsys, *words)[0] == 0
    first, second = find_runs(Path("runs"))
    second.write_status(Status(state="stopped"))
    assert "0 files removed" in typed(capsys, "clean", "--older=1")[1]
    assert (first.path / "checkpoint.pt").exists()
    assert str(first.path / "checkpoint.pt") in typed(capsys, "clean", "--dry_run")[1]
    assert (first.path / "checkpoint.pt").exists()
    assert typed(capsys, "clean")[0] == 0
    assert not (first.path / "checkpoint.pt").exists() and (first.path / "best.pt").exists()
    assert (second.path / "checkpoint.pt").exists()


def test_the_log_of_a_job_stands_in_for_one_that_the_run_did_not_write(recipe, capsys):
    program("sbatch", "echo Submitted batch job 7")
    assert typed(capsys, "submit", "--grid", recipe, "--cluster=slurm")[0] == 0
    run = find_runs(Path("runs"))[1]
    element = run.status().element
    (folder,) = Path("runs/.submit").iterdir()
    assert element.startswith(folder.name.rpartition("-")[2]) and element.endswith("-small_1")
    (folder / "0" / "7_1_0_log.out").write_text("module: command not found")
    content = run.read_json("status.json")
    run.write_json("status.json", content | {"state": "failed", "reason": "environment"})
    program("squeue", "exit 0")
    told = typed(capsys, "status")[1]
    assert f"log of {run.path.name}: {folder / '0' / '7_1_0_log.out'}" in told


def test_a_run_cancelled_in_slurm_s_queue_is_carried_out_on_this_machine(recipe, capsys):
    program("sbatch", "echo Submitted batch job 7")
    words = ["submit", "--grid", recipe, "--train.epochs=1", "--seeds=[0]"]
    assert typed(capsys, *words, "--cluster=slurm")[0] == 0
    (run,) = find_runs(Path("runs"))
    content = run.read_json("status.json")
    run.write_json("status.json", content | {"pid": 2**22 + 1})  # `submit` has ended
    program("squeue", "exit 0")
    code, shown, error = typed(capsys, *words)
    assert code == 0 and "1 run, 1 to do" in shown, error
    assert run.status().state == "done" and run.status().element is None
