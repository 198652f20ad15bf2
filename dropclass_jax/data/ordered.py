"""Many files at once, in order: what threads and progress bars are to the rest of the house."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

THREADS = min(len(os.sched_getaffinity(0)), 16)

T, R = TypeVar("T"), TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``map`` on several threads, in order, with no more than a few results waiting."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def progress(items: Iterable[T], what: str, total: int | None) -> Iterable[T]:
    """The items, with a bar on a terminal if they take longer than two seconds."""
    return tqdm(items, what, total, leave=False, disable=None, delay=2)
