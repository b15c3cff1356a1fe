"""All verbs, by what they are for, and how the words of a command line become one of them."""

from __future__ import annotations

from collections.abc import Sequence

from deeplense_batch.cli import cluster_verbs as cluster
from deeplense_batch.cli import data_verbs as data
from deeplense_batch.cli import inference_verbs as inference
from deeplense_batch.cli import run_verbs as runs
from deeplense_batch.cli.help import overview, verb_help
from deeplense_batch.cli.parse import Function, Verb, parse
from deeplense_batch.cli.values import UsageError
from deeplense_batch.core.job import nearest

__all__ = ["GROUPS", "VERBS", "read"]

GROUPS: dict[str, tuple[Function, ...]] = {
    "Data: from images, or from nothing, to shards": (
        data.simulate, data.pack, data.unpack, data.truth,
    ),
    "Runs: train on this machine or on a cluster, and look after them": (
        runs.run, cluster.submit, cluster.sbatch, cluster.status, cluster.cancel, cluster.clean,
    ),
    "Reports: compare what has run": (runs.collect, runs.redraw),
    "Finished runs: use the networks": (
        inference.predict, inference.evaluate, inference.sample, inference.export,
        inference.explain,
    ),
    "This machine: what is here, and how fast it is": (
        runs.doctor, runs.models, inference.fetch, runs.bench,
    ),
}  # fmt: skip

VERBS = {verb.__name__: verb for verbs in GROUPS.values() for verb in verbs}
VERBS["judge"] = inference.evaluate  # another word for it


def read(typed: Sequence[str]) -> Verb:
    """Read a command line; nothing is done yet, but for what `Verb.act` will do.

    Raises:
        UsageError: There is no such verb, or `parse` finds a word or flag wrong.
    """
    help_asked = bool({"-h", "--help"} & set(typed))
    if not typed or (help_asked and typed[0].startswith("-")):
        return Verb(print, (overview(GROUPS),))
    name, *words = typed
    if name.startswith("-"):
        raise UsageError(f"{name}: a verb comes first; --help lists them")
    if name not in VERBS:
        raise UsageError(f"{name}: no such verb; {nearest(name, VERBS)}")
    if help_asked:
        return Verb(print, (verb_help(VERBS[name]),))
    return parse(VERBS[name], words)
