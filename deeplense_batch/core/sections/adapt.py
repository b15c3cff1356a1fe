"""What a recipe says of domain adaptation: to which images without labels, and by which method."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from deeplense_batch.core.sections import Section

__all__ = ["Adaptation", "TargetSet"]


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
