"""A network given weights that others trained, however they named and wrapped them.

Every tensor of the network but those of its classifier has to come from the file, or the weights
are refused. What had to be changed for that, and what was left out, is said.

References:
    Wightman, PyTorch Image Models: `adapt_input_conv`, `checkpoint_filter_fn` (github.com/
    huggingface/pytorch-image-models).
"""

from __future__ import annotations

import inspect
import logging
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deeplense_batch.models.state_dicts import read, some
from deeplense_batch.models.weights import WeightsError

__all__ = ["Start", "classifier_of", "for_channels", "start_from"]

_log = logging.getLogger(__name__)

# What compiling and sharding put into the middle of a name.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_CLASSIFIERS = ("fc", "head", "heads", "classifier", "linear", "last_linear", "logits")
_OURS = "deeplense_batch."
_COUNTS = "num_batches_tracked"  # which files of old versions of torch lack


@dataclass(frozen=True)
class Start:
    """What became of the weights in a file."""

    left: list[str]  # parameters of the network that stayed as they were, those of its classifier
    notes: list[str]  # sentences, on all that is not simply taken as it is


def start_from(
    model: nn.Module, path: Path, *, channels: int | None = None, adapt: str = "sum"
) -> Start:
    """Give a network the weights in a file; a classifier of other classes keeps its own.

    Prefixes of the names (``module.``, ``_orig_mod.``, ``model.backbone.``) are recognised. Where
    the names or the shapes are of another version, or an image of another size, timm's own
    conversion for the network is tried, or ours for one of ours.

    Arguments:
        model: Is changed.
        path: As `state_dicts.read`.
        channels: Of the images; its first layer is adapted to them. By default its own.
        adapt: As `for_channels`.

    Raises:
        WeightsError: There are none, they are of another network, or some are not finite.
    """
    network = _Network.of(model, channels, adapt)
    matches = {name: network.match(state) for name, state in read(path).items()}
    best = min(matches.values(), key=lambda match: len(match.wrong))
    if best.wrong:
        faults = best.faults(network.own)
        raise WeightsError(f"train.init: {path}: are weights of another network; {faults}")
    if broken := [name for name, value in best.fits.items() if not value.isfinite().all()]:
        raise WeightsError(
            f"train.init: {path}: {some(broken)} {'hold' if broken[1:] else 'holds'} NaN or "
            "infinity; expected finite numbers"
        )
    fitting = [name for name, match in matches.items() if not match.wrong]
    if len(fitting) > 1:
        said = f"{', '.join(fitting)} all fit: {fitting[0]} is taken"
        best = replace(best, changes=[said, *best.changes])
    notes = [f"{path.name}: {note}" for note in best.notes(network)]
    for note in notes:
        _log.info("train.init: %s", note)
    model.load_state_dict(best.fits, strict=False)
    return Start(sorted(network.head - set(best.fits)), notes)


def classifier_of(model: nn.Module) -> nn.Module | None:
    """The last layer of a network, as timm's networks tell it; None where it does not tell.

    Of a network with two, such as a distilled one, both.
    """
    get = getattr(model, "get_classifier", None)
    if not callable(get):
        return None
    found = get()
    return nn.ModuleList(found) if isinstance(found, tuple) else found


def for_channels(weight: Tensor, channels: int, adapt: str = "sum") -> Tensor:
    """Weights of a first layer for another number of channels, by timm's rule.

    For one channel they are summed over the channels they have. For several they are repeated in
    turn and multiplied by old / new, so that their sum stays about as large as it was.

    Arguments:
        weight: (O, I, H, W).
        channels: Of the images.
        adapt: What one channel gets: the ``sum`` or the ``mean``.

    Returns:
        Weights (O, channels, H, W) of the same dtype.
    """
    old = weight.shape[1]
    full = weight.float()  # half precision would round the sum
    if channels == 1:
        full = full.sum(1, keepdim=True) / (old if adapt == "mean" else 1)
    else:
        full = full.repeat(1, math.ceil(channels / old), 1, 1)[:, :channels] * (old / channels)
    return full.to(weight.dtype)


