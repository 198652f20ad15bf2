"""Batch normalisation, synchronised over devices, that keeps little for the backward pass."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from dropclass_jax.models import patterns
from dropclass_jax.ops import axis, sums

# What rematerialisation may keep: to compute them again would take another exchange of devices.
MOMENTS = "moments"


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, 2015) with PyTorch's running statistics.

    Differs from ``flax.linen.BatchNorm`` in two ways: the running variance takes the *unbiased*
    batch variance, and the variance is the mean of squared deviations, also across devices, never
    ``E[x^2] - E[x]^2``. Statistics and the normalisation itself are computed in at least float32.

    Params ``scale [C]`` and ``bias [C]``; batch_stats ``mean [C]`` and ``var [C]``.

    Attributes:
      momentum: share of the old running value that an update keeps (1 - PyTorch's momentum).
      epsilon: added to the variance.
      axis_name: mapped axis over which training statistics are shared; every device along it must
        hold as many values. None keeps them to the device.
      dtype: dtype of the output; None keeps the input's.
      frozen: patterns of module paths (see ``paths``). A norm that matches uses its running
        statistics in training too, and leaves them: MMSegmentation's ``norm_eval``. Its scale and
        bias are trained as any parameter; ``optimizers.create`` can hold them.
      start: the initial scale and bias.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    dtype: Any = None
    frozen: tuple[str, ...] = ()
    start: tuple[float, float] = (1.0, 0.0)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalises ``x [..., C]``; with ``train`` by the batch, and updates ``batch_stats``."""
        train = train and not patterns.matches(self.path, self.frozen)
        channels = x.shape[-1]
        scale, bias = (
            self.param(name, nn.initializers.constant(value), (channels,))
            for name, value in zip(("scale", "bias"), self.start, strict=True)
        )
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))

        if train:
            # Outside of a mapped computation, as at initialisation, the axis has no meaning.
            axis_name = None if self.is_initializing() else self.axis_name
            mean, var, count = _moments(lax.stop_gradient(x), axis_name)
            mean, var = checkpoint_name(mean, MOMENTS), checkpoint_name(var, MOMENTS)
            if not self.is_initializing():
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value = self._updated(running_mean.value, mean)
                running_var.value = self._updated(running_var.value, unbiased)
            normalised = _normalise_batch(x, mean, var, scale, bias, self.epsilon, axis_name)
        else:
            mean, var = running_mean.value, running_var.value
            normalised = _normalise(x, mean, var, scale, bias, self.epsilon)
        return normalised.astype(self.dtype or x.dtype)

    def _updated(self, old: jax.Array, new: jax.Array) -> jax.Array:
        return (self.momentum * old + (1 - self.momentum) * new).astype(old.dtype)


def _widened(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _moments(x: jax.Array, axis_name: str | None) -> tuple[jax.Array, jax.Array, int]:
    """Mean ``[C]``, biased variance ``[C]`` and number of values a channel, over all devices."""
    x = _widened(x)
    count = x.size // x.shape[-1]
    mean = sums.over_positions(lambda x: x, x) / count
    var = sums.over_positions(lambda x: jnp.square(x - mean), x) / count
    if axis_name is None:
        return mean, var, count
    # Total variance: the mean of the devices' variances plus the variance of their means.
    shared_mean = lax.pmean(mean, axis_name)
    shared_var = lax.pmean(var + jnp.square(mean - shared_mean), axis_name)
    return shared_mean, shared_var, count * lax.axis_size(axis_name)


def _normalise(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
) -> jax.Array:
    """``x [..., C]`` with given moments ``[C]``; float32 or wider."""
    # Subtracting first keeps the precision that `x * a + b` loses where |mean| >> std.
    return (_widened(x) - mean) * (scale / jnp.sqrt(var + epsilon)) + bias


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _normalise_batch(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    axis_name: str | None,
) -> jax.Array:
    """``_normalise`` with the moments of ``x`` itself, over all devices.

    The gradient of ``x`` is that through its moments too, which have none of their own. Written
    out, it keeps ``x`` for the backward pass, in its own dtype, instead of deviations in float32.
    """
    return _normalise(x, mean, var, scale, bias, epsilon)


def _forward(*inputs: Any) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return _normalise(*inputs[:-1]), inputs[:4]


def _backward(
    epsilon: float, axis_name: str | None, kept: tuple[jax.Array, ...], g: jax.Array
) -> tuple[jax.Array | None, ...]:
    """Ioffe and Szegedy, section 3, with the sums over all devices."""
    x, mean, var, scale = kept
    factor = 1 / jnp.sqrt(var + epsilon)
    own = (
        sums.over_positions(lambda g: g, g),
        factor * sums.over_positions(lambda g, x: g * (_widened(x) - mean), g, x),
    )
    everywhere = axis.psum(own, axis_name)
    count = x.size // x.shape[-1] * (1 if axis_name is None else lax.axis_size(axis_name))
    standard = (_widened(x) - mean) * factor
    dx = scale * factor * (g - (everywhere[0] + standard * everywhere[1]) / count)
    return dx.astype(x.dtype), None, None, own[1].astype(scale.dtype), own[0].astype(scale.dtype)


_normalise_batch.defvjp(_forward, _backward)
