"""Per-pixel losses, each as a pair ``(sum, weight)``.

A pair is what may be added up over devices and batches before it is divided; a mean is not. Every
value is float32 or wider.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from dropclass_jax.keep_masks import at_positions, by_tile, check_keep
from dropclass_jax.losses.upsampled import PixelLoss, sum_over_pixels
from dropclass_jax.ops.labels import IGNORE_LABEL

Pair = tuple[jax.Array, jax.Array]


def mean(pair: Pair) -> jax.Array:
    """``sum / weight``, and 0 for a pair without any weight."""
    total, weight = pair
    return total / jnp.where(weight > 0, weight, 1)


def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    *,
    class_weights: jax.Array | None = None,
    ignore_label: int = IGNORE_LABEL,
    block_bytes: int | None = None,
) -> Pair:
    """Cross-entropy at the labels' resolution.

    The logits are upsampled bilinearly (half-pixel centres). Dividing the pair gives what
    PyTorch's ``CrossEntropyLoss(weight, ignore_index)`` gives: a mean weighted by the classes.

    Args:
      logits: ``[B, h, w, K]``, float.
      labels: ``[B, H, W]``, integer, 0 to K - 1 or ``ignore_label``.
      class_weights: ``[K]`` or None for ones.
      ignore_label: the value of pixels that do not count.
      block_bytes: see ``upsampled.sum_over_pixels``.

    Returns:
      ``(sum of weight * nll, sum of weight)``, two scalars, float32 or wider.
    """
    return pixel_pair(nll_sum, logits, labels, class_weights, ignore_label, block_bytes)


def pixel_pair(
    pixel_sum: PixelLoss,
    logits: jax.Array,
    labels: jax.Array,
    class_weights: jax.Array | None,
    ignore_label: int,
    block_bytes: int | None = None,
) -> Pair:
    """The pair of a loss that weighs pixels by their labels alone.

    Args:
      pixel_sum: ``(logits [B, K, r, W], labels [B, r, W], class_weights, *, ignore_label)`` to the
        weighted sum over the pixels.
      logits, labels, class_weights, ignore_label, block_bytes: as of ``cross_entropy``.

    Returns:
      ``(pixel_sum of the upsampled logits, sum of weight)``, two scalars, float32 or wider.
    """
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    total = sum_over_pixels(
        partial(pixel_sum, ignore_label=ignore_label),
        logits.astype(wide),
        labels,
        class_weights,
        ignore_label=ignore_label,
        block_bytes=block_bytes,
    )
    weight = pixel_weights(labels, class_weights=class_weights, ignore_label=ignore_label)
    return total, jnp.sum(weight, dtype=wide)


def nll_sum(
    logits: jax.Array, labels: jax.Array, class_weights: jax.Array | None, *, ignore_label: int
) -> jax.Array:
    """The sum of ``weight * nll`` over pixels, from logits ``[B, K, H, W]`` of their resolution."""
    weight = pixel_weights(labels, class_weights=class_weights, ignore_label=ignore_label)
    return jnp.sum(nll(logits, labels, axis=1) * weight)


def nll(logits: jax.Array, labels: jax.Array, axis: int = -1) -> jax.Array:
    """Of each pixel, the negative logarithm of its own class's probability.

    Args:
      logits: ``[..., K]``, float, at the labels' resolution; K may be another axis.
      labels: ``[...]``, integer. Where they are no class the result has no meaning.
      axis: where the logits have their classes.

    Returns:
      ``[...]``, the logits' dtype; finite for finite logits.
    """
    # One-hot products, not gathers: their transpose is a product too, where a gather's is a
    # scatter, which CPU and TPU are slow at.
    # Zero where ignored.
    is_class = jax.nn.one_hot(labels, logits.shape[axis], dtype=logits.dtype, axis=axis)
    return jax.nn.logsumexp(logits, axis=axis) - jnp.sum(logits * is_class, axis=axis)


def pixel_weights(
    labels: jax.Array,
    *,
    class_weights: jax.Array | None = None,
    ignore_label: int = IGNORE_LABEL,
) -> jax.Array:
    """How much each pixel counts in ``cross_entropy``, which does not depend on the logits.

    Args:
      labels: ``[B, H, W]``, integer, 0 to K - 1 or ``ignore_label``.
      class_weights: ``[K]`` or None for ones.
      ignore_label: the value of pixels that do not count.

    Returns:
      ``[B, H, W]``, 0 where ignored; float32, or the class weights' dtype if that is wider.
    """
    labelled = labels != ignore_label
    if class_weights is None:
        return labelled.astype(jnp.float32)
    weights = jnp.asarray(class_weights)
    weights = weights.astype(jnp.promote_types(weights.dtype, jnp.float32))
    # A sum of products, not a matrix product, which a TPU would round to bfloat16.
    of_class = jnp.sum(jax.nn.one_hot(labels, len(weights), dtype=weights.dtype) * weights, axis=-1)
    return of_class * labelled  # what is ignored may be below K


def suppression(logits_drop: jax.Array, keep: jax.Array) -> Pair:
    """How much of the dropped classes the network still sees where they were dropped.

    The mean probability of the set of dropped classes over *all* positions, ignored ones and
    batches without the classes included, at the logits' own resolution (section 3.3; the paper is
    silent on the resolution, the authors' code takes the logits').

    Args:
      logits_drop: ``[B, h, w, K]``.
      keep: ``[K]``, ``[B, K]`` or ``[B, gh, gw, K]``, see ``keep_masks``; a position where nothing
        is dropped adds 0.

    Returns:
      ``(sum of the dropped classes' probabilities, number of positions)``.

    Raises:
      ValueError: the shape of ``keep`` is another.
    """
    check_keep(keep, logits_drop.shape)
    wide = jnp.promote_types(logits_drop.dtype, jnp.float32)
    dropped = (1 - by_tile(keep)).astype(wide)
    dropped = at_positions(dropped, logits_drop.shape[1:3])  # [1 or B, h or 1, w or 1, K]
    probability = jnp.sum(jax.nn.softmax(logits_drop.astype(wide)) * dropped, axis=-1)
    return jnp.sum(probability), jnp.asarray(probability.size, wide)
