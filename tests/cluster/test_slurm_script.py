"""What is handed to SLURM, and how its answers are read; SLURM itself is in test_slurm."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import socket
import subprocess
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PATIENCE, require_programs, typed

from deeplense_batch.cli import cluster_verbs
from deeplense_batch.cluster.executor import EXECUTORS, Options, make_executor
from deeplense_batch.cluster.slurm_queue import SlurmError, elements, ranks
from deeplense_batch.cluster.submit import Submission, submit
from deeplense_batch.core.job import Resources
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import ELEMENT, RunBusyError, RunDir, Status, find_runs
from deeplense_batch.runs.plan import plan

RECIPE = {
    "model": {"name": "test_resnet"},
    "train": {"epochs": 2, "batch_size": 8},
    "resources": {"gpus": 0, "hours": 1},
    "seeds": [0, 1],
}


@pytest.fixture
def recipe(tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"data": {"root": str(shards)}}))
    return path


def program(name: str, text: str) -> None:
    path = Path("bin") / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def profile(**fields: object) -> None:
    Path("slurm").mkdir(exist_ok=True)
    Path("slurm/profile.yaml").write_text(yaml.safe_dump(fields))


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


def test_hours_are_told_by_past_runs_or_bench_or_are_unknown(recipe, capsys):
    words = ["submit", "--grid", recipe, "--dry_run", "--cluster=slurm"]
    assert "hours of 2 runs unknown: none like it ran here" in typed(capsys, *words)[1]
    done = ["submit", "--grid", recipe, "--cluster=debug", "--seeds=[7]"]
    assert typed(capsys, *done)[0] == 0
    shown = typed(capsys, *words)[1]
    assert "CPU-hours will be used" in shown and "unknown" not in shown
    speed = {"model": "test_resnet", "images_per_s": 120 * 2 * 2 / 7200}
    bench = {"device": {"type": "cuda"}, "models": [speed]}
    Path("bench.json").write_text(json.dumps(bench))
    profile(gpu_hour_price=0.5)
    shown = typed(capsys, *words, "--resources.gpus=1", "--bench=bench.json")[1]
    assert "about 2 GPU-hours will be used; at 0.5 EUR each, 1.00" in shown
    Path("bench.json").write_text("{}")
    code, _, error = typed(capsys, *words, "--bench=bench.json")
    assert code == 3 and "is not what 'bench --out' wrote" in error


def test_slurm_that_is_not_there_or_refuses_is_one_sentence(recipe, capsys, monkeypatch):
    words = ["submit", "--grid", recipe, "--cluster=slurm"]
    monkeypatch.setenv("PATH", str(Path("bin").absolute()))
    code, _, error = typed(capsys, *words)
    assert code == 4 and error.splitlines()[-1] == "there is no sbatch on this machine"
    program("sbatch", "echo 'sbatch: error: invalid partition specified: gpux' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{Path('bin').absolute()}:/usr/bin:/bin")
    program("squeue", "exit 0")
    assert {run.status().state for run in find_runs(Path("runs"))} == {"queued"}  # we live
    for run in find_runs(Path("runs")):
        content = run.read_json("status.json")
        run.write_json("status.json", content | {"pid": 2**22 + 1})
    code, _, error = typed(capsys, *words)
    assert code == 4 and "invalid partition specified: gpux" in error.splitlines()[-1]


def test_the_ranks_of_srun(monkeypatch):
    given = {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "11",
             "SLURM_JOB_NODELIST": "no-such-node[003-004,7],other", "SLURM_NODEID": "1",
             "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.3"}  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = ranks(os.environ)
    assert (found["RANK"], found["LOCAL_RANK"], found["WORLD_SIZE"]) == ("5", "1", "8")
    assert found["MASTER_ADDR"] == "10.0.0.3"  # no-such-node003 is a name of SLURM alone
    assert 15000 <= int(found["MASTER_PORT"]) < 30000
    monkeypatch.setenv("SLURM_JOB_NODELIST", "localhost,other")
    assert ranks(os.environ)["MASTER_ADDR"] == "localhost"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert ranks(os.environ)["MASTER_PORT"] != found["MASTER_PORT"]
    with pytest.raises(SlurmError, match="SLURM_PROCID is not set; srun starts such a run"):
        ranks({})


def test_an_element_at_work_says_more_than_a_link_that_waits(recipe):
    program("squeue", r"printf 'a-0-b|1|5_1|RUNNING|None\na-0-b|1|6_1|PENDING|Dependency\n'")
    assert elements(["a-0-b_1"])["a-0-b_1"].state == "RUNNING"


QUEUE = {"pending": "PENDING|Priority", "running": "RUNNING|None", "ending": "COMPLETING|None"}


@pytest.mark.parametrize(
    ("files", "slurm", "shown"),
    [
        ("queued", "pending", "queued"),
        ("queued", None, "planned"),  # cancelled while it waited
        ("stopped", "pending", "queued"),  # requeued
        ("stopped", "ending", "queued"),
        ("stopped", None, "stopped"),
        ("running", "pending", "queued"),  # its node died
        ("running", "running", "running"),
        ("running", None, "lost"),
        ("failed", "pending", "queued"),  # on another node
        ("failed", "ending", "failed"),
        ("failed", None, "failed"),
        ("done", "ending", "done"),
    ],
)
def test_what_slurm_says_of_a_run(recipe, capsys, files, slurm, shown, monkeypatch):
    line = f"printf 't-0-small|0|5_0|{QUEUE[slurm]}\\n'" if slurm else "exit 0"
    program("squeue", line)
    program("sacct", "printf 't-0-small|5_0|NODE_FAIL\\n'")
    assert typed(capsys, "submit", "--grid", recipe, "--cluster=debug", "--train.epochs=1",
                 "--seeds=[0]")[0] == 0  # fmt: skip
    (run,) = find_runs(Path("runs"))
    monkeypatch.setenv(ELEMENT, "t-0-small_0")
    run.write_status(Status(state=files, element="t-0-small_0"))
    content = run.read_json("status.json") | {"host": "elsewhere"}
    if files == "queued":
        content |= {"host": socket.gethostname(), "pid": 2**22 + 1}
    run.write_json("status.json", content)
    told = typed(capsys, "status")[1]
    assert told.splitlines()[-1] == f"1 run: 1 {shown}"
    if shown in ("planned", "lost"):
        assert "no longer in SLURM's queue: job 5_0 NODE_FAIL" in told
    if slurm == "pending":
        assert "SLURM 5_0 PENDING: Priority" in told
    program("squeue", "echo down >&2; exit 1")
    assert typed(capsys, "status")[1].splitlines()[-1] == f"1 run: 1 {files}"


def test_an_element_started_again_elsewhere_takes_its_run_over(tmp_path, monkeypatch):
    run = RunDir.create(tmp_path / "run", "")
    owner = {"host": "dead-node", "pid": 7, "started": 1.0, "element": "t-0-small_0"}
    (run.path / "claim").write_text(json.dumps(owner))
    with pytest.raises(RunBusyError, match="process 7 on dead-node is at work"), run.claim():
        pass
    monkeypatch.setenv(ELEMENT, "t-0-small_0")
    with run.claim():
        assert json.loads((run.path / "claim").read_text())["host"] == socket.gethostname()


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


@pytest.mark.slow
def test_of_two_submits_at_the_same_moment_one_hands_a_run_over(recipe, monkeypatch):
    """With a queue that remembers: a hundred times two processes that look and act at once."""
    program(
        "sbatch",
        """name=$(sed -n 's/^#SBATCH --job-name=//p' "$1")
