"""What was evaluated, as `metrics.json` describes it: one run, or an ensemble of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeplense_batch.core.result import Cost, Validated
from deeplense_batch.core.sections.dotted import flat_fields
from deeplense_batch.inference.ensembles.ensemble import Ensemble
from deeplense_batch.inference.trained import Trained
from deeplense_batch.report.trained_on import trained_on, trained_together

__all__ = ["Subject", "ensemble_subject", "run_subject"]


class Subject(NamedTuple):
    """What a result says of the run that it is about."""

    model: str
    seed: int
    learns: str | None
    classes: list[str]
    valid: Validated
    cost: Cost  # of its training
    device: dict[str, Any]  # on which it was trained
    evaluated: dict[str, Any]
    recipe: str  # names what was scored, whatever the seed


def run_subject(trained: Trained) -> Subject:
    """What is said of one run."""
    before, job = trained.metrics, trained.job
    evaluated = {
        "run": str(trained.run.path),
        "identity": before["identity"],
        "weights": trained.weights,
        "task": job.task.name,
        "data_digest": trained.digest,
        "recipe": dict(flat_fields(job.model_dump(mode="json"))),
    }
    return Subject(
        job.model.name, job.seed, before.get("learns"), list(trained.classes), before["valid"],
        _cost([trained]), before["device"], evaluated,
        job.model_copy(update={"seed": 0}).identity(trained.digest),
    )  # fmt: skip


def ensemble_subject(ensemble: Ensemble, identity: str) -> Subject:
    """What is said of an ensemble.

    Of the recipes of its members, what they have in common; the score on the validation slice is
    that of their mean; costs are those of training all.

    Arguments:
        ensemble: The members.
        identity: Of the evaluation.
    """
    members = ensemble.members
    first = members[0]
    scores, monitor = ensemble.valid_scores(), first.metrics["valid"]["monitor"]
    valid: Validated = {"monitor": monitor, "chosen_by": monitor, "epoch": None, "scores": scores}
    evaluated = {
        "members": ensemble.named,
        "task": first.job.task.name,
        "data_digest": _joined(member.digest for member in members),
        "recipe": _common_recipe(members),
        # The recipe above has lost sets that are not those of all members.
        "training": trained_together(
            [
                trained_on(
                    one.job.data.model_dump(mode="json"),
                    one.digest,
                    one.job.task.options.get("adapt"),
                )
                for one in members
            ]
        ),
    }
    return Subject(
        ensemble.label, min(member.job.seed for member in members), first.metrics.get("learns"),
        list(ensemble.classes), valid, _cost(members),
        _device([member.metrics["device"] for member in members]), evaluated, identity,
    )  # fmt: skip


def _common_recipe(members: Sequence[Trained]) -> dict[str, Any]:
    """What recipes have in common, and the names of models and data of all."""
    recipes = [dict(flat_fields(member.job.model_dump(mode="json"))) for member in members]
    first, *others = recipes
    common = {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in others)
    }
    roots = _joined(Path(recipe["data.root"]).name for recipe in recipes)
    return (
        {"data.root": roots} | common | {"model.name": _joined(r["model.name"] for r in recipes)}
    )


def _joined(names: Any) -> str:
    """Names that differ, once each."""
    return " + ".join(dict.fromkeys(names))


def _cost(members: Sequence[Trained]) -> Cost:
    """What it took to train them."""
    costs = [member.metrics["cost"] for member in members]
    gflops = [value for cost in costs if (value := cost.get("gflops")) is not None]
    rates = [cost["images_per_s"] for cost in costs]
    return {
        "epochs": max(cost["epochs"] for cost in costs),
        "train_seconds": sum(cost["train_seconds"] for cost in costs),
        "images_per_s": 1 / sum(1 / rate for rate in rates) if rates[1:] else rates[0],
        "parameters": sum(
            parameter.numel() for member in members for parameter in member.model.parameters()
        ),
        "gflops": sum(gflops) if len(gflops) == len(costs) else None,
    }


def _device(devices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The device of all; where they differ, the names of each."""
    names = _joined(str(device["name"]) for device in devices)
    return {**devices[0], "name": names, "count": max(device["count"] for device in devices)}
