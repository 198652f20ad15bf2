"""The mean feature vector of every class."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dropclass_jax.ops.labels import IGNORE_LABEL


def nearest(labels: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Labels ``[B, H, W]`` at the centres of a coarser grid, ``[B, *size]``."""
    rows, columns = (
        ((np.arange(few) + 0.5) * many / few).astype(int)
        for few, many in zip(size, labels.shape[1:], strict=True)
    )
    return labels[:, rows[:, None], columns]


def class_sums(
    features: jax.Array, labels: jax.Array, num_classes: int, ignore_label: int = IGNORE_LABEL
) -> tuple[jax.Array, jax.Array]:
    """The sum of the features over every class's positions, and how many those are.

    Args:
      features: ``[B, h, w, C]``.
      labels: ``[B, H, W]``, 0 to K - 1 or ``ignore_label``; taken at the features' positions.
      num_classes: K.
      ignore_label: the value of pixels that do not count.

    Returns:
      ``[K, C]`` in at least float32, and ``[K]`` of the same dtype.
    """
    dtype = jnp.promote_types(features.dtype, jnp.float32)
    labels = nearest(labels, features.shape[1:3])
    labels = jnp.where(labels == ignore_label, num_classes, labels)  # beyond all: no row of ones
    one_hot = jax.nn.one_hot(labels.reshape(-1), num_classes, dtype=dtype)  # [B * h * w, K]
    flat = features.reshape(-1, features.shape[-1]).astype(dtype)  # [B * h * w, C]
    return jnp.matmul(one_hot.T, flat, precision="highest"), one_hot.sum(axis=0)
