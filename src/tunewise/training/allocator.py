"""Large pieces of freed memory are kept for the next pass, where the C library is glibc.

Each pass makes and frees the same tensors. glibc hands a freed piece above 32 MiB back to the system at once,
and takes it anew, page by page, in the next pass: measured in LoRA training of the embedded model on two
cores, rows of 97 tokens, 360 tokens per second so and 420 with the pieces kept. It costs memory at the peak:
where models only answer or score it would be 0.1 to 0.3 GiB for 5 % of the time, so it is set when training
starts.
"""

import ctypes
import os
import sys
from functools import cache

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
TAKEN_APART = 1 << 30  # bytes: pieces above this still go back to the system as soon as they are free
KEPT_AT_MOST = (1 << 31) - 1  # bytes of free memory at the end of the heap: mallopt takes no more
GROWN_BY = 1 << 26
OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


@cache
def keep_freed_memory() -> bool:
    """Set it once for this process; True where it was set.

    False, and nothing changed, where the C library has no such setting, or where the environment holds
    settings of its own for it (``MALLOC_TRIM_THRESHOLD_`` and its like).
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in OWN_SETTINGS):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a C library without it
        return False
    settings = ((M_MMAP_THRESHOLD, TAKEN_APART), (M_TRIM_THRESHOLD, KEPT_AT_MOST), (M_TOP_PAD, GROWN_BY))
    return all(set_option(option, value) == 1 for option, value in settings)
