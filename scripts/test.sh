#!/usr/bin/env bash
# What is checked: lint, format, types, tests.
#   scripts/test.sh           # all but the slow tests
#   scripts/test.sh --all     # every test, those of a real SLURM and podman too, where they are
#   scripts/test.sh WORDS     # what pytest makes of these words, such as -k resnet20
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
export OMP_NUM_THREADS=1
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
tests() { .venv/bin/python -m pytest "$@"; }
# A worker without tests takes those that another has not begun, so that both end together.
beside() { tests -n 2 --dist worksteal -m "$1"; }
if [ $# -eq 0 ]; then
    beside "not slow and not slurm and not container"
    echo "Left out: the tests marked slow, slurm or container; scripts/test.sh --all runs them too."
elif [ "$*" = --all ]; then
    beside "not slurm and not container"
    tests -m "slurm or container" # daemons that a machine has once
else
    tests "$@"
fi
