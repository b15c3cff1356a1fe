"""How weights move: optimiser, averaged weights, and the learning rate over a training."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deeplense_batch.models import ModelError
from deeplense_batch.tasks.extended import bare

__all__ = [
    "Ema",
    "Schedule",
    "build_optimizer",
    "copy_buffers",
    "freeze",
    "layer_scales",
    "load_optimizer",
]

_PLATEAU_FACTOR = 0.2  # reference 001: ReduceLROnPlateau(max, factor 0.2, patience 3)
_PLATEAU_PATIENCE = 3
_ONECYCLE_RISE = 0.3  # share of the training; Smith and Topin 2018, arXiv:1708.07120
_ONECYCLE_START, _ONECYCLE_END = 1 / 25, 1e-4  # of the top rate
_HOW = ("fused", "foreach", "capturable", "differentiable")  # of an update, not what it is


def build_optimizer(
    name: str,
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    head_lr: float | None = None,
    head: nn.Module | None = None,
    layer_decay: float | None = None,
) -> torch.optim.Optimizer:
    """Make the optimiser; norms and biases (parameters of one axis) do not decay.

    Each group carries ``top_lr``, its rate at the top of the schedule, and with `layer_decay`
    ``lr_scale``, what of it is that of the top layer.

    Arguments:
        name: ``adamw``, ``adam`` (L2 decay in the gradient) or ``sgd`` (momentum 0.9, Nesterov).
        model: Its parameters are optimised, but for frozen ones.
        lr: Learning rate at the top of the schedule.
        weight_decay: Decay of the parameters with two axes or more.
        head_lr: Rate of the parameters of `head`, where it is another.
        head: The classifier of the model.
        layer_decay: Every rate is multiplied by this for each layer above (`layer_scales`).
    """
    scales = {} if layer_decay is None else layer_scales(model, layer_decay)
    of_head = set() if head_lr is None or head is None else {id(p) for p in head.parameters()}
    # One kernel for all weights; on a CPU the loop over them is kept, whose bits runs there have.
    fused = all(p.device.type != "cpu" for p in model.parameters())
    groups = []
    tops = ((lr, False), (head_lr or lr, True))
    for (top, mine), scale in itertools.product(tops, sorted({1.0, *scales.values()})):
        parameters = [
            p
            for name, p in model.named_parameters()
            if p.requires_grad and (id(p) in of_head) == mine and scales.get(name, 1.0) == scale
        ]
        rate = top * scale
        of_layer = {} if layer_decay is None else {"lr_scale": scale}
        for decay, some in (
            (weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            if some:
                group = {"params": some, "weight_decay": decay, "lr": rate, "top_lr": rate}
                groups.append(group | of_layer)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=fused)
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr, fused=fused)
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, fused=fused)


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """What multiplies the learning rate of each parameter: decay^(layers above its own).

    The layers are timm's (`group_matcher`), the classifier with what is behind the last block
    being the top one, as in its `param_groups_layer_decay`.

    Arguments:
        model: The network.
        decay: From 0 to 1.

    Returns:
        By names of parameters.

    Raises:
        ModelError: The network does not tell its layers.

    References:
        Clark et al. 2020, arXiv:2003.10555; Bao et al. 2021, arXiv:2106.08254.
    """
    from timm.models import group_parameters

    network = bare(model)
    matcher = getattr(network, "group_matcher", None)
    if not callable(matcher):
        raise ModelError(
            f"train.layer_decay: this network, {type(network).__name__}, does not tell its "
            "layers, as those of timm do by group_matcher; leave it out"
        )
    layers = group_parameters(network, matcher(coarse=False), reverse=True)
    top = max(layers.values())
    of = {id(p): layers[name] for name, p in network.named_parameters() if name in layers}
    # What a task has beside the network is above its top layer, and keeps the whole rate.
    return {name: decay ** (top - of.get(id(p), top)) for name, p in model.named_parameters()}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up saved moments and rates, but not how another device computed the update."""
    groups = []
    for mine, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        own = {name: mine[name] for name in _HOW if name in mine}
        groups.append({k: v for k, v in saved.items() if k not in _HOW} | own)
    optimizer.load_state_dict(state | {"param_groups": groups})


