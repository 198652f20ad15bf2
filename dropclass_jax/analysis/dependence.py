"""Class dependence: how the IoU of every class changes when one class's features are left out.

The backbone runs once an image; what comes after its features runs once for every class left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dropclass_jax.comparison import bootstrap, intervals
from dropclass_jax.evaluation import metrics
from dropclass_jax.ops.labels import IGNORE_LABEL
from dropclass_jax.ops.resize import resize_bilinear


def leave_one_out(num_classes: int) -> jax.Array:
    """Keep-masks ``[K + 1, K]``: the first keeps all classes, row i + 1 drops class i."""
    everything = jnp.ones((1, num_classes))
    return jnp.concatenate([everything, 1 - jnp.eye(num_classes)])


def fade(features: jax.Array, importance: jax.Array, keep: jax.Array) -> jax.Array:
    """Features of a network that has no drop path, without what speaks for the dropped class.

    DropClass averages the classes' features, and a network learns to read that average. One that
    did not learn it can only be shown its own features, each scaled by what is left of that average
    when a class is dropped: ``A * mean over kept c of relu(S_c) / mean over all c of relu(S_c)``
    for positive A, with ``relu(-S_c)`` for negative A. A feature that only the dropped class
    selects vanishes, one that no class selects or all share stays, and nothing changes when nothing
    is dropped.

    Args:
      features: ``[B, h, w, C]``, of any sign.
      importance: ``[K, C]``; see ``dropclass.shared_importance``.
      keep: ``[K]``, 0 for the dropped class.

    Returns:
      ``[B, h, w, C]``.
    """

    wide = jnp.promote_types(features.dtype, jnp.float32)
    keep, importance = keep.astype(wide), importance.astype(wide)

    def left(importance: jax.Array) -> jax.Array:  # [K, C] -> [C]
        everything = jnp.mean(importance, axis=0)
        kept = keep @ importance / jnp.sum(keep)
        ratio = kept / jnp.where(everything > 0, everything, 1)
        # With nothing dropped not a quotient of two sums that may differ in their last bits.
        return jnp.where((everything > 0) & jnp.any(keep == 0), ratio, 1).astype(features.dtype)

    positive, negative = left(nn.relu(importance)), left(nn.relu(-importance))
    return nn.relu(features) * positive - nn.relu(-features) * negative


def counts(
    logits_of: Callable[[jax.Array], jax.Array],
    labels: jax.Array,
    num_classes: int,
    ignore_label: int = IGNORE_LABEL,
) -> jax.Array:
    """Pixel counts of every image for every keep-mask of ``leave_one_out``.

    Args:
      logits_of: keep ``[K]`` -> logits ``[B, h, w, K]``, upsampled here to the labels' size.
      labels: ``[B, H, W]``, 0 to K - 1 or ``ignore_label``.
      num_classes: K.
      ignore_label: the value of pixels that do not count.

    Returns:
      ``[B, K + 1, K, 3]`` int32, see ``metrics.class_counts``.
    """

    def count(keep: jax.Array) -> jax.Array:
        predictions = jnp.argmax(resize_bilinear(logits_of(keep), labels.shape[1:]), axis=-1)
        confusions = jax.vmap(metrics.confusion_matrix, (0, 0, None, None))(
            labels, predictions, num_classes, ignore_label
        )
        return metrics.class_counts(confusions)

    # One mask after the other, so that memory does not grow with K.
    return jnp.moveaxis(lax.map(count, leave_one_out(num_classes)), 0, 1)


class Effect(NamedTuple):
    """What leaving out each class does to the IoU of every class.

    NaN for a class that is not labelled: its IoU would say only that it is never found where it is
    not. Intervals are for other images of the same kind, seen by the same network; they are NaN
    for a class that is labelled in fewer than ``bootstrap.FEW`` images.

    Attributes:
      iou: ``[K]`` float64, with nothing left out.
      change: ``[K, K]``, row i is the change of every class's IoU when class i is left out,
        negative where it falls.
      low: ``[K, K]``, the lower end of the change's interval.
      high: ``[K, K]``, the upper one.
      clear: ``[K, K]`` bool, whether a change is more than noise: its interval leaves out 0, and
        would not by chance among so many changes.
      leaning: ``[K]``, each class's mean change over the other classes left out.
      leaning_low, leaning_high: ``[K]``, its interval.
    """

    iou: np.ndarray
    change: np.ndarray
    low: np.ndarray
    high: np.ndarray
    clear: np.ndarray
    leaning: np.ndarray
    leaning_low: np.ndarray
    leaning_high: np.ndarray


RESAMPLES = 5_000


def effect(counts: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Effect:
    """The effect of leaving out each class, with intervals by the bootstrap over images.

    Args:
      counts: ``[N, K + 1, K, 3]`` integer, of all images; see ``counts``.
      resamples: R, draws of the images.
      seed: of the draws.
    """
    images, _, classes, _ = counts.shape
    labelled = counts[:, 0, :, 1] > 0  # [N, K]
    seen = labelled.any(axis=0)
    iou = np.where(seen, _iou(counts.sum(axis=0, dtype=np.int64)), np.nan)  # [K + 1, K]
    change = iou[1:] - iou[0]

    rng = np.random.default_rng(seed)
    weights = np.concatenate([*bootstrap.image_weights(rng, images, resamples)])  # [R, N]

    def resampled(mask: int) -> np.ndarray:
        return _iou(bootstrap.resampled(counts[None, :, mask], weights)[:, 0])  # [R, K]

    whole = resampled(0)
    low, high, p = (np.full((classes, classes), np.nan) for _ in range(3))
    total, others = np.zeros((resamples, classes)), ~np.eye(classes, dtype=bool)
    for i in range(classes):
        draws = resampled(1 + i) - whole  # [R, K]
        draws[:, ~seen] = 0.0  # not NaN alone, of which there is no quantile
        low[i], high[i] = np.nanquantile(draws, intervals.TAILS, axis=0)
        p[i] = bootstrap.p_values(draws)
        total += np.where(others[i], draws, 0.0)
    known = labelled.sum(axis=0) >= bootstrap.FEW
    low, high, p = (np.where(known, array, np.nan) for array in (low, high, p))
    found = bootstrap.discoveries(p.ravel()).reshape(p.shape)
    mean = total / max(classes - 1, 1)
    ends = np.full((2, classes), np.nan)
    ends[:, known] = np.nanquantile(mean[:, known], intervals.TAILS, axis=0)
    return Effect(
        iou[0],
        change,
        low,
        high,
        ((low > 0) | (high < 0)) & (found < 1 - intervals.CONFIDENCE),
        np.mean(change, axis=0, where=others) if classes > 1 else np.full(classes, np.nan),
        *ends,
    )


def _iou(counts: np.ndarray) -> np.ndarray:
    """``[..., K, 3]`` counts -> ``[..., K]``; NaN for a class neither labelled nor predicted."""
    return bootstrap.scores(counts, {})[..., 1:]
