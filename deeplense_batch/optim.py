"""How weights move: the optimiser by name, and the learning rate as a function of progress."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

__all__ = ["Schedule", "build_optimizer"]

_PLATEAU_FACTOR = 0.2  # seed 001: ReduceLROnPlateau(max, factor 0.2, patience 3)
_PLATEAU_PATIENCE = 3


def build_optimizer(
    name: str, model: nn.Module, *, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Make the optimiser; norms and biases (parameters of one axis) do not decay.

    Arguments:
        name: ``adamw``, ``adam`` (L2 decay in the gradient) or ``sgd`` (momentum 0.9, Nesterov).
        model: Its parameters are optimised.
        lr: Learning rate at the top of the schedule.
        weight_decay: Decay of the parameters with two axes or more.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr)
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)


class Schedule:
    """Learning rate over a training.

    ``constant``; ``cosine``, half a period down to 0; ``plateau``, times 0.2 whenever the
    validation score has not risen for more than 3 epochs. Each may start with a linear warm-up.
    """

    def __init__(self, name: str, *, lr: float, epochs: int, warmup: float) -> None:
        self.name = name
        self.lr = lr
        self.epochs = epochs
        self.warmup = warmup
        self._best = -math.inf
        self._waited = 0
        self._drops = 0

    def set(self, optimizer: torch.optim.Optimizer, time: float) -> float:
        """Set the rate for a time in epochs, and return it."""
        lr = self.lr * self._shape(time)
        for group in optimizer.param_groups:
            group["lr"] = lr
        return lr

    def end_epoch(self, score: float | None) -> None:
        """Tell the validation score; an undefined one counts as no rise."""
        if score is not None and score > self._best:
            self._best, self._waited = score, 0
            return
        self._waited += 1
        if self._waited > _PLATEAU_PATIENCE:
            self._waited, self._drops = 0, self._drops + 1

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"best": self._best, "waited": self._waited, "drops": self._drops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier attempt."""
        self._best, self._waited = state["best"], state["waited"]
        self._drops = state["drops"]

    def _shape(self, time: float) -> float:
        if time < self.warmup:
            return time / self.warmup
        if self.name == "cosine":
            over = (time - self.warmup) / max(self.epochs - self.warmup, 1e-9)
            return 0.5 * (1 + math.cos(math.pi * min(over, 1.0)))
        return _PLATEAU_FACTOR**self._drops if self.name == "plateau" else 1.0
