#!/usr/bin/env bash
# Checks and measurements on one GPU, in 8 minutes or in an hour; they go to one file,
# benchmarks/results/CARD-DATE.json, which grows as they are made, and to a table at the end.
#   benchmarks/gpu_round.sh                         # 8 minutes, the first GPU
#   benchmarks/gpu_round.sh --minutes 60            # and the comparisons of networks and labels
#   benchmarks/gpu_round.sh --device cpu --small    # a rehearsal without a GPU, in 2 minutes
# --help tells the other options. Where there is no network, and Python 3.12 with torch and its
# usual company (timm, torchvision, numpy, scipy, scikit-learn, pandas, matplotlib, h5py, pyarrow,
# ...) is all there is, carry wheels of what is lacking, such as
#   pip download --only-binary=:all: --python-version 3.12 --no-deps -d wheels fire termcolor \
#     submitit pydantic pydantic-core annotated-types typing-inspection captum diffusers \
#     importlib-metadata==8.7.1 zipp lightning lightning-utilities
# (pydantic-core as pydantic's own metadata pin it), and add --wheels wheels: they are installed,
# without an index, into a folder of their own. What is lacking is said at once.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$([ -x "$root/.venv/bin/python" ] && echo "$root/.venv/bin/python" || echo python3)}
export PYTHONUNBUFFERED=1 PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # of each process; the simulator starts one a core
exec "$python" -m benchmarks.gpu_round "$@"
