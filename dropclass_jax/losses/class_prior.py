"""Logit adjustment and logit variation from class frequencies (training only)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def log_prior(class_pixels: np.ndarray) -> np.ndarray:
    """The logarithm of each class's share of the labelled pixels.

    For logit adjustment (Menon et al., "Long-tail Learning via Logit Adjustment", ICLR 2021,
    equation 10): ``tau`` times this is added to the logits in the training loss. The
    network makes up for it by larger logits for rare classes; at inference nothing is added.

    A class without any pixel gets 0, as if it were everywhere: the logarithm of its own share is
    minus infinity, with which the network would never learn not to predict it.

    Args:
      class_pixels: ``[K]``, the training split's labelled pixels of each class.

    Returns:
      float64 ``[K]``, 0 or below.

    >>> log_prior(np.array([6, 2, 0])).round(4).tolist()
    [-0.2877, -1.3863, 0.0]
    """
    pixels = np.asarray(class_pixels, np.int64)
    return np.log(np.where(pixels > 0, pixels / max(pixels.sum(), 1), 1.0))


def rarity(class_pixels: np.ndarray) -> np.ndarray:
    """How rare each class is, from 0 for one that is everywhere to 1 for the rarest.

    ``log(N / n_c)``, for n_c of N pixels, over the largest of them: what ``vary`` scales with. A
    class without a single pixel counts as the rarest.

    Args:
      class_pixels: ``[K]``, the training split's labelled pixels of each class.

    Returns:
      float64 ``[K]``, 0 to 1.

    >>> rarity(np.array([8, 4, 4, 0])).tolist()
    [0.5, 1.0, 1.0, 1.0]
    """
    rare = -log_prior(class_pixels)
    rare = np.where(np.asarray(class_pixels) > 0, rare, rare.max())
    return rare / max(rare.max(), np.finfo(float).tiny)


def vary(
    logits: jax.Array, keys: jax.Array, scale: jax.Array, sigma: float | jax.Array
) -> jax.Array:
    """Balancing logit variation: noise on the logits in training, more for rare classes.

    ``scale_c * |clip(sigma * N(0, 1), -1, 1)|`` is added to the logit of class c, at every position
    anew, so that the features of a rare class must keep a larger distance from the others'. Wang et
    al., "Balancing Logit Variation for Long-tailed Semantic Segmentation", CVPR 2023, cut off at 1
    as in the authors' code (whose sigma is 4). That draws after the upsampling, this before it, at
    the logits' own resolution.

    Args:
      logits: ``[B, h, w, K]``, float.
      keys: ``[B]`` PRNG keys, one for each example.
      scale: ``[K]``, of ``rarity``.
      sigma: of the noise before it is cut off.

    Returns:
      ``[B, h, w, K]``, the logits' dtype.
    """

    def noise(key: jax.Array) -> jax.Array:  # [h, w, K]
        return jax.random.normal(key, logits.shape[1:], logits.dtype)

    size = jnp.minimum(jnp.abs(sigma * jax.vmap(noise)(keys)), 1)
    return logits + (scale * size).astype(logits.dtype)
