"""DropClass as one writes it first: all K maps of class-specific features, then their mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp

from dropclass_jax import dropclass


def average_features(
    features: jax.Array, head: dropclass.Classifier, keep: jax.Array, *, stop_gradient: bool = False
) -> jax.Array:
    """``dropclass.average_features`` with ``[K, B, h, w, C]`` in memory.

    Args: as of ``dropclass.average_features``; ``stop_gradient`` is not for here.

    Returns:
      ``[B, h, w, C]``.
    """
    del stop_gradient
    keep = jnp.atleast_2d(keep).astype(features.dtype)  # [1 or B, K]
    weights = jax.vmap(lambda c: dropclass.importance(head, features, c))(
        jnp.arange(keep.shape[-1])
    )
    maps = dropclass.class_features(features, weights)  # [K, B, h, w, C]
    kept = keep.T[:, :, None, None, None]
    return jnp.sum(kept * maps, axis=0) / jnp.sum(kept, axis=0)


@contextmanager
def all_maps() -> Iterator[None]:
    """While it is open, what is traced with ``importance='position'`` makes all maps at once."""
    ours = dropclass.average_features
    dropclass.average_features = average_features
    try:
        yield
    finally:
        dropclass.average_features = ours
