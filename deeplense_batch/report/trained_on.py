"""What a run was trained on, as a reader names it and as programs tell it from other data.

And the weights that it started from, which are those of other runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplense_batch.core.sections.adapt import adapted_in_words
from deeplense_batch.core.sections.simulated import simulated_in_words
from deeplense_batch.data.formats.counted import counted

__all__ = ["name_starts", "trained_on", "trained_together", "training_names"]


def trained_on(
    data: Mapping[str, Any], digest: str | None, adapt: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The training data of a run.

    Arguments:
        data: Section ``data`` of its recipe, with ``root``, ``train`` and perhaps ``roots``.
        digest: Of the content of ``root``; None where it is not known.
        adapt: Its ``task.options.adapt``: images without labels that it is adapted to.

    Returns:
        ``name``, such as ``a + 0.2 b train[:10%]``, after a curriculum ``c (6 epochs), then a``;
        ``digest``, a text that names the content that was trained on, None where it is not known;
        and ``sets``, how many sets the recipe lists beside ``root``. Of one that is adapted also
        ``control``, the digest of the same training without that, and ``adapted``, to what and how
        in words.
    """
    if curriculum := data.get("curriculum"):
        return _after(curriculum, trained_on({**data, "curriculum": ()}, digest, adapt))
    learnt = _labelled(data, digest)
    if not adapt:
        return learnt
    words, to = adapted_in_words(adapt), adapt["to"]
    known = learnt["digest"] and to.get("digest")
    method = (to.get("digest"), to.get("slice", "train"), adapt["by"], adapt.get("weight", 1.0))
    return {
        "name": f"{learnt['name']} adapted to {words}",
        "digest": f"{learnt['digest']} adapted {':'.join(map(str, method))}" if known else None,
        "sets": learnt["sets"] + 1,
        "control": learnt["digest"],
        "adapted": words,
    }


def _labelled(data: Mapping[str, Any], digest: str | None) -> dict[str, Any]:
    """The images that have labels."""
    if new := data.get("simulate"):
        return {
            "name": simulated_in_words(new),
            "digest": f"simulated:{new['digest']}:{new['images']}" if new.get("digest") else None,
            "sets": 1,
        }
    if roots := data.get("roots"):
        parts = [_identity(each, each.get("digest")) for each in roots]
        known = " + ".join(part for part in parts if part) if all(parts) else None
        return {"name": " + ".join(map(_name, roots)), "digest": known, "sets": len(roots)}
    only = {"root": data["root"], "train": data.get("train", "train")}
    return {"name": _name(only), "digest": _identity(only, digest), "sets": 0}


def _after(curriculum: Sequence[Mapping[str, Any]], last: Mapping[str, Any]) -> dict[str, Any]:
    """As `trained_on` gives it: the sets of a curriculum, and then what comes last."""
    names = [f"{_name(each)} ({counted(each['epochs'], 'epoch')})" for each in curriculum]
    own = [_identity(each, each.get("digest")) for each in curriculum]
    parts = [f"{part} x {e['epochs']}" for part, e in zip(own, curriculum, strict=True) if part]

    def after(digest: str | None) -> str | None:
        known = len(parts) == len(own) and digest is not None
        return " > ".join([*parts, str(digest)]) if known else None

    return {
        **last,
        "name": ", then ".join([*names, last["name"]]),
        "sets": len(curriculum) + last["sets"],
        **{name: after(last[name]) for name in ("digest", "control") if name in last},
    }


def trained_together(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the members of an ensemble were trained on, as one.

    Arguments:
        trainings: Of each member, as `trained_on` gives it.

    Returns:
        As `trained_on` does: that of all where they agree. Else ``name`` is the names that differ,
        joined by ``and``; ``digest`` those of all, joined by ``&``, None where one is not known;
        and ``sets`` how many sets those that differ list together.
    """
    ordered = sorted(trainings, key=lambda one: (one["sets"], one["name"], one["digest"] or ""))
    different = {(one["name"], one["digest"]): one for one in ordered}
    if len(different) == 1:
        return dict(ordered[0])
    digests = [one["digest"] for one in ordered]
    return {
        "name": " and ".join(dict.fromkeys(one["name"] for one in ordered)),
        "digest": " & ".join(digests) if all(digests) else None,
        "sets": sum(max(one["sets"], 1) for one in different.values()),
    }


def name_starts(rows: Sequence[Mapping[str, Any]]) -> None:
    """Name the runs that recipes start from by job and network, where only the seed differs.

    Each run of a job may start from the run of its own seed in another (`train.init`): these are
    one setting of several seeds, not several settings.

    Arguments:
        rows: Of the table, with ``seed`` and ``recipe``, which is changed.
    """
    found: dict[str, dict[int, set[str]]] = {}  # what is started from, by its name and the seed
    for row in rows:
        if name := _start_name(row):
            found.setdefault(name, {}).setdefault(row["seed"], set()).add(_start(row))
    for row in rows:
        name = _start_name(row)
        if name and all(len(starts) == 1 for starts in found[name].values()):
            row["recipe"]["train.init"] = name


def _start(row: Mapping[str, Any]) -> str:
    return str(row["recipe"].get("train.init") or "")


def _start_name(row: Mapping[str, Any]) -> str | None:
    """Job and network of the run of the same seed that a run starts from; None of others."""
    start = Path(_start(row))
    named = re.fullmatch(r"(.+)-s(\d+)-[0-9a-f]{10}", start.name)
    if named is None or int(named[2]) != row["seed"]:
        return None
    return f"{start.parent.name}/{named[1]}"


def training_names(rows: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Names that tell runs apart by what they were trained on; None of all where nothing does.

    That is so unless one of them was trained on several sets: runs on one set each are told apart
    by the digests of the sets. Two that have one name though other content are numbered by it.

    Arguments:
        rows: Of the table, with ``training`` where it is known.
    """
    trainings = [row.get("training") or {} for row in rows]
    names: dict[str, set[str]] = {}
    for training in trainings:
        if training:
            names.setdefault(training["name"], set()).add(training["digest"] or "")
    if not any(t.get("sets") for t in trainings) or sum(map(len, names.values())) < 2:
        return [None] * len(rows)
    return [_told_apart(t, names[t["name"]]) if t else None for t in trainings]


def _told_apart(training: Mapping[str, Any], digests: set[str]) -> str:
    name, digest = str(training["name"]), training["digest"]
    if not digest or len(digests - {""}) < 2:
        return name
    return f"{name} ({hashlib.sha256(digest.encode()).hexdigest()[:6]})"


def _name(part: Mapping[str, Any]) -> str:
    """A set: its folder, after its weight and before its slice and channels where they are set."""
    weight, slice_, channels = part.get("weight"), part.get("train", "train"), part.get("channels")
    if channels is not None:
        listed = [channels] if isinstance(channels, str) else channels
        channels = f"({' '.join(map(str, listed))})"
    named = [
        None if weight is None else f"{weight:g}",
        Path(part["root"]).name,
        None if slice_ == "train" else slice_,
        channels,
    ]
    return " ".join(filter(None, named))


def _identity(part: Mapping[str, Any], digest: str | None) -> str | None:
    if digest is None:
        return None
    details = (part.get("weight"), part.get("channels"))
    return ":".join([digest, part.get("train", "train"), *(str(d) for d in details if d)])
