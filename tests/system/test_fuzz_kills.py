"""A few of the kills that ``fuzz_kills.py`` makes without end, in a process that has only them.

It forks, which a process that has computed gradients must not.
"""

import ast
import subprocess
import sys

import pytest
from conftest import REPOSITORY


def fuzz(*words: object) -> None:
    command = [sys.executable, REPOSITORY / "tests" / "fuzz_kills.py", *map(str, words)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(ast.literal_eval(done.stdout.splitlines()[0]).values()) == words[0]


def test_what_was_killed_goes_on():
    fuzz(6, 1, "pack,predict,simulate")


@pytest.mark.slow
def test_what_was_killed_ten_times_goes_on():
    fuzz(10, 2)
