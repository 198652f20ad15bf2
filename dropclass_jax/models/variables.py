"""Initial variables of a model, and their shapes."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Parameters do not depend on the size of the image.
_IMAGE = (1, 64, 64, 3)


def init_variables(model: nn.Module, key: jax.Array) -> dict[str, Any]:
    """Fresh parameters and statistics.

    Args:
      model: a model of ``dropclass_jax.models``.
      key: the PRNG key of the parameters.

    Returns:
      ``{"params": ..., "batch_stats": ...}``, float32.
    """

    def init(key: jax.Array) -> dict[str, Any]:
        return model.init(key, jnp.zeros(_IMAGE, jnp.float32))

    # It runs once: hundreds of random draws are not worth optimising, which takes half a minute.
    once = {"xla_backend_optimization_level": 0}
    return jax.jit(init).lower(key).compile(compiler_options=once)(key)


def init_shapes(model: nn.Module) -> dict[str, Any]:
    """What ``init_variables`` gives, as ``jax.ShapeDtypeStruct``: nothing is drawn or compiled."""
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(_IMAGE))
