"""Trained here, tested there: every training set of a model against every test set.

A cell is a model's runs on one training set and one test set, over its seeds. All training sets
of one test set give answers to the same images, so they are compared in pairs (`significance`),
with the one whose own test set it is, or else with the first. What a training set *loses* from its
own test set to another is the difference of the same networks on two samples of images
(`losses`). The own test set is that of the recipe; of a mixture of sets it is that of the set
which validates it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring.auc import auc_interval
from deeplense_batch.report.compare import ModelRuns, compare, repeated
from deeplense_batch.report.run_table import Row, score_of
from deeplense_batch.report.significance import infer, resampled_score, room_of
from deeplense_batch.report.statistics.variance import LEVEL, holm
from deeplense_batch.report.studies.losses import OnBoth, OnOne, lost
from deeplense_batch.report.studies.networks import (
    Scored,
    Slice,
    Training,
    averaged_otherwise,
    names,
    scored_models,
)

__all__ = ["InMatrix", "doubt", "matrices", "ranked"]

_SCORES = (
    *("auc", "r2", "log_prob", "accuracy", "mae", "bias", "completeness", "purity"),
    *("ece_calibrated", "ece_calibrated_floor"),
)
_BOUNDS = ("_low", "_high")
_DIFFERENCE = {
    "difference": "difference",
    "difference_low": "difference_low",
    "difference_high": "difference_high",
    "difference_p": "p_value",
    "difference_resolved": "resolved",
}
_LOSS = ("loss", "loss_low", "loss_high", "loss_p", "loss_resolved", "loss_covers", "loss_runs")
_BEST_IS_MISSING = "no model is compared with the best"  # a note of `infer`, of no use here

# Notes of a run by which its score is not that of images which its network has never seen, in the
# unit that it has learnt (`runs.scoring`, `data.pixels.unit`); and what a page says of them.
_DOUBTS = {
    r"the network was (trained on|adapted to) \d+ of these \d+ images ": "seen in training",
    r"the network was picked by \d+ of these \d+ images ": "seen in validation",
    r"unit: ": "another unit",
}

Place = tuple[Training, Slice]  # of a cell
Matrix = dict[str, Any]  # as in `results.json`


def matrices(rows: Sequence[Row]) -> list[Matrix]:
    """The matrix of every model that was tested on other data than its own.

    Arguments:
        rows: Of the table, with their ``recipe`` (`run_table.read_rows`).

    Returns:
        As `results.json` holds them (`report`).
    """
    models, found = scored_models(rows), []
    for label, scored in models:
        places = {(one.training, one.test) for one in scored}
        elsewhere = any(test.digest != training.own.digest for training, test in places)
        if elsewhere and len(places) > 1:
            matrix = _Matrix(label, scored).content()
            every = [one for _, some in models for one in some]
            matrix["notes"] += averaged_otherwise(scored, every)
            found.append(matrix)
    return found


def doubt(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Why scores of some runs may mislead, by their notes; None where nothing is known.

    Arguments:
        rows: Of the runs, with their ``notes``.
    """
    notes = [note for row in rows for note in row["notes"] or ()]
    said = [text for kind, text in _DOUBTS.items() if any(re.match(kind, n) for n in notes)]
    return ", ".join(said) or None


class InMatrix(NamedTuple):
    """A comparison of evaluations of one model alone, and the cell of a matrix that shows it."""

    models: list[ModelRuns]
    model: str  # names of the matrix, and
    training: str  # of the cell's row
    test: str  # and column


def ranked(
    rows: Sequence[Row], found: Sequence[Matrix]
) -> tuple[list[list[ModelRuns]], list[InMatrix]]:
    """Compare runs (`compare`); what ranks models, and what a matrix says already.

    The latter are the evaluations of one model alone, which rank nothing. Left out of both is a
    network that was scored once more on the same images, which would be ranked with itself.
    """
    shown = {
        run: (str(matrix["model"]), str(cell["training"]), str(cell["test"]))
        for matrix in found
        for cell in matrix["cells"]
        for run in cell["evaluations"]
    }
    again = {run for matrix in found for run in matrix["repeated"]}
    ranking: list[list[ModelRuns]] = []
    alone: list[InMatrix] = []
    for models in compare([row for row in rows if row["run"] not in again]):
        runs = [row["run"] for row in models[0].runs]
        if len(models) == 1 and all(run in shown for run in runs):
            alone.append(InMatrix(models, *shown[runs[0]]))
        else:
            ranking.append(models)
    return ranking, alone


