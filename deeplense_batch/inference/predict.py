"""What a finished run says about any number of images: a row for each, in a table.

Memory does not grow with the images: a few are read at a time, and rows are written a piece at a
time (`answers`). Pieces have one size whoever makes them, so any number of processes may share
the work, each with its `part` of `parts`; whoever completes the last piece joins all. That serves
several GPUs and the elements of a job array alike; processes of one run (``RANK``) have no part
in it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.core.distributed import device_of
from deeplense_batch.core.job import nearest
from deeplense_batch.core.scoring import figures, metrics
from deeplense_batch.core.scoring.image_grid import contact_sheet
from deeplense_batch.data.packing.manifest import about_ignored
from deeplense_batch.data.reader import ahead
from deeplense_batch.inference.inputs import Given, Inputs, Piece, open_inputs
from deeplense_batch.inference.table import SUFFIXES, PiecewiseTable, TableError, read_tables
from deeplense_batch.inference.trained import Trained, TrainedError, open_trained
from deeplense_batch.tasks.task import Batch
from deeplense_batch.training.trainer import outputs_of

__all__ = ["Prediction", "predict"]

_PIECE = 4096  # samples; more would be lost when a process is killed
_LOG_SECONDS = 10.0
_BARE_SECONDS = 5.0  # for which the bare model is measured, at most
_ODD = 10.0  # sd; no other sky or depth is as far from what was learnt as another unit
_BARE_SHARE = 0.1  # of the time of a piece, as long as that lasts

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What `predict` did."""

    file: Path
    samples: int  # of the whole table
    done: int  # of them, by this process
    problems: int  # without a prediction: of the table, or of those done while pieces are missing
    seconds: float  # of predicting, reading and writing; to load the network is not counted
    bare: float  # samples/s of the network alone, on one batch again and again
    missing: int  # pieces that other processes have still to make
    ignored: tuple[str, ...]  # files that are no images
    sheet: Path | None

    def __str__(self) -> str:
        if not self.done:
            lines = [f"{self.file}: already there"]
            if self.missing:
                lines = [f"{self.file}: nothing left of this part"]
        else:
            rate = self.done / self.seconds
            lines = [
                f"{self.done} images in {self.seconds:.1f} s, {rate:.0f} images/s; the network "
                f"alone, on one batch in memory, {self.bare:.0f} images/s: {rate / self.bare:.2f} "
                "of that",
            ]
            lines.append(
                f"{self.file}: {self.samples} rows"
                if not self.missing
                else f"{self.file}: {self.missing} pieces are missing, which other parts make"
            )
        if self.problems:
            have = "1 image has" if self.problems == 1 else f"{self.problems} images have"
            lines.append(f"{have} no prediction; the column problem says why")
        if self.ignored:
            lines.append(about_ignored(self.ignored))
        if self.sheet:
            lines.append(str(self.sheet))
        return "\n".join(lines)


