"""The peak of a process's memory, for what allocates from the operating system."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PROC = Path("/proc/self")


def peak_increase(work: Callable[[], Any]) -> int | None:
    """The most memory that some work needs at a time, above what was in use before.

    Returns:
      Bytes, of pages that were touched; None where the system does not tell (it is Linux's way).
    """
    gc.collect()
    try:
        # Or memory that was freed, but kept, would be used again without being seen.
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