class _Matrix:
    """The cells of one model, and what is computed of them."""

    def __init__(self, label: str, scored: Sequence[Scored]) -> None:
        self.label, self.scored = label, scored
        first = scored[0].row
        self.task, self.score = first["task"], str(first["monitor"])
        grouped = defaultdict[Place, list[Scored]](list)
        for one in scored:
            grouped[one.training, one.test].append(one)
        self.cells = {place: _once(some) for place, some in grouped.items()}
        self.trainings = self._name_trainings()
        self.tests = self._name_tests()
        self.models = {
            test: [self._model(training, test) for training in self._on(test)]
            for test in self.tests
        }
        self.notes = self._same_seeds()

    def content(self) -> Matrix:
        """All of it, as JSON."""
        inferred = self._infer()
        losses = self._losses()
        return {
            "model": self.label,
            "task": self.task,
            "score": self.score,
            "trainings": [
                {
                    "name": name,
                    "digest": training.digest,
                    "details": dict(training.details),
                    "own": self.tests.get(training.own),
                }
                for training, name in self.trainings.items()
            ],
            "tests": [self._test(test) for test in self.tests],
            "cells": [
                self._cell(place, inferred[place], losses.get(place, {}))
                for place in self._places()
            ],
            "missing": self._missing(),
            "repeated": self._repeated(),
            "notes": self.notes,
            "run_notes": self._run_notes(),
        }

    def _name_trainings(self) -> dict[Training, str]:
        """Names of the training sets, single ones first, and of one name the plainest."""
        known: dict[Training, Row] = {}
        for one in self.scored:
            known.setdefault(one.training, one.row["training"])
        ordered = sorted(
            known, key=lambda t: (known[t]["sets"], known[t]["name"], len(t.details), t)
        )
        kept = []
        for t in ordered:
            alike = [dict(o.details) for o in ordered if known[o]["name"] == known[t]["name"]]
            more = (_details(t, alike), _short(t.digest), t.own.digest[:6], t.own.slice)
            kept.append((known[t]["name"], *more))
        return dict(zip(ordered, names(kept), strict=True))

    def _name_tests(self) -> dict[Slice, str]:
        """Names of the test sets, those of the training sets first and in their order."""
        folders: dict[str, str] = {}
        for one in self.scored:
            folders.setdefault(one.test.digest, Path(one.row["data_root"]).name)
        several = Counter(folders.values())
        own = [training.own for training in self.trainings]
        tests = sorted({test for _, test in self.cells}, key=lambda t: (folders[t.digest], t))
        tests.sort(key=lambda test: own.index(test) if test in own else len(own))
        kept = []
        for test in tests:
            folder, digest = folders[test.digest], test.digest[:8]
            more = (digest, test.slice) if several[folder] > 1 else (test.slice, digest)
            kept.append((folder, *more))
        return dict(zip(tests, names(kept), strict=True))

    def _same_seeds(self) -> list[str]:
        """Say where two networks have one seed: what else tells them apart is not known here."""
        seeds = {(one.training, one.network): one.row["seed"] for one in self.scored}
        counts = Counter((training, seed) for (training, _), seed in seeds.items())
        return [
            f"trained on {self.trainings[training]}: {count} networks have seed {seed}, and no "
            "field of a recipe tells them apart; each counts as a training of its own"
            for (training, seed), count in counts.items()
            if count > 1 and seed is not None
        ]

    def _places(self) -> list[Place]:
        """Cells with runs, row by row."""
        every = ((training, test) for training in self.trainings for test in self.tests)
        return [place for place in every if place in self.cells]

    def _on(self, test: Slice) -> list[Training]:
        """Training sets with runs on a test set; the one whose own it is, then the others."""
        here = [training for training in self.trainings if (training, test) in self.cells]
        return sorted(here, key=lambda training: training.own != test)

    def _model(self, training: Training, test: Slice) -> ModelRuns:
        runs = [one.row for one in self.cells[training, test]]
        return ModelRuns(self.trainings[training], runs)

    def _infer(self) -> dict[Place, Row]:
        """Intervals of every cell, and differences to the first training set of its test set."""
        inferred: dict[Place, Row] = {}
        for test, name in self.tests.items():
            here = self._on(test)
            models, _, notes = infer(self.models[test])
            reference = self.trainings[here[0]]
            for training, model in zip(here, models, strict=True):
                row = dict(model.inferred)
                if "difference" in row:
                    row["reference"] = reference
                inferred[training, test] = row
            self.notes += [
                f"tested on {name}: {note}"
                for note in notes
                if not note.startswith(_BEST_IS_MISSING)
            ]
        return inferred

    def _losses(self) -> dict[Place, Row]:
        """What every training set loses from its own test set to each other one."""
        resampled = {
            test: resampled_score(self.models[test], self.score, seed)
            for seed, test in enumerate(self.tests, start=1)
        }
        found: dict[Place, Row] = {}
        for test in self.tests:
            pairs: dict[Place, OnBoth] = {}
            for training in self._on(test):
                both = self._on_both(training, test)
                if not both:
                    continue
                own, other = ([pair[k] for pair in both] for k in (0, 1))
                scores = [_scores(rows, self.score) for rows in (own, other)]
                found[training, test] = {
                    "loss": float(np.mean(scores[0] - scores[1])), "loss_runs": len(both)
                }  # fmt: skip
                there, here = resampled[training.own], resampled[test]
                if all(a["run"] in there[0] and b["run"] in here[0] for a, b in both):
                    on_own, on_other = self._on_one(own, *there), self._on_one(other, *here)
                    pairs[training, test] = OnBoth(on_own, on_other)
            if pairs:
                _fill_in([found[place] for place in pairs], list(pairs.values()))
        known = [row for row in found.values() if "loss_p" in row]
        for row, p in zip(known, holm([row["loss_p"] for row in known]), strict=True):
            row |= {"loss_p": p, "loss_resolved": p < LEVEL}
        return found

    def _on_both(self, training: Training, test: Slice) -> list[tuple[Row, Row]]:
        """Rows of the networks that were scored on their own test set and on another."""
        if training.own == test:
            return []
        own = {one.network: one.row for one in self.cells.get((training, training.own), ())}
        return [
            (own[one.network], one.row) for one in self.cells[training, test] if one.network in own
        ]

    def _on_one(
        self, rows: Sequence[Row], resampled: Mapping[str, NDArray[np.float64]], freedom: int
    ) -> OnOne:
        scores = _scores(rows, self.score)
        width, counts = 0.0, [n for n in (rows[0].get("class_counts") or {}).values() if n]
        if self.score == "auc" and len(counts) > 1:
            low, high = auc_interval(scores.mean(), min(counts), sum(counts) - min(counts))
            width = high - low
        (room,) = room_of(self.score, [scores])
        draws = np.stack([resampled[row["run"]] for row in rows])
        return OnOne(scores, draws, freedom, float(room), width)

    def _test(self, test: Slice) -> Row:
        row = self.models[test][0].runs[0]
        return {
            "name": self.tests[test],
            "digest": test.digest,
            "slice": test.slice,
            "images": row["test_samples"],
            "class_counts": row.get("class_counts") or {},
        }

    def _cell(self, place: Place, inferred: Row, loss: Row) -> Row:
        training, test = place
        model = self._model(training, test)
        cell: Row = {
            "training": self.trainings[training],
            "test": self.tests[test],
            "own": training.own == test,
            "runs": [row["run"] for row in model.runs],
            "evaluations": [row["run"] for row in model.runs if "evaluated" in row],
            "doubt": doubt(model.runs),
            "interval": inferred.get("interval"),
        }
        for name in _SCORES:
            if (mean := model.mean(name)) is not None:
                cell[name] = mean
                for end in _BOUNDS:  # a share at a threshold has that of its counts in its run
                    bound = inferred.get(name + end, model.mean(name + end))
                    cell |= {} if bound is None else {name + end: bound}
        cell["reference"] = inferred.get("reference")
        cell |= {name: inferred.get(theirs) for name, theirs in _DIFFERENCE.items()}
        return cell | dict.fromkeys(_LOSS) | loss

    def _missing(self) -> list[Row]:
        """Cells without runs, or with fewer networks than their training set has."""
        networks = defaultdict[Training, set[str]](set)
        for one in self.scored:
            networks[one.training].add(one.network)
        missing = []
        for training, name in self.trainings.items():
            for test, its_name in self.tests.items():
                there, known = len(self.cells.get((training, test), ())), len(networks[training])
                if there < known:
                    missing.append(
                        {"training": name, "test": its_name, "runs": there, "of": known}
                    )
        return missing

    def _repeated(self) -> list[str]:
        """Folders of runs that score a network on images on which another run scores it too."""
        counted = {one.row["run"] for some in self.cells.values() for one in some}
        return [run for one in self.scored if (run := one.row["run"]) not in counted]

    def _run_notes(self) -> list[Row]:
        """What evaluations say of their scores, and of which cells."""
        whose = defaultdict[str, dict[tuple[str, str], None]](dict)
        for training, test in self._places():
            for one in self.cells[training, test]:
                for note in (one.row["notes"] or ()) if "evaluated" in one.row else ():
                    whose[note][self.trainings[training], self.tests[test]] = None
        return [{"note": note, "cells": [*map(list, cells)]} for note, cells in whose.items()]


