"""Seconds a call, measured in turns: what else a busy machine does meets all candidates alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Does its work so many times, and returns when the device is done with it.
Run = Callable[[int], None]

LEAST_SECONDS = 0.2  # of a turn; a shorter one measures the clock and the dispatch


class Spent(NamedTuple):
    """Seconds that some calls took.

    Attributes:
      wall: on the clock.
      cpu: of the process, user and system, of all its threads together.
    """

    wall: float
    cpu: float


# Like ``Run``, and says what it took.
Timed = Callable[[int], Spent]


def timed(run: Run) -> Timed:
    """A function that also measures what it takes."""

    def spend(calls: int) -> Spent:
        wall, cpu = time.perf_counter(), time.process_time()
        run(calls)
        return Spent(time.perf_counter() - wall, time.process_time() - cpu)

    return spend


def in_turns(
    runs: Mapping[str, Run], repeats: int, least_seconds: float | None = None
) -> dict[str, list[float]]:
    """Wall seconds of several functions of this process; see ``spent_in_turns``."""
    spent = spent_in_turns({name: timed(run) for name, run in runs.items()}, repeats, least_seconds)
    return {name: [turn.wall for turn in turns] for name, turns in spent.items()}


def spent_in_turns(
    runs: Mapping[str, Timed], repeats: int, least_seconds: float | None = None
) -> dict[str, list[Spent]]:
    """Time several functions by turns: A B C, C B A, A B C, ...

    Each is warmed up first, by two calls (the first may compile, the second allocate).

    Args:
      runs: what to time.
      repeats: how many turns each of them has.
      least_seconds: how long a turn lasts at least, ``LEAST_SECONDS`` by default; calls are
        repeated to fill it.

    Returns:
      ``{name: seconds a call in each turn}``, turns in the same order for all.
    """
    least_seconds = LEAST_SECONDS if least_seconds is None else least_seconds
    calls = {}
    for name, run in runs.items():
        run(1)
        calls[name] = max(math.ceil(least_seconds / max(run(1).wall, 1e-6)), 1)
    spent: dict[str, list[Spent]] = {name: [] for name in runs}
    for turn in range(repeats):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            wall, cpu = runs[name](calls[name])
            spent[name].append(Spent(wall / calls[name], cpu / calls[name]))
    return spent


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
