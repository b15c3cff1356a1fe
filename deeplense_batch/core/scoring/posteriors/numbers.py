"""Scores of several predicted numbers of each image, and of their posterior where there is one.

What is kept of each image is all that they need (`tasks.posteriors.posterior`): (N, D) ``true``
and ``predicted``; of a posterior also ``sd``, ``rank`` and ``crps``, (N, D), ``log_prob`` and
``tarp``, (N,). Two networks, or the folds of a split, are scored alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring import metrics
from deeplense_batch.core.scoring.posteriors.coverage import (
    central,
    coverage,
    coverage_error,
    error_floor,
)

__all__ = ["ONE_SIGMA", "TWO_SIGMA", "Several", "mixed", "scores"]

ONE_SIGMA, TWO_SIGMA = 0.68, 0.95  # of the credible intervals whose coverage is a score

_PER_IMAGE = ("log_prob", "crps", "rank")

Arrays = Mapping[str, NDArray[Any]]
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Several:
    """What several numbers of N images are."""

    names: tuple[str, ...]  # D
    posterior: Mapping[str, NDArray[np.float64]]  # ``log_prob``, ``crps`` and ``rank``, if known

    @classmethod
    def of(cls, outputs: Arrays) -> Several | None:
        """Read them from `outputs.npz`; None where there is a single number of each image."""
        if "quantities" not in outputs:
            return None
        kept = {n: outputs[n].astype(np.float64) for n in _PER_IMAGE if n in outputs}
        return cls(tuple(outputs["quantities"].tolist()), kept)

    @classmethod
    def joined(cls, parts: Sequence[Several | None], order: NDArray[np.int64]) -> Several | None:
        """Those of the parts of a split one after another, then ordered."""
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        shared = set.intersection(*(set(part.posterior) for part in known))
        kept = {n: np.concatenate([p.posterior[n] for p in known])[order] for n in sorted(shared)}
        return cls(known[0].names, kept)


def scores(outputs: Arrays, names: Sequence[str]) -> tuple[Scores, list[str]]:
    """Score the numbers of the images of a slice.

    Arguments:
        outputs: As above.
        names: Of the numbers, D.

    Returns:
        ``r2``, the mean over the numbers, and of each number ``r2_<name>``, ``rmse_<name>``,
        ``mae_<name>`` and ``bias_<name>``, over the images of which it is known. Of a posterior,
        all over the images of which all are known: ``log_prob``, the mean log density, nats, and
        ``nll``, less that; ``tarp_error``; and of each number ``crps_<name>``, in its unit,
        ``coverage68_<name>`` and ``coverage95_<name>``, the shares inside those central credible
        intervals, ``coverage_error_<name>``, and ``pull_mean_<name>`` and ``pull_sd_<name>``, of
        (true - predicted) / sd, which are 0 and 1 where a Gaussian posterior is right.
        ``coverage_error_floor`` is what those errors of a right posterior stay below.
        ``loss`` is ``nll``, or without a posterior 1 less ``r2``. None where one is undefined;
        and notes.
    """
    true, predicted = (np.asarray(outputs[k], np.float64) for k in ("true", "predicted"))
    found: Scores = {"loss": None}
    notes: list[str] = []
    if "log_prob" in outputs:
        there = np.isfinite(true)
        notes += _about_unknown(there, names)
        true, predicted = (values[there.all(1)] for values in (true, predicted))
        found |= _of_posterior(outputs, names)
        if "crps" not in outputs:
            notes.append("of a mixture of posteriors neither CRPS nor TARP is known")
    squares: list[float | None] = []
    for name, t, p in zip(names, true.T, predicted.T, strict=True):
        own, said = metrics.regression_scores(t, p)
        squares.append(own["r2"])
        error = own["loss"]
        found[f"r2_{name}"] = own["r2"]
        found[f"rmse_{name}"] = None if error is None else float(np.sqrt(error))
        found |= {f"{kind}_{name}": own[kind] for kind in ("mae", "bias")}
        notes += [f"{name}: {note}" for note in said]
    known = [value for value in squares if value is not None]
    found["r2"] = float(np.mean(known)) if len(known) == len(squares) else None
    if "log_prob" not in outputs and found["r2"] is not None:
        found["loss"] = 1 - found["r2"]
    return found, notes


def _about_unknown(known: NDArray[np.bool_], names: Sequence[str]) -> list[str]:
    """Of how many images all numbers are known, (N, D), and which the others lack."""
    if known.all():
        return []
    lacking = [
        f"{name} is unknown in {count}"
        for name, count in zip(names, (~known).sum(0).tolist(), strict=True)
        if count
    ]
    has = "has" if known.all(1).sum() == 1 else "have"
    return [f"{known.all(1).sum()} of {len(known)} images {has} all numbers; {', '.join(lacking)}"]


def _of_posterior(outputs: Arrays, names: Sequence[str]) -> Scores:
    """Scores of the posteriors of those images of which all numbers are known."""
    known = np.isfinite(np.asarray(outputs["true"])).all(1)
    count = int(known.sum())
    found: Scores = dict.fromkeys(("log_prob", "nll"))
    if not count:
        return found
    kept = {
        name: np.asarray(values, np.float64)[known]
        for name, values in outputs.items()
        if name in ("log_prob", "tarp", "rank", "crps", "true", "predicted", "sd")
    }
    mean = float(kept["log_prob"].mean())
    if np.isfinite(mean):
        found |= {"loss": -mean, "log_prob": mean, "nll": -mean}
    if "tarp" in kept:
        found["tarp_error"] = coverage_error(kept["tarp"])
    found["coverage_error_floor"] = error_floor(count)
    pulls = (kept["true"] - kept["predicted"]) / kept["sd"]
    for d, name in enumerate(names):
        if "crps" in kept:
            found[f"crps_{name}"] = float(kept["crps"][:, d].mean())
        inside = central(kept["rank"][:, d])
        for level in (ONE_SIGMA, TWO_SIGMA):
            found[f"coverage{100 * level:.0f}_{name}"] = float(coverage(inside, [level])[0])
        found[f"coverage_error_{name}"] = coverage_error(inside)
        found[f"pull_mean_{name}"] = float(pulls[:, d].mean())
        found[f"pull_sd_{name}"] = float(pulls[:, d].std())
    return found


def mixed(members: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """What is kept of the mixture of several posteriors of the same images, of equal weights.

    Its density, its mean and variance and the probability below the truth follow from those of
    the members. Its quantiles, CRPS and TARP do not, and are left out.

    Arguments:
        members: ``predicted``, ``sd`` and, where the truth is known, ``log_prob`` and ``rank``.

    Returns:
        The same names.
    """
    means, sds = (np.stack([np.asarray(m[k], np.float64) for m in members])
                  for k in ("predicted", "sd"))  # fmt: skip
    predicted = means.mean(0)
    kept = {"predicted": predicted, "sd": np.sqrt((sds**2 + (means - predicted) ** 2).mean(0))}
    if all("log_prob" in member for member in members):
        logs = np.stack([np.asarray(m["log_prob"], np.float64) for m in members])
        with np.errstate(invalid="ignore"):  # of images without the truth
            kept["log_prob"] = np.logaddexp.reduce(logs, axis=0) - np.log(len(members))
        kept["rank"] = np.stack([np.asarray(m["rank"], np.float64) for m in members]).mean(0)
    return kept
