"""Every error of the package carries its exit code, and the program ends with it."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
import torch
from conftest import typed

import deeplense_batch
import deeplense_batch.data.packing.pack as packing

MEANT = {2, 3, 4, 5, 6, 7, 85}


def errors() -> list[type[Exception]]:
    """The error classes of the package."""
    found: dict[str, type[Exception]] = {}
    for module in pkgutil.walk_packages(deeplense_batch.__path__, "deeplense_batch."):
        for value in vars(importlib.import_module(module.name)).values():
            error = isinstance(value, type) and issubclass(value, Exception)
            if error and value.__module__.startswith("deeplense_batch."):
                found[value.__name__] = value
    return [found[name] for name in sorted(found)]


@pytest.fixture
def ends(tmp_path, monkeypatch, capsys):
    """How the program ends, and what it says, where a verb raises an error."""

    def end(error: Exception) -> tuple[int, str]:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(packing, "pack", fail)
        code, _, said = typed(capsys, "pack", tmp_path, tmp_path / "out")
        return code, said

    return end


def test_every_error_of_the_package_has_a_code():
    found = errors()
    assert len(found) > 20
    for kind in found:
        assert kind.exit_code in MEANT | {1}, kind


def test_the_program_ends_with_the_code_of_the_error(ends, tmp_path, monkeypatch):
    for kind in errors():
        error = kind.__new__(kind)
        error.args = ("what was wrong",)
        if kind.exit_code in MEANT:
            assert ends(error) == (kind.exit_code, "what was wrong\n"), kind
        else:
            with pytest.raises(kind):
                ends(error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileNotFoundError(2, "No such file or directory", "a"), 3),
        (PermissionError(13, "Permission denied", "a"), 3),
        (OSError(5, "Input/output error", "a"), 4),
        (ConnectionResetError(104, "Connection reset by peer"), 4),
        (ImportError("cannot map", path="libx.so"), 4),
        (MemoryError(), 7),
        (torch.OutOfMemoryError("CUDA out of memory"), 7),
    ],
)
def test_errors_of_the_system_have_theirs(ends, error, code):
    assert ends(error)[0] == code


def test_an_error_of_the_program_is_shown_whole(ends):
    for error in (ValueError("x"), ImportError("no name y"), AttributeError("z")):
        with pytest.raises(type(error)):
            ends(error)
