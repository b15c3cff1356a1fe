"""What a recipe says of an evaluation: which finished runs are scored, on which images, how."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from deeplense_batch.core.sections import Section

__all__ = ["DrawSection", "EvaluateSection", "EvaluatedData", "ensemble_label", "model_in"]

_LONGEST = 80  # characters of an ensemble's label; those of more models are cut


class DrawSection(Section):
    """How images are drawn from a run that generates, and by which classifier compared."""

    # run, or folder of the job, of a trained classifier whose features are compared; null
    # measures only what needs no classifier
    classifier: str | None = None
    images: int | None = Field(None, ge=8)  # images to draw; null: as many as the test slice has
    sampler: Literal["ddpm", "ddim", "dpmpp", "heun"] = "dpmpp"  # how images are drawn
    steps: int = Field(25, ge=1)  # of the sampler
    guidance: float = 1.0  # how closely conditions are followed; 1 is as trained
    # images to draw of each input, by a run whose condition is the input: their mean restores it
    samples: int = Field(8, ge=2)


class EvaluatedData(Section):
    """The labelled images that a run is scored on."""

    root: str | None = None  # folder of shards; null: the run's own data
    # of these; null: the run's test slice on its own data; on others `test`, or the only split
    slice: str | None = None


def _runs(value: Any) -> Any:
    """One folder, or several."""
    several = list(value) if isinstance(value, list | tuple) else [value]
    if not several or not all(isinstance(one, str) and one for one in several):
        raise ValueError("expected a folder, or a list of folders")
    return tuple(several) if isinstance(value, list | tuple) else value


class EvaluateSection(DrawSection):
    """A finished run, scored on labelled images; of one that generates, its images measured."""

    # a run directory; its job's folder, for every run of it; or a list of these
    run: Annotated[str | tuple[str, ...], BeforeValidator(_runs)]
    # the mean of the calibrated scores of several runs, as one: of a job's folder one ensemble for
    # each recipe in it, of runs that differ in their seed alone; of a list one of all its runs
    ensemble: bool = False
    # score the mean prediction over the 8 symmetries of the square; null: as the run was trained
    tta: bool | None = None
    data: EvaluatedData = EvaluatedData()

    @property
    def runs(self) -> tuple[str, ...]:
        """The folders that `run` names."""
        return (self.run,) if isinstance(self.run, str) else self.run


def model_in(name: str) -> str:
    """The model in the name of a run directory, ``resnet18`` of ``resnet18-s0-0123456789``."""
    return re.sub(r"-s\d+-[0-9a-f]{10}$", "", name)


def ensemble_label(models: Iterable[str]) -> str:
    """What an ensemble is called: ``resnet18 x3``, or ``resnet18 x2 + densenet121 x2``."""
    counts = Counter(models)
    label = " + ".join(f"{model} x{count}" for model, count in counts.items())
    return label if len(label) <= _LONGEST else f"{label[:_LONGEST]}... x{counts.total()}"
