"""What a part of a round finds, written the moment it is known: a JSON object on each line."""

from __future__ import annotations

import json
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["NotTested", "Round"]


class NotTested(Exception):
    """This machine cannot tell; the message says why."""


@dataclass(frozen=True)
class Round:
    """One part of a round: where it works, and where it writes what it measured.

    Its folder is the current one: ``data/`` and ``runs/`` there are shared by all parts.
    """

    part: str
    device: str  # cuda or cpu
    small: bool  # a rehearsal: the same steps on little data
    results: Path

    @property
    def cuda(self) -> bool:
        """Whether it runs on a GPU."""
        return self.device == "cuda"

    @property
    def torch_device(self) -> torch.device:
        """The device."""
        return torch.device("cuda", 0) if self.cuda else torch.device("cpu")

    def sized(self, whole: Any, small: Any) -> Any:
        """The one of two values that this round takes."""
        return small if self.small else whole

    def tell(self, kind: str, **fields: Any) -> None:
        """Write one line, and show it."""
        line = json.dumps({"kind": kind, "part": self.part} | fields, default=str)
        with self.results.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def number(self, name: str, values: float | Sequence[float] | None, unit: str) -> None:
        """Keep a number, or the median of several with the least and the most.

        None, of what this machine does not tell, is kept too.
        """
        if isinstance(values, Sequence):
            spread = {"least": min(values), "most": max(values), "repeats": len(values)}
            self.tell("number", name=name, value=statistics.median(values), unit=unit, **spread)
        else:
            self.tell("number", name=name, value=values, unit=unit)

    def check(self, name: str, test: Callable[[], object]) -> None:
        """Keep whether a test holds: it raises where it does not, and gives what it saw."""
        started = time.perf_counter()
        passed: bool | None = True
        try:
            why = test()
        except NotTested as reason:
            passed, why = None, str(reason)
        except Exception as error:
            passed, why = False, f"{type(error).__name__}: {str(error)[:500]}"
            traceback.print_exc()
        seconds = round(time.perf_counter() - started, 1)
        self.tell("check", name=name, passed=passed, why=why, seconds=seconds)

    def need_cuda(self, why: str) -> None:
        """End a check here where there is no GPU.

        Raises:
            NotTested: There is none.
        """
        if not self.cuda:
            raise NotTested(f"no GPU: {why}")
