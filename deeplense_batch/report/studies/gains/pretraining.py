"""What a network gains from pretrained weights: the same network, labels and seeds without them.

Two models of a comparison are a pair where they are of one job and network, trained on the same
images, and differ in ``train.init`` alone: one names weights, the other starts at random. The gain
of a pair is its score from these weights less that from scratch, as `significance.infer` compares
two models: on the same resamples of the test samples, with the noise of the seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

from deeplense_batch.report.columns import number, p_value, score_name, with_interval
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.plots.lines import MOST_LINES
from deeplense_batch.report.plots.pictures import Picture
from deeplense_batch.report.plots.short_names import named_networks
from deeplense_batch.report.run_table import Row
from deeplense_batch.report.significance import infer
from deeplense_batch.report.statistics.resamples import Resamples
from deeplense_batch.report.statistics.variance import LEVEL, holm
from deeplense_batch.report.studies.block import Block

__all__ = ["gains", "pretraining_blocks"]

_INIT, _FREEZE = "train.init", "train.freeze"
_FROZEN = (
    "What is frozen keeps the weights that it starts from. Where all but the head is, the network "
    "is a linear probe of these weights."
)


def gains(models: Sequence[ModelRuns], resamples: Resamples) -> list[Row]:
    """Compare every pair; those of one network and setting together, by their training images.

    Arguments:
        models: Of one comparison.
        resamples: Of their runs.

    Returns:
        A row for each pair: ``network``, with the settings that tell it from others; ``init``;
        ``train_samples``; mean scores ``scratch`` and ``pretrained``; ``gain`` with ``low``,
        ``high`` (95%), ``p_value`` (Holm, over the pairs) and ``resolved``, None where no
        predictions were kept; ``frozen``, whether parts of the network are not trained; and
        ``runs``, how many each of the two has.
    """
    pairs = _pairs(models)
    names = named_networks([pretrained.runs[0] for _, pretrained in pairs], but=[_INIT])
    rows = [
        {"network": name, **_compared(scratch, pretrained, resamples)}
        for name, (scratch, pretrained) in zip(names, pairs, strict=True)
    ]
    known = [row for row in rows if row["p_value"] is not None]
    for row, adjusted in zip(known, holm([row["p_value"] for row in known]), strict=True):
        row |= {"p_value": adjusted, "resolved": adjusted < LEVEL}
    return sorted(rows, key=lambda row: (row["network"], row["init"], row["train_samples"] or 0))


def pretraining_blocks(place: int, monitor: str, rows: Sequence[Row]) -> list[Block]:
    """Say what pretraining gains in a comparison; no block where nothing can be compared.

    Arguments:
        place: Of the comparison, which tells its figures from those of others.
        monitor: The score that picks models.
        rows: Of `gains`.
    """
    if not rows:
        return []
    score = f"test {score_name(monitor)}"
    sentences = [
        f"The same network from pretrained weights and from random ones, trained on the same "
        f"images: the gain is the {score} of the first minus that of the second. Intervals (95%) "
        "are paired and cover the noise of the test sample, and of the seeds where there are "
        f"several; p-values are adjusted over the pairs (Holm, {len(rows)}).",
        *([_FROZEN] if any(row.get("frozen") for row in rows) else []),
        *_verdicts(rows),
    ]
    lines = [
        [
            row["network"], row["init"], str(row["train_samples"] or "-"),
            number(row["scratch"]), number(row["pretrained"]),
            with_interval(row["gain"], row["low"], row["high"], signed=True), _verdict(row),
        ]
        for row in rows
    ]  # fmt: skip
    head = ["network", "pretrained by", "training images", f"{score} from scratch"]
    head += [f"{score} pretrained", "gain", "verdict"]
    pictures = _pictures(place, score, rows)
    headline = _headline(score, rows)
    return [Block("Pretrained against scratch", sentences, head, lines, pictures, headline)]


def _pairs(models: Sequence[ModelRuns]) -> list[tuple[ModelRuns, ModelRuns]]:
    """Each model that starts from weights, after the one that does not."""
    from_scratch = {_but_start(model): model for model in models if _start(model) is None}
    return [
        (from_scratch[_but_start(model)], model)
        for model in models
        if _start(model) is not None and _but_start(model) in from_scratch
    ]


def _start(model: ModelRuns) -> str | None:
    return (model.runs[0].get("settings") or {}).get(_INIT)


def _but_start(model: ModelRuns) -> tuple[str, ...]:
    """All that two models of a pair share."""
    run = model.runs[0]
    settings = {f: str(v) for f, v in (run.get("settings") or {}).items() if f != _INIT}
    training = run.get("training") or {}
    learnt = training.get("digest") or training.get("name") or ""
    return (str(run["job"]), str(run["model"]), str(learnt), repr(sorted(settings.items())))


def _compared(scratch: ModelRuns, pretrained: ModelRuns, resamples: Resamples) -> Row:
    run, monitor = pretrained.runs[0], pretrained.monitor
    (_, inferred), _, _ = infer([scratch, pretrained], resamples)
    found = inferred.inferred
    means = scratch.mean(monitor), pretrained.mean(monitor)
    known = None if None in means else means[1] - means[0]  # type: ignore[operator]  # no None
    return {
        "init": str(run["settings"][_INIT]),
        "frozen": bool(run["settings"].get(_FREEZE)),
        "train_samples": run.get("train_samples"),
        "scratch": means[0],
        "pretrained": means[1],
        "gain": found.get("difference", known),
        "low": found.get("difference_low"),
        "high": found.get("difference_high"),
        "p_value": found.get("p_value"),
        "resolved": None,
        "runs": [len(scratch.runs), len(pretrained.runs)],
    }


def _verdicts(rows: Sequence[Row]) -> list[str]:
    """Say where pretraining gains, where it costs, and where that is not known."""
    groups = {
        "Better from pretrained weights": [r for r in rows if r["resolved"] and r["gain"] > 0],
        "Worse from pretrained weights": [r for r in rows if r["resolved"] and r["gain"] < 0],
        "Not resolved": [r for r in rows if not r["resolved"]],
    }
    return [f"{what}: {'; '.join(map(_named, some))}." for what, some in groups.items() if some]


def _headline(score: str, rows: Sequence[Row]) -> str:
    """The gain of each network at each number of images, and whether it is resolved."""
    networks: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        gain = with_interval(row["gain"], row["low"], row["high"], signed=True)
        verdict = _verdict(row).partition(",")[0].replace("-", "no interval")
        said = f"{gain} on {row['train_samples'] or 'unknown'} images ({verdict})"
        networks.setdefault((row["network"], row["init"]), []).append(said)
    several = len({init for _, init in networks}) > 1
    named = [
        f"{network}{f', from {init}' if several else ''}: {', '.join(said)}"
        for (network, init), said in networks.items()
    ]
    return f"Gain of {score} from pretrained weights: {'; '.join(named)}."


def _named(row: Row) -> str:
    return f"{row['network']}, {row['train_samples']} images"


def _verdict(row: Row) -> str:
    if row["p_value"] is None:
        return "-"
    word = "better" if row["gain"] > 0 else "worse"
    return f"{word if row['resolved'] else 'not resolved'}, p {p_value(row['p_value'])}"


def _pictures(place: int, score: str, rows: Sequence[Row]) -> list[Picture]:
    """The gain against the number of training images, where that varies."""
    curves: dict[str, list[list[float | None]]] = {}
    for row in rows:
        if row["train_samples"] and row["gain"] is not None:
            one = [row["train_samples"], row["gain"], row["low"], row["high"]]
            curves.setdefault(f"{row['network']}, {row['init']}", []).append(one)
    if not any(len(own) > 1 for own in curves.values()):
        return []
    shown = [{"label": label, "gains": own} for label, own in curves.items()]
    caption = f"What pretraining gains of {score} against the number of training images"
    more = len(shown) - MOST_LINES
    caption += (
        f"; it shows the first {MOST_LINES} lines and leaves out {more}." * (more > 0) or "."
    )
    file = "pretraining" if place == 1 else f"pretraining-{place}"
    return [
        Picture(
            file, "gain_against_labels", {"curves": shown[:MOST_LINES], "score": score}, caption
        )
    ]
