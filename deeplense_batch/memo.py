"""Answers that many jobs of one plan share, each found once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

__all__ = ["Memo"]

Answer = TypeVar("Answer")


class Memo:
    """Answers by what was asked. It lives as long as one plan: the next one looks again.

    Ten thousand runs of a grid ask for the same data, options and earlier runs.
    """

    def __init__(self) -> None:
        self._answers: dict[Hashable, object] = {}

    def once(self, asked: Hashable, find: Callable[[], Answer]) -> Answer:
        """The answer, found at the first time; what `find` raises is not kept.

        Arguments:
            asked: The question, with all that its answer depends on.
            find: Finds the answer.
        """
        if asked not in self._answers:
            self._answers[asked] = find()
        return self._answers[asked]  # type: ignore[return-value]  # of `find`, by its question
