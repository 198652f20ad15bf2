"""Who leans on whom: what every class loses when the features of one class are left out.

The backbone runs once an image; what comes after its features runs once for every class left out.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

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


def confusions(
    logits_of: Callable[[jax.Array], jax.Array],
    labels: jax.Array,
    num_classes: int,
    ignore_label: int = IGNORE_LABEL,
) -> jax.Array:
    """A confusion matrix for every keep-mask of ``leave_one_out``, one after the other.

    Args:
      logits_of: keep ``[K]`` -> logits ``[B, h, w, K]``, upsampled here to the labels' size.
      labels: ``[B, H, W]``, 0 to K - 1 or ``ignore_label``.
      num_classes: K.
      ignore_label: the value of pixels that do not count.

    Returns:
      ``[K + 1, K, K]`` int32.
    """

    def count(keep: jax.Array) -> jax.Array:
        predictions = jnp.argmax(resize_bilinear(logits_of(keep), labels.shape[1:]), axis=-1)
        return metrics.confusion_matrix(labels, predictions, num_classes, ignore_label)

    return lax.map(count, leave_one_out(num_classes))


def iou_changes(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The IoU of every class with nothing dropped, and how it changes with each class dropped.

    Args:
      counts: ``[K + 1, K, K]`` integer, sums of ``confusions``.

    Returns:
      ``[K]`` and ``[K, K]`` float64: row i is the change of every class's IoU when class i is
      dropped, negative where it falls. NaN for a class that is not labelled: its IoU would say
      only that it is never found where it is not.
    """
    iou = np.stack([metrics.scores(confusion)["iou"] for confusion in counts])  # [K + 1, K]
    iou[:, counts[0].sum(axis=1) == 0] = np.nan
    return iou[0], iou[1:] - iou[0]
