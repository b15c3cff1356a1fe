"""Memory that is freed and wanted again a moment later.

Glibc's malloc gives every large block back to the system when it is freed, and the system hands
it out again page by page, each cleared: fields of a MB that live for a millisecond cost more in
that way than by what is computed on them.
"""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_MOST_MMAP = 32 << 20  # the greatest that glibc takes
_MOST_KEPT = 256 << 20


def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MB of what it frees, in blocks of less than 32 MB.

    Returns:
        Whether it does; only glibc is known to have to be told.

    References:
        mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library, another system
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MOST_MMAP) and mallopt(_TRIM_THRESHOLD, _MOST_KEPT))