def predict(
    run: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    slice_: str = "",
    device: str | None = None,
    part: int = 0,
    parts: int = 1,
    batch_size: int = 256,
    top: int = 0,
    of: str = "",
    each: Callable[[], None] = lambda: None,
) -> Prediction:
    """Predict on images, and write a table; go on with it if it was cut off.

    Columns: ``id``; ``split`` and ``label`` where the data say them; ``predicted``, the class of
    the highest score; ``score_<class>``, probabilities, float64; ``calibrated_<class>``, the same
    after temperature scaling, fitted on the run's validation slice; ``problem``, why there is no
    prediction. A run that learnt a number gives that by its name, such as ``theta_e`` or
    ``log10_theta_e``, float64, and no scores.

    Arguments:
        run: Run directory.
        data: Folder of shards, or images in any layout that `pack` reads.
        out: The table, ``.parquet`` or ``.csv``.
        slice_: Of the shards, such as ``val[:100]``; empty for everything.
        device: ``cpu`` or ``cuda``; by default a GPU where there is one.
        part: Which share of the pieces to make, from 0.
        parts: Shares in all.
        batch_size: Images at once.
        top: How many of the highest scores to draw, in `out` with the ending ``.png``.
        of: The class of those; by default the one that is searched for, or the last.
        each: Called after each batch; what it raises ends the prediction, complete pieces stay.

    Raises:
        TrainedError: The run is not finished, or generates images; or `top` or `of` of one that
            knows no classes.
        ShardError: The data are none, or not of the shape that the network takes.
        AnswerError: A file is there that answers another question.
        DeviceError: A GPU was asked for and there is none.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise TableError(f"{out}: expected a name that ends in {' or '.join(SUFFIXES)}")
    place = device_of(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    trained = open_trained(run)
    if trained.job.task.name == "generation":
        raise TrainedError(f"{run}: generates images, and predicts nothing; 'sample' draws them")
    shown = _class_shown(trained, of) if top or of else ""
    trained.model.to(place)
    with open_inputs(Path(data), slice_, trained.shape, trained.task.spec.truth_keys) as inputs:
        pieces = inputs.pieces(_PIECE)
        question = {
            "run": trained.metrics["identity"],
            "weights": trained.weights,
            "data": inputs.digest,
            "slice": slice_,
        }
        answer = PiecewiseTable(out, question=question, pieces=len(pieces))
        maker = _Maker(trained, inputs, place, batch_size, each)
        if not answer.there():
            answer.begin(lambda: _details(trained, data, place))
            _make(answer, maker, pieces, range(part, len(pieces), parts))
        missing = 0 if out.exists() else len(answer.missing())
        sheet = None
        if top and not missing:
            sheet = _draw_top(answer, trained, inputs, pieces, top, shown)
    return Prediction(
        file=out,
        samples=len(inputs),
        done=maker.done,
        problems=maker.problems if missing else _problems(out),
        seconds=maker.seconds,
        bare=maker.bare,
        missing=missing,
        ignored=inputs.ignored,
        sheet=sheet,
    )


def _class_shown(trained: Trained, of: str) -> str:
    """The class whose highest scores are drawn.

    Raises:
        TrainedError: There is none of that name, or none at all.
    """
    if not trained.classifies:
        raise TrainedError(
            f"{trained.run.path}: its task, {trained.job.task.name}, tells no classes apart"
        )
    if of and of not in trained.classes:
        raise TrainedError(f"--of: there is no class '{of}'; {nearest(of, trained.classes)}")
    return of or trained.task.spec.target_name or trained.classes[-1]


def _details(trained: Trained, data: Path | str, device: torch.device) -> dict[str, Any]:
    """What a reader of the table may want to know, found out once by whoever begins it."""
    return {
        "run": str(trained.run.path.absolute()),
        "data": str(Path(data).absolute()),
        "classes": list(trained.classes),
        "temperature": trained.task.state_dict().get("temperature"),
        "device": device.type,
        "versions": trained.metrics["versions"],
    }


def _make(answer: PiecewiseTable, maker: _Maker, pieces: list[Piece], own: range) -> None:
    """Make what is missing of one's own pieces, and join all when they are there."""
    while True:
        for number in sorted(set(answer.missing()) & set(own)):
            answer.write(number, maker.table(pieces[number], answer.details["temperature"]))
        damaged = answer.join(maker.each)
        if not set(damaged) & set(own):
            break


class _Maker:
    """Makes tables of pieces, and counts what it does."""

    def __init__(
        self,
        trained: Trained,
        inputs: Inputs,
        device: torch.device,
        batch_size: int,
        each: Callable[[], None],
    ) -> None:
        self.each = each
        self.done, self.problems, self.seconds = 0, 0, 0.0
        self._bare_samples, self._bare_seconds = 0, 0.0
        self._trained, self._inputs, self._device = trained, inputs, device
        self._classes = trained.classes if trained.classifies else ()
        self._batch_size = batch_size
        self._told = time.monotonic()
        self._doubted = False

    def table(self, piece: Piece, temperature: float | None) -> pa.Table:
        """Predict on a piece."""
        started, before = time.perf_counter(), self.done
        batch: Given | None = None
        outputs: list[Tensor] = []  # left on the device, which need not wait for the host
        problems: dict[int, str] = {}
        batches = self._inputs.batches(
            piece, self._trained.transform, self._device, size=self._batch_size
        )
        for given in _ahead(batches):
            first = self.done - before
            problems |= {first + i: reason for i, reason in given.problems.items()}
            outputs.append(self._outputs(given))
            self.done += len(given.images)
            if batch is None or len(batch.problems) == len(batch.images):
                batch = given  # the first that has an image
            self._tell()
            self.each()
        values = torch.cat(outputs).cpu().numpy().astype(np.float64)
        for i in np.flatnonzero(~np.isfinite(values).all(1)).tolist():
            problems.setdefault(i, "the network's outputs are not finite")
        self.problems += len(problems)
        names = self._inputs.names(piece)
        bad = np.isin(np.arange(len(values)), list(problems))
        columns = {
            "id": pa.array(names.ids, pa.string()),
            "split": pa.array(names.splits, pa.string()),
            "label": pa.array(names.labels, pa.string()),
            **self._columns(values, bad, temperature),
            "problem": pa.array([problems.get(i) for i in range(len(values))], pa.string()),
        }
        table, seconds = pa.table(columns), time.perf_counter() - started
        self.seconds += seconds
        assert batch is not None
        self._measure_bare(batch, seconds)
        self._doubt(batch)
        return table

    def _doubt(self, given: Given) -> None:
        """Say so, once, where images are not at all what the network learnt from."""
        there = [i for i in range(len(given.images)) if i not in given.problems]
        if self._doubted or not there:
            return
        images = given.images[there]
        mean, sd = float(images.mean()), float(images.std())
        if not (1 / _ODD < sd < _ODD and abs(mean) < _ODD):
            self._doubted = True
            _log.warning(
                "these images have mean %.3g and sd %.3g where those that the network learnt from "
                "had 0 and 1: are they in the same unit?", mean, sd,
            )  # fmt: skip

    @property
    def bare(self) -> float:
        """Samples/s of the network alone."""
        return self._bare_samples / max(self._bare_seconds, 1e-9)

    def _measure_bare(self, first: Given, seconds: float) -> None:
        """Run the network alone, on one batch again and again: beside each piece, not at the end,
        so that both rates are those of a machine in one mood.
        """
        enough = min(_BARE_SHARE * seconds, _BARE_SECONDS - self._bare_seconds)
        started = time.perf_counter()
        while (taken := time.perf_counter() - started) < enough:
            self._outputs(first).cpu()
            self._bare_samples += len(first.images)
        self._bare_seconds += taken

    @torch.inference_mode()
    def _outputs(self, given: Given) -> Tensor:
        """Logits of a batch, (B, K), or the number learnt, (B, 1); float32, on the device."""
        index = torch.arange(len(given.images), device=self._device)
        batch = Batch(given.images, torch.full_like(index, -1), index, truth=given.truth)
        trained = self._trained
        outputs = outputs_of(trained.task, trained.model, batch, tta=trained.job.data.tta)
        answer = outputs[trained.task.spec.primary_output]
        return answer if self._classes else answer[:, None]

    def _columns(
        self, values: NDArray[np.float64], bad: NDArray[np.bool_], temperature: float | None
    ) -> dict[str, pa.Array]:
        """What is said of outputs, (N, K); null in bad rows."""
        if not self._classes:
            name = str(self._trained.task.spec.target_name).replace(" ", "_")
            return {name: pa.array(values[:, 0], pa.float64(), mask=bad)}
        assert temperature is not None
        return _scores(values, bad, self._classes, temperature)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= _LOG_SECONDS:
            self._told = now
            _log.info("predicted %d images of %d", self.done, len(self._inputs))


