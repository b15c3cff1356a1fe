"""What a user can do about images that cannot be packed, or that lack a label."""

from __future__ import annotations

from collections.abc import Sequence

from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.packing.manifest import SplitReport
from deeplense_batch.data.packing.storage import BadImage, Storage

__all__ = ["about_labels", "mends"]


def mends(bad: Sequence[BadImage], storage: Storage, reading: Reading) -> str:
    """The flags by which bad images become good ones, as ends of a sentence; "" for none.

    Arguments:
        bad: The images.
        storage: Of the good ones.
        reading: The flags that are given already.
    """
    flags = ""
    if reading.fill_nan is None and any("are NaN or infinite" in one.reason for one in bad):
        flags += (
            "; --mask_value nan gives NaN pixels the median of their channel, --fill_nan 0.1 NaN "
            "and infinite ones where they are at most a tenth of it"
        )
    shapes = [one.form.shape for one in bad if one.form]
    shapes = [shape for shape in shapes if shape[0] == storage.shape[0]]
    if any(shape[1:] != storage.shape[1:] for shape in shapes):
        flags += "; --crop N cuts larger images to N pixels, --pad N fills up smaller ones"
    return flags


def about_labels(splits: Sequence[SplitReport]) -> list[str]:
    """Warn of images without a label beside others that have one."""
    lacking = {one.name: one.samples - sum(one.class_counts.values()) for one in splits}
    total, without = sum(one.samples for one in splits), sum(lacking.values())
    if not 0 < without < total:
        return []
    each = ", ".join(f"{name} {count}" for name, count in lacking.items() if count)
    have = "image has" if without == 1 else "images have"
    return [
        f"{without} of {total} {have} no label (empty or -1; {each}): tasks that learn labels "
        "refuse such a split; give each a label or its class a number from 0, or pack a copy of "
        "the table or set without them"
    ]
