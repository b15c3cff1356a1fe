"""What a recipe says of domain adaptation: to which images without labels, and by which method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from deeplense_batch.core.sections import Section

__all__ = ["Adaptation", "TargetSet", "adapted_in_words"]


class TargetSet(Section):
    """Images to which a network is adapted; their labels, if they have any, are not used."""

    root: str  # folder of the shards
    slice: str = "train"  # of these
    digest: str | None = None  # of its content; filled in when the run is planned


class Adaptation(Section):
    """How a network learns to see other images as those that it has labels of."""

    to: TargetSet
    by: Literal["coral", "mmd", "dann"]
    weight: float = Field(1.0, gt=0)  # of the method's loss beside that of the classes

    def identifying(self) -> dict[str, Any]:
        """The fields that change the result of a run, as JSON: all but the folder."""
        return self.model_dump(mode="json", exclude={"to": {"root"}})


def adapted_in_words(adapt: Mapping[str, Any]) -> str:
    """To what, and how, a network is adapted: ``varied train[:10%] by coral, weight 10``.

    Arguments:
        adapt: The option as a recipe has it, checked.
    """
    to, weight = adapt["to"], adapt.get("weight", 1.0)
    slice_ = to.get("slice", "train")
    part = "" if slice_ == "train" else f" {slice_}"
    weighed = "" if weight == 1 else f", weight {weight:g}"
    return f"{Path(to['root']).name}{part} by {adapt['by']}{weighed}"