sed -n '/^runs=(/,/^)/s/^ .*-\\(s[01]\\)-.*/\\1/p' "$1" >> "$FOLDER/handed"
printf '%s|0|7_0|PENDING|None\\n%s|1|7_1|PENDING|None\\n' "$name" "$name" >> "$FOLDER/queue"
echo Submitted batch job 7""",
    )
    program("squeue", 'cat "$FOLDER/queue" 2>/dev/null || true')
    jobs = load_jobs(recipe)

    def hand_over(out: Path, together: Any) -> None:
        planned = plan(jobs, out)
        together.wait()
        executor = make_executor("slurm", out, Options())
        submit(Submission.of(planned, retry=False, force=False), executor)

    for attempt in range(100):
        out = Path(f"runs{attempt}")
        out.mkdir()
        monkeypatch.setenv("FOLDER", str(out.absolute()))
        together, children = multiprocessing.get_context("fork").Barrier(2, timeout=PATIENCE), []
        for _ in range(2):
            children.append(os.fork())
            if not children[-1]:
                try:
                    hand_over(out, together)
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                os._exit(1)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0], attempt
        assert sorted((out / "handed").read_text().split()) == ["s0", "s1"], attempt


def test_watch_looks_until_no_run_is_at_work(recipe, capsys, monkeypatch):
    assert typed(capsys, "submit", "--grid", recipe, "--cluster=debug", "--seeds=[0]")[0] == 0
    (run,) = find_runs(Path("runs"))
    run.write_lines("history.jsonl", run.read_lines("history.jsonl")[:1])
    line = run.read_lines("history.jsonl")[0] | {"seconds": {"train": 5000.0, "evaluate": 400.0}}
    run.write_lines("history.jsonl", [line])
    run.write_status(Status(state="running", epoch=1, epochs=2))
    looks = []

    def wait(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            run.write_status(Status(state="failed", epoch=1, reason="oom", message="too large"))

    monkeypatch.setattr(cluster_verbs.time, "sleep", wait)
    code, shown, _ = typed(capsys, "status", "--watch", "--check")
    assert code == 5 and looks == [30, 30]
    assert shown.count("1 run: 1 running") == 2 and shown.count("1:30 h") == 2
    last = shown.splitlines()[-3:]
    assert "oom: too large; submit --retry tries it again" in last[0]
    assert last[1] == f"log of {run.path.name}: {run.path / 'log.txt'}"
    assert last[2] == "1 run: 1 failed"


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


def test_flags_of_slurm_are_for_slurm(recipe, capsys):
    for flag in ("--chain=1", "--collect", "--bench=x.json"):
        code, _, error = typed(capsys, "submit", "--grid", recipe, flag)
        name = flag.partition("=")[0]
        assert (code, error) == (2, f"{name}: is for --cluster slurm, not --cluster local\n")
    code, _, error = typed(
        capsys, "submit", "--grid", recipe, "--jobs_per_gpu=2", "--cluster=slurm"
    )
    assert code == 2 and error == "--jobs_per_gpu: is for --cluster local, not --cluster slurm\n"
    assert typed(capsys, "cancel", "--state=done")[:2] == (2, "")


@pytest.mark.parametrize("cluster", EXECUTORS)
def test_every_executor_keeps_the_contract(cluster, recipe):
    executor = make_executor(cluster, Path("runs"), Options(parallel=1, device="cpu"))
    assert executor.name == cluster
    assert set(executor.flags) <= {field.name for field in dataclasses.fields(Options)}
    todo = plan(load_jobs(recipe), Path("runs"))
    executor.check(todo)
    assert isinstance(executor.estimate(todo), str)
    assert not Path("runs").exists()  # nothing is written before `submit`


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
