"""What the parts of the benchmark have in common."""

from __future__ import annotations

from typing import NamedTuple


class Skipped(Exception):
    """A section cannot be measured here; the message says why, in one line."""


class Options(NamedTuple):
    """How to measure.

    Attributes:
      repeats: turns of everything that is timed.
      quick: leave out what takes long.
      torch_compile: also try ``torch.compile``; None where it pays: on a GPU.
    """

    repeats: int = 7
    quick: bool = False
    torch_compile: bool | None = None
