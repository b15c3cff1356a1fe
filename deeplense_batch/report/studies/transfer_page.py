"""What a report says of training sets against test sets (`transfer`): words, tables, a figure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deeplense_batch.report.columns import number, p_value, score_name, with_interval
from deeplense_batch.report.plots.pictures import Picture
from deeplense_batch.report.studies.block import Block

__all__ = ["blocks", "summaries"]

_FEW = 100  # images, of which an interval is wide
_OWN = " (own)"
_MORE = {  # scores of a cell beside that which picks weights, by their heads
    "accuracy": "accuracy",
    "completeness": "completeness at threshold",
    "purity": "purity at threshold",
    "mae": "MAE",
    "bias": "bias",
}
_CARRIED = (
    "The threshold is that of each run's own validation slice, carried over; purity is that of a "
    "sky with the stated share of lenses."
)
_POOLED = (
    "A number that a section of models shows too may have another interval there: the spread over "
    "the seeds is pooled over the models of that section, here over the training sets of a test "
    "set."
)
_ELSEWHERE = (
    "Evaluations that are shown here and that no other model can be ranked with have no section "
    "of their own: their numbers are here, in the table of all runs and in results.json, their "
    "figures in the folders of the runs. What several such runs score as one, and by a quantity "
    "that was asked for, is below."
)
_LOSS = (
    "A loss is the score on the own test set less that on another, of the same networks; the two "
    "samples of images are independent, and p-values are adjusted for the number of losses in "
    "this matrix. "
)
_LEARNT = "ECE is that of calibrated probabilities, as each run's validation slice calibrated them"

Matrix = Mapping[str, Any]
Cell = Mapping[str, Any]


def blocks(matrices: Sequence[Matrix]) -> list[Block]:
    """What a page shows of the matrices: of each the scores, then all numbers, then the notes.

    Arguments:
        matrices: As `results.json` holds them.
    """
    several = len(matrices) > 1
    found: list[Block] = []
    for place, matrix in enumerate(matrices, start=1):
        found.append(_scores(matrix, f"transfer-{place}" if several else "transfer"))
        found.append(_numbers(matrix))
        found += _notes(matrix)
    return found


def summaries(matrices: Sequence[Matrix]) -> list[str]:
    """The worst loss of every matrix, a line for a terminal."""
    return [f"{_title(matrix)}: {_worst(matrix)}" for matrix in matrices]


def _title(matrix: Matrix) -> str:
    return f"Trained here, tested there: {matrix['model']}"


def _scores(matrix: Matrix, picture: str) -> Block:
    """The matrix itself: a table, a heat map, and what is lost."""
    score = score_name(matrix["score"])
    tests = [test["name"] for test in matrix["tests"]]
    lines = [[training["name"]] for training in matrix["trainings"]]
    for line in lines:
        for test in tests:
            cell = _find(matrix, line[0], test)
            line.append("-" if cell is None else _value(cell, matrix["score"], mark=True))
    worst = _worst(matrix)
    headline = f"{worst[0].upper()}{worst[1:]}."
    sentences = [
        f"Rows are training sets, columns test sets: test {score}, {_over(matrix)}.",
        headline,
        *_verdicts(matrix),
        *_doubts(matrix),
        *_test_sets(matrix),
        *_few(matrix),
        *_missing(matrix),
        *([_POOLED] if any(c["interval"] == "samples and seeds" for c in matrix["cells"]) else []),
        _ELSEWHERE,
        *(f"Note: {note}." for note in matrix["notes"]),
    ]
    return Block(
        _title(matrix), sentences, ["trained on", *(f"tested on {test}" for test in tests)],
        lines, [_picture(matrix, picture)], headline,
    )  # fmt: skip


def _numbers(matrix: Matrix) -> Block:
    """Every cell with all its numbers, a line each."""
    cells, score = matrix["cells"], matrix["score"]
    more = [name for name in _MORE if any(name in cell for cell in cells)]
    calibrated = any("ece_calibrated" in cell for cell in cells)
    head = ["trained on", "tested on", "runs", *(_MORE[name] for name in more)]
    head += ["ECE (floor)"] * calibrated
    lossy = any(cell["loss"] is not None for cell in cells)
    head += ["compared with", f"difference in {score_name(score)}", "verdict"]
    head += [f"loss of {score_name(score)}", "verdict"] * lossy
    lines = []
    for cell in cells:
        line = [cell["training"], cell["test"] + _marks(cell), str(len(cell["runs"]))]
        line += [_value(cell, name) for name in more]
        line += [_calibration(cell)] * calibrated
        line += [cell["reference"] or "-", *_judged(cell, "difference")]
        lines.append([*line, *(_judged(cell, "loss") if lossy else ())])
    sentences = [
        "Differences compare training sets on the same images, in pairs, with the one whose own "
        "test set that is, or else the first; p-values are adjusted for the number of training "
        f"sets of a test set (Holm). {_LOSS if lossy else ''}{_covered(cells)}",
        *([_CARRIED] if "completeness" in more else []),
        *([f"{_LEARNT}; 95 % of perfectly calibrated networks are below its floor."] * calibrated),
    ]
    return Block(
        f"{matrix['model']}: every training set on every test set", sentences, head, lines
    )


def _notes(matrix: Matrix) -> list[Block]:
    """What the evaluations say of their scores."""
    notes = matrix["run_notes"]
    if not notes:
        return []
    lines = [
        [note["note"], "; ".join(f"{training} on {test}" for training, test in note["cells"])]
        for note in notes
    ]
    title = f"{matrix['model']}: notes of the evaluations"
    return [Block(title, [], ["note", "trained on one, tested on another"], lines)]


def _picture(matrix: Matrix, name: str) -> Picture:
    score = matrix["score"]
    of = {(lack["training"], lack["test"]): lack for lack in matrix["missing"]}
    cells = []
    for cell in matrix["cells"]:
        lack = of.get((cell["training"], cell["test"]))
        cells.append(
            {"training": cell["training"], "test": cell["test"], "own": cell["own"],
             "value": cell[score], "low": cell.get(f"{score}_low"),
             "high": cell.get(f"{score}_high"),
             "note": _note(cell, lack)}
        )  # fmt: skip
    arguments = {
        "score": f"test {score_name(score)}",
        "trainings": [training["name"] for training in matrix["trainings"]],
        "tests": [{"name": t["name"], "images": t["images"]} for t in matrix["tests"]],
        "cells": cells,
    }
    caption = (
        f"{matrix['model']}: test {score_name(score)} of every training set on every test set, "
        "with 95% intervals. A frame marks the own test set; a cell without runs is empty."
    )
    return Picture(name, "heat_map", arguments, caption)


def _note(cell: Cell, lack: Mapping[str, Any] | None) -> str | None:
    """What the small print of a cell says: why it may mislead, and how many runs it lacks."""
    runs = f"{lack['runs']} of {lack['of']} runs" if lack else None
    return "\n".join(filter(None, (cell["doubt"], runs))) or None


def _find(matrix: Matrix, training: str, test: str) -> Cell | None:
    cells = matrix["cells"]
    return next((c for c in cells if c["training"] == training and c["test"] == test), None)


def _value(cell: Cell, name: str, *, mark: bool = False) -> str:
    """A score with its interval; marked, whether the test set is the own one, and any doubt."""
    text = with_interval(*(cell.get(name + end) for end in ("", "_low", "_high")))
    by_size = mark and cell["interval"] == "Hanley-McNeil" and "[" in text
    return text + "*" * by_size + (_marks(cell) if mark else "")


def _marks(cell: Cell) -> str:
    """Whether a cell is on the own test set, and why its score may mislead."""
    doubt = f" ({cell['doubt']})" if cell["doubt"] else ""
    return _OWN * cell["own"] + doubt


def _calibration(cell: Cell) -> str:
    error, floor = cell.get("ece_calibrated"), cell.get("ece_calibrated_floor")
    return number(error) + (f" ({number(floor)})" if floor is not None else "")


def _judged(cell: Cell, kind: str) -> tuple[str, str]:
    """A difference or a loss with its interval, and the verdict."""
    value = cell[kind]
    signed = kind == "difference"
    text = with_interval(value, cell[f"{kind}_low"], cell[f"{kind}_high"], signed=signed)
    if (resolved := cell[f"{kind}_resolved"]) is None:
        return text, "-"
    said = "resolved" if resolved else "not resolved"
    return text, f"{said}, p {p_value(cell[f'{kind}_p'])}"


def _over(matrix: Matrix) -> str:
    """What the numbers of the cells are, and what their intervals cover."""
    cells = matrix["cells"]
    counts = sorted({len(cell["runs"]) for cell in cells})
    runs = "one run each" if counts == [1] else f"means over {_span(counts)} seeds"
    covers = {cell["interval"] for cell in cells if cell["interval"]}
    kinds = {
        "samples and seeds": "other test images and other seeds",
        "samples": "other test images, of these networks",
        "Hanley-McNeil": "other test images, by their number alone, where marked with a *",
    }
    said = [text for kind, text in kinds.items() if kind in covers]
    intervals = f", with 95% intervals that cover {'; '.join(said)}" if said else ""
    mixed = ""
    if any(" + " in training["name"] for training in matrix["trainings"]):
        mixed = "; that of a mixture is the one of the set that it was validated on"
    return f"{runs}{intervals}. The own test set of a training set is marked{mixed}"


def _worst(matrix: Matrix) -> str:
    """The greatest and the least loss, of cells in no doubt."""
    lossy = sorted(_losses(matrix), key=lambda cell: -cell["loss"])
    score = score_name(matrix["score"])
    if not lossy and _losses(matrix, sound=False):
        return f"no loss of {score} is known of images never seen, in the unit learnt"
    if not lossy:
        return (
            f"no loss of {score} is known, since it takes a network that was tested on its own "
            "test set and on another"
        )
    text = f"the greatest loss of {score} is {_lost(lossy[0], matrix)}"
    if len(lossy) > 1:
        text += f"; the least is {_lost(lossy[-1], matrix)}"
    return text


def _losses(matrix: Matrix, *, sound: bool = True) -> list[Cell]:
    """Cells with a loss: those of which neither score is in doubt, or else the others."""
    doubted = {(c["training"], c["test"]) for c in matrix["cells"] if c["doubt"]}
    own = {(training["name"], training["own"]) for training in matrix["trainings"]}
    misled = {training for training, _ in doubted & own}
    return [
        cell
        for cell in matrix["cells"]
        if cell["loss"] is not None
        and sound is not bool(cell["doubt"] or cell["training"] in misled)
    ]


def _lost(cell: Cell, matrix: Matrix) -> str:
    own = next(t["own"] for t in matrix["trainings"] if t["name"] == cell["training"])
    loss, verdict = _judged(cell, "loss")
    known = "no interval" if verdict == "-" else verdict
    return f"{loss} ({known}), trained on {cell['training']}, from {own} to {cell['test']}"


def _verdicts(matrix: Matrix) -> list[str]:
    """Say which losses are more than noise."""
    said, losses = [], _losses(matrix)
    for resolved, words in ((True, "Losses that are resolved"), (False, "Not resolved")):
        some = [c for c in losses if c["loss_resolved"] is resolved and c["loss"] > 0]
        if some:
            named = "; ".join(f"{c['training']} on {c['test']}" for c in some)
            said.append(f"{words}: {named}.")
    gains = [c for c in losses if c["loss"] <= 0]
    if gains:
        named = "; ".join(
            f"{c['training']} on {c['test']}, {_judged(c, 'loss')[1]}" for c in gains
        )
        said.append(f"No loss, a higher score than on the own test set: {named}.")
    return said


def _doubts(matrix: Matrix) -> list[str]:
    """Say which cells mislead, so that the losses that are named leave them out."""
    doubted = [c for c in matrix["cells"] if c["doubt"]]
    named = "; ".join(f"{c['training']} on {c['test']} ({c['doubt']})" for c in doubted)
    return (
        [f"Not to be trusted, and left out of the losses named here: {named}."] if doubted else []
    )


def _test_sets(matrix: Matrix) -> list[str]:
    """Say what the test sets are."""
    named = []
    for test in matrix["tests"]:
        counts = ", ".join(f"{n:,} {name}" for name, n in test["class_counts"].items())
        of = f" ({counts})" if counts else ""
        named.append(f"{test['name']}, slice {test['slice']} of {test['digest']}: "
                     f"{test['images']:,} images{of}")  # fmt: skip
    return [f"Test sets: {'; '.join(named)}."]


def _few(matrix: Matrix) -> list[str]:
    """Say which test sets are small."""
    few = [test for test in matrix["tests"] if test["images"] < _FEW]
    named = "; ".join(f"{test['name']} has {test['images']} images" for test in few)
    intervals = "interval says" if len(few) == 1 else "intervals say"
    return [f"{named}: the {intervals} how little that is."] if few else []


def _missing(matrix: Matrix) -> list[str]:
    """Say which cells lack runs."""
    empty = [c for c in matrix["missing"] if not c["runs"]]
    fewer = [c for c in matrix["missing"] if c["runs"]]
    said = []
    if empty:
        named = "; ".join(f"{c['training']} on {c['test']}" for c in empty)
        said.append(f"Empty, since no run of it is done: {named}.")
    if fewer:
        named = "; ".join(
            f"{c['training']} on {c['test']}, {c['runs']} of {c['of']} runs" for c in fewer
        )
        said.append(f"Not all runs are there: {named}.")
    if repeated := len(matrix["repeated"]):
        runs = "1 run scores" if repeated == 1 else f"{repeated} runs score"
        said.append(
            f"{runs} a network once more on the same images, which counts once; see the table of "
            "all runs."
        )
    return said


def _covered(cells: Sequence[Cell]) -> str:
    """Which noise the intervals of differences and losses cover."""
    losses = [cell for cell in cells if cell["loss"] is not None]
    covers = {cell["loss_covers"] for cell in losses} - {None}
    unknown = "No interval of a loss is known, since predictions of single images are not there."
    lacking = unknown if losses and not covers else ""
    covers |= {cell["interval"] for cell in cells if cell["difference_low"] is not None}
    if not covers:
        return lacking or "No interval of a difference is known."
    if covers == {"samples"}:
        said = "Every cell has one run: intervals cover other test images, not other trainings."
    else:
        said = "Intervals cover other test images and other trainings (seeds)."
    return " ".join(filter(None, (lacking, said)))


def _span(counts: Sequence[int]) -> str:
    return re.sub(r"^(\d+) to \1$", r"\1", f"{counts[0]} to {counts[-1]}")
