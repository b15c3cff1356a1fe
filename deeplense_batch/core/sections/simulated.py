"""What a recipe says of images that are simulated as a job trains on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from deeplense_batch.core.sections import Section
from deeplense_batch.core.sections.dotted import flat_fields

__all__ = ["SimulatedImages", "simulated_in_words"]


class SimulatedImages(Section):
    """Images that are simulated as a job trains on them: others in every epoch."""

    images: int = Field(ge=1, le=10**9)  # of an epoch
    # substructure, diffusion or super_resolution; null: that of data.root
    kind: str | None = None
    preset: str | None = None  # of the kind; null: that of data.root, with its changes
    set: dict[str, Any] = Field({})  # distributions of the preset to replace: sphere.count: 30
    digest: str | None = None  # of all settings; filled in when the run is planned


def simulated_in_words(section: Mapping[str, Any]) -> str:
    """What is trained on: ``3000 new images of varied an epoch, sphere.count = 30``.

    Arguments:
        section: ``data.simulate`` of a recipe, checked and planned.
    """
    changes = "".join(
        f", {field} = {value}" for field, value in flat_fields(section.get("set") or {})
    )
    return f"{section['images']} new images of {section.get('preset')} an epoch{changes}"
