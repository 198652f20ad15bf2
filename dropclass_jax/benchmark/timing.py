"""Seconds a call, measured in turns, so that whatever else a machine does meets all candidates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# Does its work so many times, and returns when the device is done with it.
Run = Callable[[int], None]

LEAST_SECONDS = 0.2  # of a turn; a shorter one measures the clock and the dispatch


def in_turns(
    runs: Mapping[str, Run], repeats: int, least_seconds: float = LEAST_SECONDS
) -> dict[str, list[float]]:
    """Time several functions in one process: A B C, C B A, A B C, ...

    Each is warmed up first, by two calls (the first may compile, the second allocate).

    Args:
      runs: what to time.
      repeats: how many turns each of them has.
      least_seconds: how long a turn lasts at least; calls are repeated to fill it.

    Returns:
      ``{name: seconds a call in each turn}``, turns in the same order for all.
    """
    calls = {}
    for name, run in runs.items():
        run(1)
        calls[name] = max(math.ceil(least_seconds / max(_seconds(run, 1), 1e-6)), 1)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            seconds[name].append(_seconds(runs[name], calls[name]) / calls[name])
    return seconds


def _seconds(run: Run, calls: int) -> float:
    start = time.perf_counter()
    run(calls)
    return time.perf_counter() - start


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles, lowest, highest and all of some values."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {
        "median": float(median),
        "quartiles": [float(low), float(high)],
        "lowest": float(min(values)),
        "highest": float(max(values)),
        "all": [float(value) for value in values],
    }


def ratio(values: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    """A summary of ``values / others``, each of the same turn: what slows both, slows no ratio."""
    return summary(np.divide(values, others).tolist())
