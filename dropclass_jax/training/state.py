"""The state of training, an immutable tree of arrays."""

from __future__ import annotations

import math
from typing import Any

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
      ema_params: the moving average of the parameters; None, which holds nothing, without one.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    skipped: jax.Array
    ema_params: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What ``model.apply`` takes in training."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def eval_variables(self) -> dict[str, Any]:
        """What to evaluate: the averaged parameters where there are any.

        The statistics are the current ones, themselves an average over the last steps.
        """
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": params, "batch_stats": self.batch_stats}


def from_variables(
    variables: Any, optimizer: optax.GradientTransformation, *, ema: bool = False
) -> TrainState:
    """A state at step 0 that starts from given variables.

    Args:
      variables: ``{"params": ..., "batch_stats": ...}``.
      optimizer: an optax optimizer.
      ema: with a moving average of the parameters; see ``update_ema``.
    """
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        skipped=jnp.zeros((), jnp.int32),
        # Arrays of their own: the step reuses the memory of both.
        ema_params=jax.tree.map(jnp.copy, params) if ema else None,
    )


def update_ema(average: Any, params: Any, decay: float, step: jax.Array) -> Any:
    """The exponential moving average of the parameters after ``step`` updates.

    ``sum_i decay^(step - i) params_i`` over the updates i = 1 to ``step``, divided by the sum of
    these weights: Adam's bias correction (Kingma and Ba, 2015, section 3), so that the parameters
    at the start of training have no part in it, however short the training.

    Args:
      average: the average after ``step - 1`` updates; not used when ``step`` is 1.
      params: the parameters after ``step`` updates.
      decay: 0 to below 1.
      step: int32 scalar, 1 or more.

    Returns:
      The average, in the parameters' structure and dtypes.
    """
    # (1 - decay) / (1 - decay^step), without the digits that 1 - decay^step would lose.
    share = (1 - decay) / -jnp.expm1(step * math.log(decay))
    return optax.incremental_update(params, average, share)
