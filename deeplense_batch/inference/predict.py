"""What a finished run says about any number of images: a row for each, in a table.

Memory does not grow with the images: a few are read at a time, and rows are written a piece at a
time (`table`). Pieces have one size whoever makes them, so any number of processes may share the
work, each with its `part` of `parts`; whoever completes the last piece joins all. That serves
several GPUs and the elements of a job array alike; processes of one run (``RANK``) have no part
in it.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from deeplense_batch.core.distributed import device_of
from deeplense_batch.core.pieces import Progress
from deeplense_batch.core.scoring import figures
from deeplense_batch.core.scoring.colours import Rgb
from deeplense_batch.core.scoring.image_grid import contact_sheet
from deeplense_batch.data.formats.filters import colour_channels
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.packing.manifest import about_ignored
from deeplense_batch.inference.answering import Answering, answering
from deeplense_batch.inference.candidates import Candidates
from deeplense_batch.inference.ensembles.predictor import EnsemblePredictor
from deeplense_batch.inference.images.catalogue import ALL
from deeplense_batch.inference.images.piecewise import Inputs, Names, Piece
from deeplense_batch.inference.predictor import Predictor
from deeplense_batch.inference.table import SUFFIXES, PiecewiseTable, TableError, read_tables
from deeplense_batch.inference.trained import Trained
from deeplense_batch.report.catalogue import position
from deeplense_batch.training.precision import Precision

__all__ = ["Prediction", "predict"]

_PIECE = 4096  # samples; more would be lost when a process is killed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What `predict` did."""

    file: Path
    samples: int  # of the whole table
    done: int  # of them, by this process
    problems: int  # without a prediction: of the table, or of those done while pieces are missing
    seconds: float  # of predicting, reading and writing; to load the network is not counted
    network_rate: float  # samples/s of the network alone, on one batch again and again
    missing: int  # pieces that other processes have still to make
    ignored: tuple[str, ...]  # files that are no images
    sheet: Path | None
    candidates: str = ""  # what is called a lens, in sentences; empty while pieces are missing

    def __str__(self) -> str:
        if not self.done:
            lines = [f"{self.file}: already there"]
            if self.missing:
                lines = [f"{self.file}: nothing left of this part"]
        else:
            rate = self.done / self.seconds
            lines = [
                f"{self.done} images in {self.seconds:.1f} s, {rate:.0f} images/s; the network "
                f"alone, on one batch in memory, {self.network_rate:.0f} images/s: "
                f"{rate / self.network_rate:.2f} of that",
            ]
            lines.append(
                f"{self.file}: {self.samples} rows"
                if not self.missing
                else f"{self.file}: {self.missing} pieces are missing, which other parts make"
            )
        if self.candidates:
            lines.append(self.candidates)
        if self.problems:
            have = "1 image has" if self.problems == 1 else f"{self.problems} images have"
            lines.append(f"{have} no prediction; the column problem says why")
        if self.ignored:
            lines.append(about_ignored(self.ignored))
        if self.sheet:
            lines.append(str(self.sheet))
        return "\n".join(lines)


