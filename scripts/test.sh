#!/usr/bin/env bash
# Everything that is checked: lint, format, types, tests. Arguments go to pytest, and choose tests.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
export OMP_NUM_THREADS=1
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
if [ $# -gt 0 ]; then exec .venv/bin/python -m pytest "$@"; fi
.venv/bin/python -m pytest -n 2 --dist loadfile -m "not slurm and not container"
.venv/bin/python -m pytest -m "slurm or container" # daemons that a machine has once
