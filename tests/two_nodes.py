"""One run on two nodes, which are two processes of this machine."""

from __future__ import annotations

import multiprocessing
import platform
import socket

import pytest
from conftest import PATIENCE

from deeplense_batch.core.distributed import DeviceError
from deeplense_batch.runs.preflight import UnfitError


def _one_of_two(rank: int, port: int, told, look) -> None:
    with pytest.MonkeyPatch.context() as patch:
        words = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in words.items():
            patch.setenv(name, str(value))
        patch.setattr(platform, "node", lambda: f"n{rank}")
        try:
            look(rank, patch)
            told.put((rank, "fit"))
        except (UnfitError, DeviceError) as error:
            told.put((rank, str(error)))
        except BaseException as error:  # else whoever asks would wait for an answer for ever
            told.put((rank, f"{type(error).__name__}: {error}"))
            raise


def told_to_two(look) -> dict[int, str]:
    """What `look` says on each of two nodes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    processes = [
        context.Process(target=_one_of_two, args=(rank, port, told, look)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    return dict(told.get() for _ in processes)