def predict(
    runs: Path | str | Sequence[Path | str],
    data: Path | str,
    out: Path | str,
    *,
    slice_: str = "",
    device: str | None = None,
    part: int = 0,
    parts: int = 1,
    batch_size: int = 256,
    amp: str = "off",
    top: int = 0,
    of: str = "",
    rgb: Sequence[str] = (),
    purity: float | None = None,
    prevalence: float | None = None,
    samples: int = 0,
    columns: Sequence[str] = ALL,
    reading: Reading | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> Prediction:
    """Predict on images, and write a table; go on with it if it was cut off.

    Columns: ``id``; those of the catalogue, and of FITS headers ``dec``, ``object`` and ``ra``
    that it lacks, with ``catalogue_`` before a name that is one of the others; ``split`` and
    ``label`` where the data say them; ``predicted``, the class of the highest score;
    ``score_<class>``, probabilities, float64; ``calibrated_<class>``, the same made honest on the
    run's validation slice: by a temperature, or of a detection by slope and offset of the log
    odds; ``candidate`` of a detection, whether the score reaches the threshold;
    ``problem``, why there is no prediction. A run that learnt a number gives that by its name,
    such as ``theta_e`` or ``log10_theta_e``, float64, and no scores; one that learnt several gives
    each. Of a posterior ``theta_e`` is the mean, and beside it are ``theta_e_sd``, the quantiles
    ``theta_e_q05``, ``_q16``, ``_q50``, ``_q84`` and ``_q95``, and, where they are asked for,
    ``theta_e_draws``, lists of float32: the k-th draws of all numbers of a row belong together.

    Of an ensemble ``score_<class>`` is the mean of its members' calibrated probabilities, and
    ``score_<class>_sd`` their standard deviation over the members; of a number ``<name>`` and
    ``<name>_sd``, which of posteriors are those of their mixture. There are no
    ``calibrated_<class>``.

    Arguments:
        runs: Run directory; or several, or the folder of a job, for their ensemble.
        data: Folder of shards, or images in any layout that `pack` reads.
        out: The table, ``.parquet`` or ``.csv``.
        slice_: Of the shards, such as ``val[:100]``; empty for everything.
        device: ``cpu`` or ``cuda``; by default a GPU where there is one.
        part: Which share of the pieces to make, from 0.
        parts: Shares in all.
        batch_size: Images at once; fewer where memory runs out.
        amp: ``off`` for float32, or ``bf16``, ``fp16`` or ``auto`` as of a training: faster on a
            GPU, and another table.
        top: How many of the highest scores to draw, in `out` with the ending ``.png``.
        of: The class of those; by default the one that is searched for, or the last.
        rgb: Bands that are red, green and blue on the sheet; by default those of the longest
            waves, where bands have names (`data.formats.filters`).
        purity: Share of lenses among the candidates of a detection; by default that of the run.
        prevalence: Share of lenses on the sky, for which threshold and calibrated scores hold; by
            default that of the run for the threshold, and for calibrated scores the share of the
            validation slice.
        samples: Draws from the posterior of each image; 0 for none.
        columns: Of the catalogue and of headers, by name; or ``all`` or ``none``.
        reading: How files are read, of data that are no shards.
        on_batch: Called after each batch; what it raises ends the work, to go on later.

    Raises:
        TrainedError: The run is not finished, or generates images; or `top` or `of` of one that
            knows no classes, `purity` or `prevalence` of one that does not search, or `samples` of
            one without a posterior, of an ensemble, or for a .csv.
        ShardError: The data are none, or not of the shape or the bands that the network takes; or
            there is no such column, or no such band for `rgb`.
        TableError: A file is there that answers another question.
        DeviceError: A GPU was asked for and there is none.
        PrecisionError: The device has no such arithmetic.
    """
    out, chosen = _checked_name(Path(out)), device_of(device)
    precision = Precision(amp, chosen, setting="--amp")
    asked = answering([runs] if isinstance(runs, str | Path) else runs, purity, prevalence)
    asked.check_draws(samples, out)
    first, search = asked.networks[0], asked.search
    shown = _class_shown(first, of) if top or of else ""
    with ExitStack() as stack:
        opened = asked.open_inputs(stack, Path(data), slice_, columns, reading)
        inputs = opened[0]
        channels = colour_channels(inputs.bands, rgb) if top else None
        pieces = inputs.pieces(_PIECE)
        question = _question(asked, inputs, slice_, precision, samples)
        table = PiecewiseTable(out, question=question, pieces=len(pieces))
        predictor = asked.predictor(opened, chosen, batch_size, precision, samples)
        if not table.is_complete():
            table.start(lambda: _details(asked, data, chosen))
            make = partial(_make_pieces, table, predictor, pieces, on_batch)
            table.complete(range(part, len(pieces), parts), make, on_batch)
        missing = 0 if out.exists() else len(table.missing())
        drawn = top and not missing
        draw = partial(_draw_top, out, asked.label, inputs, pieces)
        sheet = draw(top, shown, channels) if drawn else None
    return Prediction(
        file=out,
        samples=len(inputs),
        done=predictor.done,
        problems=predictor.problems if missing else _problems(out),
        seconds=predictor.seconds,
        network_rate=predictor.network_rate,
        missing=missing,
        ignored=inputs.ignored,
        sheet=sheet,
        candidates=asked.why_none if missing or search is None else _told(out, search),
    )


def _checked_name(out: Path) -> Path:
    if out.suffix not in SUFFIXES:
        raise TableError(f"{out}: expected a name that ends in {' or '.join(SUFFIXES)}")
    return out


def _class_shown(trained: Trained, of: str) -> str:
    """The class whose highest scores are drawn.

    Raises:
        TrainedError: There is none of that name, or none at all.
    """
    trained.check_class(of)
    return of or trained.task.spec.target_name or trained.classes[-1]


def _question(
    asked: Answering, inputs: Inputs, slice_: str, precision: Precision, samples: int
) -> dict[str, Any]:
    """What a table answers: another one is never gone on with."""
    return {
        **asked.question,
        "data": inputs.digest,
        "catalogue": inputs.columns.question,
        "slice": slice_,
        "amp": None if precision.name == "off" else precision.name,
        **({"samples": samples} if samples else {}),
        **(asked.search.question if asked.search else {}),
    }


def _details(asked: Answering, data: Path | str, device: torch.device) -> dict[str, Any]:
    """What a reader of the table may want to know, found out once by whoever begins it."""
    first = asked.networks[0]
    return {
        **asked.details,
        "data": str(Path(data).absolute()),
        "classes": list(first.classes),
        **(asked.search.details if asked.search else {}),
        "device": device.type,
        "versions": first.metrics["versions"],
    }


def _make_pieces(
    table: PiecewiseTable,
    predictor: Predictor | EnsemblePredictor,
    pieces: Sequence[Piece],
    on_batch: Callable[[], None],
    numbers: Sequence[int],
) -> None:
    """Predict on some pieces, and write them."""
    with Progress("predicted", sum(pieces[number].size for number in numbers)) as progress:

        def advance(images: int) -> None:
            progress.advance(images)
            on_batch()

        for number in numbers:
            table.write(number, predictor.rows(pieces[number], advance))


def _problems(file: Path) -> int:
    """Rows of a table that have no prediction."""
    tables = read_tables(file, {"problem": pa.string()})
    return sum(len(table) - table["problem"].null_count for table in tables)


def _told(file: Path, search: Candidates) -> str:
    """The candidates of a table, in sentences."""
    rows, count, expected = 0, 0, 0.0
    for table in read_tables(file, {"candidate": pa.bool_(), search.honest: pa.float64()}):
        rows += len(table)
        count += pc.sum(table["candidate"]).as_py() or 0
        expected += pc.sum(table[search.honest]).as_py() or 0.0
    return search.told(count, rows, expected)


def _draw_top(
    file: Path,
    label: str,
    inputs: Inputs,
    pieces: Sequence[Piece],
    top: int,
    shown: str,
    channels: Rgb | None,
) -> Path | None:
    """Draw the images of the highest scores of a class beside the table, unless that is there."""
    path = file.with_suffix(".png")
    if path.exists():
        _log.info("%s: already there; remove it for another one", path)
        return None
    best = heapq.nlargest(top, _ranked(file, f"score_{shown}"))
    firsts = inputs.firsts([_sample_of(pieces, -row) for _, row, _ in best])
    names = [
        "\n".join(filter(None, (id_, f"{score:.4f}", _position(known))))
        for (score, _, id_), (_, known) in zip(best, firsts, strict=True)
    ]
    title = f"{file.name}: the {len(best)} highest scores of class {shown}; asinh stretch\n{label}"
    images = [image for image, _ in firsts]
    figures.save(contact_sheet(images, names, title, rgb=channels), path)
    return path


def _position(known: Names) -> str:
    """Where one image is on the sky, if its catalogue or its header says."""
    return position({name: column[0].as_py() for name, column in known.columns.items()})


def _ranked(file: Path, column: str) -> Iterator[tuple[float, int, str]]:
    """Score, row (negative, so that of equal scores the first is best) and id of every sample."""
    row = 0
    for table in read_tables(file, {"id": pa.string(), column: pa.float64()}):
        ids, scores = table["id"].to_pylist(), table[column].to_pylist()
        for id_, score in zip(ids, scores, strict=True):
            if score is not None:
                yield score, -row, id_
            row += 1


def _sample_of(pieces: Sequence[Piece], row: int) -> Piece:
    """The sample of a row of the table, as a piece that begins with it."""
    for piece in pieces:
        if row < piece.size:
            return piece._replace(start=piece.start + row)
        row -= piece.size
    raise IndexError(row)
