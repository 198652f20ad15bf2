"""Confidence intervals of the difference between two sets of runs, over images and seeds.

Both matter. Other images of the same kind would give other scores, and so would other seeds of the
same training. The images are resampled (the bootstrap: Efron 1979), jointly for all runs, so that
what makes an image hard for everybody cancels. Seeds are too few to be resampled: three of them,
drawn with replacement, vary by a third too little on average, and by far too little often. They
enter as what a t interval is made of: the standard error of a mean over seeds, times a draw of
Student's t with as many degrees of freedom as the seeds give (Welch 1947).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from dropclass_jax.comparison import intervals

RESAMPLES = 10_000
FEW = 5  # images: of a class in fewer of them, draws of the images tell too little
_CHUNK = 2_000_000  # weights that are in memory at a time


class Comparison(NamedTuple):
    """``M`` scores of two sides and the differences between them.

    Attributes:
      a: ``[M]``, the first side's: the mean over its runs.
      b: ``[M]``, the second side's.
      low: ``[M]``, the lower end of the interval of ``b - a``.
      high: ``[M]``, the upper one.
      p: ``[M]``, how often chance alone would bring a difference at least as large, two-sided.
      of_images: ``[M]``, the standard deviation of the difference by the images alone.
      of_seeds: ``[M]``, by the seeds alone; NaN where both sides have one run, which tells nothing.
    """

    a: np.ndarray
    b: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    of_images: np.ndarray
    of_seeds: np.ndarray


def scores(counts: np.ndarray, groups: Mapping[str, np.ndarray]) -> np.ndarray:
    """The scores that are compared.

    Args:
      counts: ``[..., K, 3]``: pixels that are hits, labelled and predicted, of each class.
      groups: ``{name: [K] bool}``, classes to average over.

    Returns:
      ``[..., 1 + len(groups) + K]``: the mean IoU, the means over the groups, the classes' IoUs. A
      class that is neither labelled nor predicted is NaN, and left out of the means.
    """
    hits, labelled, predicted = np.moveaxis(counts, -1, 0).astype(np.float64)
    union = labelled + predicted - hits
    iou = np.divide(hits, union, out=np.full(union.shape, np.nan), where=union > 0)  # [..., K]
    everywhere = np.ones(iou.shape[-1], bool)
    means = [_mean_of_present(iou[..., mask]) for mask in (everywhere, *groups.values())]
    return np.concatenate([np.stack(means, -1), iou], -1)


def predicted(counts: np.ndarray, groups: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pixels that were predicted as what each score is of, by all runs on all images.

    Args:
      counts: ``[S, N, K, 3]``, see ``scores``.
      groups: see ``scores``.

    Returns:
      int64 ``[1 + len(groups) + K]``.
    """
    pixels = counts[..., 2].sum(axis=(0, 1))  # [K]
    means = [pixels.sum(), *(pixels[mask].sum() for mask in groups.values())]
    return np.concatenate([means, pixels]).astype(np.int64)


