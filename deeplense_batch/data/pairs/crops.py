"""Which crop of the inputs is that of a crop of the images."""

from __future__ import annotations

from deeplense_batch.data.header import ShardError
from deeplense_batch.data.split import SplitInfo

__all__ = ["inputs_crop"]


def inputs_crop(info: SplitInfo, crop: int | None) -> int | None:
    """Central pixels of the inputs that cover those of the images; None keeps all.

    Arguments:
        info: Of pairs.
        crop: Central pixels of the images that are kept.

    Raises:
        ShardError: A crop begins or ends within a pixel of the inputs.
    """
    if crop is None or info.inputs is None:
        return None
    ratio, sides = info.ratio, info.shape[1:]
    if fits := [n for n in range(ratio, min(sides) + 1) if _fits(n, ratio, sides)]:
        if crop in fits:
            return crop // ratio
        near = sorted(fits, key=lambda n: abs(n - crop))[:2]
        advice = f"expected a crop such as {' or '.join(map(str, sorted(near)))}"
    else:
        advice = "no crop does"
    raise ShardError(
        f"{info.files[0].parent}: data.crop: the middle {crop} of {' x '.join(map(str, sides))} "
        f"pixels do not begin and end with a pixel of the inputs, which cover {ratio} x {ratio} "
        f"of them; {advice}"
    )


def _fits(crop: int, ratio: int, sides: tuple[int, ...]) -> bool:
    """Whether central crops of images and of inputs cover the same sky."""
    return crop % ratio == 0 and all(
        (side - crop) // 2 == ratio * ((side // ratio - crop // ratio) // 2)  # as augment.central
        for side in sides
    )