def _once(scored: Sequence[Scored]) -> list[Scored]:
    """One run of each network (`repeated`), by seed."""
    again = repeated(one.row for one in scored)
    counted = [one for one in scored if one.row["run"] not in again]
    return sorted(counted, key=lambda one: (one.row["seed"] or 0, one.network))


def _scores(rows: Collection[Row], name: str) -> NDArray[np.float64]:
    return np.array([score_of(row, name) for row in rows], np.float64)


def _fill_in(rows: Sequence[Row], pairs: Sequence[OnBoth]) -> None:
    """Give losses their intervals, and p-values that are not adjusted yet."""
    found = lost(pairs)
    covers = "samples" if np.isnan(found.training_sd).all() else "samples and seeds"
    numbers = (values.tolist() for values in (found.value, found.half, found.p_value))
    for row, value, half, p in zip(rows, *numbers, strict=True):
        row |= {"loss_low": value - half, "loss_high": value + half, "loss_p": p}
        row["loss_covers"] = covers


def _details(training: Training, alike: Sequence[Mapping[str, str]]) -> str:
    """The details of a training in which trainings of one name differ."""
    return ", ".join(
        f"{field.removeprefix('data.')} {value}"
        for field, value in training.details
        if len({other.get(field) for other in alike}) > 1
    )


def _short(text: str) -> str:
    """Six digits that tell a content from others of one name."""
    return hashlib.sha256(text.encode()).hexdigest()[:6]
