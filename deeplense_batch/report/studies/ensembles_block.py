"""The block of a page that says what the runs of a model score as one (`ensembles`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deeplense_batch.report.columns import number, p_value, score_name, with_interval
from deeplense_batch.report.plots.pictures import Picture
from deeplense_batch.report.plots.short_names import short_names
from deeplense_batch.report.studies.block import Block

__all__ = ["ensembles_block"]

_MOST_ROWS = 40  # more cannot be read in a figure
_MOST_NAMED = 12  # in a sentence
_SCORES = ("accuracy", "r2", "mae", "nll", "ece")  # beside the one that picks models

Row = Mapping[str, Any]


def ensembles_block(
    number: int, monitor: str, rows: Sequence[Row], notes: Sequence[str] = ()
) -> list[Block]:
    """Say what the ensembles of a comparison score; no block where there is nothing to say.

    Arguments:
        number: Of the comparison.
        monitor: The score that picks models.
        rows: The ensembles, and
        notes: what could not be computed (`ensembles`).
    """
    said = [f"Note: {note}." for note in notes]
    if not rows:
        return [Block("Ensembles", said)] if said else []
    sentences = [_averaged(monitor), _gains(monitor), *_verdicts(rows), *said]
    columns = _columns(monitor, rows)
    known = {head: cells for head, cells in columns.items() if any(c != "-" for c in cells)}
    lines = list(zip(*known.values(), strict=True))
    return [Block("Ensembles", sentences, [*known], lines, [_picture(number, monitor, rows)])]


def _averaged(monitor: str) -> str:
    if monitor == "log_prob":
        return (
            "An ensemble has the mixture of the posteriors that the runs of one model give, with "
            "equal weights. It takes no new run: the runs have kept the density of the truth."
        )
    if monitor == "r2":
        return (
            "An ensemble predicts the mean of the numbers that the runs of one model predict. It "
            "takes no new run: the runs have kept what they answered."
        )
    return (
        "An ensemble answers with the mean of the class probabilities that the runs of one model "
        "give, each calibrated by what its run fitted on its validation slice. It takes no new "
        "run: the runs have kept what they answered."
    )


def _gains(monitor: str) -> str:
    return (
        f"Its gain is its test {score_name(monitor)} minus that of its best member, the run that "
        "validation picks, or minus the mean of its members, as the table of models has them. "
        "Intervals (95%) and p-values (Holm, over the ensembles) are paired and cover the noise "
        "of the test sample, for these networks alone: other seeds would make other ensembles."
    )


def _verdicts(rows: Sequence[Row]) -> list[str]:
    """Say which ensembles differ from their best member by more than noise."""
    known = [(row["label"], row["over_best"]) for row in rows if row["over_best"]]
    resolved = [(label, gain) for label, gain in known if gain["resolved"]]
    groups = {
        "Better than its best member": [one for one in resolved if one[1]["gain"] > 0],
        "Worse than its best member": [one for one in resolved if one[1]["gain"] < 0],
        "Not resolved, compared with its best member": [
            one for one in known if not one[1]["resolved"]
        ],
    }
    return [f"{what}: {_named(some)}." for what, some in groups.items() if some]


def _named(gains: Sequence[tuple[str, Row]]) -> str:
    more = f"; and {len(gains) - _MOST_NAMED} more" if len(gains) > _MOST_NAMED else ""
    return "; ".join(f"{label}, {_by(gain)}" for label, gain in gains[:_MOST_NAMED]) + more


def _by(gain: Row) -> str:
    return f"{_gain(gain)}, p {p_value(gain['p_value'])}"


def _gain(gain: Row | None) -> str:
    if gain is None:
        return "-"
    return with_interval(gain["gain"], gain["low"], gain["high"], signed=True)


def _verdict(gain: Row | None) -> str:
    if gain is None:
        return "-"
    word = "better" if gain["gain"] > 0 else "worse"
    return f"{word if gain['resolved'] else 'not resolved'}, p {p_value(gain['p_value'])}"


def _columns(monitor: str, rows: Sequence[Row]) -> dict[str, list[str]]:
    """The cells of the table, by the head of their column."""
    name = score_name(monitor)
    scores = [score for score in _SCORES if score in rows[0]]
    return {
        "model": [row["label"] for row in rows],
        "members": [number(row["members"], 0) for row in rows],
        f"valid {name}": [number(row["valid_score"]) for row in rows],
        f"test {name}": [_with_interval(row, monitor) for row in rows],
        "best member": [number(row["best_score"]) for row in rows],
        "gain over it": [_gain(row["over_best"]) for row in rows],
        "verdict": [_verdict(row["over_best"]) for row in rows],
        "mean of members": [number(row["mean_score"]) for row in rows],
        "gain over their mean": [_gain(row["over_mean"]) for row in rows],
        "verdict on that": [_verdict(row["over_mean"]) for row in rows],
        **{score_name(score): [_with_interval(row, score) for row in rows] for score in scores},
        score_name("ece_floor"): [number(row.get("ece_floor")) for row in rows],
    }


def _with_interval(row: Row, name: str) -> str:
    return with_interval(*(row.get(f"{name}{part}") for part in ("", "_low", "_high")))


def _picture(number: int, monitor: str, rows: Sequence[Row]) -> Picture:
    labels = short_names([row["label"] for row in rows])
    shown = [
        {
            "label": label,
            "ensemble": row[monitor],
            "low": row[f"{monitor}_low"],
            "high": row[f"{monitor}_high"],
            "members": row["member_scores"],
            "best": row["best_score"],
            "mean": row["mean_score"],
        }
        for label, row in zip(labels, rows[:_MOST_ROWS], strict=False)
    ]
    name = f"test {score_name(monitor)}"
    caption = (
        f"{name[0].upper()}{name[1:]} of the ensemble of each model's runs, and of its members"
    )
    more = len(rows) - len(shown)
    caption += f"; it shows the first {len(shown)} and leaves out {more}." if more else "."
    file = "ensembles" if number == 1 else f"ensembles-{number}"
    return Picture(file, "ensembles", {"models": shown, "score": name}, caption)
