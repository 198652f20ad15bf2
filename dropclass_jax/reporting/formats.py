"""How numbers are written: fractions in percent, their differences in points."""

from __future__ import annotations

import math


def percent(value: float | None, digits: int = 1, unknown: str = "-") -> str:
    """A fraction in percent, without the sign: 0.123 -> 12.3; ``unknown`` for None and NaN."""
    return unknown if _is_unknown(value) else f"{100 * value:.{digits}f}"


def points(difference: float | None) -> str:
    """A difference of fractions in points, with its sign: 0.012 -> +1.2; - for None and NaN.

    What rounds to nothing has no sign: 0.0.
    """
    if _is_unknown(difference):
        return "-"
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}" if rounded else "0.0"


def significant(share: float) -> str:
    """A share of any size in three digits: 0.000358 -> 0.0358%."""
    return f"{100 * share:.3g}%"


def two_digits(share: float) -> str:
    """A share with its sign, two digits at most: ``41 %``, ``3.2 %``, ``<0.1 %``, a dash for 0."""
    if share == 0:
        return "–"
    if share < 0.001:
        return "<0.1 %"
    return f"{percent(share, digits=0 if share >= 0.0995 else 1)} %"


def tick(value: float, _: object = None) -> str:
    """A share at a tick of an axis: 0.05 -> 5%; a formatter of matplotlib."""
    return significant(value)


def _is_unknown(value: float | None) -> bool:
    return value is None or math.isnan(value)
