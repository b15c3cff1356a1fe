"""The house: imports point down, the tables are complete, and the light verbs stay light."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from conftest import REPOSITORY

from deeplense_batch.tasks import TASKS

PACKAGE = REPOSITORY / "deeplense_batch"
MODULES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))

FLOORS = {
    "__init__": 0, "files": 0, "processes": 0, "surroundings": 0, "yaml_text": 0,
    "job": 1, "rundir": 1, "distributed": 1, "optim": 1,
    "precision": 1, "checkpoint": 1, "record": 1, "memory": 1, "memo": 1, "cells": 1,
    "lensing": 1, "diffusion": 1, "samplers": 1, "metrics": 1, "stats": 1, "bootstrap": 1,
    "figures": 1,
    "tasks": 2, "data": 2, "models": 2, "rows": 2, "outcomes": 2, "imported": 2, "reference": 2,
    "compare": 2, "copies": 2, "inference": 2, "report": 2, "collect": 2, "recipe": 2, "sheets": 2,
    "profile": 2,
    "plan": 3, "checks": 3, "earlier": 3, "build": 3, "attempts": 3, "step": 3, "fit": 3,
    "run": 3, "resolved": 3, "make": 3,
    "slurm": 3, "launch": 3, "bench": 3, "bench_simulation": 3, "bench_collect": 3, "doctor": 3,
    "trained": 3, "answers": 3, "predict": 3, "sample": 3,
    "card": 3, "export": 3, "explain": 3, "preflight": 3, "judging": 3,
    "local": 4, "arrays": 4, "handover": 4, "forecast": 4, "submit": 4, "watch": 4,
    "cli": 5, "__main__": 6,
}  # fmt: skip


def noun(path) -> str:
    """The file or folder of the house that a module belongs to."""
    return path.parts[0].removesuffix(".py")


def imports(path) -> set[str]:
    """The files or folders of the package that a module imports, wherever in its text."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deeplense_batch"):
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {n[1] if len(n) > 1 else "__init__" for n in names if n[0] == PACKAGE.name}
    return found - {noun(path), "__version__"}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_down(path):
    here = FLOORS[noun(path)]
    for other in imports(path):
        assert FLOORS[other] <= here, f"{path} (floor {here}) imports {other}"
        if here == 1:
            assert FLOORS[other] < 1, f"{path} is on the ground and imports {other}"


def test_no_circle_of_imports():
    """Between the files of one floor too."""
    edges: dict[str, set[str]] = {}
    for path in MODULES:
        edges.setdefault(noun(path), set()).update(imports(path))
    done: set[str] = set()
    while len(done) < len(edges):
        free = {name for name, needs in edges.items() if name not in done and needs <= done}
        assert free, f"a circle among {sorted(set(edges) - done)}"
        done |= free


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
        offered = importlib.import_module(node.module).__all__
        for alias in node.names:
            assert alias.name in offered, f"{path} imports {node.module}.{alias.name}"


def test_every_task_has_its_row():
    files = {p.stem for p in (PACKAGE / "tasks").glob("*.py")} - {"__init__", "task"}
    assert files == {row.partition(":")[0].rpartition(".")[2] for row in TASKS.values()}


def test_every_dependency_says_why():
    text = (REPOSITORY / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    given = {"torch", "numpy", "scikit-learn"}
    for line in re.search(r"dependencies = \[\n(.*?)\n\]", text, re.S)[1].splitlines():
        assert "#" in line or any(f'"{name}>' in line for name in given), line
    assert set(project["optional-dependencies"]) == {"export", "fits", "gpu", "test"}


def test_no_file_names_a_registry():
    hosts = re.compile(r"https?://\S+/(simple|packages)/|\b(docker|ghcr|quay|nvcr)\.io\b")
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    for path in map(REPOSITORY.joinpath, listed.stdout.split("\n")[:-1]):
        if path != Path(__file__) and path.is_file():
            assert not hosts.search(path.read_text(errors="replace")), path
