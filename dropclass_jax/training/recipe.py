"""What of training does not change from step to step."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import optax

from dropclass_jax import losses
from dropclass_jax.ops.labels import IGNORE_LABEL


class Recipe(NamedTuple):
    """How a batch becomes an update.

    Attributes:
      model: see ``dropclass_jax.models``; its batch norms use the same ``axis_name``.
      optimizer: an optax optimizer.
      loss: the cross-entropy, or what replaces it; see ``losses.LOSSES``.
      auxiliary: weight of the auxiliary classifier's loss, where the model has one.
      class_weights: ``[K]`` or None.
      ignore_label: the label of pixels that do not count.
      accumulate_steps: how many parts a device takes its examples in; divides their number.
      ema_decay: of the moving average of the parameters, where the state has one.
      gradient_norms: also take the norms of the gradients of the cross-entropies and of the
        suppression, each by itself, at the cost of a second backward pass.
      axis_name: the axis of the devices; None for a single one.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    loss: losses.Loss = losses.LOSSES["cross_entropy"]
    auxiliary: float = 0.5
    class_weights: jax.Array | None = None
    ignore_label: int = IGNORE_LABEL
    accumulate_steps: int = 1
    ema_decay: float = 0.0
    gradient_norms: bool = False
    axis_name: str | None = None
