"""The CPU cores that this process may use."""

from __future__ import annotations

import os


def usable() -> list[int]:
    """Their numbers, ascending: on Linux those that it is bound to, elsewhere all."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
