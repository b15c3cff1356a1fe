"""The block of a page that shows a selection function: sentences, a table and figures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deeplense_batch.data.formats.counted import counted
from deeplense_batch.report.columns import number
from deeplense_batch.report.plots.pictures import Picture
from deeplense_batch.report.plots.short_names import short_names
from deeplense_batch.report.run_table import Row
from deeplense_batch.report.studies.block import Block
from deeplense_batch.report.studies.selection.measures import FEWEST, TITLES

__all__ = ["selection_blocks"]

_OVERLAID = 6  # models of a figure
_OWN = 8  # models with a figure of their own, and lines of the table
_UNEVEN = 1.5  # times as many images as another bin
_DRAWN = (  # of a regression the rest is in the table
    *("completeness", "purity", "false_positive_rate", "auc", "accuracy", "recall"),
    *("median_error", "scatter"),
)


def selection_blocks(comparison: int, found: Mapping[str, Row]) -> list[Block]:
    """Show the studies of one comparison.

    Arguments:
        comparison: Its number.
        found: What `selection.study` gave, by column.
    """
    return [
        _block(f"{_slug(column)}_{place}" if _clashes(column, found) else _slug(column),
               comparison, column, one)
        for place, (column, one) in enumerate(found.items(), start=1)
    ]  # fmt: skip


def _slug(column: str) -> str:
    """A column as a part of the name of a file."""
    return re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_") or "column"


def _clashes(column: str, columns: Mapping[str, Any]) -> bool:
    return sum(_slug(column) == _slug(other) for other in columns) > 1


def _block(slug: str, comparison: int, column: str, found: Row) -> Block:
    title = f"By {column}"
    if "fault" in found:
        return Block(title, [f"No selection function: {found['fault']}."])
    pictures = _pictures(slug, f"-{comparison}" if comparison > 1 else "", column, found)
    head, lines = _table(column, found)
    return Block(title, _sentences(column, found), head, lines, pictures)


def _sentences(column: str, found: Row) -> list[str]:
    counts, without = found["counts"], found["without"]
    if found["equal"]:
        own = [found["searched"]] if found["searched"] in counts else [*counts]
        named = found["searched"] in counts or without
        whose = f"images of class {_and(own)}" if named else "images"
        images = [sum(some) for some in zip(*(counts[name] for name in own), strict=True)]
        bins = f"Bins of {column} hold {_how_many(images, whose)}."
    elif found["edges"] is None:
        bins = f"Each value of {column} is a bin."
    else:
        bins = f"Bins of {column} lie between the edges that were asked for."
    sentences = [bins]
    if without:
        names = _and([f"{name} ({n})" for name, n in without.items()])
        sentences.append(
            f"{column} is unknown or 0 in every image of class {names}, which has none of it; the "
            "AUC of a bin is that against all of these images."
        )
    sentences += _lacking(found)
    sentences += _about_measures(found)
    for name, why in (("unknown", "is not known"), ("outside", "is outside of the edges")):
        if found[name]:
            sentences.append(
                f"{counted(found[name], 'further image')} whose {column} {why} "
                f"{'is' if found[name] == 1 else 'are'} in no bin."
            )
    resampled = found["resampled"]
    over = f"groups of images (column {resampled})" if resampled else "test images"
    several = any(model["runs"] > 1 for model in found["models"])
    mean = "Numbers are means over the runs of a model. " if several else ""
    sentences.append(
        f"{mean}Intervals, of 95 %, are those of a bootstrap over {over}, and say nothing of "
        f"other trainings. A number of fewer than {FEWEST} images of a kind is not given (-)."
    )
    if (more := len(found["models"]) - _OWN) > 0:
        sentences.append(
            f"The first {_OWN} models are shown; results.json has the numbers of {more} more."
        )
    return [*sentences, *(f"{note}." for note in found["notes"])]


def _how_many(images: Sequence[int], whose: str) -> str:
    """How many images of those divided equally each bin holds: not alike where values are."""
    least, most = min(images), max(images)
    if most > _UNEVEN * least + 1:
        return f"{least} to {most} {whose}: not equally many, since equal values are never parted"
    return f"about equally many {whose}"


def _lacking(found: Row) -> list[str]:
    """Say which bins have no image of a class that has the quantity."""
    said = []
    for name, images in found["counts"].items():
        if bins := [label for label, n in zip(found["labels"], images, strict=True) if not n]:
            said.append(f"{_and(bins)} ({name})")
    return [f"Bins without any image of a class: {'; '.join(said)}."] if said else []


def _about_measures(found: Row) -> list[str]:
    """What the numbers are that a reader might take for something else."""
    searched = found["searched"]
    said = {
        "completeness": f"Completeness is the share of the images of class {searched} that reach "
        "the threshold which each run has chosen on its validation slice.",
        "purity": f"Purity is the share of class {searched} among all images of a bin that reach "
        "the threshold; it depends on the share of that class in the bin, which the table gives.",
        "false_positive_rate": "The false positive rate is the share of images that reach the "
        "threshold which each run has chosen on its validation slice.",
        "recall": "Recall is the share that is given its own class.",
        "median_error": "The error is the predicted number less the true one; its scatter is half "
        "of the range that holds 68 %. R2 is low where the truth varies little within a bin.",
    }
    return [text for name, text in said.items() if name in found["measures"]]


def _table(column: str, found: Row) -> tuple[list[str], list[list[str]]]:
    """A line for each bin of each of the first models."""
    counts, searched = found["counts"], found["searched"]
    shares = "purity" in found["measures"]
    several = len(found["models"]) > 1
    head = [*(["model"] if several else []), column, *counts]
    head += [f"share of {searched}"] if shares else []
    head += [TITLES[name] for name in found["measures"]]
    lines = []
    for model in found["models"][:_OWN]:
        for k, label in enumerate(found["labels"]):
            images = [values[k] for values in counts.values()]
            line = [*([model["label"]] if several else []), label, *map(str, images)]
            line += [number(counts[searched][k] / max(sum(images), 1), 3)] if shares else []
            line += [_cell(model["numbers"][name][k]) for name in found["measures"]]
            lines.append(line)
    return head, lines


def _cell(cell: Row | None) -> str:
    """A number with its interval, to the hundredth of the interval's width."""
    if cell is None:
        return "-"
    value, low, high = cell["value"], cell["low"], cell["high"]
    if low is None:
        return number(value, 3)
    digits = max(0, 2 - math.floor(math.log10(high - low))) if high > low else 3
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def _pictures(slug: str, suffix: str, column: str, found: Row) -> list[Picture]:
    """The models of a comparison together, then one by one."""
    labels = short_names([model["label"] for model in found["models"]])
    models = [
        {"label": label, "numbers": model["numbers"]}
        for label, model in zip(labels, found["models"], strict=True)
    ]
    pictures: list[Picture] = []
    if len(models) > 1:
        more = len(models) - _OVERLAID
        left_out = f", the first {_OVERLAID} of {len(models)} models" if more > 0 else ""
        name = f"by_{slug}{suffix}"
        pictures += _picture(name, column, found, models[:_OVERLAID], left_out)
    for rank, model in enumerate(models[:_OWN], start=1):
        name = f"by_{slug}_model_{rank}{suffix}" if len(models) > 1 else f"by_{slug}{suffix}"
        pictures += _picture(name, column, found, [model], f", {model['label']}")
    return pictures


def _picture(
    name: str, column: str, found: Row, models: Sequence[Row], of: str
) -> Iterator[Picture]:
    """Some models in one figure; none where they have no number in any bin."""
    panels = {
        number: TITLES[number]
        for number in found["measures"]
        if number in _DRAWN and any(any(model["numbers"][number]) for model in models)
    }
    if not panels:
        return
    arguments: dict[str, Any] = {"column": column, "panels": panels}
    arguments |= {key: found[key] for key in ("labels", "edges", "medians", "counts")}
    arguments["models"] = [
        {"label": model["label"], "numbers": {one: model["numbers"][one] for one in panels}}
        for model in models
    ]
    words = _and([*panels.values()])
    caption = f"{words[0].upper()}{words[1:]} by {column}{of}."
    yield Picture(name, "by_quantity", arguments, caption)


def _and(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1]
