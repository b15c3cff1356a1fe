"""All verbs, by what they are for, and how the words of a command line become one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deeplense_batch.cli.cluster_verbs import cancel, clean, sbatch, status, submit
from deeplense_batch.cli.data_verbs import pack, simulate, truth, unpack
from deeplense_batch.cli.help import overview, verb_help
from deeplense_batch.cli.inference_verbs import explain, export, fetch, judge, predict, sample
from deeplense_batch.cli.parse import Verb, parse
from deeplense_batch.cli.run_verbs import bench, collect, doctor, models, redraw, run
from deeplense_batch.cli.values import UsageError
from deeplense_batch.job import nearest

__all__ = ["GROUPS", "VERBS", "read"]

GROUPS: dict[str, tuple[Callable[..., int], ...]] = {
    "Data: from images, or from nothing, to shards": (simulate, pack, unpack, truth),
    "Runs: train on this machine or on a cluster, and look after them": (
        run, submit, sbatch, status, cancel, clean,
    ),
    "Reports: compare what has run": (collect, redraw),
    "Finished runs: use the networks": (predict, sample, judge, export, explain),
    "This machine: what is here, and how fast it is": (doctor, models, fetch, bench),
}  # fmt: skip

VERBS = {verb.__name__: verb for verbs in GROUPS.values() for verb in verbs}


def read(typed: Sequence[str]) -> Verb:
    """Read a command line; nothing is done yet, but for what `Verb.act` will do.

    Raises:
        UsageError: There is no such verb, or `parse` finds a word or flag wrong.
    """
    help_asked = bool({"-h", "--help"} & set(typed))
    if not typed or (help_asked and typed[0].startswith("-")):
        return Verb(lambda: _show(overview(GROUPS)))
    name, *words = typed
    if name.startswith("-"):
        raise UsageError(f"{name}: a verb comes first; --help lists them")
    if name not in VERBS:
        raise UsageError(f"{name}: no such verb; {nearest(name, VERBS)}")
    if help_asked:
        return Verb(lambda: _show(verb_help(VERBS[name])))
    return parse(VERBS[name], words)


def _show(text: str) -> int:
    print(text)
    return 0
