"""Losses that emphasise hard pixels, those whose class has a low probability: OHEM and focal."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dropclass_jax.losses.pixels import Pair, cross_entropy, nll, pixel_pair, pixel_weights
from dropclass_jax.losses.upsampled import map_pixels
from dropclass_jax.ops.labels import IGNORE_LABEL


def ohem(
    logits: jax.Array,
    labels: jax.Array,
    *,
    threshold: float = 0.7,
    min_kept: float = 0.2,
    class_weights: jax.Array | None = None,
    ignore_label: int = IGNORE_LABEL,
) -> Pair:
    """Online hard example mining (OHEM): the cross-entropy over hard pixels only.

    A pixel is hard if the probability of its class is below ``threshold``, or among the lowest
    ``min_kept`` of the labelled pixels in its image. Shrivastava et al., "Training Region-based
    Object Detectors with Online Hard Example Mining", CVPR 2016, applied to pixels as in HRNet and
    mmsegmentation (whose defaults are 0.7, and 100,000 of the 512 x 1024 pixels of a crop: 0.19).
    The mean is over the hard pixels, as in HRNet.

    Both of these count the minimum over all images on a device together, so that whether a pixel is
    hard depends on the other images. Here it is a share of each image, and so does not depend on
    how the batch is split.

    Args:
      logits: ``[B, h, w, K]``, float; upsampled as in ``losses.cross_entropy``.
      labels: ``[B, H, W]``, integer, 0 to K - 1 or ``ignore_label``.
      threshold: a Python number, a probability above 0; 1 keeps (nearly) every pixel.
      min_kept: least share of an image's labelled pixels to keep, 0 to 1; ties are all kept.
      class_weights: ``[K]`` or None. They weigh the loss of the pixels, not which ones are hard.
      ignore_label: the value of pixels that do not count, and are never hard.

    Returns:
      ``(sum of weight * nll, sum of weight)`` over the hard pixels, float32 or wider. The second
      depends on the logits too, and has no gradient.
    """
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    fixed = lax.stop_gradient(logits).astype(wide)
    surprise = map_pixels(partial(_nll, axis=1), fixed, labels, ignore_label=ignore_label)
    labelled = labels != ignore_label
    hardness = jnp.where(labelled, surprise, -1.0)
    at_least = jnp.ceil(min_kept * jnp.sum(labelled, axis=(1, 2))).astype(jnp.int32)  # [B]
    lowest = jax.vmap(kth_largest)(hardness, jnp.maximum(at_least, 1))
    lowest = jnp.where(at_least > 0, lowest, jnp.inf)[:, None, None]
    hard = (hardness > -np.log(threshold)) | (hardness >= lowest)
    hard_labels = jnp.where(hard, labels, ignore_label).astype(labels.dtype)
    return cross_entropy(
        logits, hard_labels, class_weights=class_weights, ignore_label=ignore_label
    )


def focal(
    logits: jax.Array,
    labels: jax.Array,
    *,
    gamma: float = 2.0,
    class_weights: jax.Array | None = None,
    ignore_label: int = IGNORE_LABEL,
) -> Pair:
    """The focal loss, ``(1 - p)^gamma`` times the cross-entropy of a pixel whose class has p.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 4, for a softmax over
    the classes; ``class_weights`` are its alpha. The mean is over all labelled pixels, hard or not
    (the paper's is over the anchors assigned to objects, which segmentation does not have).

    Args:
      logits: ``[B, h, w, K]``, float; upsampled as in ``losses.cross_entropy``.
      labels: ``[B, H, W]``, integer, 0 to K - 1 or ``ignore_label``.
      gamma: a Python number, 0 or more; 0 is the cross-entropy, 2 the paper's choice.
      class_weights: ``[K]`` or None for ones.
      ignore_label: the value of pixels that do not count.

    Returns:
      ``(sum of weight * (1 - p)^gamma * nll, sum of weight)``, two scalars, float32 or wider.
    """
    of_pixels = partial(focal_sum, gamma=gamma)
    return pixel_pair(of_pixels, logits, labels, class_weights, ignore_label)


def focal_sum(
    logits: jax.Array,
    labels: jax.Array,
    class_weights: jax.Array | None,
    *,
    gamma: float,
    ignore_label: int,
) -> jax.Array:
    """The sum of ``focal`` over pixels, from logits ``[B, K, H, W]`` at full resolution."""
    surprise = _nll(logits, labels, axis=1)
    # 1 - p without cancellation; kept above 0, where a power below 1 has no finite derivative.
    doubt = jnp.maximum(-jnp.expm1(-surprise), jnp.finfo(surprise.dtype).tiny)
    weight = pixel_weights(labels, class_weights=class_weights, ignore_label=ignore_label)
    return jnp.sum(surprise * doubt**gamma * weight)


def _nll(logits: jax.Array, labels: jax.Array, axis: int) -> jax.Array:
    """``pixels.nll`` clipped at 0, below which rounding may leave it."""
    return jnp.maximum(nll(logits, labels, axis), 0)


def kth_largest(values: jax.Array, k: jax.Array) -> jax.Array:
    """The k-th largest of the values that are not negative.

    Non-negative floats are in the same order as their bit patterns, so the result is found bit by
    bit, from the most significant, with one count for each. On a CPU, sorting takes 20 times as
    long.

    Args:
      values: float32 or float64, any shape.
      k: integer scalar, 1 or more; may be traced.

    Returns:
      A scalar of the values' dtype; 0 if fewer than k values are 0 or more.
    """
    width = values.dtype.itemsize * 8
    integer = jnp.dtype(f"int{width}")
    bits = lax.bitcast_convert_type(values, integer)  # negative for negative values

    def settle_bit(i: jax.Array, found: jax.Array) -> jax.Array:
        larger = found | (jnp.asarray(1, integer) << (width - 2 - i).astype(integer))
        return jnp.where(jnp.sum(bits >= larger) >= k, larger, found)

    found = lax.fori_loop(0, width - 1, settle_bit, jnp.asarray(0, integer))
    return lax.bitcast_convert_type(found, values.dtype)
