"""What a part of a round finds, written the moment it is known: a JSON object on each line."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.documents import measured

if TYPE_CHECKING:
    import torch

__all__ = ["NotTested", "Round", "read_lines"]


class NotTested(Exception):
    """This machine cannot tell; the message says why."""


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines so far, but for one cut off when its process was killed."""
    whole = file.read_text(encoding="utf-8").split("\n")[:-1]
    found = []
    for line in whole:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


@dataclass(frozen=True)
class Round:
    """One part of a round: where it works, and where it writes what it measured.

    Its folder is the current one: ``data/`` and ``runs/`` there are shared by all parts.
    """

    part: str
    device: str  # cuda or cpu
    small: bool  # a rehearsal: the same steps on little data
    lines: Path
    ends: float  # when the part is cut off, of `time.monotonic`

    @property
    def cuda(self) -> bool:
        """Whether it runs on a GPU."""
        return self.device == "cuda"

    @property
    def torch_device(self) -> torch.device:
        """The device."""
        import torch  # not by those that start the parts: it takes seconds

        return torch.device("cuda", 0) if self.cuda else torch.device("cpu")

    def left(self) -> float:
        """Seconds until the part is cut off."""
        return self.ends - time.monotonic()

    def sized(self, whole: Any, small: Any) -> Any:
        """The one of two values that this round takes."""
        return small if self.small else whole

    def tell(self, kind: str, **fields: Any) -> None:
        """Write one line, and show it."""
        line = json.dumps({"kind": kind, "part": self.part} | fields, default=str)
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def number(self, name: str, values: float | Sequence[float] | None, unit: str) -> None:
        """Keep a number, or the median of several with the least and the most.

        None, of what this machine does not tell, is kept too.
        """
        self.tell(**measured(self.part, name, values, unit))

    def found(self, part: str, name: str) -> float | None:
        """A number that an earlier part kept; None where it did not."""
        same = [
            line["value"] for line in read_lines(self.lines)
            if (line["kind"], line["part"], line.get("name")) == ("number", part, name)
        ]  # fmt: skip
        return same[-1] if same else None

    def check(self, name: str, test: Callable[[], object]) -> None:
        """Keep whether a test holds: it raises where it does not, and gives what it saw."""
        started = time.perf_counter()
        passed, why = self._outcome(test)
        seconds = round(time.perf_counter() - started, 1)
        self.tell("check", name=name, passed=passed, why=why, seconds=seconds)

    def attempt(self, name: str, work: Callable[[], object]) -> None:
        """Measure something; where that fails it is a failed check, and all else goes on."""
        passed, why = self._outcome(work)
        if passed is not True:
            self.tell("check", name=name, passed=passed, why=why)

    def _outcome(self, test: Callable[[], object]) -> tuple[bool | None, object]:
        try:
            return True, test()
        except NotTested as reason:
            return None, str(reason)
        except Exception as error:
            traceback.print_exc()
            return False, f"{type(error).__name__}: {str(error)[:500]}"

    def need_cuda(self, why: str) -> None:
        """End a check here where there is no GPU.

        Raises:
            NotTested: There is none.
        """
        if not self.cuda:
            raise NotTested(f"no GPU: {why}")
