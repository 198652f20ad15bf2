"""DropClass as one would write it first: all K maps of class-specific features, then their mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from dropclass_jax import dropclass, keep_masks


def average_features(
    features: jax.Array,
    classifier: dropclass.Classifier,
    keep: jax.Array,
    *,
    stop_gradient: bool = False,
) -> jax.Array:
    """Average of the kept classes' features, with all K maps ``[K, B, h, w, C]`` in memory.

    Takes and returns what ``dropclass.average_features`` does.
    """
    keep = keep_masks.at_positions(keep_masks.by_tile(keep), features.shape[1:3])
    kept = jnp.moveaxis(keep, -1, 0)[..., None].astype(features.dtype)  # [K, B, h, w, 1] or ones
    weights = jax.vmap(lambda c: dropclass.importance(classifier, features, c))(
        jnp.arange(len(kept))
    )
    if stop_gradient:
        weights = lax.stop_gradient(weights)
    maps = dropclass.class_features(features, weights)  # [K, B, h, w, C]
    return jnp.sum(kept * maps, axis=0) / jnp.sum(kept, axis=0)
