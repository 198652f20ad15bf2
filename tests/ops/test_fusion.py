"""What is computed once is the same as what is computed anywhere, and elsewhere is not there."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dropclass_jax.ops.fusion import computed_once, relu_once

VALUES = [0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan, 1e-30, 3e38]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_every_value_stays_as_it_is(dtype):
    with jax.enable_x64(True):
        x = jnp.asarray(VALUES, dtype)
        y = jax.jit(computed_once)(x)
        assert y.dtype == x.dtype
        wide = lambda x: np.asarray(x, np.float64)  # noqa: E731
        np.testing.assert_array_equal(wide(y), wide(x))
        np.testing.assert_array_equal(wide(jax.jit(relu_once)(x)), wide(nn.relu(x)))


def test_gradients_are_those_of_the_plain_form():
    x = jnp.asarray([0.0, 1.5, -2.5, 4.0])

    def loss(function):
        return lambda x: jnp.sum(jnp.sin(function(x)) ** 2)

    def curvature(function):
        return lambda x: jnp.sum(jax.grad(loss(function))(x) ** 2)

    for ours, plain in ((computed_once, lambda x: x), (relu_once, nn.relu)):
        for of in (loss, curvature):
            np.testing.assert_array_equal(jax.grad(of(ours))(x), jax.grad(of(plain))(x))


def chain(x):
    """Blocks whose sums a compiler may compute again in every kernel that reads them."""
    for i in range(6):
        x = relu_once(x + i * jnp.sin(jnp.sum(x, axis=-1, keepdims=True)))
    return jnp.sum(x)


def test_other_platforms_do_not_divide():
    lowered = jax.jit(jax.grad(chain)).trace(jnp.ones((4, 8)))
    divisions = {
        platform: len(
            re.findall("stablehlo.divide", lowered.lower(lowering_platforms=(platform,)).as_text())
        )
        for platform in ("cpu", "cuda", "tpu")
    }
    assert divisions == {"cpu": 12, "cuda": 0, "tpu": 0}


def test_the_compiler_keeps_the_division():
    """Or what it is there for would be lost without a sound."""
    text = jax.jit(jax.grad(chain)).lower(jnp.ones((4, 8))).compile().as_text()
    assert len(re.findall(r" divide\(", text)) >= 6
