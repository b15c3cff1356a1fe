"""Runs on a real SLURM: two nodes, which this machine plays, and no accounting."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import slurm_cluster
import torch
import yaml
from conftest import REPOSITORY, wait_for

from deeplense_batch.core.rundir import RunDir, find_runs
from deeplense_batch.models import checkpoint

pytestmark = pytest.mark.slurm

PROFILE = {"warn_seconds": 45}  # so that a limit of a minute warns in its first quarter
SHORT = {"epochs": 2, "batch_size": 8, "lr": 1e-3}
LONG = SHORT | {"epochs": 150}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    missing = slurm_cluster.missing_tools()
    if missing:
        if os.environ.get("CI"):
            pytest.fail(f"the gate needs a real SLURM; not installed: {', '.join(missing)}")
        pytest.skip(f"no SLURM on this machine: {', '.join(missing)} not installed")
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


class Site:
    """A folder with a recipe, on the cluster."""

    def __init__(self, folder: Path, environment: dict[str, str], shards: Path) -> None:
        self.folder, self.shards = folder, shards
        path = os.pathsep.join(filter(None, [str(folder / "hook"), os.environ.get("PYTHONPATH")]))
        self.environment = environment | {
            "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "DEEPLENSE_PYTHON": sys.executable
        }  # fmt: skip
        self.profile()

    def profile(self, **fields: object) -> None:
        (self.folder / "slurm").mkdir(exist_ok=True)
        text = yaml.safe_dump(PROFILE | fields)
        (self.folder / "slurm" / "profile.yaml").write_text(text)

    def recipe(self, train: dict, name: str = "small", **fields: object) -> None:
        asked = {"gpus": 0, "hours": 1, "memory_gb": 1}
        raw = {"model": {"name": "test_resnet"}, "train": train, "resources": asked, "seed": 0}
        for section, values in fields.items():
            raw[section] = raw.get(section, {}) | values if isinstance(values, dict) else values
        raw["data"] = {"root": str(self.shards)} | raw.get("data", {})
        if "seeds" in fields:
            del raw["seed"]
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(raw))

    def hook(self, text: str) -> None:
        """Have every Python of a job begin with this."""
        (self.folder / "hook").mkdir()
        (self.folder / "hook" / "sitecustomize.py").write_text(text)

    def command(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            words, env=self.environment, cwd=self.folder, text=True, capture_output=True
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def program(self, *words: str, code: int = 0) -> str:
        return self.command(sys.executable, "-m", "deeplense_batch", *words, code=code)

    def submit(self, *words: str) -> str:
        return self.program("submit", "--grid", "small.yaml", "--cluster=slurm", *words)

    def runs(self, root: str = "runs") -> list[RunDir]:
        return find_runs(self.folder / root)

    def epochs(self, root: str = "runs") -> int:
        return sum(len(run.read_lines("history.jsonl")) for run in self.runs(root))

    def states(self, root: str = "runs") -> set[str]:
        return {run.status().state for run in self.runs(root)}

    def jobs(self, columns: str = "%i %T") -> list[str]:
        return self.command("squeue", "-h", "-r", "-o", columns).splitlines()

    def logs(self) -> str:
        return "\n".join(p.read_text() for p in self.folder.rglob("*_log.out"))

    def at_work(self) -> None:
        wait_for(lambda: self.epochs() >= 2)

    def over(self) -> None:
        wait_for(lambda: not self.jobs())


@pytest.fixture
def site(cluster, shards, tmp_path):
    site = Site(tmp_path, cluster, shards)
    site.recipe(SHORT)
    yield site
    site.command("scancel", "-u", str(os.getuid()))
    slurm_cluster.wait_for_nodes(cluster)


def ends(run: RunDir) -> list[str]:
    lines = run.read_lines("attempts.jsonl")
    return [line["state"] for line in lines if line["event"] == "end"]


def weights(run: RunDir) -> dict[str, torch.Tensor]:
    return checkpoint.load(run.path / "best.pt")["model"]


def whole(run: RunDir) -> None:
    """Every epoch is there once."""
    epochs = [line["epoch"] for line in run.read_lines("history.jsonl")]
    assert epochs == [*range(1, epochs[-1] + 1)] and run.status().state == "done"


def same(one: RunDir, other: RunDir, within: float) -> None:
    a, b = weights(one), weights(other)
    difference = {k: float((a[k].float() - b[k].float()).abs().max()) for k in a}
    assert max(difference.values()) <= within, difference


def test_a_grid_is_one_array_and_collected_though_a_run_fails(site):
    site.recipe(SHORT | {"optimizer": "sgd"}, seeds=[0, 1, 2], grid={"train.lr": [1e-3, 1e30]})
    assert "array of 6 runs" in site.submit("--parallel=2", "--collect")
    assert len(site.jobs()) == 7  # it waits for none of them
    assert "nothing to do" in site.submit()
    assert len(site.jobs()) == 7
    site.over()
    told = site.program("status", "--check", code=5)
    assert told.splitlines()[-1] == "6 runs: 3 done, 3 failed", told + site.logs()
    assert "diverged: the loss is" in told and "log of test_resnet" in told
    assert "incomplete: 3 of 6 runs done" in (site.folder / "report" / "report.md").read_text()
    (folder,) = (site.folder / "runs" / ".submit").iterdir()
    submission = json.loads((folder / "submission.json").read_text())
    assert len(submission["jobs"]) == 2 and submission["profile"]["warn_seconds"] == 45
    assert len((folder / "runs.jsonl").read_text().splitlines()) == 6
    assert "3 failed), nothing to do" in site.submit()
    assert "array of 3 runs" in site.submit("--retry")


# SLURM looks at limits every 30 s only, and no machine may be done before.
SLOW = """\
import os, pathlib, time
if "SLURM_PROCID" in os.environ:
    from deeplense_batch.training import trainer as fit
    batches = fit.Trainer._batches
    def wait_for_a_signal(self, steps):
        for batch in batches(self, steps):
            while pathlib.Path("slow").exists() and not self.interrupt.signal:
                time.sleep(0.06)
            yield batch
    fit.Trainer._batches = wait_for_a_signal
