"""Where XLA's CPU compiler should keep a result instead of computing it again."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_vjp
def computed_once(x: jax.Array) -> jax.Array:
    """``x`` itself, which a CPU computes once; and so its gradient.

    XLA's CPU compiler puts cheap elementwise operations into every kernel that reads their result.
    Along a chain of residual blocks that is the norms, sums and ReLUs of all blocks before, again
    and again. What it takes for expensive it leaves where it is. A division is; this one is by 1,
    and of an infinity by 2, so that it changes nothing. Compiled for any other platform it is not
    there.

    Args:
      x: any shape, float.

    Returns:
      ``x``.
    """
    return lax.platform_dependent(x, cpu=_divided, default=lambda x: x)


@jax.custom_vjp
def relu_once(x: jax.Array) -> jax.Array:
    """``computed_once`` of the ReLU, with a gradient that looks at its result alone."""
    return computed_once(jnp.maximum(x, 0))


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = relu_once(x)
    return y, y


def _relu_backward(y: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (computed_once(jnp.where(y > 0, gradient, 0)),)


relu_once.defvjp(_relu_forward, _relu_backward)


def _divided(x: jax.Array) -> jax.Array:
    one, two = jnp.ones_like(x), jnp.full_like(x, 2)
    return lax.div(x, lax.select(lax.eq(lax.abs(x), jnp.full_like(x, jnp.inf)), two, one))


computed_once.defvjp(
    lambda x: (computed_once(x), None), lambda _, gradient: (computed_once(gradient),)
)
