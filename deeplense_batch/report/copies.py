"""Directories that hold one and the same run: a copy, a backup or a link is no further seed.

A run is known by the name of its job and its identity, which is in its result or else in the name
of its folder. Of several directories of one run the furthest counts (done before running, stopped
and the rest; one with its predictions before one without); then the one written last; then a
folder before a link, and one in its job's folder, with the shorter name, before others. Two
results for one identity are a contradiction: the report says so, and they are never averaged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplense_batch.report.run_table import Row, score_of

__all__ = ["one_of_each"]

_NAMED = re.compile(r"-s\d+-([0-9a-f]{10})(?![0-9a-z])")  # the identity, in a folder's name
_FURTHEST = ("done", "running", "stopped", "queued", "failed", "lost", "planned", "unreadable")
_SCORES = re.compile(r"auc(_.*)?|accuracy|balanced_accuracy|nll|valid_score")
_MOST_SENTENCES = 20  # of single copies


def one_of_each(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Take one directory of every run.

    Arguments:
        rows: Of all directories (`run_table.read_rows`).

    Returns:
        The rows of those that count, in their order, and a sentence for each that does not.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row, key in zip(rows, _keys(rows), strict=True):
        groups.setdefault(key, []).append(row)
    counted, sentences = set(), list[str]()
    for group in groups.values():
        first, *others = sorted(group, key=_rank, reverse=True) if len(group) > 1 else group
        counted.add(first["run"])
        sentences += [_sentence(other, first) for other in others]
    sentences.sort(key=lambda sentence: not sentence.startswith("CONTRADICTION"))
    if (more := len(sentences) - _MOST_SENTENCES) > 0:
        sentences[_MOST_SENTENCES:] = [f"And {more} more directories that are copies."]
    return [row for row in rows if row["run"] in counted], sentences


def _keys(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """What each run is known by; a renamed one that has no result yet, by its recipe."""
    identities = [_identity(row) for row in rows]
    recipes = [_recipe(row) for row in rows]
    known = {r: i for r, i in zip(recipes, identities, strict=True) if r and i}
    keys: list[tuple[Any, ...]] = []
    for row, identity, recipe in zip(rows, identities, recipes, strict=True):
        identity = identity or known.get(recipe)
        keys.append((row["job"], identity) if identity else ("", row["run"]))
    return keys


def _identity(row: Row) -> str | None:
    path = Path(row["run"])
    named = _NAMED.search((path.resolve() if path.is_symlink() else path).name)
    return row.get("identity") or (named[1] if named else None)


def _recipe(row: Row) -> str:
    fields = {k: v for k, v in row["recipe"].items() if k != "seed"}
    return repr((row["job"], row["model"], row["seed"], row["data_root"], fields)) * bool(fields)


def _rank(row: Row) -> tuple[Any, ...]:
    run = Path(row["run"])
    in_job_folder = run.parent.name == row["job"] and _NAMED.search(run.name + "\n") is not None
    whole = bool(_predictions(row))
    return (
        *(-_FURTHEST.index(row["state"]), whole, row["updated"] or "", not _linked(run)),
        *(in_job_folder, -len(run.parts), -len(run.name), [-ord(letter) for letter in row["run"]]),
    )


def _linked(run: Path) -> bool:
    return run.is_symlink() or run.parent.is_symlink()


def _sentence(other: Row, counted: Row) -> str:
    """Say what a directory is that does not count."""
    copy, first = other["run"], counted["run"]
    if Path(copy).samefile(first):
        return f"{copy} is a link to {first}, the same run, which counts once."
    if other["state"] != counted["state"]:
        return (
            f"{copy} ({other['state']}) is another copy of the run {first} ({counted['state']}), "
            "which counts once."
        )
    if counted["state"] != "done" or _agree(other, counted):
        return f"{copy} is a copy of {first}, the same run, which counts once."
    scores = " and ".join(_score(row) for row in (counted, other))
    return (
        f"CONTRADICTION: {first} and {copy} are one run with two results ({scores}); only the "
        "first counts, which was written last."
    )


def _agree(one: Row, other: Row) -> bool:
    """Whether two directories hold one result; predictions that are lost contradict none."""
    files = filter(None, (_predictions(row) for row in (one, other)))
    digests = {hashlib.sha256(content).digest() for content in files}
    return _scores(one) == _scores(other) and len(digests) < 2


def _scores(row: Row) -> tuple[Any, ...]:
    return {n: value for n, value in row.items() if _SCORES.fullmatch(n)}, row.get("more")


def _predictions(row: Row) -> bytes:
    """What the run predicted on its test slice, as it is on the disk; nothing where it is not."""
    path = Path(row["run"]) / "outputs.npz"
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def _score(row: Row) -> str:
    name = row.get("monitor") or "auc"
    value = score_of(row, name)
    return f"test {name} {'unknown' if value is None else format(value, '.6f')}"
