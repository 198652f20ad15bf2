"""Freed memory that stays with the process, for the next image and the next step.

glibc gives large memory back to the system as soon as it is free, and gets it back, page by page,
when it is asked for as much again. That took a third of the time of decoding and cropping an image,
and a fifth of a training step on a CPU, whose temporary arrays come and go with every step. Told to
keep it, the process holds on to what it needed most at once, and no more.

A compiler leaves thousands of free pieces behind, among which every later search for memory walks,
with all other threads waiting: up to a third of a training step on two cores.

Other C libraries, like macOS's, are left alone.
"""

from __future__ import annotations

import ctypes

# The numbers of glibc's malloc.h, the highest value that it takes for the second, and an int's.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_MMAP_BYTES, _TRIM_BYTES = 32 * 2**20, 2**31 - 1

# What is smaller than the second is found in constant time.
_LARGEST_PIECE, _SMALLEST_PIECE = 2**30, 2**12
_SIZE = ctypes.c_size_t

# A setting of the process, as the C library's own are.
_keeps_all = False


class _Heap(ctypes.Structure):
    """glibc's ``mallinfo2``: ``fordblks`` bytes are free, ``keepcost`` of these at the end."""

    _fields_ = tuple(
        (name, _SIZE)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


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
    global _keeps_all
    _keeps_all = _set((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _TRIM_BYTES))
    return _keeps_all


def retire_fragments() -> int:
    """Take the free pieces of the heap out of use, all but the one at its end, and their pages.

    For after compiling. What is asked for later then comes from the end of the heap, at once. The
    pieces stay with the process as addresses without memory.

    Returns:
      How many bytes; 0 unless this process was told to ``keep_all_freed_memory``, for otherwise
      large arrays do not live in the heap.
    """
    if not _keeps_all:
        return 0
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):  # glibc before 2.33
        return 0
    malloc, free, sbrk = library.malloc, library.free, library.sbrk
    malloc.restype = sbrk.restype = ctypes.c_void_p
    malloc.argtypes, free.argtypes, sbrk.argtypes = [_SIZE], [ctypes.c_void_p], [ctypes.c_ssize_t]
    library.mallinfo2.restype = _Heap
    library.malloc_trim(_SIZE(0))
    heap = library.mallinfo2()
    end = sbrk(0) - heap.keepcost  # where the last free piece begins
    left = heap.fordblks - heap.keepcost
    retired, size = 0, _LARGEST_PIECE
    while size >= _SMALLEST_PIECE and retired < left:
        piece = malloc(size)
        if piece is None or piece >= end:  # no free piece is as large
            free(piece)
            size = size * 7 // 8
        else:
            retired += size
    return retired


def _set(*options: tuple[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    done = [mallopt(name, value) for name, value in options]
    return all(done)
