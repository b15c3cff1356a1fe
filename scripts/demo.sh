#!/usr/bin/env bash
# The main job, start to end: simulate a small set, train a grid of models, compare them.
#   scripts/demo.sh [FOLDER]     results go to FOLDER, by default demo/
# Run it again and it goes on where it stopped; what is done is not done twice.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-demo}

python=${PYTHON:-python3}
if [ ! -x .venv/bin/python ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "Python 3.11 or newer is needed; name one: PYTHON=python3.12 $0" >&2; exit 4; }
    "$python" -m venv .venv
fi
# Asked of the environment, not of a marker file: an install that was cut off is finished here.
if ! .venv/bin/python -c 'import importlib.metadata as m; m.version("deeplense-batch")' 2>/dev/null; then
    echo "Installing into .venv (torch is large: a few minutes, 6 GB) ..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e .
fi
batch() { .venv/bin/python -m deeplense_batch "$@"; }

started=$SECONDS
if ! ls "$folder"/data/train-*.h5 >/dev/null 2>&1; then
    OMP_NUM_THREADS=1 batch simulate substructure "$folder/data" --preset benchmark --images 3000
fi
batch submit --grid jobs/demo.yaml --data.root="$folder/data" --out="$folder/runs"
batch collect "$folder/runs" --out="$folder/report"
echo
echo "Done in $((SECONDS - started)) s. The report: $folder/report/report.html"
