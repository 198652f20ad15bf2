"""Sums of shifted products against XLA's grouped convolution, forward and backward."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax.ops.depthwise import _grouped, depthwise


def example(size, kernel_size, dtype=np.float64, channels=5):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, channels)).astype(dtype)
    return jnp.asarray(x), jnp.asarray(
        rng.normal(size=(kernel_size, kernel_size, 1, channels)).astype(dtype)
    )


def both(stride, dilation):
    ours = lambda x, k: depthwise(x, k, stride, dilation)  # noqa: E731
    return ours, partial(_grouped, stride=stride, dilation=dilation, precision=None)


def with_gradients(convolve, x, kernel):
    def loss(x, kernel):
        y = convolve(x, kernel)
        return jnp.sum(jnp.sin(y)), y

    gradients, y = jax.grad(loss, argnums=(0, 1), has_aux=True)(x, kernel)
    return y, *gradients


@pytest.mark.parametrize("size", [(7, 6), (2, 3)])
@pytest.mark.parametrize(
    ("kernel_size", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 2, 1), (5, 1, 2), (3, 2, 3)]
)
def test_it_is_the_grouped_convolution_in_float64(size, kernel_size, stride, dilation):
    with jax.enable_x64(True):
        x, kernel = example(size, kernel_size)
        found, expected = (
            jax.jit(partial(with_gradients, f))(x, kernel) for f in both(stride, dilation)
        )
        for value, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, other, rtol=1e-12, atol=1e-12)


def test_short_floats_keep_their_dtype_and_their_digits():
    x, kernel = example((16, 16), 3, np.float32)
    ours, plain = both(1, 1)
    short = with_gradients(ours, x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    for value, other in zip(short, with_gradients(plain, x, kernel), strict=True):
        assert value.dtype == jnp.bfloat16
        wide = np.asarray(value, np.float32)
        np.testing.assert_allclose(wide, other, atol=0.03 * float(np.abs(other).max()))


def test_a_gradient_can_be_differentiated():
    with jax.enable_x64(True):
        x, kernel = example((4, 5), 3)

        def curvature(convolve, x):
            return jnp.sum(jax.grad(lambda x: jnp.sum(convolve(x, kernel) ** 3))(x) ** 2)

        ours, plain = (jax.grad(partial(curvature, convolve))(x) for convolve in both(2, 1))
        np.testing.assert_allclose(ours, plain, atol=1e-12 * np.abs(plain).max())


def test_other_platforms_run_the_grouped_convolution():
    x, kernel = example((8, 6), 3, np.float32)
    for platform, convolutions in (("cpu", 0), ("cuda", 3), ("tpu", 3)):
        traced = jax.jit(partial(with_gradients, both(1, 1)[0])).trace(x, kernel)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == convolutions
