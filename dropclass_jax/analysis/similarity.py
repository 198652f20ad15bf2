"""Cosine similarity of the classes' vectors, and its rank correlation with class frequency."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.stats


class RankCorrelation(NamedTuple):
    """Spearman's rank correlation.

    Attributes:
      rho: -1 (one falls as the other rises) to 1.
      n: how many pairs there were.
      p: how often ranks in random order are as far from 0, two-sided, by the t distribution.
    """

    rho: float
    n: int
    p: float


def cosine(vectors: np.ndarray) -> np.ndarray:
    """Cosine similarity of every two vectors.

    Args:
      vectors: ``[K, C]``.

    Returns:
      ``[K, K]`` float64 in -1..1; NaN for a vector that is zero or not finite.
    """
    vectors = np.asarray(vectors, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.clip(units @ units.T, -1, 1)


def mean_to_others(similarity: np.ndarray) -> np.ndarray:
    """Each class's mean similarity to the others.

    Args:
      similarity: ``[K, K]``; NaN counts for nothing.

    Returns:
      ``[K]``; NaN where no similarity is known.
    """
    others = np.where(np.eye(len(similarity), dtype=bool), np.nan, similarity)
    known = np.isfinite(others)
    with np.errstate(invalid="ignore"):
        return np.where(known, others, 0).sum(1) / known.sum(1)


def rank_correlation(x: np.ndarray, y: np.ndarray) -> RankCorrelation | None:
    """Spearman's rank correlation over the pairs that are finite; None for fewer than three.

    Also None where all of either are equal, which have no order.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3 or np.ptp(x[known]) == 0 or np.ptp(y[known]) == 0:
        return None
    result = scipy.stats.spearmanr(x[known], y[known])
    return RankCorrelation(float(result.statistic), int(known.sum()), float(result.pvalue))