def _mean_of_present(values: np.ndarray, axis: int = -1) -> np.ndarray:
    present = ~np.isnan(values)
    count = present.sum(axis)
    total = np.where(present, values, 0.0).sum(axis)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def compare(
    a: np.ndarray,
    b: np.ndarray,
    groups: Mapping[str, np.ndarray],
    *,
    same_runs: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two sides by their scores on the same images.

    Where one side has a single run, its seeds are taken to vary as the other side's. Where both
    have, the interval is for other images alone. Means are over the classes that the images are
    labelled with: of another one a single pixel would count as a class that is never right, for the
    side that predicts it alone.

    Args:
      a: ``[S, N, K, 3]``, the counts of each of the first side's S runs on N images.
      b: ``[T, N, K, 3]``.
      groups: see ``scores``.
      same_runs: the sides are two heads of the same runs, in the same order.
      resamples: draws of the images.
      seed: of the draws.

    Returns:
      With M as ``scores`` gives it. A score that a side does not have is NaN, and so is what is
      said of its difference. Of a class that is labelled in fewer than ``FEW`` images, so is all
      that is said by draws of the images.
    """
    rng = np.random.default_rng(seed)
    is_labelled = (a[0, :, :, 1] > 0).any(axis=0)[:, None]  # [K, 1]
    a, b = np.where(is_labelled, a, 0), np.where(is_labelled, b, 0)
    sides = [scores(side.sum(axis=1), groups) for side in (a, b)]  # [S, M], [T, M]
    value_a, value_b = (_mean_of_present(side, axis=0) for side in sides)
    draws = np.concatenate(
        [
            _mean_of_present(scores(resampled(b, weights), groups), axis=1)
            - _mean_of_present(scores(resampled(a, weights), groups), axis=1)
            for weights in image_weights(rng, a.shape[1], resamples)
        ]
    )  # [R, M]
    missing = np.isnan(value_b - value_a)
    draws[:, missing] = 0.0
    of_images = np.nanstd(draws, axis=0)
    of_seeds, freedom = _spread(*sides, same_runs)
    known = of_seeds > 0
    draws[:, known] += of_seeds[known] * rng.standard_t(freedom[known], (resamples, known.sum()))

    low, high = np.nanquantile(draws, intervals.TAILS, axis=0)
    p = p_values(draws)
    few = (a[0, :, :, 1] > 0).sum(axis=0) < FEW  # [K]
    unknown = missing | np.concatenate([np.zeros(len(missing) - len(few), bool), few])
    low, high, p, of_images = (
        np.where(unknown, np.nan, value) for value in (low, high, p, of_images)
    )
    return Comparison(value_a, value_b, low, high, p, of_images, of_seeds)


def p_values(draws: np.ndarray) -> np.ndarray:
    """How often chance alone would bring such differences, two-sided: ``[R, M]`` draws -> ``[M]``.

    By the draws on the rarer side of 0, of which one more is counted, so that none is 0. A draw
    that holds nothing of a class is NaN, and speaks for neither side: it is counted on both.
    """
    beyond = np.minimum((~(draws > 0)).sum(axis=0), (~(draws < 0)).sum(axis=0))
    return np.minimum(2 * (beyond + 1) / (len(draws) + 1), 1.0)


def image_weights(rng: np.random.Generator, images: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each draw of the images holds each: ``[r, N]`` at a time, R in all."""
    step = max(_CHUNK // images, 1)
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        yield rng.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float64)


def resampled(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``[S, N, K, 3]`` counts and ``[r, N]`` weights -> ``[r, S, K, 3]`` sums, exact."""
    runs, images, classes, kinds = counts.shape
    flat = np.moveaxis(counts, 1, 0).reshape(images, -1).astype(np.float64)  # [N, S K 3]
    return (weights @ flat).reshape(-1, runs, classes, kinds)


def _spread(a: np.ndarray, b: np.ndarray, same_runs: bool) -> tuple[np.ndarray, np.ndarray]:
    """The standard error of ``b - a`` over seeds, and its degrees of freedom, both ``[M]``."""
    if max(len(a), len(b)) == 1:
        return np.full(a.shape[1], np.nan), np.full(a.shape[1], np.nan)
    if same_runs:
        return np.nan_to_num(stats.sem(b - a)), np.full(a.shape[1], len(a) - 1)
    sizes = np.array([len(a), len(b)])
    sources = a if len(a) > 1 else b, b if len(b) > 1 else a
    variances = np.stack([np.nan_to_num(np.var(s, axis=0, ddof=1)) for s in sources], 1) / sizes
    error = np.sqrt(variances.sum(axis=1))
    if min(sizes) == 1:  # it borrows the other side's deviation: one estimate, not two
        return error, np.full(a.shape[1], max(sizes) - 1)
    return error, np.array([intervals.welch_freedom(pair, sizes) for pair in variances])


def discoveries(p: np.ndarray) -> np.ndarray:
    """P-values as they count when all of them were looked at (Benjamini and Hochberg 1995).

    Of those called at 0.05, one of 20 is expected to be there by chance. NaN stays NaN.

    >>> discoveries(np.array([0.01, np.nan, 0.04, 0.03])).round(2).tolist()
    [0.03, nan, 0.04, 0.04]
    """
    adjusted, known = np.full(p.shape, np.nan), ~np.isnan(p)
    if known.any():
        adjusted[known] = stats.false_discovery_control(p[known])
    return adjusted
