"""The house: imports point down, the tables are complete, and the light verbs stay light."""

from __future__ import annotations

import ast
import graphlib
import importlib
import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from conftest import REPOSITORY

from deeplense_batch.tasks import TASKS

PACKAGE = REPOSITORY / "deeplense_batch"
MODULES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))

# A folder imports from those to its right and from itself; what `|` separates stay apart.
LAYERS = (
    "__main__ > cli > cluster > runs > inference > training | report "
    "> simulation | tasks | models > data > lensing | core"
)
FLOORS = [group.split(" | ") for group in LAYERS.split(" > ")]
MOST_FILES = 12  # of a folder
MOST_LINES = 400  # of a file


def name_of(path: Path) -> str:
    """``data.shards`` for data/shards.py, ``data`` for its `__init__`."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__").replace("__init__", "")


NAMES = {name_of(path): path for path in MODULES}


def imports(path: Path, nodes=ast.walk) -> set[str]:
    """The modules of the package that a file imports, wherever in its text."""
    found = set()
    for node in nodes(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deeplense_batch"):
            base = node.module.removeprefix("deeplense_batch").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(".")
                found.add(inner if inner in NAMES else base)
        elif isinstance(node, ast.Import):
            found |= {
                a.name.partition(".")[2] for a in node.names if a.name.startswith("deeplense")
            }
    return found - {""}


def floor_of(module: str) -> int:
    """How far to the right the folder of a module is."""
    return next(i for i, folders in enumerate(FLOORS) if module.partition(".")[0] in folders)


def test_every_folder_has_its_layer():
    assert {name.partition(".")[0] for name in NAMES} - {""} == {f for fs in FLOORS for f in fs}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_down(path):
    here = name_of(path)
    for other in imports(path) if here else ():
        folder = here.partition(".")[0]
        assert other.partition(".")[0] == folder or floor_of(other) > floor_of(here), (
            f"{path} imports {other}"
        )


def test_no_circle_of_imports():
    """Between files, those imports too that are inside functions."""
    edges = {name: imports(path) & set(NAMES) for name, path in NAMES.items()}
    done: set[str] = set()
    while len(done) < len(edges):
        free = {name for name, needs in edges.items() if name not in done and needs <= done}
        assert free, f"a circle among {sorted(set(edges) - done)}"
        done |= free


def test_no_circle_between_folders_beside_each_other():
    graph: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for path in NAMES.values():
        for other in imports(path) & set(NAMES):
            one, two = path.parent.parts, NAMES[other].parent.parts
            differ = [i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b]
            if differ:
                graph.setdefault(one[: differ[0] + 1], set()).add(two[: differ[0] + 1])
    graphlib.TopologicalSorter(graph).prepare()  # raises where there is a circle


def test_tests_mirror_the_package():
    """Every module has a test file of its folder and name, and every test file its module.

    Where two modules have one name, the file of one has its folder before it; a file may be that
    of a whole folder. ``system`` holds what needs SLURM, podman, other processes killed, or whole
    recipes, and ``tests`` itself what concerns the house.
    """
    root = REPOSITORY / "tests"
    tests = {str(p.relative_to(root).with_suffix("")) for p in root.rglob("test_*.py")}
    left = {test for test in tests if "/" in test and not test.startswith("system/")}
    for path in MODULES:
        folder, name = path.parent, path.stem.strip("_")
        if path.stem == "__init__":
            left.discard(str(folder / f"test_{folder.name}"))
            continue
        own = {str(folder / f"test_{name}"), str(folder / f"test_{folder.name}_{name}")}
        assert own & tests, f"{path} has no test file"
        left -= own
    assert not left, "these have no module"


def test_folders_and_files_stay_small():
    folders = {path.parent for path in MODULES}
    many = {str(f): n for f in folders if (n := len([*(PACKAGE / f).glob("*.py")])) > MOST_FILES}
    assert not many
    lines = {str(p): len((PACKAGE / p).read_text().splitlines()) for p in MODULES}
    assert not {path: count for path, count in lines.items() if count > MOST_LINES}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_page_opens_with_what_it_is_for(path):
    tree = ast.parse((PACKAGE / path).read_text())
    assert ast.get_docstring(tree), path


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_what_others_import_is_in_all(path):
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if not (node.module or "").startswith("deeplense_batch."):
            continue
        offered = getattr(importlib.import_module(node.module), "__all__", [])
        base = node.module.partition(".")[2]
        for alias in node.names:
            assert alias.name in offered or f"{base}.{alias.name}" in NAMES, (
                f"{path} imports {node.module}.{alias.name}"
            )


def test_every_task_has_its_row():
    helpers = {"__init__", "task", "diffusion", "similarity"}
    files = {p.stem for p in (PACKAGE / "tasks").glob("*.py")} - helpers
    assert files == {row.partition(":")[0].rpartition(".")[2] for row in TASKS.values()}


def test_every_dependency_says_why():
    text = (REPOSITORY / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    given = {"torch", "numpy", "scikit-learn"}
    for line in re.search(r"dependencies = \[\n(.*?)\n\]", text, re.S)[1].splitlines():
        assert "#" in line or any(f'"{name}>' in line for name in given), line
    assert set(project["optional-dependencies"]) == {
        *("export", "fits", "gpu", "register", "test")
    }


def test_no_file_names_a_registry():
    hosts = re.compile(r"https?://\S+/(simple|packages)/|\b(docker|ghcr|quay|nvcr)\.io\b")
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    for path in map(REPOSITORY.joinpath, listed.stdout.split("\n")[:-1]):
        if path != Path(__file__) and path.is_file():
            assert not hosts.search(path.read_text(errors="replace")), path


def test_no_two_test_files_have_one_name():
    """pytest imports them by their names alone."""
    counts = Counter(path.name for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [name for name, count in counts.items() if count > 1] == []
