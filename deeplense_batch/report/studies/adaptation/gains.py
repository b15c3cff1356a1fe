"""What adaptation gains: networks that were adapted to images without labels beside those not.

The control is the training of the same recipe without adaptation (``task.options.adapt: null``).
Both answer for the same images, so their scores are compared in pairs, over the seeds that both
have (`significance`). Where another training of the model has the labels of these images, its
score says what they would be worth.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeplense_batch.report.compare import ModelRuns, repeated
from deeplense_batch.report.run_table import Row
from deeplense_batch.report.significance import infer
from deeplense_batch.report.studies.networks import Scored, Slice, Training, names, scored_models
from deeplense_batch.report.studies.transfer import doubt

__all__ = ["adaptations"]

_INFERRED = {  # of `infer`, by what they are called here
    "gain": "difference",
    "low": "difference_low",
    "high": "difference_high",
    "p_value": "p_value",
    "resolved": "resolved",
    "visible": "visible",
}

Study = dict[str, Any]  # as in `results.json`


class _Place(NamedTuple):
    """Networks of one training on one test set."""

    training: Training
    test: Slice


def adaptations(rows: Sequence[Row]) -> list[Study]:
    """The gains of every model that was adapted, and scored on a test set as its control was.

    Arguments:
        rows: Of the table, with their ``recipe`` (`run_table.read_rows`).

    Returns:
        As `results.json` holds them (`report`).
    """
    found = []
    for label, scored in scored_models(rows):
        again = repeated(one.row for one in scored)
        counted = [one for one in scored if one.row["run"] not in again]
        if any("adapted" in one.row["training"] for one in counted):
            found.append(_Study(label, counted).content())
    return [study for study in found if study["gains"] or study["notes"]]


class _Study:
    """The gains of one model."""

    def __init__(self, label: str, scored: Sequence[Scored]) -> None:
        self.label, first = label, scored[0].row
        self.task, self.score = first["task"], str(first["monitor"])
        self.cells = defaultdict[_Place, list[Row]](list)
        about: dict[Training, Row] = {}
        folders: dict[Slice, str] = {}
        for one in scored:
            self.cells[_Place(one.training, one.test)].append(one.row)
            about.setdefault(one.training, one.row["training"])
            folders.setdefault(one.test, Path(one.row["data_root"]).name)
        self.about = about
        short = [hashlib.sha256(t.digest.encode()).hexdigest()[:6] for t in about]
        kept = [(about[t]["name"], own) for t, own in zip(about, short, strict=True)]
        self.trainings = dict(zip(about, names(kept), strict=True))
        several = [(folders[test], test.slice, test.digest[:8]) for test in folders]
        self.tests = dict(zip(folders, names(several), strict=True))
        self.notes: list[str] = []

    def content(self) -> Study:
        """All of it, as JSON."""
        gains: list[Row] = []
        for control in sorted(self.trainings, key=self.trainings.__getitem__):
            if "adapted" in self.about[control]:
                continue
            for test in self.tests:
                gains += self._gains(control, test)
        alone = [t for t in self.trainings if "adapted" in self.about[t] and not self._control(t)]
        self.notes += [
            f"{self.trainings[t]} has no control: no run of the same recipe without adaptation "
            "(task.options.adapt: null) is done"
            for t in alone
        ]
        return {
            "model": self.label,
            "task": self.task,
            "score": self.score,
            "gains": gains,
            "notes": list(dict.fromkeys(self.notes)),
        }

    def _control(self, adapted: Training) -> Training | None:
        """The training that an adapted one is compared with."""
        digest = self.about[adapted]["control"]
        plain = adapted._replace(digest=digest) if digest else None
        return plain if plain in self.trainings else None

    def _gains(self, control: Training, test: Slice) -> list[Row]:
        """What each adaptation of a training gains on a test set, where both were scored."""
        own = _by_seed(self.cells.get(_Place(control, test), ()))
        groups = defaultdict[tuple[int, ...], list[tuple[Training, Mapping[int, Row]]]](list)
        for training in self.trainings:
            runs = _by_seed(self.cells.get(_Place(training, test), ()))
            if runs and "adapted" in self.about[training] and self._control(training) == control:
                if seeds := tuple(sorted(own.keys() & runs.keys())):
                    groups[seeds].append((training, runs))
                if left := own.keys() ^ runs.keys():
                    listed = ", ".join(map(str, sorted(left)))
                    self.notes.append(
                        f"{self.trainings[training]} on {self.tests[test]}: left out seeds that "
                        f"only it or its control has: {listed}"
                    )
        found: list[Row] = []
        for seeds, some in groups.items():
            found += self._compared(control, test, seeds, own, some)
        return found

    def _compared(
        self,
        control: Training,
        test: Slice,
        seeds: Sequence[int],
        own: Mapping[int, Row],
        adapted: Sequence[tuple[Training, Mapping[int, Row]]],
    ) -> list[Row]:
        """The gains of adaptations that have the same seeds."""
        models = [ModelRuns(self.trainings[control], [own[seed] for seed in seeds])]
        models += [
            ModelRuns(self.trainings[training], [runs[seed] for seed in seeds])
            for training, runs in adapted
        ]
        (plain, *others), _, notes = infer(models)
        self.notes += [f"tested on {self.tests[test]}: {note}" for note in notes]
        base = plain.mean(self.score)
        found = []
        for (training, _), model in zip(adapted, others, strict=True):
            score = model.mean(self.score)
            assert base is not None and score is not None  # `scored_models` leaves others out
            row = {name: model.inferred.get(theirs) for name, theirs in _INFERRED.items()}
            found.append(
                {
                    "training": self.trainings[control],
                    "adapted": self.about[training]["adapted"],
                    "test": self.tests[test],
                    "own": control.own == test,
                    "images": plain.runs[0]["test_samples"],
                    "seeds": list(seeds),
                    "control": base,
                    "score": score,
                    **row,
                    "gain": score - base,
                    "covers": model.inferred.get("interval"),
                    "labelled": self._labelled(control, test),
                    "doubt": doubt([*plain.runs, *model.runs]),
                }
            )
        return found

    def _labelled(self, control: Training, test: Slice) -> Row | None:
        """The training that has the labels of a test set's kind: whose own test set it is."""
        for training, name in self.trainings.items():
            rows = self.cells.get(_Place(training, test))
            if (
                rows
                and training.own == test != control.own
                and "adapted" not in self.about[training]
            ):
                return {"training": name, "score": ModelRuns(name, rows).mean(self.score)}
        return None


def _by_seed(rows: Sequence[Row]) -> dict[int, Row]:
    """One run of each seed, the first of several."""
    found: dict[int, Row] = {}
    for row in sorted(rows, key=lambda row: str(row["run"])):
        if row["seed"] is not None:
            found.setdefault(int(row["seed"]), row)
    return found
