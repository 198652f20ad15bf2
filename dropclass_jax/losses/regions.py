"""Region losses, which approximate the overlap of every class: Dice and Lovász-softmax.

They are added to the cross-entropy, and weigh all classes that are present equally, however few
pixels they have. (``class_weights`` apply to the cross-entropy alone.)

Logits are upsampled one image at a time, and again in the backward pass, so that the memory for
``[H, W, K]`` does not grow with the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dropclass_jax.ops.labels import IGNORE_LABEL
from dropclass_jax.ops.resize import resize_bilinear


class RegionSums(NamedTuple):
    """Numerator and denominator of a loss, to be summed over devices and batches, then divided.

    Attributes:
      error: the numerator, ``[K]``, or a scalar for a loss that is a mean over images.
      size: the denominator, of the same shape.
      labelled: above 0 for the classes that count, of the same shape.
    """

    error: jax.Array
    size: jax.Array
    labelled: jax.Array


def mean(sums: RegionSums) -> jax.Array:
    """``error / size``, averaged over the classes that are present; 0 if there is none."""
    counts = sums.labelled > 0
    ratio = jnp.where(counts, sums.error / jnp.where(counts, sums.size, 1), 0)
    return jnp.sum(ratio) / jnp.maximum(jnp.sum(counts), 1)


def dice(logits: jax.Array, labels: jax.Array, *, ignore_label: int = IGNORE_LABEL) -> RegionSums:
    """The Dice loss of each class over the whole batch, as sums for ``mean``.

    ``1 - 2 sum(p y) / (sum(p^2) + sum(y^2))`` for the probabilities p of a class and its one-hot
    labels y: Milletari et al., "V-Net", 3DV 2016, section 3, for several classes. The sums are over
    the pixels of all images, devices and parts of the batch. (The fraction is ``sum((p - y)^2) /
    (sum(p^2) + sum(y))``, which has no cancellation.)

    Args:
      logits: ``[B, h, w, K]``, float; upsampled as in ``losses.cross_entropy``.
      labels: ``[B, H, W]``, integer, 0 to K - 1 or ``ignore_label``.
      ignore_label: the value of pixels that do not count.

    Returns:
      Sums of shape ``[K]``, float32 or wider.
    """

    def of_image(logits: jax.Array, labels: jax.Array) -> RegionSums:
        p, y, labelled = _probabilities(logits, labels, ignore_label)
        p = p * labelled[..., None]
        pixels = jnp.sum(y, axis=(0, 1))
        error = jnp.sum(jnp.square(p - y), axis=(0, 1))
        return RegionSums(error, jnp.sum(jnp.square(p), axis=(0, 1)) + pixels, pixels)

    return _over_images(of_image, logits, labels)


def lovasz(logits: jax.Array, labels: jax.Array, *, ignore_label: int = IGNORE_LABEL) -> RegionSums:
    """The Lovász-softmax loss, the convex surrogate of 1 - IoU, computed per image.

    Berman et al., "The Lovász-Softmax Loss", CVPR 2018, section 3: the mean over the classes that
    an image contains, then over the images that contain any. (The paper's variant over the whole
    batch would have to sort the pixels of all devices together; per image, the loss does not depend
    on how the batch is split.) All pixels of an image are sorted once per class it contains, which
    is slow on a CPU.

    Args:
      logits: ``[B, h, w, K]``, float; upsampled as in ``losses.cross_entropy``.
      labels: ``[B, H, W]``, integer, 0 to K - 1 or ``ignore_label``.
      ignore_label: the value of pixels that do not count.

    Returns:
      Scalars, float32 or wider: the sum over the images as ``error``, and the number of images with
      labelled pixels as ``size`` and ``labelled``.
    """

    def of_image(logits: jax.Array, labels: jax.Array) -> RegionSums:
        p, y, labelled = _probabilities(logits, labels, ignore_label)
        present = jnp.any(y > 0, axis=(0, 1))  # [K]

        def of_class(args: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            p, y, present = args
            loss = lambda: _lovasz_extension(jnp.abs(p - y), y > 0, labelled)  # noqa: E731
            return lax.cond(present, loss, lambda: jnp.zeros((), p.dtype))

        by_class = lax.map(of_class, (jnp.moveaxis(p, -1, 0), jnp.moveaxis(y, -1, 0), present))
        any_class = jnp.any(present).astype(p.dtype)
        loss = jnp.sum(by_class) / jnp.maximum(jnp.sum(present), 1)
        return RegionSums(loss, any_class, any_class)

    return _over_images(of_image, logits, labels)


def _lovasz_extension(errors: jax.Array, of_class: jax.Array, labelled: jax.Array) -> jax.Array:
    """The Lovász extension of 1 - IoU: errors weighted by its increase, in descending order.

    Pixels are counted as wrong one by one, the largest error first. A pixel of the class then
    increases 1 - IoU by ``1 / union``, as the intersection shrinks by one, and any other pixel by
    ``intersection / (union (union - 1))``, as the union grows by one. These are the differences of
    the authors' code, without its cancellation.

    Args:
      errors: ``[H, W]``, 0 to 1.
      of_class: ``[H, W]`` bool, at least one true.
      labelled: ``[H, W]`` bool.
    """
    shape, errors = errors.shape, errors.ravel()
    # Ignored pixels are sorted last, so that they do not affect the others' weights.
    order = jnp.argsort(jnp.where(labelled.ravel(), -lax.stop_gradient(errors), 1))
    hits = of_class.ravel()[order]
    intersection = jnp.sum(hits) - jnp.cumsum(hits)
    union = (jnp.sum(hits) + jnp.cumsum(~hits)).astype(errors.dtype)
    growth = intersection / (union * jnp.maximum(union - 1, 1))
    added = (
        jnp.zeros_like(errors)
        .at[order]
        .set(jnp.where(hits, 1 / union, growth), unique_indices=True)
    )
    return jnp.sum(errors.reshape(shape) * added.reshape(shape) * labelled)


def _probabilities(
    logits: jax.Array, labels: jax.Array, ignore_label: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One image's probabilities and one-hot labels ``[H, W, K]``, and its labelled pixels."""
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    logits = resize_bilinear(logits.astype(wide)[None], labels.shape)[0]
    labelled = labels != ignore_label
    y = jax.nn.one_hot(labels, logits.shape[-1], dtype=wide) * labelled[..., None]
    return jax.nn.softmax(logits), y, labelled


def _over_images(of_image, logits: jax.Array, labels: jax.Array) -> RegionSums:
    """The sum over the batch, one image at a time; stores only the logits for the backward pass."""
    each = lax.map(lambda image: jax.checkpoint(of_image)(*image), (logits, labels))
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), each)
