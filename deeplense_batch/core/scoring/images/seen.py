"""What a fixed classifier sees: its macro AUC on true, restored and interpolated images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring.metrics import classification_scores, softmax

__all__ = ["SEEN", "seen_by_class", "seen_scores"]

SEEN = ("clean", "truth", "restored", "fitted")  # images that it is asked for, the best first


def seen_by_class(
    outputs: Mapping[str, NDArray],
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Class numbers of the labelled images, (n,), and probabilities by what it saw, (n, K).

    The K classes are those that some of the images have.

    Arguments:
        outputs: ``seen_<of>``, (N, L) logits, and ``seen_targets``, (N,), -1 without a label.
    """
    labelled = outputs["seen_targets"] >= 0
    present, targets = np.unique(outputs["seen_targets"][labelled], return_inverse=True)
    probabilities = {
        name: softmax(np.asarray(outputs[f"seen_{name}"], np.float64)[labelled][:, present])
        for name in SEEN
        if f"seen_{name}" in outputs
    }
    return targets.astype(np.int64), probabilities


def seen_scores(outputs: Mapping[str, NDArray]) -> dict[str, float | None]:
    """``seen_auc_<of>``, macro AUC, one class against the rest; none where nothing was asked."""
    if "seen_targets" not in outputs:
        return {}
    targets, probabilities = seen_by_class(outputs)
    scores: dict[str, float | None] = {}
    for name, values in probabilities.items():
        classes = [str(k) for k in range(values.shape[1])]
        logits = np.log(np.maximum(values, np.finfo(np.float64).tiny))
        scores[f"seen_auc_{name}"] = classification_scores(targets, logits, classes)[0]["auc"]
    return scores
