"""Freed memory that stays with the process, for the next image and the next step.

glibc gives large memory back to the system as soon as it is free, and gets it back, page by page,
when it is asked for as much again. That took a third of the time of decoding and cropping an image,
and a fifth of a training step on a CPU, whose temporary arrays come and go with every step. Told to
keep it, the process holds on to what it needed most at once, and no more.

Other C libraries, like macOS's, are left alone.
"""

from __future__ import annotations

import ctypes

# The numbers of glibc's malloc.h, the highest value that it takes for the second, and an int's.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_MMAP_BYTES, _TRIM_BYTES = 32 * 2**20, 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory of an image's size, at any time.

    The environment variables ``MALLOC_TRIM_THRESHOLD_`` and ``MALLOC_MMAP_THRESHOLD_`` set the same
    from outside.

    Returns:
      True if it is glibc and did as it was told.
    """
    # Both: a threshold on its own switches off the adjustment of the other.
    return _set((_M_MMAP_THRESHOLD, _MMAP_BYTES), (_M_TRIM_THRESHOLD, _TRIM_BYTES))


def keep_all_freed_memory() -> bool:
    """Tell the C library to keep all freed memory, however large, for all threads together.

    Only before the first operation of jax, whose threads would have arenas of their own by then: an
    arena takes no more than 64 MiB at once, and what is larger goes back to the system. So this is
    for a command to call at its start, and not for a library.

    Returns:
      True if it is glibc and did as it was told.
    """
    return _set((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _TRIM_BYTES))


def _set(*options: tuple[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    done = [mallopt(name, value) for name, value in options]
    return all(done)
