"""What a run was trained on, as a reader names it and as programs tell it from other data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplense_batch.core.sections.adapt import adapted_in_words

__all__ = ["trained_on", "trained_together", "training_names"]


def trained_on(
    data: Mapping[str, Any], digest: str | None, adapt: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The training data of a run.

    Arguments:
        data: Section ``data`` of its recipe, with ``root``, ``train`` and perhaps ``roots``.
        digest: Of the content of ``root``; None where it is not known.
        adapt: Its ``task.options.adapt``: images without labels that it is adapted to.

    Returns:
        ``name``, such as ``a + 0.2 b train[:10%]``; ``digest``, a text that names the content
        that was trained on, None where it is not known; and ``sets``, how many sets the recipe
        lists beside ``root``. Of one that is adapted also ``control``, the digest of the same
        training without that, and ``adapted``, to what and how in words.
    """
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
    if roots := data.get("roots"):
        parts = [_identity(each, each.get("digest")) for each in roots]
        known = " + ".join(part for part in parts if part) if all(parts) else None
        return {"name": " + ".join(map(_name, roots)), "digest": known, "sets": len(roots)}
    only = {"root": data["root"], "train": data.get("train", "train")}
    return {"name": _name(only), "digest": _identity(only, digest), "sets": 0}


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
