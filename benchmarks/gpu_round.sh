#!/usr/bin/env bash
# Checks and measurements on one GPU, in 8 minutes; all of them go to one file in
# benchmarks/results/, a JSON object on each line, written as they are made.
#   benchmarks/gpu_round.sh                       # the whole round, on the first GPU
#   DEVICE=cpu SMALL=1 benchmarks/gpu_round.sh    # a rehearsal without a GPU, in 2 minutes
#   RESULTS=FILE LIMIT=SECONDS WORK=FOLDER PYTHON=... benchmarks/gpu_round.sh
# LIMIT is that of the whole round; each part's own is a share of it. WORK must not be there yet;
# it is kept, with logs, sets and runs, where it is named, else removed.
#
# Where there is no network, and Python 3.12 with torch and its usual company (timm, torchvision,
# numpy, scipy, scikit-learn, pandas, matplotlib, h5py, pyarrow, ...) is all there is, carry wheels
# of what is lacking, such as
#   pip download --only-binary=:all: --python-version 3.12 --no-deps -d wheels fire termcolor \
#     submitit pydantic pydantic-core annotated-types typing-inspection captum diffusers \
#     importlib-metadata==8.7.1 zipp
# (pydantic-core as pydantic's own metadata pin it), and start with
#   WHEELS=wheels benchmarks/gpu_round.sh
# which installs them, without an index, into a folder of its own. What is lacking is said at once.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
device=${DEVICE:-cuda}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo "$root/.venv/bin/python" || echo python3)}
export PYTHONUNBUFFERED=1 PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # of each process; the simulator starts one a core

own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --find-links "$WHEELS" \
        --target "$own/site" "$WHEELS"/*.whl
    export PYTHONPATH="$own/site:$PYTHONPATH"
fi
"$python" - <<'PYTHON'
import importlib.metadata
import re
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    asked = tomllib.load(file)["project"]["dependencies"]
company = ["termcolor", "pydantic-core", "annotated-types", "typing-inspection", "importlib-metadata"]
lacking = []
for name in [re.match(r"[\w-]+", line)[0] for line in asked] + company + ["zipp"]:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        lacking.append(name)
if lacking:
    sys.exit(f"not installed here: {', '.join(lacking)}; benchmarks/gpu_round.sh tells how to carry them")
PYTHON
if [ "$device" = cuda ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "torch sees no GPU here; DEVICE=cpu SMALL=1 rehearses the round without one" >&2
    exit 4
fi
card=$device
if [ "$device" = cuda ]; then
    card=$("$python" -c 'import torch; print(torch.cuda.get_device_name(0).replace(" ", "-"))')
fi
results=${RESULTS:-benchmarks/results/$(date -u +%Y-%m-%dT%H%M%SZ)-$card${SMALL:+-small}.jsonl}
mkdir -p "$(dirname "$results")"
"$python" -m benchmarks.gpu_round --device="$device" ${SMALL:+--small} --results="$results" \
    --work="${WORK:-$own/work}" --limit="${LIMIT:-480}"
