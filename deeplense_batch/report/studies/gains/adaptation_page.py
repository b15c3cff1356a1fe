"""The block of a page that says what adaptation gains (`gains`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deeplense_batch.report.columns import number, p_value, score_name, with_interval
from deeplense_batch.report.studies.block import Block

__all__ = ["adaptation_blocks", "summaries"]

Study = Mapping[str, Any]
Gain = Mapping[str, Any]


def adaptation_blocks(studies: Sequence[Study]) -> list[Block]:
    """Say what adaptation gains, a block for each model.

    Arguments:
        studies: As `results.json` holds them.
    """
    return [_block(study) for study in studies]


def summaries(studies: Sequence[Study]) -> list[str]:
    """The verdict on every model, a line for a terminal."""
    return [f"{_title(study)}: {_headline(study)}" for study in studies]


def _title(study: Study) -> str:
    return f"Adapted to images without labels: {study['model']}"


def _block(study: Study) -> Block:
    gains, score = study["gains"], score_name(study["score"])
    headline = _headline(study)
    sentences = [
        f"{headline[0].upper()}{headline[1:]}.",
        *_verdicts(gains, study["score"]),
        *([_about(score, gains)] if gains else []),
        *_doubts(gains),
        *(f"Note: {note}." for note in study["notes"]),
    ]
    head = ["trained on", "adapted to", "tested on", "seeds", f"{score} of the control"]
    head += [f"{score}, adapted", "gain", "verdict"]
    labelled = any(gain["labelled"] for gain in gains)
    head += [f"{score}, trained with such labels"] * labelled
    lines = [_line(gain, labelled=labelled) for gain in gains]
    return Block(_title(study), sentences, head if lines else [], lines, headline=sentences[0])


def _line(gain: Gain, *, labelled: bool) -> list[str]:
    known = gain["labelled"]
    own = " (own)" if gain["own"] else ""
    doubt = f" ({gain['doubt']})" if gain["doubt"] else ""
    line = [gain["training"], gain["adapted"], f"{gain['test']}{own}{doubt}"]
    line += [str(len(gain["seeds"])), number(gain["control"]), number(gain["score"])]
    line += [_value(gain), _verdict(gain)]
    return line + ([number(known["score"]) if known else "-"] if labelled else [])


def _value(gain: Gain) -> str:
    return with_interval(gain["gain"], gain["low"], gain["high"], signed=True)


def _verdict(gain: Gain) -> str:
    if gain["resolved"] is None:
        return "-"
    word = "better" if gain["gain"] > 0 else "worse"
    return f"{word if gain['resolved'] else 'not resolved'}, p {p_value(gain['p_value'])}"


def _headline(study: Study) -> str:
    """The greatest gain on images that are not the control's own, of gains in no doubt."""
    score = score_name(study["score"])
    away = [gain for gain in study["gains"] if not gain["own"] and not gain["doubt"]]
    if not away:
        return (
            f"no gain of {score} is known, since it takes an adapted network and its control, "
            "both scored on images like those adapted to"
        )
    best = max(away, key=lambda gain: gain["gain"])
    known = "no interval" if best["resolved"] is None else _verdict(best)
    return f"the greatest gain of {score} is {_value(best)} ({known}), {_named(best)}"


def _named(gain: Gain) -> str:
    return f"{gain['training']} adapted to {gain['adapted']}, tested on {gain['test']}"


def _verdicts(gains: Sequence[Gain], score: str) -> list[str]:
    """Say which gains are more than noise, and how large one could have been seen."""
    known = [gain for gain in gains if gain["resolved"] is not None and not gain["doubt"]]
    groups = {
        "Better than the control": [g for g in known if g["resolved"] and g["gain"] > 0],
        "Worse than the control": [g for g in known if g["resolved"] and g["gain"] <= 0],
    }
    said = [f"{what}: {'; '.join(map(_named, some))}." for what, some in groups.items() if some]
    open_ = [gain for gain in known if not gain["resolved"]]
    if open_:
        named = "; ".join(
            f"{_named(g)}"
            + (f" (a gain of {g['visible']:.3f} could be seen)" if g["visible"] else "")
            for g in open_
        )
        said.append(f"Not resolved, so that no gain of {score_name(score)} is shown: {named}.")
    return said


def _about(score: str, gains: Sequence[Gain]) -> str:
    """What a gain is, and what its interval covers."""
    covers = {gain["covers"] for gain in gains if gain["low"] is not None}
    noise = "other test images and other trainings (seeds)"
    if len(covers) > 1:
        noise += ", and where there is one seed other test images alone"
    elif covers == {"samples"}:
        noise = "other test images, not other trainings, as there is one seed"
    intervals = f" Intervals (95%) cover {noise}" if covers else " No interval is known"
    return (
        f"A gain is the test {score} of the adapted networks minus that of the control, the same "
        f"recipe without adaptation on the same seeds, on the same images.{intervals}; p-values "
        "are adjusted for the number of adaptations of a control on a test set (Holm). The best "
        "epoch of both was picked by labelled images of the source alone. Batch norm of an "
        "adapted network has seen both sets, which is part of the gain."
    )


def _doubts(gains: Sequence[Gain]) -> list[str]:
    doubted = [gain for gain in gains if gain["doubt"]]
    named = "; ".join(f"{_named(gain)} ({gain['doubt']})" for gain in doubted)
    return [f"Not to be trusted, and left out of what is said: {named}."] if doubted else []
