"""How far a mean or a difference may be from the truth: intervals of 95 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


class Estimate(NamedTuple):
    """A value with its interval; ``low`` and ``high`` are NaN where nothing can be said."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0: a difference that is more than noise."""
        return self.low > 0 or self.high < 0


def deviation(values: Sequence[float]) -> float:
    """The sample standard deviation; NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def of_mean(values: Sequence[float]) -> Estimate:
    """The mean of independent values with Student's t interval."""
    n, mean = len(values), float(np.mean(values))
    half = quantile(n - 1) * deviation(values) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(mean, mean - half, mean + half)


def of_difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Mean of ``a`` minus mean of ``b``, independent values, with Welch's t interval."""
    difference = float(np.mean(a) - np.mean(b))
    variances = np.array([deviation(side) ** 2 / len(side) for side in (a, b)])
    half = quantile(welch_freedom(variances, (len(a), len(b)))) * math.sqrt(variances.sum())
    return Estimate(difference, difference - half, difference + half)


def quantile(freedom: float) -> float:
    """How many standard errors an interval of Student's t reaches to either side."""
    return float(stats.t.ppf(TAILS[1], freedom))


def welch_freedom(variances: np.ndarray, counts: Sequence[int]) -> float:
    """Degrees of freedom of a sum of variances of means (Welch 1947, Satterthwaite 1946)."""
    parts = variances**2 / (np.asarray(counts) - 1)
    return float(variances.sum() ** 2 / parts.sum()) if parts.sum() > 0 else math.inf