def _ahead(batches: Generator[Given, None, None]) -> Iterator[Given]:
    """The batches, of which a thread prepares one while the network is at work on another."""
    with closing(batches):
        yield next(batches)  # here, since readers are forked for it, and a thread should not fork
        with closing(ahead(lambda _: next(batches, None), itertools.repeat(None))) as prepared:
            yield from itertools.takewhile(lambda given: given is not None, prepared)


def _scores(
    logits: NDArray[np.float64],
    bad: NDArray[np.bool_],
    classes: tuple[str, ...],
    temperature: float,
) -> dict[str, pa.Array]:
    """The columns made of logits, (N, K); those of bad rows are null."""
    logits = np.where(bad[:, None], 0.0, logits)
    kinds = {"score": logits, "calibrated": logits / temperature}
    best = np.asarray(classes, object)[logits.argmax(1)]
    columns = {"predicted": pa.array(best, pa.string(), mask=bad)}
    for kind, values in kinds.items():
        for name, column in zip(classes, metrics.softmax(values).T, strict=True):
            columns[f"{kind}_{name}"] = pa.array(column, pa.float64(), mask=bad)
    return columns


def _problems(file: Path) -> int:
    """Rows of a table that have no prediction."""
    tables = read_tables(file, {"problem": pa.string()})
    return sum(len(table) - table["problem"].null_count for table in tables)


def _draw_top(
    answer: PiecewiseTable,
    trained: Trained,
    inputs: Inputs,
    pieces: list[Piece],
    top: int,
    shown: str,
) -> Path | None:
    """Draw the images of the highest scores of a class beside the table, unless that is there."""
    path = answer.file.with_suffix(".png")
    if path.exists():
        _log.info("%s: already there; remove it for another one", path)
        return None
    best = heapq.nlargest(top, _ranked(answer.file, f"score_{shown}"))
    singles = []
    for _, row, _ in best:
        number, offset = _find(pieces, -row)
        singles.append(pieces[number]._replace(start=pieces[number].start + offset))
    names = [f"{id_}\n{score:.4f}" for score, _, id_ in best]
    title = (
        f"{answer.file.name}: the {len(best)} highest scores of class {shown}; asinh stretch\n"
        f"{trained.run.name}"
    )
    figures.save(contact_sheet(inputs.images(singles), names, title), path)
    return path


def _ranked(file: Path, column: str) -> Iterator[tuple[float, int, str]]:
    """Score, row (negative, so that of equal scores the first is best) and id of every sample."""
    row = 0
    for table in read_tables(file, {"id": pa.string(), column: pa.float64()}):
        ids, scores = table["id"].to_pylist(), table[column].to_pylist()
        for id_, score in zip(ids, scores, strict=True):
            if score is not None:
                yield score, -row, id_
            row += 1


def _find(pieces: list[Piece], row: int) -> tuple[int, int]:
    """The piece that holds a row of the table, and the row's place in it."""
    for number, piece in enumerate(pieces):
        if row < piece.stop - piece.start:
            return number, row
        row -= piece.stop - piece.start
    raise IndexError(row)
