"""A network at work on pieces of images: rows of a table, and how fast the network is alone."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.core.scoring import metrics
from deeplense_batch.data.batches.reader import ahead
from deeplense_batch.data.formats.parts import Header
from deeplense_batch.data.pixels.unit import about_another_unit
from deeplense_batch.inference.candidates import Candidates
from deeplense_batch.inference.images.piecewise import InputBatch, Inputs, Piece
from deeplense_batch.inference.trained import Trained
from deeplense_batch.report.catalogue import without_clashes
from deeplense_batch.tasks.classification import Classification
from deeplense_batch.tasks.detection import Detection
from deeplense_batch.tasks.posteriors.posterior import LEVELS
from deeplense_batch.tasks.regression import Regression
from deeplense_batch.tasks.task import Batch
from deeplense_batch.training.evaluation import InPieces
from deeplense_batch.training.precision import Precision, scored_in

__all__ = ["Answers", "Predictor", "columns_of_numbers", "numbers_of", "rows_of"]

_ALONE_SECONDS = 5.0  # for which the network alone is measured, at most
_DRAWN_AT_ONCE = 1 << 16  # draws that there is memory for
_ALONE_SHARE = 0.1  # of the time of a piece, as long as that lasts

_log = logging.getLogger(__name__)


class Answers(NamedTuple):
    """What a network says of a piece."""

    values: NDArray[np.float64]  # outputs, (N, K)
    problems: dict[int, str]  # why rows have none, by their numbers
    headers: list[Header]  # of all rows, where columns of them are wanted

    @property
    def is_bad(self) -> NDArray[np.bool_]:
        """Whether a row has none, (N,)."""
        return np.isin(np.arange(len(self.values)), list(self.problems))


def rows_of(
    trained: Trained,
    inputs: Inputs,
    piece: Piece,
    answers: Answers,
    columns: Mapping[str, pa.Array],
) -> pa.Table:
    """The rows of a piece: what is known of its images, and what was said of them.

    Arguments:
        trained: The run, whose recipe may give classes other names.
        inputs: The images.
        piece: Of them.
        answers: With the problems of its rows.
        columns: What is said of the outputs.
    """
    names, rows = inputs.names(piece, answers.headers), range(len(answers.values))
    other_names = trained.job.data.classes
    labels = [None if name is None else other_names.get(name, name) for name in names.labels]
    ids = {"id": pa.array(names.ids, pa.string())}
    about = {
        "split": pa.array(names.splits, pa.string()),
        "label": pa.array(labels, pa.string()),
        **columns,
        "problem": pa.array([answers.problems.get(i) for i in rows], pa.string()),
    }
    return pa.table(ids | without_clashes(names.columns, {*ids, *about}) | about)


class Predictor:
    """Makes the rows of pieces, and counts what it does.

    Arguments:
        trained: The run.
        inputs: The images.
        device: Where the run's network is.
        batch_size: Images at once.
        precision: Of the arithmetic; by default float32.
        candidates: What is called a lens, of a run that searches for them.
        draws: How many draws from the posterior of each image there are in a row; 0 for none.
    """

    def __init__(
        self,
        trained: Trained,
        inputs: Inputs,
        device: torch.device,
        batch_size: int,
        precision: Precision | None = None,
        candidates: Candidates | None = None,
        draws: int = 0,
    ) -> None:
        self._candidates, self._draws = candidates, draws
        self.done, self.problems, self.seconds = 0, 0, 0.0
        self._alone_samples, self._alone_seconds = 0, 0.0
        self._trained, self._inputs, self._device = trained, inputs, device
        self._classes = trained.classes if trained.classifies else ()
        self._batch_size = batch_size
        tta = trained.job.data.tta
        self._network = InPieces(trained.task, trained.model, tta=tta, precision=precision)
        self._precision = precision
        self._has_warned = False

    @property
    def network_rate(self) -> float:
        """Images/s of the network alone."""
        return self._alone_samples / max(self._alone_seconds, 1e-9)

    def rows(self, piece: Piece, on_batch: Callable[[int], None]) -> pa.Table:
        """Predict on a piece.

        Arguments:
            piece: The images.
            on_batch: Called after each batch with the number of its images.
        """
        started = time.perf_counter()
        answers = self.answers(piece, on_batch)
        columns = self._columns(answers.values, answers.is_bad)
        table = rows_of(self._trained, self._inputs, piece, answers, columns)
        self.seconds += time.perf_counter() - started
        self.problems += len(answers.problems)
        return table

    def answers(self, piece: Piece, on_batch: Callable[[int], None]) -> Answers:
        """What the network says of a piece; and measure beside that how fast it is alone.

        Arguments:
            piece: The images.
            on_batch: Called after each batch with the number of its images.
        """
        started = time.perf_counter()
        answers, usual_batch = self._predict(piece, on_batch)
        self._measure_alone(usual_batch, time.perf_counter() - started)
        self._warn_of_another_unit(usual_batch)
        return answers

    def _predict(
        self, piece: Piece, on_batch: Callable[[int], None]
    ) -> tuple[Answers, InputBatch]:
        """The answers, and a batch that has an image."""
        outputs: list[Tensor] = []  # left on the device, which need not wait for the host
        problems: dict[int, str] = {}
        headers: list[Header] = []
        usual_batch: InputBatch | None = None
        row = 0
        batches = self._inputs.batches(
            piece, self._trained.transform, self._device, size=self._batch_size
        )
        for batch in _ahead(batches):
            if batch.images.is_cuda:  # whose memory was taken by the stream that brought them
                batch.images.record_stream(torch.cuda.current_stream(self._device))
            problems |= {row + i: reason for i, reason in batch.problems.items()}
            headers += batch.headers
            outputs.append(self._outputs(batch, piece.start + row))
            if usual_batch is None or not usual_batch.with_image:
                usual_batch = batch
            row += len(batch.images)
            self.done += len(batch.images)
            on_batch(len(batch.images))
        assert usual_batch is not None
        values = torch.cat(outputs).cpu().numpy().astype(np.float64)
        for i in np.flatnonzero(~np.isfinite(values).all(1)).tolist():
            problems.setdefault(i, "the network's outputs are not finite")
        return Answers(values, problems, headers), usual_batch

    @torch.inference_mode()
    def _outputs(self, batch: InputBatch, first: int = 0) -> Tensor:
        """What is said of a batch, (B, K) float32, on the device.

        That are logits; or the numbers that are learnt, of a posterior with their sd, quantiles
        and draws.

        Arguments:
            batch: The images.
            first: Place of its first image in the split, by which numbers are drawn.
        """
        spec = self._trained.task.spec
        index = torch.arange(first, first + len(batch.images), device=self._device)
        unlabelled = Batch(batch.images, torch.full_like(index, -1), index, truth=batch.truth)
        found = self._network(unlabelled)
        names = [spec.primary_output] if spec.averages else ["predicted", "sd", "quantiles"]
        values = [found[name].flatten(1) if found[name].ndim > 1 else found[name][:, None]
                  for name in names]  # fmt: skip
        if self._draws:
            values.append(self._drawn(unlabelled).flatten(1))
        return torch.cat(values, 1)

    def _drawn(self, batch: Batch) -> Tensor:
        """Draws from the posterior of each image, (B, D, draws), a few images at a time."""
        task, model = self._trained.task, self._trained.model
        assert isinstance(task, Regression)
        at_once = max(1, _DRAWN_AT_ONCE // self._draws)
        some = [batch.part(slice(i, i + at_once)) for i in range(0, len(batch.images), at_once)]
        with scored_in(self._precision):
            return torch.cat([task.draws(model, one, self._draws) for one in some]).mT

    def _measure_alone(self, batch: InputBatch, seconds: float) -> None:
        """Run the network alone, on one batch again and again: beside each piece, not at the end,
        so that both rates are those of a machine that is equally busy with other things.
        """
        enough = min(_ALONE_SHARE * seconds, _ALONE_SECONDS - self._alone_seconds)
        started = time.perf_counter()
        while (taken := time.perf_counter() - started) < enough:
            self._outputs(batch).cpu()
            self._alone_samples += len(batch.images)
        self._alone_seconds += taken

    def _warn_of_another_unit(self, batch: InputBatch) -> None:
        """Say so, once, where images are not at all like those that the network learnt from."""
        own = self._trained.transform.per == "image"  # which every unit becomes 0 and 1 by
        if self._has_warned or own or not batch.with_image:
            return
        images = batch.images[batch.with_image]
        if sentence := about_another_unit(images, self._trained.transform.stretch):
            self._has_warned = True
            _log.warning("%s", sentence)

    def _columns(
        self, values: NDArray[np.float64], is_bad: NDArray[np.bool_]
    ) -> dict[str, pa.Array]:
        """What is said of outputs, (N, K); null in bad rows."""
        if not self._classes:
            return columns_of_numbers(self._trained, values, is_bad)
        logits = np.where(is_bad[:, None], 0.0, values)
        best = np.asarray(self._classes, object)[logits.argmax(1)]
        columns = {"predicted": pa.array(best, pa.string(), mask=is_bad)}
        scores = metrics.softmax(logits)
        for kind, found in (("score", scores), ("calibrated", self._calibrated(logits))):
            for name, column in zip(self._classes, found.T, strict=True):
                columns[f"{kind}_{name}"] = pa.array(column, pa.float64(), mask=is_bad)
        if (search := self._candidates) is not None:
            called = search.called(scores[:, self._classes.index(search.name)])
            columns["candidate"] = pa.array(called, pa.bool_(), mask=is_bad)
        return columns

    def _calibrated(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Honest probabilities, (N, K)."""
        task, search = self._trained.task, self._candidates
        if isinstance(task, Detection):
            prior = search.prior if search is not None and search.stated else None
            return metrics.softmax(task.calibrated_logits(logits, prior))
        assert isinstance(task, Classification)
        return metrics.softmax(task.calibrated_logits(logits))


