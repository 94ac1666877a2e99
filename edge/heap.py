"""How this process gives memory back to the system."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
TRIM_BYTES = 256 * 2**20
MMAP_BYTES = 32 * 2**20  # the most glibc takes


def keep_freed_memory() -> None:
    """Let freed memory be used again instead of going back at once; for workers that others have started.

    Dask starts its workers with MALLOC_TRIM_THRESHOLD_, which ends glibc's own adaption: every array over 128 kB is
    then mapped and unmapped anew, thousands of page faults a picture, a third of its time. Elsewhere than on glibc
    this does nothing.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, TRIM_BYTES)
        mallopt(_MMAP_THRESHOLD, MMAP_BYTES)
