"""Several finished runs that answer as one: the mean of what each says after its own calibration.

Each member sees images as it has learnt to: by its own transform, crop and size. A classifier's
probabilities are those of its temperature, or of slope and offset of a detection, all fitted on
its own validation slice. The ensemble is then calibrated like a network, and gets a threshold, on
the mean of its members' answers to their validation slice, where all have the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.job import JobError
from deeplense_batch.core.scoring import ensembles, metrics
from deeplense_batch.core.scoring.posteriors.numbers import mixed
from deeplense_batch.core.sections.evaluate import ensemble_label
from deeplense_batch.inference.ensembles.members import Member, check_members
from deeplense_batch.inference.trained import Trained, open_trained
from deeplense_batch.tasks.classification import Classification
from deeplense_batch.tasks.detection import Detection
from deeplense_batch.tasks.task import Arrays, Scores, Task

__all__ = ["VALIDATED", "Ensemble", "open_ensemble"]

VALIDATED = "validated.npz"  # answers of a run's best weights on its validation slice


@dataclass(frozen=True)
class Ensemble:
    """Members, and what they are together."""

    members: tuple[Trained, ...]
    task: Task  # how their mean is scored: calibrated on the validation slice, if that is known
    validated: Arrays | None = None  # the mean of their answers there
    why_not: str = ""  # the mean was not calibrated, a clause

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of its probabilities: that of its first member."""
        return self.members[0].classes

    @property
    def classifies(self) -> bool:
        """Whether it tells classes apart."""
        return self.members[0].classifies

    @property
    def label(self) -> str:
        """What it is called, such as ``resnet18 x3``."""
        return ensemble_label(member.job.model.name for member in self.members)

    @property
    def named(self) -> list[dict[str, str]]:
        """Each member: its directory, identity and weights; in the order of the identities."""
        named = [
            {"run": str(one.run.path), "identity": one.metrics["identity"], "weights": one.weights}
            for one in self.members
        ]
        return sorted(named, key=lambda one: (one["identity"], one["weights"]))

    def valid_scores(self) -> Scores:
        """Scores of the mean on the validation slice of all; none where there is no such slice."""
        return self.task.score(self.validated)[0] if self.validated is not None else {}

    def mean(self, answers: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
        """Average what the members answered to the same samples.

        Arguments:
            answers: Of each member, arrays (N, ...) by name, as `training.evaluation.evaluate`
                gives them.

        Returns:
            ``ids`` and ``targets``, as the first member numbers classes; and of a classifier
            ``logits``, (N, K), logarithms of the mean probabilities, and ``spread``, (N, K), their
            sd over the members; of a regression ``true``, ``predicted`` and ``spread``, (N,) or
            (N, D); of posteriors what is kept of their mixture (`posteriors.numbers.mixed`).
        """
        first = answers[0]
        kept = {name: np.asarray(first[name]) for name in ("ids", "targets")}
        if not self.classifies:
            if not self.task.spec.averages:
                return kept | {"true": first["true"]} | mixed(answers)
            numbers = [one["predicted"] for one in answers]
            mean, spread = ensembles.mean_answers(numbers), ensembles.spread(numbers)
            return kept | {"true": first["true"], "predicted": mean, "spread": spread}
        found = [
            self.probabilities(member, one["logits"])
            for member, one in zip(self.members, answers, strict=True)
        ]
        return kept | {
            "logits": ensembles.mean_logits(found), "spread": ensembles.spread(found),
        }  # fmt: skip

    def probabilities(self, member: Trained, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities of a member, (N, K), in the ensemble's order of classes."""
        assert isinstance(member.task, Classification)
        honest = metrics.softmax(member.task.calibrated_logits(np.asarray(logits, np.float64)))
        return ensembles.in_order_of(self.classes, member.classes, honest)


def open_ensemble(members: Sequence[Member]) -> Ensemble:
    """Open the members of an ensemble.

    Raises:
        JobError: They cannot be averaged.
        TrainedError, RunDirError, CheckpointError: One cannot be opened.
    """
    check_members(members, ", ".join(str(member.path) for member in members))
    opened = tuple(open_trained(member.path) for member in members)
    uncalibrated = Ensemble(opened, _task_of(opened[0]))
    try:
        answers = _validated(opened)
    except _UnlikeError as error:
        return Ensemble(opened, uncalibrated.task, why_not=str(error))
    validated = uncalibrated.mean(answers)
    uncalibrated.task.calibrate(validated)
    return Ensemble(opened, uncalibrated.task, validated)


class _UnlikeError(JobError):
    """Members have no answers on one validation slice."""


def _task_of(first: Trained) -> Task:
    """How a mean is scored: as the answers of one network that is not calibrated yet."""
    task = first.task
    if not isinstance(task, Classification):
        return task
    mean: Classification
    if isinstance(task, Detection):
        mean = Detection(
            classes=task.classes, positive=task.spec.target_name, purity=task.purity,
            prevalence=task.prevalence,
        )  # fmt: skip
    else:
        mean = Classification(classes=task.classes)
    mean.uncalibrated = "mean of the members"
    return mean


def _validated(members: Sequence[Trained]) -> list[dict[str, NDArray[Any]]]:
    """Answers of each member on the one validation slice of all, in the order of the first.

    Raises:
        _UnlikeError: One has kept none, or has another slice.
    """
    found: list[dict[str, NDArray[Any]]] = []
    for member in members:
        path = member.run.path / VALIDATED
        try:
            with np.load(path) as file:
                answers = dict(file)
            ids = np.asarray(answers["ids"], str)
        except FileNotFoundError:
            raise _UnlikeError(
                f"{member.run.path.name} has kept no {VALIDATED}, its answers on its validation "
                "slice, which earlier versions did not"
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise _UnlikeError(f"{path} cannot be read ({error})") from None
        first = found[0]["ids"] if found else ids
        other_data = member.digest != members[0].digest
        if other_data or len(ids) != len(first) or set(ids) != set(first):
            raise _UnlikeError(
                f"{members[0].run.path.name} and {member.run.path.name} were validated on "
                f"different images, {_slice_of(members[0])} and {_slice_of(member)}"
            )
        places = {id_: place for place, id_ in enumerate(ids.tolist())}
        order = [places[id_] for id_ in first.tolist()]
        for name in ("classes", "quantities"):  # which are of no sample
            answers.pop(name, None)
        found.append({name: values[order] for name, values in answers.items()})
    return found


def _slice_of(member: Trained) -> str:
    data: Mapping[str, Any] = member.metrics["data"]
    return f"{data['valid']} of data {member.digest}"
