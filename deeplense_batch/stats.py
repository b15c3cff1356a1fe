"""How sure a score is.

References:
    Hanley and McNeil 1982, The meaning and use of the area under a ROC curve, Radiology 143, 29.
"""

from __future__ import annotations

import math

__all__ = ["auc_standard_error"]


def auc_standard_error(auc: float, positives: float, negatives: float) -> float:
    """Estimate the standard error of one AUC from the size of the sample (Hanley, McNeil 1982)."""
    both_positive = auc / (2 - auc) - auc**2
    both_negative = 2 * auc**2 / (1 + auc) - auc**2
    variance = auc * (1 - auc) + (positives - 1) * both_positive + (negatives - 1) * both_negative
    return math.sqrt(max(variance, 0.0) / (positives * negatives))
