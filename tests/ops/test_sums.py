"""Sums over positions in pieces against plain reductions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax.ops.sums import largest_divisor, over_positions


@pytest.mark.parametrize("shape", [(2, 8, 4, 3), (1, 13, 1, 5), (7, 2)])
def test_they_are_the_plain_sums_in_float64(shape):
    with jax.enable_x64(True):
        x, y = jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape)))
        axes = tuple(range(len(shape) - 1))
        found = jax.jit(lambda x, y: over_positions(lambda x, y: x * (y - 2), x, y))(x, y)
        np.testing.assert_allclose(found, np.sum(x * (y - 2), axes), rtol=1e-12, atol=1e-12)


def test_they_have_gradients():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    gradient = jax.grad(lambda x: over_positions(jnp.square, x).sum())(x)
    np.testing.assert_allclose(gradient, 2 * x)


def test_no_pieces_off_the_cpu():
    x = jnp.zeros((2, 8, 4, 3))
    for platform, reduces in (("tpu", True), ("cuda", True), ("cpu", False)):
        exported = jax.export.export(
            jax.jit(lambda x: over_positions(jnp.square, x)), platforms=[platform]
        )(x)
        assert ("stablehlo.reduce" in exported.mlir_module()) == reduces
        assert ("stablehlo.dot_general" in exported.mlir_module()) != reduces


def test_a_divisor():
    assert [largest_divisor(n, 16) for n in (1, 12, 13, 34, 96)] == [1, 12, 13, 2, 16]
