"""The parts of a round, in the order of their worth, and how long each may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LONG_MINUTES", "PARTS", "Part", "limit_of", "order_of"]

LONG_MINUTES = 30.0  # a round of so many has the long parts too
_LEAST = 20.0  # seconds that a part is given where there are as many: imports take up to ten
_SLACK = 1.5  # times its share of the time left: early parts matter more than later ones


@dataclass(frozen=True)
class Part:
    """One part of the round."""

    where: str  # module and function, imported by the part alone: one may be broken
    seconds: float  # that it takes on a GPU whose host is slow, start included
    long: bool = False  # whether it is left out of a short round


PARTS = {
    "machine": Part("machine.machine", 15),
    "data": Part("sets.data", 45),
    "correctness": Part("checks.correctness", 90),
    "digests": Part("sets.digests", 40),
    "resume": Part("runs.resume", 60),
    "gpu_tests": Part("runs.gpu_tests", 40),
    "doctor": Part("machine.doctor", 30),
    "throughput": Part("speed.throughput", 120),
    "training": Part("runs.training", 120),
    "peers": Part("speed.peers", 50),
    "verbs": Part("runs.verbs", 45),
    "bench": Part("runs.bench", 45),
    "simulation": Part("sets.simulation", 25),
    "comparison": Part("comparison.comparison", 2100, long=True),
    "labels": Part("comparison.labels", 600, long=True),
}
_ORDER = (  # those of a row measure no time, and run side by side
    ("machine",), ("data",), ("correctness", "digests", "resume", "gpu_tests", "doctor"),
    ("throughput",), ("training",), ("peers",), ("verbs",), ("bench",), ("simulation",),
    ("comparison",), ("labels",),
)  # fmt: skip


def order_of(minutes: float, only: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """The parts of a round of so many minutes, or some; those of one entry run side by side."""
    if only:
        rows = [tuple(name for name in row if name in only) for row in _ORDER]
        return [row for row in rows if row]
    long = minutes >= LONG_MINUTES
    return [row for row in _ORDER if long or not PARTS[row[0]].long]


def limit_of(row: int, order: list[tuple[str, ...]], left: float) -> float:
    """Seconds that a row of parts may take, by what is left of the round and what is to come.

    Time that earlier parts did not need is shared out among all that follow.

    Arguments:
        row: Place in `order`.
        order: Rows of parts.
        left: Seconds left of the round.
    """
    wanted = [max(PARTS[name].seconds for name in names) for names in order[row:]]
    share = min(1.0, _SLACK * wanted[0] / sum(wanted))
    return min(left, max(_LEAST, share * left))
