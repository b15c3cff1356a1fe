"""Mixed precision: what the job asks for, what this device offers, and the scaler fp16 needs."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

__all__ = ["Precision", "PrecisionError"]


class PrecisionError(RuntimeError):
    """This device has no such arithmetic."""

    exit_code = 4


class Precision:
    """Autocast and gradient scaling of a training; evaluation is always float32.

    Float32 is torch's: GPUs from Ampere on multiply with the 10 bits of TF32 in convolutions, and
    add in float32.
    """

    def __init__(self, asked: str, device: torch.device) -> None:
        """Resolve what was asked for.

        Arguments:
            asked: ``off``, ``bf16``, ``fp16``, or ``auto``: bf16 where a GPU has it, else fp16 on
                a GPU, off on a CPU.
            device: Where the training runs.

        Raises:
            PrecisionError: fp16 on a CPU, or bf16 on a GPU that lacks it.
        """
        cuda = device.type == "cuda"
        bf16 = not cuda or torch.cuda.is_bf16_supported(including_emulation=False)
        self.name = asked  # the resolved one
        if asked == "auto":
            self.name = ("bf16" if bf16 else "fp16") if cuda else "off"
        if self.name == "fp16" and not cuda:
            raise PrecisionError("train.amp: fp16 needs a GPU; a CPU has off, bf16 and auto")
        if self.name == "bf16" and not bf16:
            raise PrecisionError("train.amp: this GPU has no bf16; it has off, fp16 and auto")
        self._device = device.type
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.name == "fp16")

    def autocast(self) -> AbstractContextManager[None]:
        """The context of a forward pass."""
        return torch.autocast(self._device, self._dtype, enabled=self._dtype is not None)
