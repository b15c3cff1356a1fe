"""The image and the script that runs it, on a real podman."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import podman_machine
import pytest
import slurm_cluster
import yaml
from conftest import PATIENCE, REPOSITORY, make_job, require_programs, wait_for

from deeplense_batch.core.rundir import RunDir, find_runs
from deeplense_batch.runs.planning.plan import plan

SCRIPT = str(REPOSITORY / "scripts" / "podman_run.sh")
USER = 1000
RECIPE = {
    "model": {"name": "test_resnet"},
    "data": {"root": "data"},
    "train": {"epochs": 1, "batch_size": 8, "lr": 5e-3},
    "resources": {"gpus": 0},
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what goes into the image, to be changed."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("Containerfile", ".containerignore", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(REPOSITORY / name, copy)
    for name in ("deeplense_batch", "jobs"):
        shutil.copytree(REPOSITORY / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def podman(tmp_path_factory, checkout):
    """The environment of a podman that has the image."""
    missing = podman_machine.missing()
    if missing:
        told = f"{', '.join(missing)} not on this machine"
        if os.environ.get("CI"):
            pytest.fail(f"the gate needs a real podman: {told}")
        pytest.skip(f"no container can be made: {told}")
    with podman_machine.podman(tmp_path_factory.mktemp("podman")) as environment:
        podman_machine.build(checkout, environment)
        yield environment


@pytest.fixture
def folder(tmp_path: Path, shards: Path) -> Path:
    """Where the image's user works: a recipe, and a link to data that are elsewhere."""
    here, data = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    shutil.copytree(shards, data)
    (here / "data").symlink_to(data)
    (here / "small.yaml").write_text(yaml.safe_dump(RECIPE))
    for path in (here, *here.iterdir(), data, *data.iterdir()):
        os.chown(path, USER, USER)
    return here


def in_container(podman: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [SCRIPT, *words], cwd=folder, env=podman, capture_output=True, text=True, timeout=PATIENCE
    )


