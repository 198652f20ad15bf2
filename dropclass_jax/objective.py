"""The three-term loss of DropClass at one moment of training.

    L = lambda * CE(y, label) + (1 - lambda) * CE(y_drop, label without Z) + alpha * suppression

for the classes Z that are dropped, one in the paper (section 3.3; lambda falls from 1 to 0 while
training goes on, see ``schedules``). A network with an auxiliary classifier adds its own, which the
method leaves alone. CE is the cross-entropy or another loss of ``LOSSES`` in its place, the same
one in every term.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp

from dropclass_jax.keep_masks import at_positions, by_tile, check_keep
from dropclass_jax.losses import LOSSES, Loss, class_prior, pixels, regions
from dropclass_jax.losses.pixels import Pair
from dropclass_jax.losses.regions import RegionSums
from dropclass_jax.ops.labels import IGNORE_LABEL

Terms = dict[str, Pair | RegionSums]


# The outputs that are compared with labels, in this order: each draws its own variation.
_CLASSIFIED = ("logits", "logits_drop", "logits_auxiliary")


def mask_dropped(labels: jax.Array, keep: jax.Array, ignore_label: int = IGNORE_LABEL) -> jax.Array:
    """Labels with the pixels of dropped classes ignored, where they are dropped.

    Args:
      labels: ``[B, H, W]``, integer.
      keep: ``[K]``, ``[B, K]`` or ``[B, gh, gw, K]``; see ``keep_masks``.
      ignore_label: what dropped pixels become.

    Returns:
      ``[B, H, W]``, the labels' dtype.
    """
    dropped = by_tile(keep) == 0  # [1 or B, gh, gw, K]
    masked = jnp.zeros(labels.shape, bool)
    # As bits of one word for 32 classes, of which a pixel looks at its own class's: neither a
    # gather for every pixel, nor anything of [B, H, W, K].
    for first in range(0, dropped.shape[-1], 32):
        of_word = dropped[..., first : first + 32]
        bits = jnp.uint32(1) << jnp.arange(of_word.shape[-1], dtype=jnp.uint32)
        words = jnp.sum(of_word * bits, axis=-1, keepdims=True, dtype=jnp.uint32)
        word = at_positions(words, labels.shape[1:])[..., 0]  # [1 or B, H or 1, W or 1]
        bit = labels.astype(jnp.uint32) - jnp.uint32(first)  # huge for a smaller label
        masked |= (bit < 32) & ((word >> (bit & 31)) & 1 == 1)
    return jnp.where(masked, ignore_label, labels)


def loss_terms(
    outputs: Mapping[str, jax.Array],
    labels: jax.Array,
    keep: jax.Array | None,
    *,
    loss: Loss = LOSSES["cross_entropy"],
    class_weights: jax.Array | None = None,
    ignore_label: int = IGNORE_LABEL,
    keys: jax.Array | None = None,
) -> Terms:
    """The terms of the loss as ``(sum, weight)`` pairs, unscaled.

    The suppression looks at the network's own logits, without the loss's offsets and variation:
    they are what it answers with.

    Args:
      outputs: ``logits`` and, for DropClass, ``logits_drop``, both ``[B, h, w, K]``; with an
        auxiliary classifier ``logits_auxiliary``.
      labels: ``[B, H, W]``, integer, 0 to K - 1 or ``ignore_label``; with any other value ``plain``
        is NaN.
      keep: ``[K]``, ``[B, K]`` or ``[B, gh, gw, K]``; None for plain training.
      loss: the cross-entropy, or what replaces it.
      class_weights: ``[K]`` or None.
      ignore_label: the value of pixels that do not count.
      keys: ``[B]`` PRNG keys of the loss's variation, if it has one.

    Returns:
      ``plain`` and, for DropClass, ``drop`` and ``suppression``; ``auxiliary`` where it is. With a
      loss of regions each but the suppression has another beside it, as ``plain_region``.

    Raises:
      ValueError: shapes do not belong together, where broadcasting might hide it.
    """
    _check_shapes(outputs, labels, keep, class_weights)
    terms: Terms = {}

    def add(name: str, output: str, labels: jax.Array) -> None:
        logits = outputs[output]
        if loss.offsets is not None:
            logits = logits + loss.offsets.astype(logits.dtype)
        if loss.variation is not None:
            own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, _CLASSIFIED.index(output))
            logits = class_prior.vary(logits, own, *loss.variation)
        terms[name] = loss.of_pixels(
            logits, labels, class_weights=class_weights, ignore_label=ignore_label
        )
        if loss.of_regions is not None:
            region = loss.of_regions(logits, labels, ignore_label=ignore_label)
            terms[f"{name}_region"] = region

    add("plain", "logits", labels)
    loss_sum, weight = terms["plain"]
    right = _nan_for_wrong_labels(labels, outputs["logits"].shape[-1], ignore_label)
    terms["plain"] = loss_sum * right.astype(loss_sum.dtype), weight
    if "logits_drop" in outputs:
        add("drop", "logits_drop", mask_dropped(labels, keep, ignore_label))
        terms["suppression"] = pixels.suppression(outputs["logits_drop"], keep)
    if "logits_auxiliary" in outputs:
        add("auxiliary", "logits_auxiliary", labels)
    return terms


def _check_shapes(
    outputs: Mapping[str, jax.Array],
    labels: jax.Array,
    keep: jax.Array | None,
    class_weights: jax.Array | None,
) -> None:
    batch, num_classes = outputs["logits"].shape[0], outputs["logits"].shape[-1]
    for name, output in outputs.items():
        shape = output.shape
        fits = len(shape) == 4 and (shape[0], shape[-1]) == (batch, num_classes)
        if name in _CLASSIFIED and not fits:
            raise ValueError(f"{name} is [{batch}, h, w, {num_classes}], not {list(shape)}")
    if labels.ndim != 3 or len(labels) != batch or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels are integers [{batch}, H, W], not {labels.dtype} {list(labels.shape)}"
        )
    if class_weights is not None and jnp.shape(class_weights) != (num_classes,):
        shape = list(jnp.shape(class_weights))
        raise ValueError(f"class_weights are [{num_classes}], not {shape}")
    if "logits_drop" in outputs:
        if keep is None:
            raise ValueError("outputs have logits_drop, and keep is None")
        check_keep(keep, outputs["logits_drop"].shape)


def _nan_for_wrong_labels(labels: jax.Array, num_classes: int, ignore_label: int) -> jax.Array:
    """1, or NaN where a label is no class and not ignored either: no array can raise an error."""
    is_class = (labels >= 0) & (labels < num_classes)
    return jnp.where(jnp.all(is_class | (labels == ignore_label)), 1.0, jnp.nan)


def label_weights(
    labels: jax.Array,
    keep: jax.Array | None,
    *,
    class_weights: jax.Array | None = None,
    ignore_label: int = IGNORE_LABEL,
) -> dict[str, jax.Array]:
    """The weights in ``loss_terms`` of a loss that weighs labels alone: they need no outputs.

    Gradient accumulation needs them before the first part, whose share of the loss is its own sums
    divided by the weights of the whole batch.

    Args: as of ``loss_terms``.

    Returns:
      Scalars: ``plain``, ``auxiliary`` and, for DropClass, ``drop``. (``suppression`` is missing:
      it weighs every position alike, so that its weight is the same for every part.)
    """
    weights = partial(pixels.pixel_weights, class_weights=class_weights, ignore_label=ignore_label)
    everywhere = jnp.sum(weights(labels))
    found = {"plain": everywhere, "auxiliary": everywhere}
    if keep is not None:
        found["drop"] = jnp.sum(weights(mask_dropped(labels, keep, ignore_label)))
    return found


def mean(term: Pair | RegionSums) -> jax.Array:
    """The value of one term of ``loss_terms``; 0 without any pixel."""
    return regions.mean(term) if isinstance(term, RegionSums) else pixels.mean(term)


def total(
    terms: Terms,
    lambda_: float | jax.Array = 1.0,
    alpha: float | jax.Array = 10.0,
    auxiliary: float | jax.Array = 0.5,
    region: float | jax.Array = 1.0,
) -> jax.Array:
    """The loss: each term's mean, weighted. A term without any pixel counts as 0.

    Args:
      terms: from ``loss_terms``.
      lambda_: the share of the plain path, 1 at the start and 0 at the end of training.
      alpha: the weight of the suppression.
      auxiliary: the weight of the auxiliary classifier; torchvision's.
      region: the weight of a loss of regions beside the one of pixels.

    Returns:
      A scalar, finite for finite logits.
    """

    def of(name: str) -> jax.Array:
        loss = mean(terms[name])
        beside = f"{name}_region"
        return loss + region * mean(terms[beside]) if beside in terms else loss

    loss = of("plain")
    if "drop" in terms:
        loss = lambda_ * loss + (1 - lambda_) * of("drop") + alpha * mean(terms["suppression"])
    if "auxiliary" in terms:
        loss += auxiliary * of("auxiliary")
    return loss
