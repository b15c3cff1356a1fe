"""The members of an ensemble at work on pieces of images, one after another: rows of a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from deeplense_batch.core.scoring import ensembles
from deeplense_batch.core.scoring.posteriors.numbers import mixed
from deeplense_batch.inference.candidates import Candidates
from deeplense_batch.inference.ensembles.ensemble import Ensemble
from deeplense_batch.inference.images.piecewise import Inputs, Piece
from deeplense_batch.inference.predictor import Answers, Predictor, numbers_of, rows_of
from deeplense_batch.training.precision import Precision

__all__ = ["EnsemblePredictor"]


class EnsemblePredictor:
    """Makes the rows of pieces by every member, and counts what it does, as `Predictor`.

    Only the member that is at work is on the device. It reads the images of a piece anew, since
    each has a transform of its own.

    Arguments:
        ensemble: The members.
        inputs: The images, as each member takes them.
        device: Where the networks run.
        batch_size: Images at once.
        precision: Of the arithmetic; by default float32.
        candidates: What is called a lens, of an ensemble that searches for them.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        inputs: Sequence[Inputs],
        device: torch.device,
        batch_size: int,
        precision: Precision | None = None,
        candidates: Candidates | None = None,
    ) -> None:
        self.problems, self.seconds = 0, 0.0
        self._ensemble, self._inputs, self._device = ensemble, inputs, device
        self._candidates = candidates
        self._members = [
            Predictor(member, images, device, batch_size, precision)
            for member, images in zip(ensemble.members, inputs, strict=True)
        ]

    @property
    def done(self) -> int:
        """Images on which all members have predicted."""
        return min(member.done for member in self._members)

    @property
    def network_rate(self) -> float:
        """Images/s of the networks alone, one after another."""
        return 1 / sum(1 / max(member.network_rate, 1e-9) for member in self._members)

    def rows(self, piece: Piece, on_batch: Callable[[int], None]) -> pa.Table:
        """Predict on a piece.

        Arguments:
            piece: The images.
            on_batch: Called after each batch, with the number of its images when the last member
                has seen it, else with 0.
        """
        started = time.perf_counter()
        found: list[Answers] = []
        last = len(self._members) - 1
        for number, member in enumerate(self._members):
            counts = on_batch if number == last else (lambda _: on_batch(0))
            network = self._ensemble.members[number].model.to(self._device)
            found.append(member.answers(piece, counts))
            network.cpu()  # so that the next one has the room
        problems = {row: why for one in reversed(found) for row, why in one.problems.items()}
        together = Answers(found[0].values, problems, found[0].headers)
        columns = self._columns([one.values for one in found], together.is_bad)
        table = rows_of(self._ensemble.members[0], self._inputs[0], piece, together, columns)
        self.seconds += time.perf_counter() - started
        self.problems += len(problems)
        return table

    def _columns(
        self, values: Sequence[NDArray[np.float64]], is_bad: NDArray[np.bool_]
    ) -> dict[str, pa.Array]:
        """What is said of the outputs of each member, (N, K); null in bad rows."""
        whole = [np.where(is_bad[:, None], 0.0, one) for one in values]
        ensemble = self._ensemble
        if not ensemble.classifies:
            names = numbers_of(ensemble.members[0])
            size = len(names)
            kinds: dict[str, NDArray[np.float64]] = {}
            if ensemble.task.spec.averages:
                means, sds = ensembles.mean_answers(whole), ensembles.spread(whole)
            else:  # of their mixture
                parts = [{"predicted": one[:, :size], "sd": one[:, size : 2 * size]}
                         for one in whole]  # fmt: skip
                means, sds = (mixed(parts)[kind] for kind in ("predicted", "sd"))
            for d, name in enumerate(names):
                kinds |= {name: means[:, d], f"{name}_sd": sds[:, d]}
            return {n: pa.array(column, pa.float64(), mask=is_bad) for n, column in kinds.items()}
        members = [
            ensemble.probabilities(*one) for one in zip(ensemble.members, whole, strict=True)
        ]
        scores, spread = ensembles.mean_probabilities(members), ensembles.spread(members)
        best = np.asarray(ensemble.classes, object)[scores.argmax(1)]
        columns = {"predicted": pa.array(best, pa.string(), mask=is_bad)}
        for k, name in enumerate(ensemble.classes):
            columns[f"score_{name}"] = pa.array(scores[:, k], pa.float64(), mask=is_bad)
            columns[f"score_{name}_sd"] = pa.array(spread[:, k], pa.float64(), mask=is_bad)
        if (search := self._candidates) is not None:
            called = search.called(scores[:, ensemble.classes.index(search.name)])
            columns["candidate"] = pa.array(called, pa.bool_(), mask=is_bad)
        return columns
