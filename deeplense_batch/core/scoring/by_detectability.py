"""How well substructure is told from its absence, by how visible it is.

Substructure that changes its image by less than the noise cannot be seen by any network, and caps
every score of a set that has much of it. So images with substructure are sorted into bins by their
delta chi^2 (what it changes beyond what a smooth lens could make up for), and each bin is scored
by itself, against all images without substructure: by the area under the ROC curve of "there is
some", and by its recall, the share that is given its own class.

Intervals are those that hold for few images and at 1: of an AUC `auc.auc_interval`, of a share
Wilson's.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from deeplense_batch.core.scoring.auc import auc_interval
from deeplense_batch.core.scoring.figures import BLUE, GREY, ORANGE, panels_of
from deeplense_batch.core.scoring.proportions import wilson

__all__ = ["draw", "score", "unknown_classes"]

_EDGES = (0.0, 10.0, 30.0, 100.0, 300.0, math.inf)


def score(targets: ArrayLike, logits: ArrayLike, delta_chi2: ArrayLike) -> dict[str, Any] | None:
    """Score a classifier by bins of delta chi^2.

    Arguments:
        targets: True class numbers, (N,) integers.
        logits: Of K classes, (N, K).
        delta_chi2: Of each image, (N,); NaN where unknown. A class in which none is above 0 is one
            without substructure.

    Returns:
        As JSON: ``without``, how many images have no substructure, and ``bins``, a list of
        ``from``, ``to`` (null in the last), ``images``, ``auc``, ``auc_interval``, ``recall`` and
        ``recall_interval``, null where there is no image. None where classes with substructure
        and without are not both there, or there are `unknown_classes`: the probability of such a
        class is evidence of substructure, or of its absence.
    """
    if unknown_classes(targets, np.shape(logits)[1], delta_chi2):
        return None
    targets, logits, delta_chi2 = np.asarray(targets), np.asarray(logits), np.asarray(delta_chi2)
    known = np.isfinite(delta_chi2) & (targets >= 0)
    with_some = np.unique(targets[known & (delta_chi2 > 0)])
    some = known & np.isin(targets, with_some)
    none = known & ~some
    others = [k for k in range(logits.shape[1]) if k not in with_some]
    if not (some.any() and none.any()):
        return None
    # of its probability, the logarithm of the odds
    evidence = logsumexp(logits[:, with_some], 1) - logsumexp(logits[:, others], 1)
    right = logits.argmax(1) == targets
    bins = []
    for low, high in itertools.pairwise(_EDGES):
        here = some & (delta_chi2 >= low) & (delta_chi2 < high)
        scored = _bin(evidence[here], evidence[none], right[here])
        bins.append({"from": low, "to": high if math.isfinite(high) else None} | scored)
    return {"without": int(none.sum()), "bins": bins}


def unknown_classes(targets: ArrayLike, classes: int, delta_chi2: ArrayLike) -> list[int]:
    """Classes of no image of which delta chi^2 is known: they may have substructure or not.

    Arguments:
        targets: True class numbers, (N,) integers.
        classes: How many there are.
        delta_chi2: Of each image, (N,); NaN where unknown.
    """
    known = np.asarray(targets)[np.isfinite(delta_chi2)]
    return [k for k in range(classes) if k not in known]


def draw(scores: dict[str, Any]) -> Figure:
    """Draw what `score` gave: AUC and recall of each bin, with their 95 % intervals."""
    bins = scores["bins"]
    names = [
        f"{b['from']:.0f} to {b['to']:.0f}" if b["to"] else f"above {b['from']:.0f}" for b in bins
    ]
    labels = [f"{name}\n{b['images']} images" for name, b in zip(names, bins, strict=True)]
    figure, (axes,) = panels_of(6.4, 3.8)
    axes.axhline(0.5, color=GREY, lw=0.8, ls=(0, (1, 2)), label="AUC of chance")
    kinds = {
        "auc": ("AUC of substructure against its absence", -0.08, "o", BLUE),
        "recall": ("recall: share given its own class", 0.08, "s", ORANGE),
    }
    for name, (label, offset, marker, colour) in kinds.items():
        shown = [(k, b[name], b[f"{name}_interval"]) for k, b in enumerate(bins) if b["images"]]
        places, values, intervals = zip(*shown, strict=True)
        off = np.abs(np.transpose(intervals) - np.array(values))
        axes.errorbar(
            np.array(places) + offset, values, off, fmt=marker, color=colour, ms=5, capsize=2,
            label=label,
        )  # fmt: skip
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(-0.02, 1.02))
    axes.set(xlabel=rf"$\Delta\chi^2$ of the substructure; {scores['without']} images without any")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _bin(some: NDArray[Any], none: NDArray[Any], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Scores of the images of one bin, by their evidence, and by whether their class is right."""
    scored: dict[str, Any] = {"images": len(some)}
    if not len(some):
        names = ("auc", "auc_interval", "recall", "recall_interval")
        return scored | dict.fromkeys(names)
    labels = np.repeat([1, 0], [len(some), len(none)])
    auc = float(roc_auc_score(labels, np.concatenate([some, none])))
    low, high = wilson(right.sum(), len(right))
    return scored | {
        "auc": auc,
        "auc_interval": list(auc_interval(auc, len(some), len(none))),
        "recall": float(right.mean()),
        "recall_interval": [float(low), float(high)],
    }