def numbers_of(trained: Trained) -> list[str]:
    """The columns of a table that hold what a regression predicts."""
    spec = trained.task.spec
    return [*spec.quantities] or [str(spec.target_name).replace(" ", "_")]


def columns_of_numbers(
    trained: Trained, values: NDArray[np.float64], is_bad: NDArray[np.bool_]
) -> dict[str, pa.Array]:
    """The columns of what a regression predicts: of each number, and of its posterior.

    Arguments:
        trained: The run.
        values: (N, D); of a posterior (N, 7 D + D S), with sd, quantiles and S draws beside them.
        is_bad: Whether a row has none, (N,); then it is null.
    """
    names, count = numbers_of(trained), len(values)
    size = len(names)
    quantiles = values[:, 2 * size : (2 + len(LEVELS)) * size].reshape(count, -1, len(LEVELS))
    draws = values[:, (2 + len(LEVELS)) * size :].reshape(count, size, -1)
    columns: dict[str, pa.Array] = {}
    for d, name in enumerate(names):
        own = {name: values[:, d]}
        if not trained.task.spec.averages:
            own[f"{name}_sd"] = values[:, size + d]
            for k, level in enumerate(LEVELS):
                own[f"{name}_q{100 * level:02.0f}"] = quantiles[:, d, k]
        columns |= {n: pa.array(column, pa.float64(), mask=is_bad) for n, column in own.items()}
        if draws.size:
            flat = pa.array(draws[:, d].ravel(), pa.float32())
            lists = pa.FixedSizeListArray.from_arrays(flat, draws.shape[2])
            columns[f"{name}_draws"] = pc.if_else(pa.array(is_bad), None, lists)
    return columns


def _ahead(batches: Generator[InputBatch, None, None]) -> Iterator[InputBatch]:
    """The batches, of which a thread prepares one while the network is at work on another."""
    with closing(batches):
        yield next(batches)  # here, since readers are forked for it, and a thread should not fork
        with closing(ahead(lambda _: next(batches, None), itertools.repeat(None))) as prepared:
            yield from itertools.takewhile(lambda batch: batch is not None, prepared)
