"""Mixed precision: what the job asks for, what this device offers, and the scaler fp16 needs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

__all__ = [
    "Precision",
    "PrecisionError",
    "choose_kernels",
    "full_float32",
    "scored_in",
]


class PrecisionError(RuntimeError):
    """This device has no such arithmetic."""

    exit_code = 4


@contextlib.contextmanager
def choose_kernels(device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """Say how kernels are chosen, before the first of them runs; in the end all is as before,
    but for CUBLAS_WORKSPACE_CONFIG.

    Deterministic ones give the same bits on one kind of GPU each time, and are slower. Else the
    fastest of each convolution is looked for, once for each shape, and sums have no fixed order.

    Raises:
        PrecisionError: Deterministic kernels are asked for, and an operation has none.
    """
    if device.type != "cuda":  # a CPU repeats to the last bit as it is
        yield
        return
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read with the first product
    _choose(deterministic, deterministic, not deterministic)
    try:
        yield
    except RuntimeError as error:
        if "use_deterministic_algorithms" not in str(error):
            raise
        operation = str(error).split(maxsplit=1)[0]
        raise PrecisionError(
            f"engine.deterministic: {operation} has no deterministic form; set it to false"
        ) from None
    finally:
        _choose(*before)


def _choose(algorithms: bool, convolutions: bool, benchmark: bool) -> None:
    torch.use_deterministic_algorithms(algorithms)
    torch.backends.cudnn.deterministic = convolutions
    torch.backends.cudnn.benchmark = benchmark


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Multiply float32 with all its bits, where GPUs from Ampere on would with those of TF32."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def scored_in(precision: Precision | None) -> contextlib.AbstractContextManager[None]:
    """The context in which outputs are computed: every bit of float32, unless less is asked."""
    if precision is None or precision.name == "off":
        return full_float32()
    return precision.autocast()


class Precision:
    """Autocast and gradient scaling of a training; what is scored is computed in float32.

    Float32 of a training is torch's: GPUs from Ampere on multiply with the 10 bits of TF32 in
    convolutions, and add in float32. Scores are made by `full_float32`.
    """

    def __init__(self, asked: str, device: torch.device, *, setting: str = "train.amp") -> None:
        """Resolve what was asked for.

        Arguments:
            asked: ``off``, ``bf16``, ``fp16``, or ``auto``: bf16 where a GPU has it, else fp16 on
                a GPU, off on a CPU.
            device: Where the training runs.
            setting: What was set so, for errors.

        Raises:
            PrecisionError: fp16 on a CPU, or bf16 on a GPU that lacks it.
        """
        cuda = device.type == "cuda"
        bf16 = not cuda or torch.cuda.is_bf16_supported(including_emulation=False)
        self.name = asked  # the resolved one
        if asked == "auto":
            self.name = ("bf16" if bf16 else "fp16") if cuda else "off"
        if self.name == "fp16" and not cuda:
            raise PrecisionError(f"{setting}: fp16 needs a GPU; a CPU has off, bf16 and auto")
        if self.name == "bf16" and not bf16:
            raise PrecisionError(f"{setting}: this GPU has no bf16; it has off, fp16 and auto")
        self._device = device.type
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.name == "fp16")

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The context of a forward pass."""
        if self._dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device, self._dtype)