@dataclass(frozen=True)
class _Match:
    """A state dictionary beside that of a network, by the network's names."""

    fits: dict[str, Tensor]
    missing: list[str]
    reshaped: dict[str, tuple[int, ...]]  # what came
    unknown: list[str]
    head: dict[str, tuple[int, ...]]  # of the file's classifier, where it does not fit: its shapes
    beside: list[str]  # what is no part of the network
    changes: list[str] = field(default_factory=list)  # in words

    @property
    def wrong(self) -> list[str]:
        return [*self.missing, *self.reshaped, *self.unknown]

    def faults(self, own: Mapping[str, Tensor]) -> str:
        """What does not fit, in words."""
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} of its {len(own)} tensors are missing"
                         f" ({some(self.missing)})")  # fmt: skip
        if self.reshaped:
            name, shape = next(iter(self.reshaped.items()))
            parts.append(
                f"{len(self.reshaped)} have another shape ({name}: {shape}, expected "
                f"{tuple(own[name].shape)})"
            )
        if self.unknown:
            parts.append(f"{len(self.unknown)} are unknown to it ({some(self.unknown)})")
        return "; ".join(parts)

    def notes(self, network: _Network) -> list[str]:
        """What was changed, and what was left out, in sentences."""
        notes = [*self.changes]
        if left := sorted(network.head - set(self.fits)):
            theirs = some([f"{name} {shape}" for name, shape in self.head.items()])
            why = f"its shapes in the file are {theirs}" if theirs else "the file has none"
            notes.append(f"the classifier ({some(left)}) starts at random: {why}")
        if self.beside:
            several = f" ({len(self.beside)} tensors)" * (len(self.beside) > 1)
            notes.append(f"what lies beside the network{several} is not used: "
                         f"{some(self.beside)}")  # fmt: skip
        return notes


@dataclass(frozen=True)
class _Network:
    """What a network expects."""

    model: nn.Module
    own: Mapping[str, Tensor]  # by name
    head: set[str]  # names of its classifier's parameters
    first: tuple[str, ...]  # names of the weights that see the channels of an image
    channels: int | None
    adapt: str

    @classmethod
    def of(cls, model: nn.Module, channels: int | None, adapt: str) -> _Network:
        classifier = classifier_of(model)
        last = {id(p) for p in classifier.parameters()} if classifier is not None else set()
        head = {name for name, p in model.named_parameters() if id(p) in last}
        return cls(model, model.state_dict(), head, tuple(_first(model)), channels, adapt)

    def match(self, given: Mapping[str, Tensor]) -> _Match:
        """Put weights beside those of the network, as they are, or else as timm converts them."""
        plain = {_unwrapped(name, self.own): value for name, value in given.items()}
        prefix, rivals = self._prefix(plain)
        within = {n.removeprefix(prefix): v for n, v in plain.items() if n.startswith(prefix)}
        beside = {n: v for n, v in plain.items() if not n.startswith(prefix)}
        added = self._added(within)
        match = self._compared({added + n: v for n, v in within.items()}, beside, prefix)
        if match.wrong and (converted := self._converted(within)) is not None:
            other = self._compared(converted, beside, prefix)
            if len(other.wrong) < len(match.wrong):
                match = replace(other, changes=[*self._conversion(within, converted),
                                                *other.changes])  # fmt: skip
        if rivals:
            said = f"what begins with {' or '.join([prefix, *rivals])} fits: {prefix} is taken"
            match = replace(match, changes=[said, *match.changes])
        return match

    def _prefix(self, plain: Iterable[str]) -> tuple[str, list[str]]:
        """The start by which most names are the network's, and others by which as many are."""
        votes = Counter(p for name in plain for p in _prefixes(name) if name[len(p) :] in self.own)
        if not votes:
            return _common(plain), []
        best = max(votes, key=lambda p: (votes[p], -len(p)))
        return best, [p for p in votes if p != best and votes[p] == votes[best]]

    def _added(self, within: Iterable[str]) -> str:
        """What the names lack, of a network of ours that holds theirs."""
        if any(name in self.own for name in within):
            return ""
        added = Counter(
            mine[: -len(name)] for name in within for mine in self.own if mine.endswith(f".{name}")
        )
        return max(added, key=lambda p: (added[p], -len(p)), default="")

    def _compared(
        self, named: Mapping[str, Tensor], beside: Mapping[str, Tensor], prefix: str
    ) -> _Match:
        """Compare tensors with those of the network.

        Arguments:
            named: By the network's names.
            beside: What the file holds beside the network, by its own names.
            prefix: Of the network in the file.
        """
        changes = []
        named = dict(named)
        for name in self.first:
            if name in named and (weight := self._adapted(name, named[name])) is not None:
                before, after = named[name].shape[1], weight.shape[1]
                how = f"their {self.adapt}" if after == 1 else "repeated and scaled"
                changes.append(
                    f"{name} was for {before} channels, and is made for {after} ({how})"
                )
                named[name] = weight
        theirs = {n: v for n, v in named.items() if n.startswith(self._below_head)}
        if self.head and not self.head & named.keys():
            others = {n: v for n, v in named.items() if n not in self.own}
            theirs |= {n: v for n, v in others.items() if _names_classifier(n, "")}
            theirs |= {n: v for n, v in beside.items() if _names_classifier(n, prefix)}
            if moved := self._as_head(theirs):
                changes.append(f"its classifier {_stem(theirs)} is taken as {_stem(moved)}")
                named |= moved
        fits = {n: v for n, v in named.items() if n in self.own and v.shape == self.own[n].shape}
        if not self.head <= fits.keys():  # the classifier is taken whole or not at all
            fits = {n: v for n, v in fits.items() if n not in self.head}
        excused = self.head | theirs.keys()
        rest = {n: v for n, v in named.items() if n not in fits and n not in excused}
        return _Match(
            fits,
            [n for n in self.own if n not in named and n not in self.head
             and not n.endswith(_COUNTS)],
            {n: tuple(v.shape) for n, v in rest.items() if n in self.own},
            [n for n in rest if n not in self.own],
            {} if self.head <= fits.keys() else {n: tuple(v.shape) for n, v in theirs.items()},
            [n for n in beside if n not in theirs],
            changes,
        )  # fmt: skip

    @property
    def _below_head(self) -> tuple[str, ...]:
        """Starts of the names of all that the classifier holds."""
        return tuple({f"{name.rpartition('.')[0]}." for name in self.head})

    def _adapted(self, name: str, weight: Tensor) -> Tensor | None:
        """Weights of the first layer for the network's channels, where only those differ."""
        mine, came = self.own[name].shape, weight.shape
        channels = self.channels or mine[1]
        alike = len(mine) == len(came) == 4 and (*mine[:1], *mine[2:]) == (*came[:1], *came[2:])
        if not alike or came[1] == mine[1] or mine[1] != channels:
            return None
        return for_channels(weight, channels, self.adapt)

    def _as_head(self, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Another's classifier under the names of the network's; empty where it does not fit."""
        mine = {name.rpartition(".")[2]: name for name in self.head}
        moved = {n.rpartition(".")[2]: v for n, v in theirs.items()}
        if len(mine) != len(self.head) or len(moved) != len(theirs) or mine.keys() != moved.keys():
            return {}
        found = {mine[last]: value for last, value in moved.items()}
        fits = all(value.shape == self.own[name].shape for name, value in found.items())
        return found if fits else {}

    def _converted(self, within: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Weights as the conversion of the network's module makes them; None without one.

        timm's modules have one by this name, and so have some of ours.
        """
        module = type(self.model).__module__
        convert = getattr(sys.modules[module], "checkpoint_filter_fn", None)
        if not module.startswith(("timm.", _OURS)) or convert is None:
            return None
        several = len(inspect.signature(convert).parameters) > 1
        try:
            made = convert(dict(within), *[self.model][: int(several)])
        except Exception as error:  # of weights that it was not made for it may raise anything
            _log.debug("conversion of %s: %r", module, error)
            return None
        return {n: v for n, v in made.items() if isinstance(v, Tensor)}

    def _conversion(
        self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> Iterator[str]:
        """What the conversion has changed, in words."""
        kind = type(self.model)
        whose = "our" if kind.__module__.startswith(_OURS) else "timm's"
        rule = f"{whose} rule for {kind.__name__}"
        if gone := [name for name in before if name not in after]:
            yield f"renamed or left out by {rule}, {len(gone)} in all: {some(gone)}"
        resized = [
            f"{name} of {tuple(before[name].shape)} to {tuple(value.shape)}"
            for name, value in after.items()
            if name in before and before[name].shape != value.shape
        ]
        if resized:
            yield f"resized by {rule}, {len(resized)} in all: {some(resized)}"


def _first(model: nn.Module) -> Iterator[str]:
    """Names of the weights of the layers that see an image, as timm tells them, or the first."""
    told: Any = getattr(model, "pretrained_cfg", None) or {}
    if "first_conv" in told:
        layers = told["first_conv"] or ()
        names = [layers] if isinstance(layers, str) else layers
    else:
        names = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)][:1]
    own = model.state_dict()
    yield from (f"{name}.weight" for name in names if f"{name}.weight" in own)