def freeze(model: nn.Module, prefixes: Sequence[str]) -> None:
    """Keep parameters as they are, by the start of their names (``layer1``, ``stem.conv``).

    Raises:
        ValueError: A prefix fits no parameter, or all of them are frozen.
    """
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            parts = sorted({name.partition(".")[0] for name in names})
            raise ValueError(
                f"train.freeze: no parameter starts with '{prefix}'; "
                f"the model has {', '.join(parts)}"
            )
    for name, parameter in model.named_parameters():
        if name.startswith(tuple(prefixes)):
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("train.freeze: every parameter is frozen; nothing is left to learn")


class Ema:
    """Weights averaged over the steps: w' = d w' + (1 - d) w, buffers copied.

    The decay d starts low, min(decay, (1 + n) / (10 + n)) at step n, so that the first random
    weights are forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self._decay = decay
        self._steps = 0

    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        mine = [p.detach() for p in self.model.parameters()]
        torch._foreach_lerp_(mine, [p.detach() for p in model.parameters()], 1 - decay)
        copy_buffers([*model.buffers()], [*self.model.buffers()])

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"model": self.model.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier attempt."""
        self.model.load_state_dict(state["model"])
        self._steps = state["steps"]


def copy_buffers(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    """Copy tensors to others of the same shapes, those of a dtype by one operation."""
    for dtype in {buffer.dtype for buffer in source}:
        pairs = [pair for pair in zip(source, target, strict=True) if pair[0].dtype == dtype]
        sources, targets = zip(*pairs, strict=True)
        torch._foreach_copy_(targets, sources)


class Schedule:
    """Learning rate over a training, as a factor of each group's top rate.

    ``constant``; ``cosine``, half a period down to 0; ``onecycle``, up from 1/25 over three tenths
    and down to 1/10,000, both by cosines; ``plateau``, times 0.2 whenever the validation score has
    not risen for more than 3 epochs. All but ``onecycle`` may start with a linear warm-up.
    """

    def __init__(self, name: str, *, epochs: int, warmup: float) -> None:
        self.name = name
        self.epochs = epochs
        self.warmup = warmup
        self._best = -math.inf
        self._waited = 0
        self._drops = 0

    def set(self, optimizer: torch.optim.Optimizer, time: float) -> None:
        """Set the rates for a time in epochs."""
        factor = self.factor(time)
        for group in optimizer.param_groups:
            group["lr"] = group["top_lr"] * factor

    def end_epoch(self, score: float | None) -> None:
        """Tell the validation score; an undefined one counts as no rise."""
        if score is not None and score > self._best:
            self._best, self._waited = score, 0
            return
        self._waited += 1
        if self._waited > _PLATEAU_PATIENCE:
            self._waited, self._drops = 0, self._drops + 1

    def factor(self, time: float) -> float:
        """The rate at a time in epochs, over the top rate."""
        if self.name == "onecycle":
            share = time / self.epochs
            if share < _ONECYCLE_RISE:
                return _cosine(_ONECYCLE_START, 1.0, share / _ONECYCLE_RISE)
            return _cosine(1.0, _ONECYCLE_END, (share - _ONECYCLE_RISE) / (1 - _ONECYCLE_RISE))
        if time < self.warmup:
            return time / self.warmup
        if self.name == "cosine":
            return _cosine(1.0, 0.0, (time - self.warmup) / max(self.epochs - self.warmup, 1e-9))
        return _PLATEAU_FACTOR**self._drops if self.name == "plateau" else 1.0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"best": self._best, "waited": self._waited, "drops": self._drops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier attempt."""
        self._best, self._waited = state["best"], state["waited"]
        self._drops = state["drops"]


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
