"""A multithreaded ``map`` that keeps the order, and a progress bar."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from dropclass_jax import cores

THREADS = min(len(cores.usable()), 16)

T, R = TypeVar("T"), TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``map`` on ``THREADS`` threads, in order; at most ``2 * THREADS`` results wait to be read."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def progress(items: Iterable[T], what: str, total: int | None) -> Iterable[T]:
    """The items, with a progress bar on a terminal if they take longer than two seconds."""
    return tqdm(items, what, total, leave=False, disable=None, delay=2)
