"""Small sets of images and small jobs, made once, for every test."""

from __future__ import annotations

import contextlib
import os
import shutil

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: two threads on a busy machine crawl

import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from deeplense_batch.__main__ import main
from deeplense_batch.core.job import Job
from deeplense_batch.core.processes import forget
from deeplense_batch.data.formats.images import Image, check_image, read_array
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.shards import open_split
from deeplense_batch.data.writer import ShardWriter, stratified_order

torch.set_num_threads(1)

CLASSES = ("no", "sphere", "vort")
REPOSITORY = Path(__file__).parent.parent


def make_images(samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts (N, 1, 24, 24) uint16 that a small network learns to tell apart, and classes."""
    random = np.random.default_rng(seed)
    targets = np.arange(samples) % 3
    y, x = np.mgrid[:24, :24] - 11.5
    ring = 40 * np.exp(-((np.hypot(x, y) - 7) ** 2) / 4)
    blob = 30 * np.exp(-((x - 4) ** 2 + y**2) / 6)
    line = 30.0 * (np.abs(y) < 1.5)
    signal = np.stack([ring, ring + blob, ring + line])[targets]
    counts = random.poisson(signal + 9)
    return (counts - counts.min((1, 2), keepdims=True))[:, None].astype(np.uint16), targets


def read_image(name: str, data: bytes, *, allow_pickle: bool = False) -> Image:
    """The checked image that a file of some name and content holds."""
    return check_image(read_array(name, data, Reading(allow_pickle=allow_pickle)))


def write_split(root: Path, split: str, samples: int, seed: int, shard_size: int = 50) -> None:
    images, targets = make_images(samples, seed)
    order = stratified_order(targets, seed)
    images, targets = images[order], targets[order]
    with ShardWriter(
        root,
        split=split,
        shape=(1, 24, 24),
        stored=np.dtype(np.uint16),
        dtype=np.dtype(np.float64),
        classes=CLASSES,
        source="tests",
        seed=seed,
        shard_size=shard_size,
    ) as writer:
        writer.append(
            images,
            targets=targets,
            ids=[f"{split}/{i}" for i in order],
            scale=images.max((2, 3)).astype(np.float64),
        )
        writer.publish()


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shards: 120 images in train, 107 (a prime) in val."""
    root = tmp_path_factory.mktemp("shards")
    write_split(root, "train", 120, seed=1)
    write_split(root, "val", 107, seed=2)
    assert len(open_split(root, "train")) == 120
    return root


def make_job(shards: Path, **fields: dict) -> Job:
    """A job of seconds on those shards; sections are updated by `fields`."""
    raw: dict = {
        "name": "small",
        "model": {"name": "test_resnet"},
        "data": {"root": str(shards), "augment": {"dihedral": True}},
        "train": {"epochs": 4, "batch_size": 8, "lr": 5e-3, "schedule": "cosine"},
        "resources": {"gpus": 0},
        "seed": 0,
    }
    for section, values in fields.items():
        raw[section] = raw.get(section, {}) | values if isinstance(values, dict) else values
    return Job.model_validate(raw)


@pytest.fixture
def job(shards: Path) -> Job:
    return make_job(shards)


@pytest.fixture
def recipe(tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of two small runs in the current folder, whose bin/ is searched for programs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    content = {
        "model": {"name": "test_resnet"},
        "data": {"root": str(shards)},
        "train": {"epochs": 2, "batch_size": 8, "lr": 5e-3},
        "resources": {"gpus": 0, "hours": 1},
        "seeds": [0, 1],
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def shared() -> Iterator[None]:
    """New files may be read by everybody, as on a disk that colleagues share."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that need it are skipped, aloud, without it."""
    folder = os.environ.get("DEEPLENSE_REAL_DATA")
    if not folder:
        pytest.skip("DEEPLENSE_REAL_DATA is not set: no real images to test on")
    return Path(folder)


def require_programs(*names: str) -> None:
    """Skip, aloud, where a program is not installed; under CI, whose gate has them, fail."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"the gate needs {', '.join(missing)}, which is not installed")
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed on this machine")


def typed(capsys: pytest.CaptureFixture, *words: str | Path) -> tuple[int, str, str]:
    """Run the program in this process: exit code, standard output and error."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


PATIENCE = 300.0  # seconds until a test gives up waiting: it guards against hangs, measures none


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder that every user may reach, where root gives up its rights; pytest's are private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; a test that waits in vain fails."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def readers() -> list[threading.Thread]:
    """The threads of this process that read images."""
    return [t for t in threading.enumerate() if t.name.startswith("reader")]


_HOLD = """\
import os, sys
if "run" in sys.orig_argv:
    import pathlib, time
    from deeplense_batch.training import trainer as fit
    batches, gate = fit.Trainer._batches, pathlib.Path(os.environ["GATE"])
    def held(self, steps):
        for number, batch in enumerate(batches(self, steps)):
            holds = number and self.epoch >= int(os.environ["HELD_AFTER"]) and gate.exists()
            if holds:
                self._saver.wait()
            while holds and gate.exists() and not self.interrupt.signal:
                gate.with_name("held").touch()
                time.sleep(0.005)
            yield batch
    fit.Trainer._batches = held
"""


class Gate:
    """Holds trainings in other processes in the midst of an epoch, while it is shut.

    A test may then signal them, kill them or fill their disk whenever it comes to it; they go on
    when the gate opens, or a signal has come.
    """

    def __init__(self, folder: Path, hook: str = _HOLD) -> None:
        (folder / "sitecustomize.py").write_text(hook)
        self._folder, self._gate = folder, folder / "shut"

    def shut(self) -> dict[str, str]:
        """Shut it; the environment of processes that it holds."""
        self._folder.joinpath("held").unlink(missing_ok=True)
        self._gate.touch()
        path = os.pathsep.join(filter(None, [str(self._folder), os.environ.get("PYTHONPATH")]))
        return {"GATE": str(self._gate), "PYTHONPATH": path}

    def after(self, epochs: int) -> dict[str, str]:
        """Shut it, for trainings of which some epochs are over."""
        return self.shut() | {"HELD_AFTER": str(epochs)}

    def wait_until_held(self) -> None:
        """Wait for a training at the gate, after a step; all that it had to write is written."""
        wait_for(self._folder.joinpath("held").exists)

    def open(self) -> None:
        """Let them go on."""
        self._gate.unlink(missing_ok=True)


@pytest.fixture
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    made = Gate(tmp_path_factory.mktemp("gate"))
    yield made
    made.open()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment says nothing of other processes."""
    rest = dict(os.environ)
    forget(rest)
    for name in set(os.environ) - set(rest):
        monkeypatch.delenv(name)


def say(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Set variables of the environment."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def heed_interrupts() -> None:
    """For a child: a test run in the background would hand it an ignored Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def cli(
    *words: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess:
    """Run the program as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "deeplense_batch", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        timeout=PATIENCE,
    )
