"""What the parts of the benchmark have in common."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from dropclass_jax.benchmark.timing import Run


class Skipped(Exception):
    """A section cannot be measured here; the message says why, in one line."""


class Stopped(KeyboardInterrupt):
    """The benchmark was stopped within a section; ``result`` is what that has by then."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__()
        self.result = result


@contextlib.contextmanager
def keeping(result: dict[str, Any]) -> Iterator[None]:
    """What fills a result little by little: where it is stopped, what is there is not lost."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(result) from None


class Options(NamedTuple):
    """How to measure.

    Attributes:
      repeats: turns of everything that is timed.
      quick: leave out what takes long.
      torch_compile: also try ``torch.compile``; None where it pays: on a GPU.
      at_once: prepare all that is compared with PyTorch side by side, for so many seconds at most;
        None: one after the other.
    """

    repeats: int = 7
    quick: bool = False
    torch_compile: bool | None = None
    at_once: float | None = None


class Work(NamedTuple):
    """Something to measure that is ready to run.

    Attributes:
      run: does it so many times.
      peak: the most bytes that one time needs; None where that is not known.
      details: what else there is to report, as a JSON object.
    """

    run: Run
    peak: Callable[[], int | None]
    details: dict[str, Any]


def say(text: str) -> None:
    """A line of progress on stderr, so that stdout has the tables alone."""
    print(f"[{time.monotonic() - _START:4.0f} s] {text}", file=sys.stderr, flush=True)


_START = time.monotonic()
