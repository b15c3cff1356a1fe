"""Directories that hold one and the same run: a copy, a backup or a link is no further seed.

A run is known by the name of its job and by its identity, which its result says, or else the name
of its folder. Of several directories of one run, that which is furthest counts (done before
running, stopped and the rest; one with its answers before one without); then that which was
written last; then a folder before a link, and one in its job's folder, of the shorter name, before
others. Two results for one identity are a contradiction: they are told, and never averaged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplense_batch.report.run_table import Row

__all__ = ["one_of_each"]

_NAMED = re.compile(r"-s\d+-([0-9a-f]{10})(?![0-9a-z])")  # the identity, in a folder's name
_FURTHEST = ("done", "running", "stopped", "queued", "failed", "lost", "planned", "unreadable")
_SCORES = re.compile(r"auc(_.*)?|accuracy|balanced_accuracy|nll|valid_score")
_TOLD = 20  # copies that are told one by one


def one_of_each(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Take one directory of every run.

    Arguments:
        rows: Of all directories (`rows.read_rows`).

    Returns:
        The rows of those that count, in their order, and a sentence for each that does not.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row, key in zip(rows, _keys(rows), strict=True):
        groups.setdefault(key, []).append(row)
    taken, said = [], list[str]()
    for group in groups.values():
        first, *others = sorted(group, key=_rank, reverse=True) if len(group) > 1 else group
        taken.append(first["run"])
        said += [_told(other, first) for other in others]
    said.sort(key=lambda sentence: not sentence.startswith("CONTRADICTION"))
    more = [f"And {len(said) - _TOLD} more directories that are copies."]
    kept = set(taken)
    return [row for row in rows if row["run"] in kept], said[:_TOLD] + more * (len(said) > _TOLD)


def _keys(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """What each run is known by; a renamed one that has no result yet, by its recipe."""
    identities = [_identity(row) for row in rows]
    recipes = [_recipe(row) for row in rows]
    known = {r: i for r, i in zip(recipes, identities, strict=True) if r and i}
    found: list[tuple[Any, ...]] = []
    for row, identity, recipe in zip(rows, identities, recipes, strict=True):
        identity = identity or known.get(recipe)
        found.append((row["job"], identity) if identity else ("", row["run"]))
    return found


def _identity(row: Row) -> str | None:
    path = Path(row["run"])
    named = _NAMED.search((path.resolve() if path.is_symlink() else path).name)
    return row.get("identity") or (named[1] if named else None)


def _recipe(row: Row) -> str:
    fields = {k: v for k, v in row["recipe"].items() if k != "seed"}
    return repr((row["job"], row["model"], row["seed"], row["data_root"], fields)) * bool(fields)


def _rank(row: Row) -> tuple[Any, ...]:
    run = Path(row["run"])
    placed = run.parent.name == row["job"] and _NAMED.search(run.name + "\n") is not None
    whole = bool(_answers(row))
    return (
        *(-_FURTHEST.index(row["state"]), whole, row["updated"] or "", not _linked(run)),
        *(placed, -len(run.parts), -len(run.name), [-ord(letter) for letter in row["run"]]),
    )


def _linked(run: Path) -> bool:
    return run.is_symlink() or run.parent.is_symlink()


def _told(other: Row, taken: Row) -> str:
    """Say what a directory is that does not count."""
    if Path(other["run"]).samefile(taken["run"]):
        return f"{other['run']} is a link to {taken['run']}, the same run, which counts once."
    if other["state"] != taken["state"]:
        return (
            f"{other['run']} ({other['state']}) is another copy of the run {taken['run']} "
            f"({taken['state']}), which counts once."
        )
    if taken["state"] != "done" or _agree(other, taken):
        return f"{other['run']} is a copy of {taken['run']}, the same run, which counts once."
    scores = " and ".join(_score(row) for row in (taken, other))
    return (
        f"CONTRADICTION: {taken['run']} and {other['run']} are one run with two results "
        f"({scores}); only the first counts, which was written last."
    )


def _agree(one: Row, other: Row) -> bool:
    """Whether two directories hold one result; answers that are lost contradict none."""
    answers = {hashlib.sha256(found).digest() for row in (one, other) if (found := _answers(row))}
    return _scores(one) == _scores(other) and len(answers) < 2


def _scores(row: Row) -> tuple[Any, ...]:
    return {n: value for n, value in row.items() if _SCORES.fullmatch(n)}, row.get("more")


def _answers(row: Row) -> bytes:
    """What the run answered on its test slice, as it lies on the disk; nothing where it is not."""
    path = Path(row["run"]) / "outputs.npz"
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def _score(row: Row) -> str:
    name = row.get("monitor") or "auc"
    value = row.get(name, (row.get("more") or {}).get(name))
    return f"test {name} {'unknown' if value is None else format(value, '.6f')}"
