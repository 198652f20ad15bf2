"""Freed memory that stays with the process, for the next image.

glibc gives memory of an image's size back to the system as soon as it is free, and gets it back,
page by page, for the next image: that took a third of the time of decoding and cropping. Told to
keep it, the process holds on to what it needed most at once, and no more.
"""

from __future__ import annotations

import ctypes

# The numbers of glibc's malloc.h, and the highest value that it takes for the second.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM_BYTES, _MMAP_BYTES = 256 * 2**20, 32 * 2**20


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory; True if it is glibc and did as it was told.

    The environment variables ``MALLOC_TRIM_THRESHOLD_`` and ``MALLOC_MMAP_THRESHOLD_`` set the same
    from outside. Other C libraries, like macOS's, are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # Both: a threshold on its own switches off the adjustment of the other.
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES))
