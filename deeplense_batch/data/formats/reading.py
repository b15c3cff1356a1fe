"""How files are read, as a user may say it: one value for `pack` and for `predict` on files."""

from __future__ import annotations

from dataclasses import dataclass

from deeplense_batch.data.header import ShardError

__all__ = ["Reading"]


@dataclass(frozen=True)
class Reading:
    """What is not in the files themselves.

    Arguments:
        allow_pickle: Whether object arrays are unpickled, which runs any code they carry.
        mask_value: Value of pixels that hold no light, such as 100, -99 or NaN, if there is one;
            they become the median of the rest of their channel.

    Raises:
        ShardError: A value is none of those allowed.
    """

    allow_pickle: bool = False
    mask_value: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.mask_value, int | float | None):
            raise ShardError(f"mask_value: got {self.mask_value!r}; it is a number")
