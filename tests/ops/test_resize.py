"""Resizing against values worked out by hand and against the dense interpolation matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax.ops.resize import resize_axis, resize_bilinear, resize_matrix


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1], [0, 0.25, 0.75, 1]),  # twice as many: at -.25 (held at the edge), .25, .75, 1.25
        ([0, 10, 30], [0, 4, 10, 22, 30]),  # 3 -> 5: at -.2, .4, 1, 1.6, 2.2
        ([0, 1, 2, 9], [0.5, 5.5]),  # half as many: at .5, 2.5
        ([0, 1, 2, 3, 4, 5, 6, 20], [1.5, 5.5]),  # a quarter: at 1.5, 5.5; no antialiasing
        ([0, 4, 2], [0, 4, 2]),
    ],
)
def test_resize_has_half_pixel_centres(values, expected):
    with jax.enable_x64(True):
        x = np.multiply.outer(np.asarray(values, np.float64), [1, 3])  # [n, C=2]
        y = np.multiply.outer(np.asarray(expected, np.float64), [1, 3])
        for axis in (0, 1):  # along W, along H
            image, desired = np.expand_dims(x, axis), np.expand_dims(y, axis)
            resized = resize_bilinear(jnp.asarray(image)[None], desired.shape[:2])
            assert resized.dtype == np.float64
            np.testing.assert_allclose(resized[0], desired, rtol=1e-14, atol=1e-14)


def test_resize_is_the_product_of_both_axes_and_keeps_the_dtype():
    x = jnp.asarray([[0.0, 4.0], [8.0, 20.0]])[None, :, :, None]
    # Weights of the second row and column: 0, .25, .75, 1.
    expected = [[0, 1, 3, 4], [2, 3.5, 6.5, 8], [6, 8.5, 13.5, 16], [8, 11, 17, 20]]
    y = resize_bilinear(x, (4, 4))
    np.testing.assert_array_equal(y[0, :, :, 0], np.asarray(expected, np.float32))
    assert resize_bilinear(x.astype(jnp.bfloat16), (4, 4)).dtype == jnp.bfloat16
    assert resize_bilinear(x, (2, 2)) is x


@pytest.mark.parametrize(("old", "new"), [(1, 3), (2, 6), (5, 20), (3, 24), (4, 6), (7, 3)])
def test_every_way_is_the_interpolation_matrix(old, new):
    """Whole factors, odd and even, and others; forward and backward."""
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, old, 3)))
        matrix = resize_matrix(old, new)
        y, back = jax.vjp(lambda x: resize_axis(x, 1, new), x)
        np.testing.assert_allclose(y, np.einsum("nm,bmc->bnc", matrix, x), rtol=1e-13, atol=1e-14)
        (gradient,) = back(jnp.sin(y))
        expected = np.einsum("nm,bnc->bmc", matrix, np.sin(y))
        np.testing.assert_allclose(gradient, expected, rtol=1e-13, atol=1e-14)


def test_a_whole_factor_needs_no_matrix_product():
    """What a product with a matrix would cost: HRNet's exchange resizes at every module."""
    x = jnp.zeros((1, 16, 16, 8))
    text = str(jax.make_jaxpr(lambda x: resize_bilinear(x, (64, 64)))(x))
    assert "dot_general" not in text
    assert "dot_general" in str(jax.make_jaxpr(lambda x: resize_bilinear(x, (40, 40)))(x))
