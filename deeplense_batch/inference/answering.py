"""Who predicts: a finished run, or an ensemble of several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.inference.candidates import (
    Candidates,
    candidates_of,
    candidates_of_ensemble,
)
from deeplense_batch.inference.ensembles.ensemble import Ensemble, open_ensemble
from deeplense_batch.inference.ensembles.members import members_of, trainings_in
from deeplense_batch.inference.ensembles.predictor import EnsemblePredictor
from deeplense_batch.inference.images.inputs import open_inputs
from deeplense_batch.inference.images.piecewise import Inputs
from deeplense_batch.inference.images.suitable import check_bands
from deeplense_batch.inference.predictor import Predictor
from deeplense_batch.inference.trained import Trained, TrainedError, open_trained
from deeplense_batch.tasks.detection import Detection
from deeplense_batch.training.precision import Precision

__all__ = ["Answering", "answering"]


@dataclass(frozen=True)
class Answering:
    """The run, or the ensemble, that predicts."""

    networks: tuple[Trained, ...]
    search: Candidates | None  # what is called a lens
    ensemble: Ensemble | None = None
    why_none: str = ""  # there are no candidates, a sentence

    @property
    def label(self) -> str:
        """What it is called on a sheet of images."""
        return self.ensemble.label if self.ensemble else self.networks[0].run.name

    def predictor(
        self,
        inputs: Sequence[Inputs],
        device: torch.device,
        batch_size: int,
        precision: Precision,
        draws: int = 0,
    ) -> Predictor | EnsemblePredictor:
        """Who makes the rows, with so many draws from the posterior of each image."""
        how = (device, batch_size, precision, self.search)
        if self.ensemble:
            return EnsemblePredictor(self.ensemble, inputs, *how)
        self.networks[0].model.to(device)
        return Predictor(self.networks[0], inputs[0], *how, draws=draws)

    def check_draws(self, draws: int, out: Path) -> None:
        """Make sure that there is a posterior to draw from, and a place for the draws.

        Arguments:
            draws: How many of each image; 0 for none.
            out: The table that they belong to.

        Raises:
            TrainedError: There is none.
        """
        if not draws:
            return
        first = self.networks[0]
        if first.task.spec.averages:
            raise TrainedError(
                f"--samples: {first.run.path} has learnt no posterior to draw from; expected a "
                "run with task.options.posterior"
            )
        if self.ensemble:
            raise TrainedError("--samples: draws are those of one run; got an ensemble")
        if out.suffix != ".parquet":
            raise TrainedError(
                f"--samples: {out}: a row has many draws; expected a name that ends in .parquet"
            )

    def open_inputs(
        self,
        stack: ExitStack,
        data: Path,
        slice_: str,
        columns: Sequence[str],
        reading: Reading | None,
    ) -> list[Inputs]:
        """The images as each network takes them; those that take them alike have one in common.

        Arguments: As those of `predict`; and what closes them.

        Raises:
            ShardError: There are none, or they are not what a network takes.
        """
        opened: dict[tuple[object, ...], Inputs] = {}
        found = []
        for one in self.networks:
            known = one.job.data
            how = (one.shape, known.crop, known.size, known.channels, repr(known.roots),
                   one.bands, one.task.spec.truth_keys)  # fmt: skip
            if how not in opened:
                images = open_inputs(
                    data, slice_, one.shape, one.task.spec.truth_keys, crop=known.crop,
                    columns=columns, reading=reading, choose=partial(one.choose, data),
                    fits=one.fits,
                )  # fmt: skip
                opened[how] = stack.enter_context(images)
            bands = one.stand_for(data, opened[how].bands)
            check_bands(data, bands, one.bands, one.run.path)
            found.append(opened[how])
        return found

    @property
    def question(self) -> dict[str, Any]:
        """What makes a table of other networks another table."""
        first = self.networks[0]
        if not self.ensemble:
            return {"run": first.metrics["identity"], "weights": first.weights}
        named = self.ensemble.named
        identities, weights = ([one[key] for one in named] for key in ("identity", "weights"))
        return {"run": identities, "weights": weights}

    @property
    def details(self) -> dict[str, Any]:
        """What a reader of a table may want to know of the networks."""
        if not self.ensemble:
            return _fitted(self.networks[0])
        notes = [self.why_none] if self.why_none else []
        return {"members": [_fitted(one) for one in self.networks], "notes": notes}


def answering(
    runs: Sequence[Path | str], purity: float | None, prevalence: float | None
) -> Answering:
    """Open a run; or an ensemble, where several are named, or a folder that holds runs.

    Raises:
        TrainedError: A run is not finished, or cannot answer.
        JobError: Runs are no ensemble.
    """
    places = [Path(run) for run in runs]
    is_run = os.path.lexists(places[0] / "job.yaml")
    if len(places) == 1 and (is_run or not trainings_in(places[0])):
        trained = _open_one(places[0])
        return Answering((trained,), candidates_of(trained, purity, prevalence))
    ensemble = open_ensemble(members_of(places))
    search, why = candidates_of_ensemble(ensemble, purity, prevalence), ""
    if search is None and isinstance(ensemble.task, Detection):
        why = f"no candidates, since the mean score has no threshold: {ensemble.why_not}"
    return Answering(ensemble.members, search, ensemble, why)


def _open_one(run: Path) -> Trained:
    trained = open_trained(run)
    if trained.job.task.name == "generation":
        raise TrainedError(f"{run}: generates images, and predicts nothing; 'sample' draws them")
    if not trained.task.spec.predicts:
        raise TrainedError(
            f"{run}: has learnt to restore hidden patches, and predicts nothing; train its "
            "encoder on, with train.init, to tell classes or numbers"
        )
    return trained


def _fitted(trained: Trained) -> dict[str, Any]:
    """A run, and what its validation slice has fitted."""
    fitted = trained.task.state_dict()
    return {
        "run": str(trained.run.path.absolute()),
        **{name: fitted.get(name) for name in ("temperature", "slope_and_offset")},
    }
