"""What changes from step to step: one immutable tree of arrays."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class TrainState:
    """The state of training after ``step`` updates; what a checkpoint holds.

    Attributes:
      step: int32 scalar, the number of updates taken.
      params: the model's parameters.
      batch_stats: running means and variances of its batch norms.
      opt_state: the optimizer's state.
      skipped: int32 scalar, the number of updates that were left out; see ``guard``.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    skipped: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """What ``model.apply`` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_variables(
    model: nn.Module, key: jax.Array, image_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Fresh parameters and statistics.

    Args:
      model: a model of ``dropclass_jax.models``.
      key: the PRNG key of the parameters.
      image_shape: ``(H, W, 3)``; parameters do not depend on H and W, so small ones do.

    Returns:
      ``{"params": ..., "batch_stats": ...}``, float32.
    """

    def init(key: jax.Array) -> dict[str, Any]:
        return model.init(key, jnp.zeros((1, *image_shape), jnp.float32))

    # It runs once: hundreds of random draws are not worth optimising, which takes half a minute.
    once = {"xla_backend_optimization_level": 0}
    return jax.jit(init).lower(key).compile(compiler_options=once)(key)


def from_variables(variables: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """A state at step 0 that starts from given variables."""
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        skipped=jnp.zeros((), jnp.int32),
    )
