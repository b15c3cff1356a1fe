"""The table of tasks, and how one is made of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deeplense_batch.tasks import build_task


def test_the_table_is_read_without_torch():
    code = "import sys; from deeplense_batch.tasks import TASKS; print('torch' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "False"


def test_an_unknown_option_is_told_beside_those_that_there_are():
    allowed = "focal, label_smoothing, positive, prevalence, purity"
    sentence = f"^task.options.purty: unknown to detection; allowed: {allowed}$"
    with pytest.raises(ValueError, match=sentence):
        build_task("detection", classes=("lens", "other"), purty=0.5)
