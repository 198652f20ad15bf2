"""Training losses, by the names that a config gives them in ``LOSSES``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from dropclass_jax.losses import hard_examples, pixels, regions
from dropclass_jax.losses.pixels import Pair
from dropclass_jax.losses.regions import RegionSums


class Variation(NamedTuple):
    """Noise on the logits in training; see ``class_prior.vary``.

    Attributes:
      scale: ``[K]``.
      sigma: of the noise before it is cut off.
    """

    scale: jax.Array
    sigma: float


class Loss(NamedTuple):
    """A loss that replaces the cross-entropy in every term of the objective.

    Attributes:
      of_pixels: ``(logits, labels, *, class_weights, ignore_label) -> Pair``.
      of_regions: ``(logits, labels, *, ignore_label) -> RegionSums``, added to it; None for none.
      weighs_labels_alone: whether all weights are known from the labels, without the logits: there
        are no regions, and the weight in the pair is that of ``pixels.pixel_weights``.
      region_weight: what ``of_regions`` is multiplied by.
      offsets: ``[K]``, added to the logits; None for nothing. See ``class_prior.log_prior``.
      variation: noise on the logits, or None.
    """

    of_pixels: Callable[..., Pair] = pixels.cross_entropy
    of_regions: Callable[..., RegionSums] | None = None
    weighs_labels_alone: bool = True
    region_weight: float = 1.0
    offsets: jax.Array | None = None
    variation: Variation | None = None


LOSSES = {
    "cross_entropy": Loss(),
    "ohem": Loss(hard_examples.ohem, weighs_labels_alone=False),
    "focal": Loss(hard_examples.focal),
    # Beside the cross-entropy:
    "dice": Loss(of_regions=regions.dice, weighs_labels_alone=False),
    "lovasz": Loss(of_regions=regions.lovasz, weighs_labels_alone=False),
}