def _names_classifier(name: str, prefix: str) -> bool:
    """Whether a tensor is one of a classifier by the names that the field gives those.

    Arguments:
        name: Such as ``model.classifier.1.weight``.
        prefix: Of the network beside which it lies, such as ``model.backbone.``.
    """
    starts = [start for start in _prefixes(prefix) if name.startswith(start)]
    *parts, last = name.removeprefix(max(starts, key=len)).split(".")[:-1] or [""]
    numbered = parts and last.isdigit()  # in a sequence, behind a dropout
    return all(part in _CLASSIFIERS for part in (parts if numbered else [*parts, last]))


def _stem(tensors: Iterable[str]) -> str:
    return min(tensors).rpartition(".")[0]


def _unwrapped(name: str, own: Mapping[str, Tensor]) -> str:
    """A name without what compiling and sharding put into the middle of it."""
    if name in own:
        return name
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    return ".".join([*parts[:1], *(part for part in parts[1:] if part != "module")])


def _prefixes(name: str) -> Iterator[str]:
    """Every start of a dotted name, the empty one too."""
    yield ""
    for index, letter in enumerate(name):
        if letter == ".":
            yield name[: index + 1]


def _common(names: Iterable[str]) -> str:
    """The longest start of dotted names that all of them have."""
    shared: set[str] | None = None
    for name in names:
        starts = set(_prefixes(name))
        shared = starts if shared is None else shared & starts
    return max(shared or {""}, key=len)
