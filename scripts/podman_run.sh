#!/usr/bin/env bash
# The suite in a container, in the current folder:
#   scripts/podman_run.sh VERB [WORD ...]      as python -m deeplense_batch VERB [WORD ...]
# The folder is mounted under its own name, so that paths mean the same inside and outside; so are
# the targets of its links data, runs and weights, and the folders listed in DEEPLENSE_MOUNTS
# (separated by colons). The root is read-only, the processes are yours, and a signal (TERM, USR2)
# goes through to them: a run saves and exits 85. DEEPLENSE_IMAGE names another image.
set -euo pipefail
if [ $# -eq 0 ]; then
    echo "usage: $0 VERB [WORD ...], such as: $0 submit --grid jobs/demo.yaml" >&2
    exit 2
fi
command -v podman >/dev/null || { echo "$0: podman is not installed here" >&2; exit 4; }
image=${DEEPLENSE_IMAGE:-deeplense_batch}
podman image exists "$image" >/dev/null || {
    echo "$0: there is no image $image here; make it: podman build -t deeplense_batch ." >&2
    exit 4
}

mounts=("$PWD")
for folder in data runs weights; do
    if [ -L "$folder" ]; then mounts+=("$(readlink -f "$folder")"); fi
done
IFS=: read -ra more <<<"${DEEPLENSE_MOUNTS:-}"
options=(--rm --read-only --workdir "$PWD" --env 'DEEPLENSE_*' --env OMP_NUM_THREADS)
for folder in "${mounts[@]}" "${more[@]}"; do
    [ -d "$folder" ] || { echo "$0: $folder: no such folder to mount" >&2; exit 3; }
    options+=(--volume "$folder:$folder")
done

# Process numbers and host name are part of a run's state: status outside must know those inside.
# Shared memory is the host's, since NCCL wants more than a container has; so are the labels.
options+=(--pid=host --uts=host --ipc=host --security-opt=label=disable)
if [ "$(id -u)" -ne 0 ]; then options+=(--userns=keep-id); fi # root's containers run as user 1000

if grep -qs nvidia.com/gpu /etc/cdi/* /var/run/cdi/*; then
    options+=(--device nvidia.com/gpu=all)
elif [ -e /dev/nvidiactl ]; then
    echo "$0: this machine has a GPU and no CDI description of it, so the container sees none;" \
        "make one: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml" >&2
fi
if [ -t 0 ] && [ -t 1 ]; then options+=(--interactive --tty); fi

exec podman run "${options[@]}" "$image" "$@"
