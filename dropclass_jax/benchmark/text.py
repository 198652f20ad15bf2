"""Numbers with their units, for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dropclass_jax.reporting import formats
from dropclass_jax.reporting.text_table import aligned


def table(
    header: Sequence[str],
    results: Mapping[str, Mapping[str, Any]],
    cells: Callable[[Mapping[str, Any]], Sequence[str]],
) -> list[str]:
    """Lines of a table with a row for each named result; an ``error`` stands for its ``cells``."""
    blank = [""] * (len(header) - 2)
    rows = [
        [name, *([one["error"], *blank] if "error" in one else cells(one))]
        for name, one in results.items()
    ]
    return aligned(header, rows)


def last_line(said: str) -> str:
    """The last line that a process printed."""
    return (said.strip().splitlines() or ["it said nothing"])[-1]


def seconds(value: float) -> str:
    """``'12.3 ms'`` or ``'1.23 s'``."""
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def spread(summary: Mapping[str, Any]) -> str:
    """The quartiles of seconds, ``'11.9..12.8'`` in the unit of ``seconds(median)``."""
    scale = 1e3 if summary["median"] < 1 else 1
    return "..".join(f"{scale * value:.3g}" for value in summary["quartiles"])


def times(value: float) -> str:
    """``'1.18 x'``."""
    return f"{value:.2f} x"


def ratio(summary: Mapping[str, Any]) -> str:
    """A ratio with its quartiles: ``'1.18 x (1.16..1.19)'``."""
    low, high = summary["quartiles"]
    return f"{times(summary['median'])} ({low:.2f}..{high:.2f})"


def mebibytes(value: float | None) -> str:
    """``'123 MiB'``, or ``'-'`` where it is not known."""
    return "-" if value is None else f"{value / 2**20:.0f} MiB"


def percent(share: float) -> str:
    """``'12 %'``."""
    return f"{formats.percent(share, digits=0)} %"