"""


def test_the_time_limit_costs_nothing(site):
    site.recipe(LONG | {"epochs": 40})
    site.hook(SLOW)
    slow = site.folder / "slow"
    slow.touch()
    site.submit()
    job = site.jobs()[0].split()[0]
    site.submit("--out=uninterrupted")
    site.command("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    wait_for(lambda: "stopped" in site.states())
    slow.unlink()
    site.command("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    site.over()
    (run,), (other,) = site.runs(), site.runs("uninterrupted")
    assert ends(run) == ["stopped", "done"] and ends(other) == ["done"], site.logs()
    whole(run)
    same(run, other, 0)


def test_one_element_is_signalled_and_the_other_not(site):
    site.recipe(LONG | {"epochs": 40}, seeds=[0, 1], engine={"resident": "off"})
    site.submit()
    site.at_work()
    job = site.jobs()[0].split()[0].partition("_")[0]
    wait_for(lambda: all(len(run.read_lines("history.jsonl")) > 1 for run in site.runs()))
    site.command("scancel", "--signal=USR2", f"{job}_1")
    wait_for(lambda: "stopped" in site.states())
    assert "1 queued" in site.program("status") and "nothing to do" in site.submit()
    site.over()
    by_seed = {run.path.name.split("-")[1]: run for run in site.runs()}
    assert ends(by_seed["s0"]) == ["done"] and ends(by_seed["s1"]) == ["stopped", "done"]
    whole(by_seed["s1"])


def test_a_job_of_more_weight_takes_the_node_and_gives_it_back(site):
    site.profile(exclude="n2")
    site.recipe(LONG | {"epochs": 30})
    site.submit()
    site.at_work()
    site.command("sbatch", "-p", "high", "-w", "n1", "--exclusive", "--wrap", "true")
    site.over()
    (run,) = site.runs()
    assert ends(run) == ["stopped", "done"], site.logs()
    whole(run)


def test_a_script_is_signalled_before_python_is_there(site):
    """The signal is held back until it can be heeded, and the element is requeued."""
    late = site.folder / "late"
    late.write_text(f'#!/bin/bash\ntouch begun\nsleep 1\nexec {sys.executable} "$@"\n')
    late.chmod(0o755)
    site.profile(python=str(late))
    site.program("sbatch", "--grid", "small.yaml", "--train.epochs=3")
    script = site.folder / "slurm" / "generated" / "small-0.sbatch"
    job = site.command("sbatch", "--parsable", str(script)).strip()
    wait_for((site.folder / "begun").exists)
    site.command("scancel", "--signal=USR2", job)
    site.over()
    (run,) = site.runs()
    assert ends(run) == ["stopped", "done"], site.logs()
    assert run.read_lines("attempts.jsonl")[0]["event"] == "start"
    whole(run)


def test_a_node_that_is_unfit_is_left_out(site):
    once = site.folder / "once"
    once.write_text(
        "#!/bin/bash\n"
        'if mkdir unfit 2>/dev/null; then echo "$SLURMD_NODENAME" >unfit/node; exit 4; fi\n'
        f'echo "$SLURMD_NODENAME" >fit; exec {sys.executable} "$@"\n'
    )
    once.chmod(0o755)
    site.profile(python=str(once))
    site.submit()
    site.over()
    assert site.states() == {"done"}, site.logs()
    nodes = [(site.folder / name).read_text().strip() for name in ("unfit/node", "fit")]
    assert sorted(nodes) == ["n1", "n2"]


NO_NORM = {  # batch norm's statistics are those of each process's share; Adam steps on rounding
    "train": {"epochs": 1, "batch_size": 15, "optimizer": "sgd", "lr": 0.01},
    "model": {"name": "test_vit"},
    "data": {"size": 48},
}


def test_processes_of_one_node_and_of_two_make_the_weights_of_one(site):
    site.recipe(**NO_NORM)
    for root, nodes, processes in (("one", 1, 1), ("tasks", 1, 2), ("nodes", 2, 2)):
        more = (f"--resources.nodes={nodes}", f"--resources.processes={processes}")
        site.submit(f"--out={root}", *more)
    site.over()
    (one,) = site.runs("one")
    for root in ("tasks", "nodes"):
        (run,) = site.runs(root)
        assert run.status().state == "done", site.logs()
        assert run.read_json("metrics.json")["device"]["count"] == 2
        same(one, run, 1e-6)


def test_a_process_that_raises_ends_all_and_is_named(site):
    site.recipe(LONG, resources={"processes": 2, "nodes": 2})
    site.hook(
        "import os\n"
        "if os.environ.get('SLURM_PROCID') == '1':\n"
        "    from deeplense_batch.training import trainer as fit\n"
        "    def fail(self): raise RuntimeError('broken on purpose')\n"
        "    fit.Trainer._end_epoch = fail\n"
    )
    site.submit()
    wait_for(lambda: site.states() == {"failed"})
    site.over()
    told = site.program("status", "--check", code=5)
    assert "process 1 on " in told and "RuntimeError: broken on purpose" in told
    assert told.splitlines()[-1] == "1 run: 1 failed"


def test_a_node_dies_and_the_run_goes_on_elsewhere(site, cluster):
    site.recipe(LONG | {"epochs": 40})
    site.submit()
    site.at_work()
    (run,) = site.runs()
    (job, node) = site.jobs("%i %N")[0].split()
    slurm_cluster.kill_node(cluster, node, job, [run.status().pid])
    wait_for(lambda: node not in site.jobs("%i %N")[0])
    assert "1 queued" in site.program("status")
    site.over()
    slurm_cluster.start_node(cluster, node)
    assert ends(run) == ["lost", "done"], site.logs()
    whole(run)


def test_the_controller_is_started_again_under_a_run(site, cluster):
    site.recipe(LONG | {"epochs": 80})
    site.submit()
    site.at_work()
    slurm_cluster.end(Path(cluster["SLURM_CONF"]).parent / "slurmctld.pid")
    assert site.program("status").splitlines()[-1] == "1 run: 1 running"
    assert "(1 running), nothing to do" in site.submit()
    slurm_cluster.start_controller(cluster)
    site.over()
    (run,) = site.runs()
    assert ends(run) == ["done"], site.logs()


def test_a_submit_that_is_killed_leaves_an_array_that_is_found_again(site):
    tools = site.folder / "tools"
    tools.mkdir()
    sbatch = tools / "sbatch"
    sbatch.write_text(f'#!/bin/bash\n{shutil.which("sbatch")} "$@" && kill -9 $PPID\n')
    sbatch.chmod(0o755)
    path = site.environment["PATH"]
    site.environment["PATH"] = f"{tools}{os.pathsep}{path}"
    site.program("submit", "--grid", "small.yaml", "--cluster=slurm", code=-signal.SIGKILL)
    site.environment["PATH"] = path
    assert "nothing to do" in site.submit()
    assert len(site.jobs()) == 1
    site.over()
    assert [ends(run) for run in site.runs()] == [["done"]], site.logs()


def test_two_hundred_runs_are_handed_over_and_cancelled(site):
    site.recipe(LONG, seeds=list(range(200)))
    site.submit("--parallel=1")
    assert len(site.jobs()) == 200
    site.at_work()
    assert "200 to cancel" in site.program("cancel", "--dry_run")
    assert len(site.jobs()) == 200
    assert site.program("cancel").splitlines()[-1] == "200 cancelled"
    site.over()
    told = site.program("status").splitlines()[-1]
    assert told == "200 runs: 199 planned, 1 stopped", site.logs()


def test_two_processes_are_signalled_and_a_chain_goes_on_where_nodes_cannot_requeue(site):
    site.profile(requeues=0)
    site.recipe(LONG | {"epochs": 20}, resources={"processes": 2})
    site.submit("--chain=2")
    assert len(site.jobs()) == 3
    site.at_work()
    (job,) = [line.split()[0] for line in site.jobs() if line.endswith("RUNNING")]
    site.command("scancel", "--signal=USR2", job)
    site.over()
    (run,) = site.runs()
    assert ends(run) == ["stopped", "done"], site.logs()
    whole(run)


def test_a_grid_on_one_node_is_cut_short_requeued_and_finished(cluster, shards, tmp_path: Path):
    recipe = {
        "model": {"name": "test_resnet"},
        "data": {"root": str(shards)},
        "train": {"epochs": 60, "batch_size": 8, "lr": 1e-3},
        "resources": {"gpus": 0},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    environment = cluster | {"DEEPLENSE_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}

    def command(*words: str) -> str:
        return subprocess.run(
            words, env=environment, cwd=tmp_path, text=True, capture_output=True, check=True
        ).stdout

    script = str(REPOSITORY / "slurm" / "node.sbatch")
    job = command("sbatch", "--parsable", "--time=10", script, "small.yaml").strip()
    log = tmp_path / f"deeplense-{job}.log"

    def epochs() -> int:
        return sum(len(run.read_lines("history.jsonl")) for run in find_runs(tmp_path / "runs"))

    wait_for(lambda: epochs() >= 3)
    command("scancel", "--signal=USR2", "--batch", job)
    wait_for(lambda: find_runs(tmp_path / "runs")[0].status().state == "stopped")
    (run,) = find_runs(tmp_path / "runs")
    wait_for(lambda: run.status().state == "done")
    attempts = [line for line in run.read_lines("attempts.jsonl") if line["event"] == "end"]
    assert [line["state"] for line in attempts] == ["stopped", "done"], log.read_text()
    assert [line["epoch"] for line in run.read_lines("history.jsonl")] == [*range(1, 61)]


def test_the_script_of_one_node_tells_what_is_wrong(cluster, tmp_path: Path):
    environment = cluster | {"DEEPLENSE_PYTHON": sys.executable}
    script = str(REPOSITORY / "slurm" / "node.sbatch")
    answer = subprocess.run(
        ["sbatch", "--parsable", "--wait", script, "nowhere.yaml"],
        env=environment, cwd=tmp_path, text=True, capture_output=True,
    )  # fmt: skip
    assert answer.returncode == 3
    (log,) = tmp_path.glob("deeplense-*.log")
    assert "nowhere.yaml: cannot be read" in log.read_text()
