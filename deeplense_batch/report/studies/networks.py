"""Which networks finished runs score: of which model, trained on what, tested on what.

A training scores its network on a slice of its own data, an evaluation scores it on any other. A
*model* is a job's network with its settings, whatever it learnt from and whatever its seed. What
it learnt from is a *training*: images, and what the recipe makes of them, `_DETAILS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from deeplense_batch.report.run_table import Row, score_of

__all__ = ["SCORES", "Scored", "Slice", "Training", "averaged_otherwise", "names", "scored_models"]

SCORES = ("auc", "r2", "log_prob")  # scores that pick weights, of tasks that answer for each image

# Fields of a recipe that say which images are learnt from and scored, and those that say which of
# them pick the weights, what they are called and which bands of them are seen.
_DETAILS = ("data.valid", "data.classes", "data.channels")
_SETS = ("data.root", "data.roots", "data.curriculum", "data.simulate")
_OF_DATA = (*_SETS, "data.train", "data.test", "data.fold", *_DETAILS)
_OF_EVALUATION = "evaluate."

Model = tuple[Any, ...]  # what a model is known by


class Slice(NamedTuple):
    """One slice of one set of images."""

    digest: str  # of the set
    slice: str


class Training(NamedTuple):
    """What a network was trained on, and the test set that its recipe names."""

    digest: str  # a text that names the content
    own: Slice
    details: tuple[tuple[str, str], ...] = ()  # `_DETAILS` that are set, by name, as text


class Scored(NamedTuple):
    """A finished run: one network on one test set."""

    row: Row
    network: str  # identity of its training, the same in every evaluation of it
    training: Training
    test: Slice


def scored_models(rows: Sequence[Row]) -> list[tuple[str, list[Scored]]]:
    """Group finished runs by the model that they score; its label, and its runs.

    Left out are rows of other programs, and of tasks that give no answer for each image.

    Arguments:
        rows: Of the table, with their ``recipe`` (`run_table.read_rows`).
    """
    scored = [one for row in rows if (one := _scored(row)) is not None]
    settings: dict[str, dict[str, str]] = {}
    # Evaluations by a later version know more fields of a recipe: that of the training counts.
    for one in sorted(scored, key=lambda one: "evaluated" in one.row):
        settings.setdefault(one.network, _settings(one.row))
    models: dict[Model, list[Scored]] = {}
    for one in scored:
        row = one.row
        classes = tuple(sorted(name for name in row if name.startswith("auc_")))
        own = tuple(sorted((settings[one.network] | _averaging(row)).items()))
        kind = (row["model"], _job(row), row["task"], row["learns"] or "", classes)
        models.setdefault((*kind, own), []).append(one)
    return list(zip(_labels(list(models)), models.values(), strict=True))


def names(kept: Sequence[Sequence[str]]) -> list[str]:
    """Tell things apart: by the first name of each, and by more where that is another's too.

    Arguments:
        kept: As many names of each, the most telling first; empty where there is none.
    """
    found: dict[int, str] = {}
    deepest = max(map(len, kept), default=0)
    for depth in range(1, deepest + 1):
        tried = [", ".join(dict.fromkeys(filter(None, one[:depth]))) for one in kept]
        counts = Counter(tried)
        for i, name in enumerate(tried):
            if counts[name] == 1 or depth == deepest:
                found.setdefault(i, name)
    return [found[i] for i in range(len(kept))]


def _scored(row: Row) -> Scored | None:
    """The network of a run, and where it was tested; None where it is not known."""
    training, monitor = row.get("training"), row.get("monitor")
    if row["state"] != "done" or not row["test"] or not training or monitor not in SCORES:
        return None
    if score_of(row, str(monitor)) is None:
        return None
    test = Slice(str(row["data_digest"]), str(row["test"]))
    evaluated = row.get("evaluated")
    if evaluated is None:
        network, own = row.get("identity") or row["run"], test
    elif evaluated["digest"] is None or evaluated["test"] is None:  # of an earlier version
        return None
    else:
        network, own = evaluated["identity"], Slice(evaluated["digest"], evaluated["test"])
    details = tuple(sorted((f, v) for f, v in _fields(row).items() if _is_of(f, _DETAILS)))
    learnt = Training(training["digest"] or training["name"], own, details)
    return Scored(row, str(network), learnt, test)


def _job(row: Row) -> str:
    """Name of the job that trained the network."""
    evaluated = row.get("evaluated") or {}
    return str(evaluated.get("job") or row["job"])


def _settings(row: Row) -> dict[str, str]:
    """Fields of its recipe that are no matter of data."""
    return {
        field: value
        for field, value in _fields(row).items()
        if not field.startswith(_OF_EVALUATION) and not _is_of(field, _OF_DATA)
    }


def _fields(row: Row) -> dict[str, str]:
    """Fields of its recipe as text; those that are null left out."""
    return {field: str(value) for field, value in row["recipe"].items() if value is not None}


def _is_of(field: str, names: Sequence[str]) -> bool:
    """Whether a field is one of these, or within one."""
    return any(field == name or field.startswith(f"{name}.") for name in names)


def _averaging(row: Row) -> dict[str, str]:
    """Whether scores are of means over the symmetries of the square: as it was tested."""
    return {} if row.get("tta") is None else {"data.tta": str(row["tta"])}


def _labels(models: Sequence[Model]) -> list[str]:
    """Name each model by its network and the settings that tell it from others of its job."""
    kept = []
    for model, job, task, learns, classes, settings in models:
        alike = [dict(other[-1]) for other in models if other[:2] == (model, job)]
        fields = dict.fromkeys(field for one in alike for field in one)
        differ = [f for f in fields if len({one.get(f) for one in alike}) > 1]
        own = dict(settings)
        variant = " ".join(f"{field}={own[field]}" for field in differ if field in own)
        known = ", ".join(name.removeprefix("auc_") for name in classes)
        kept.append((" ".join(filter(None, (model, variant))), job, task, learns, known))
    return names(kept)


def averaged_otherwise(scored: Sequence[Scored], every: Sequence[Scored]) -> list[str]:
    """Say how many runs score the same networks with or without a mean over symmetries."""
    networks, tta = {one.network for one in scored}, scored[0].row.get("tta")
    others = [one.row.get("tta") for one in every if one.network in networks]
    said = []
    for kind, words in ((True, "with"), (False, "without")):
        if tta is not kind and (count := others.count(kind)):
            runs = "1 run that scores" if count == 1 else f"{count} runs that score"
            said.append(
                f"left out: {runs} these networks {words} the mean over the symmetries of the "
                f"square (tta); see the table of all runs"
            )
    return said
