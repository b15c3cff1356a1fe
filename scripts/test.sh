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
    # Tests with daemons, of which a machine has one each, wait more than they compute: they run
    # beside the others, and what they print comes last.
    printed=$(mktemp)
    set -m # a process group of its own, so that an interrupt can be passed on
    tests -m "slurm or container" >"$printed" 2>&1 &
    set +m
    trap 'kill -INT -- -$! || true; wait $! || true; cat "$printed"; exit 130' INT TERM
    status=0
    beside "not slurm and not container" || status=$?
    wait $! || status=$?
    cat "$printed"
    rm "$printed"
    exit $status
else
    tests "$@"
fi
