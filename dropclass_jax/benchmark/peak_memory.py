"""Peak resident memory of a process, for libraries that allocate from the operating system."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PROC = Path("/proc/self")


def peak_increase(work: Callable[[], Any]) -> int | None:
    """Peak resident memory of a function call, above what was resident before it.

    Returns:
      Bytes; None where the system does not report it (only Linux does).
    """
    gc.collect()
    try:
        # Freed memory that the allocator has kept would be used again without being seen.
        ctypes.CDLL(None).malloc_trim(0)
        (_PROC / "clear_refs").write_text("5")  # sets the peak back to what is in use now
        before = _status("VmRSS")
        work()
        return max(_status("VmHWM") - before, 0)
    except (OSError, AttributeError, KeyError):
        return None


def _status(key: str) -> int:
    lines = (line.split(":") for line in (_PROC / "status").read_text().splitlines())
    return int(dict(lines)[key].split()[0]) * 1024
