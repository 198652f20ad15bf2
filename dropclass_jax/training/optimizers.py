"""Optimizers, by name, from values."""

from __future__ import annotations

from collections.abc import Sequence

import optax

from dropclass_jax.errors import UserError
from dropclass_jax.models import patterns


def create(
    name: str,
    learning_rate: optax.Schedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    freeze: Sequence[str] = (),
) -> optax.GradientTransformation:
    """An optimizer.

    Args:
      name: ``'sgd'``, the reference's: decay added to the gradient of *every* parameter, then
        momentum, as PyTorch's ``SGD`` does; or ``'adamw'``: decoupled decay.
      learning_rate: step -> learning rate.
      momentum: of SGD; Adam's first moment.
      weight_decay: of every parameter, batch norm and biases included.
      freeze: patterns of parameters that stay as they are, without decay and without memory for
        their moments; see ``paths``.

    Returns:
      An optax optimizer.

    Raises:
      UserError: an unknown name.
    """
    if name == "sgd":
        optimizer = optax.chain(
            optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum=momentum)
        )
    elif name == "adamw":
        optimizer = optax.adamw(learning_rate, b1=momentum, weight_decay=weight_decay)
    else:
        raise UserError(f"config.optim.name is 'sgd' or 'adamw', not {name!r}")
    if not freeze:
        return optimizer
    return optax.partition(
        {True: optax.set_to_zero(), False: optimizer}, lambda params: patterns.mask(params, freeze)
    )
