"""Batches of images on the device, and their normalisation."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

# ``image`` uint8 [B, H, W, 3], ``label`` integer [B, H, W]
Batch = Mapping[str, jax.Array]


def normalize(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """uint8 ``[B, H, W, 3]`` -> float32, with the mean and deviation on the scale 0 to 1."""
    return (images.astype(jnp.float32) / 255.0 - jnp.asarray(mean)) / jnp.asarray(std)
