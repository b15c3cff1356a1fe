"""Scores of models as text: which there are, and with how many digits; `-` is unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "beside_real",
    "interval",
    "number",
    "p_value",
    "score",
    "score_names",
    "time_unit",
    "with_real",
]


def score_names(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the scores that any model has: those whose ``<name>_mean`` is known."""
    names = dict.fromkeys(
        key.removesuffix("_mean")
        for model in models
        for key, value in model.items()
        if key.endswith("_mean") and value is not None
    )
    return list(names)


def with_real(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the scores of generated images that stand beside those of real ones."""
    names = dict.fromkeys(key for model in models for key in model)
    return [name for name in names if f"{name}_real" in names]


def beside_real(model: Mapping[str, Any], name: str) -> str:
    """Write a score of generated images and, in brackets, of real ones: ``10.5 (1.6)``."""
    value, real = model.get(name), model.get(f"{name}_real")
    if value is None:
        return "-"
    return f"{value:.3g} ({'-' if real is None else f'{real:.3g}'})"


def number(value: float | None, digits: int = 4, *, signed: bool = False) -> str:
    """Write a number with some digits behind the point, and a true minus sign."""
    if value is None:
        return "-"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")  # noqa: RUF001


def score(value: float) -> str:
    """Write any score: with four digits, or with an exponent where all of them would be zero."""
    return f"{value:.1e}" if value and abs(value) < 5e-5 else f"{value:.4f}"


def interval(
    mean: float | None, low: float | None, high: float | None, *, signed: bool = False
) -> str:
    """Write a score and its interval: ``0.9875 [0.985, 0.990]``.

    The bounds get three digits, more where they would look alike; those of a signed number, a
    difference, four, since its sign is what is looked at.
    """
    if mean is None or low is None or high is None:
        return number(mean, signed=signed)
    digits = 4 if signed else 3
    if high > low:
        digits = max(digits, min(6, math.ceil(-math.log10(high - low))))
    bounds = ", ".join(number(bound, digits, signed=signed) for bound in (low, high))
    return f"{number(mean, max(4, digits), signed=signed)} [{bounds}]"


def p_value(p: float | None) -> str:
    """Write a p-value with three digits; one below them as ``<0.001``."""
    return "<0.001" if p is not None and p < 0.0005 else number(p, 3)


def time_unit(seconds: Sequence[float]) -> tuple[str, float]:
    """The unit in which times read best side by side, and its seconds."""
    longest = max(seconds)
    return ("s", 1.0) if longest < 120 else ("min", 60.0) if longest < 7200 else ("h", 3600.0)
