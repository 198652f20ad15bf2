"""Initial variables of a model, and their shapes."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Parameters do not depend on the size of the image.
_IMAGE = (1, 64, 64, 3)


def init_variables(model: nn.Module, key: jax.Array) -> dict[str, Any]:
    """Initialise the parameters and batch statistics of a model.

    They are drawn on the CPU where jax has one: equal on every kind of device, and much sooner
    there than a GPU's compiler is done with hundreds of draws (RESULTS.md).

    Args:
      model: a model of ``dropclass_jax.models``.
      key: the PRNG key to draw the parameters with.

    Returns:
      ``{"params": ..., "batch_stats": ...}``, float32, on the default device.
    """

    def init(key: jax.Array) -> dict[str, Any]:
        return model.init(key, jnp.zeros(_IMAGE, jnp.float32))

    # Optimising hundreds of random draws takes half a minute, and the function runs only once.
    once = {"xla_backend_optimization_level": 0}
    key = jax.device_put(key, _cpu())
    drawn = jax.jit(init).lower(key).compile(compiler_options=once)(key)
    return jax.device_put(jax.device_get(drawn))


def _cpu() -> jax.Device | None:
    """This process's CPU; None, for the default device, where jax was told to use others alone."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS=cuda
        return None


def init_shapes(model: nn.Module) -> dict[str, Any]:
    """``init_variables`` as ``jax.ShapeDtypeStruct``, without drawing or compiling anything."""
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(_IMAGE))
