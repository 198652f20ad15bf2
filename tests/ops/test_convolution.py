"""The forms of each platform against the plain convolution, forward and backward."""

from __future__ import annotations

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dropclass_jax.ops.convolution import conv3x3, pointwise


def plain(x, kernel, stride=1):
    padding = ((kernel.shape[0] // 2,) * 2,) * 2
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride,) * 2, padding, dimension_numbers=dimensions)


def example(shape, outputs, size=3, dtype=np.float64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(dtype)
    kernel = rng.normal(size=(size, size, shape[-1], outputs)).astype(dtype)
    return jnp.asarray(x), jnp.asarray(kernel)


def with_gradients(convolve, x, kernel):
    def loss(x, kernel):
        y = convolve(x, kernel)
        return jnp.sum(jnp.sin(y)), y

    gradients, y = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(x, kernel)
    return y, *gradients


# Few channels on both sides, on one and on none.
CHANNELS = [(3, 5), (40, 17), (17, 32), (23, 5)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", [(6, 8), (7, 5), (2, 1)])
def test_it_is_the_plain_convolution_in_float64(size, channels, stride):
    with jax.enable_x64(True):
        x, kernel = example((2, *size, channels[0]), channels[1])
        ours = with_gradients(lambda x, k: conv3x3(x, k, stride), x, kernel)
        expected = with_gradients(partial(plain, stride=stride), x, kernel)
        for value, other in zip(ours, expected, strict=True):
            np.testing.assert_allclose(value, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("stride", [1, 2])
def test_short_floats_keep_their_dtype(stride, dtype):
    x, kernel = example((2, 7, 6, 8), 8, dtype=np.float32)
    with_own = with_gradients(
        lambda x, k: conv3x3(x, k, stride), x.astype(dtype), kernel.astype(dtype)
    )
    expected = with_gradients(partial(plain, stride=stride), x, kernel)
    close = {jnp.float32: 1e-5, jnp.bfloat16: 0.1}[dtype]
    for value, other in zip(with_own, expected, strict=True):
        assert value.dtype == dtype
        scale = float(np.abs(other).max())
        np.testing.assert_allclose(value.astype(np.float32), other, atol=close * scale)


def test_a_gradient_can_be_differentiated():
    with jax.enable_x64(True):
        x, kernel = example((1, 5, 6, 4), 3)

        def curvature(convolve, x):
            inner = jax.grad(lambda x: jnp.sum(convolve(x, kernel) ** 3))(x)
            return jnp.sum(jnp.sin(inner))

        for stride in (1, 2):
            ours = jax.grad(partial(curvature, lambda x, k: conv3x3(x, k, stride)))(x)  # noqa: B023
            expected = jax.grad(partial(curvature, partial(plain, stride=stride)))(x)
            np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


def test_pointwise():
    with jax.enable_x64(True):
        x, kernel = example((2, 5, 4, 7), 3, size=1)
        for value, other in zip(
            with_gradients(pointwise, x, kernel), with_gradients(plain, x, kernel), strict=True
        ):
            np.testing.assert_allclose(value, other, rtol=1e-12, atol=1e-12)


def operations(function, platform, *arguments):
    """What a function is lowered to for some platform, in order and without the bookkeeping."""
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,))
    heavy = "convolution|dot_general|concatenate|dot|divide|reduce|pad|slice"
    return re.findall(rf"stablehlo\.({heavy})\b([^:\n]*)", lowered.as_text())


@pytest.mark.parametrize("stride", [1, 2])
def test_other_platforms_run_the_plain_convolution(stride):
    x, kernel = example((2, 8, 6, 16), 16, dtype=np.float32)
    ours = partial(with_gradients, lambda x, k: conv3x3(x, k, stride))
    theirs = partial(with_gradients, partial(plain, stride=stride))

    def settings(function, platform):
        return sorted(
            (name, re.sub(r"%\w+", "", rest))
            for name, rest in operations(function, platform, x, kernel)
        )

    for platform in ("cuda", "tpu"):
        assert settings(ours, platform) == settings(theirs, platform)
    assert settings(ours, "cpu") != settings(theirs, "cpu")