def image_alone(podman: dict[str, str], *words: str, entry: str) -> subprocess.CompletedProcess:
    """Run the image as it is, with a read-only root and no mount of ours."""
    command = ["podman", "run", "--rm", "--read-only", f"--entrypoint={entry}"]
    return subprocess.run(
        [*command, podman_machine.IMAGE, *words],
        env=podman, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


@pytest.mark.container
def test_a_run_and_its_report_with_a_read_only_root_as_no_root(podman, folder):
    done = in_container(podman, folder, "run", "small.yaml")
    assert done.returncode == 0 and "done; validation auc" in done.stdout, done.stderr
    (run,) = find_runs(folder / "runs")
    assert run.status().state == "done"
    assert run.read_json("metrics.json")["commit"] == podman_machine.COMMIT
    collected = in_container(podman, folder, "collect")
    assert collected.returncode == 0, collected.stderr
    assert "test_resnet" in (folder / "report" / "report.md").read_text()
    made = [*(folder / "runs").rglob("*"), *(folder / "report").rglob("*")]
    assert {path.stat().st_uid for path in made} == {USER}
    # Paths mean the same outside: what was made inside is read where no container is.
    job = yaml.safe_load((run.path / "job.yaml").read_text())
    assert job["data"]["root"] == str(folder / "data")


@pytest.mark.container
def test_the_image_is_clean_and_keeps_to_itself(podman):
    inspected = subprocess.run(
        ["podman", "image", "inspect", podman_machine.IMAGE],
        env=podman, capture_output=True, text=True, check=True,
    )  # fmt: skip
    config = json.loads(inspected.stdout)[0]["Config"]
    assert config["User"] == "1000:1000" and not config.get("Volumes")
    assert config["Entrypoint"] == ["python3", "-m", "deeplense_batch"]
    assert not [line for line in config["Env"] if line.startswith("PIP_")]
    assert image_alone(podman, "-u", entry="id").stdout.strip() == str(USER)
    caches = ["/root", "/tmp", "/var/tmp", "-mindepth", "1", "-newer", "/etc/debian_version"]
    left = image_alone(podman, *caches, "-not", "-type", "d", entry="find")
    assert not left.stdout, left.stdout
    written = image_alone(podman, "-c", "touch /opt/x /workspace/x", entry="sh")
    assert written.returncode != 0 and written.stderr.count("Read-only file system") == 2


@pytest.mark.container
def test_runs_that_no_mount_keeps_are_refused(podman):
    answer = subprocess.run(
        ["podman", "run", "--rm", podman_machine.IMAGE, "doctor"],
        env=podman, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert answer.returncode == 4
    assert "UNFIT disk: /workspace cannot be written (Permission denied)" in answer.stdout


@pytest.mark.container
def test_a_changed_source_installs_no_dependency_again(podman, checkout):
    module = checkout / "deeplense_batch" / "__init__.py"
    module.write_text(module.read_text() + "\n# changed\n")
    told = podman_machine.build(checkout, podman)
    steps = {step.partition("\n")[0]: step for step in told.split("STEP ")[1:]}
    dependencies = [step for line, step in steps.items() if "pip install -r" in line]
    package = [step for line, step in steps.items() if "pip install --no-deps" in line]
    assert len(dependencies) == len(package) == 1
    assert "Using cache" in dependencies[0] and "Collecting" not in told
    assert "Using cache" not in package[0] and "Successfully installed deeplense" in package[0]


def start(podman: dict[str, str], folder: Path, epochs: int) -> tuple[subprocess.Popen, RunDir]:
    """Start a run in a container; gives it once it has trained an epoch."""
    process = subprocess.Popen(
        [SCRIPT, "run", "small.yaml", f"--train.epochs={epochs}"],
        cwd=folder, env=podman, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def trained() -> bool:
        assert process.poll() is None, process.communicate()
        found = find_runs(folder / "runs")
        return bool(found and found[0].read_lines("history.jsonl"))

    wait_for(trained)
    return process, find_runs(folder / "runs")[0]


@pytest.mark.container
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_to_the_container_saves_and_exits_85(podman, folder, number):
    process, run = start(podman, folder, epochs=12)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 85, errors
    assert (run.status().state, run.status().reason) == ("stopped", "signal")
    again = in_container(podman, folder, "run", str(run.path))
    assert again.returncode == 0 and run.status().state == "done", again.stderr
    assert [line["epoch"] for line in run.read_lines("history.jsonl")] == [*range(1, 13)]


@pytest.mark.container
def test_the_state_of_a_run_is_true_outside_its_container(podman, folder):
    process, run = start(podman, folder, epochs=2000)
    status = run.status()
    assert status.state == "running" and status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    assert process.wait(timeout=PATIENCE) == 137
    assert run.status().state == "lost"


@pytest.fixture
def fake_podman(tmp_path: Path, monkeypatch) -> Path:
    """A podman that tells the words it was given, one a line; the folder it is in."""
    program = tmp_path / "bin" / "podman"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n[ "$1" = run ] || [ "$3" != none ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path


def script(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [SCRIPT, *words], cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )


def test_the_script_mounts_folders_under_their_own_names(fake_podman):
    here, far = fake_podman / "a folder", fake_podman / "far"
    for path in (here, far, fake_podman / "one", fake_podman / "two"):
        path.mkdir()
    (here / "runs").symlink_to(far)
    more = f"{fake_podman}/one:{fake_podman}/two"
    told = script("status", "my runs", cwd=here, DEEPLENSE_MOUNTS=more, DEEPLENSE_IMAGE="mine")
    words = told.stdout.splitlines()
    assert words[:2] == ["run", "--rm"] and "--read-only" in words
    mounts = [after for word, after in itertools.pairwise(words) if word == "--volume"]
    folders = (here, far, fake_podman / "one", fake_podman / "two")
    assert mounts == [f"{folder}:{folder}" for folder in folders]
    assert words[words.index("--workdir") + 1] == str(here)
    assert words[-3:] == ["mine", "status", "my runs"]


def test_the_script_says_what_is_wrong(fake_podman):
    nothing = script(cwd=fake_podman)
    assert nothing.returncode == 2 and "usage: " in nothing.stderr
    unbuilt = script("status", cwd=fake_podman, DEEPLENSE_IMAGE="none")
    assert unbuilt.returncode == 4 and not unbuilt.stdout
    assert "there is no image none here; make it: podman build" in unbuilt.stderr
    gone = script("status", cwd=fake_podman, DEEPLENSE_MOUNTS="/no/such/folder")
    assert gone.returncode == 3 and not gone.stdout
    assert gone.stderr.strip().endswith("/no/such/folder: no such folder to mount")


@pytest.fixture
def batch_script(tmp_path: Path) -> Path:
    """The batch script of docs/containers.md, for a cluster without GPUs."""
    text = (REPOSITORY / "docs" / "containers.md").read_text()
    (block,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", text, re.S)
    path = tmp_path / "run.sbatch"
    path.write_text(block.replace("--gpus=1 --cpus-per-task=4", "--ntasks=1"))
    return path


def test_the_batch_script_of_the_docs_is_sound(batch_script):
    require_programs("shellcheck")
    checked = subprocess.run(["shellcheck", batch_script], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slurm
def test_the_batch_script_of_the_docs_is_requeued_and_finished(
    batch_script, shards, tmp_path, tmp_path_factory
):
    require_programs(*slurm_cluster.TOOLS)
    program = tmp_path / "bin" / "apptainer"  # in its place; none can be installed here
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        '[ "$1 $2 $3 $5 $7" = "run --nv --bind --pwd deeplense_batch.sif" ] || exit 9\n'
        f'shift 7\nexec {sys.executable} -m deeplense_batch "$@"\n'
    )
    program.chmod(0o755)
    (item,) = plan([make_job(shards, train={"epochs": 20})], tmp_path / "runs")
    item.create()
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        path = f"{program.parent}:{os.environ['PATH']}"

        def command(*words: str | Path) -> str:
            return subprocess.run(
                words, env=environment | {"PATH": path}, cwd=tmp_path, check=True,
                capture_output=True, text=True,
            ).stdout  # fmt: skip

        job = command("sbatch", "--parsable", batch_script, item.run.path).strip()
        wait_for(lambda: item.run.read_lines("history.jsonl"))
        command("scancel", "--signal=USR2", job)
        wait_for(lambda: item.run.status().state == "stopped")
        wait_for(lambda: item.run.status().state == "done")
    ends = [line for line in item.run.read_lines("attempts.jsonl") if line["event"] == "end"]
    assert [line["state"] for line in ends] == ["stopped", "done"]
