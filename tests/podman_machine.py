"""A real podman for tests: a base image without a registry, with images and settings of its own.

The base is a small Debian, made by debootstrap, that has the packages of the environment the tests
run in: they are mounted, not copied, so that the image is small and its build asks no network.
What is tried is all of the Containerfile, except the download of the dependencies.

``DEEPLENSE_TEST_CACHE`` names a folder that keeps the Debian between runs (300 MB, one minute).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

TOOLS = ("podman", "runc", "debootstrap")
COMMIT = "0123456789ab"
IMAGE = "localhost/deeplense_batch"

_BASE = "localhost/base"
_SUITE, _PYTHON = "bookworm", (3, 11)  # whose compiled packages are those of this environment
_PACKAGES = "/opt/site-packages"
_HERE = Path(sysconfig.get_paths()["purelib"])

# Where a machine is itself a container, crun and the usual limits are refused.
_SETTINGS = """\
[containers]
netns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
volumes = ["{here}:{packages}:ro"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/images"
runroot = "{folder}/state"
"""


def missing() -> list[str]:
    """What this machine lacks for these tests."""
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if sys.version_info[:2] != _PYTHON:
        lacking.append(f"Python {_PYTHON[0]}.{_PYTHON[1]}, that of Debian {_SUITE},")
    return lacking + ["root"] * (os.geteuid() != 0)


@contextlib.contextmanager
def podman(folder: Path) -> Iterator[dict[str, str]]:
    """Give the environment that podman needs, with the base image; images go with the context."""
    (folder / "containers.conf").write_text(_SETTINGS.format(here=_HERE, packages=_PACKAGES))
    (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
    environment = os.environ | {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "OMP_NUM_THREADS": "1",
    }
    try:
        _import_base(folder, environment)
        yield environment
    finally:
        mounted = folder / "images" / "overlay"  # podman mounts it on itself and leaves it so
        if f" {mounted} " in Path("/proc/self/mounts").read_text():
            subprocess.run(["umount", mounted], check=True)
        with contextlib.suppress(FileNotFoundError):  # where it was interrupted before podman ran
            shutil.rmtree(folder / "images")


def build(context: Path, environment: dict[str, str]) -> str:
    """Build the image from a checkout; gives what podman told."""
    done = subprocess.run(
        [
            "podman", "build", "--isolation=chroot", "--network=host", "--layers",
            f"--volume={_HERE}:{_PACKAGES}:ro", f"--build-arg=BASE={_BASE}",
            f"--build-arg=COMMIT={COMMIT}", f"--tag={IMAGE}", ".",
        ],
        cwd=context, env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def _import_base(folder: Path, environment: dict[str, str]) -> None:
    root = _debian(Path(os.environ.get("DEEPLENSE_TEST_CACHE") or folder))
    extra = folder / "extra"
    links = Path("opt/packages")
    (extra / links).mkdir(parents=True)
    for entry in _HERE.iterdir():
        if "deeplense" not in entry.name:  # the one package that the build installs
            (extra / links / entry.name).symlink_to(f"{_PACKAGES}/{entry.name}")
    found = Path(f"usr/local/lib/python{_PYTHON[0]}.{_PYTHON[1]}/dist-packages/packages.pth")
    (extra / found).parent.mkdir(parents=True)
    (extra / found).write_text(f"/{links}\n")
    archive = subprocess.Popen(
        ["tar", "-c", "--exclude=./dev/*", "-C", root, ".", "-C", extra, links, found],
        stdout=subprocess.PIPE,
    )
    done = subprocess.run(
        ["podman", "import", "-", _BASE],
        env=environment, stdin=archive.stdout, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert archive.wait() == 0 and done.returncode == 0, done.stderr


def _debian(cache: Path) -> Path:
    root = cache / f"{_SUITE}-python"
    if not root.exists():
        half = cache / f".{root.name}.{os.getpid()}"
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=python3,python3-pip", _SUITE, half],
            capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]
        shutil.rmtree(half / "var" / "cache" / "apt")
        half.rename(root)
    return root
