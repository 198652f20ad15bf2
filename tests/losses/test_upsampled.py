"""Sums over blocks of rows against the plain formula: all pixels upsampled at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax.losses import pixels
from dropclass_jax.losses.upsampled import map_pixels, sum_over_pixels
from dropclass_jax.ops.resize import resize_bilinear

K = 5


def plain_sum(logits, labels, class_weights):
    """Cross-entropy without any block: softmax over the whole upsampled array."""
    logits = resize_bilinear(logits, labels.shape[1:])
    picked = jnp.take_along_axis(
        jax.nn.log_softmax(logits), jnp.minimum(labels, K - 1)[..., None].astype(int), axis=-1
    )[..., 0]
    weights = jnp.where(labels == 255, 0.0, class_weights[jnp.minimum(labels, K - 1).astype(int)])
    return -jnp.sum(picked * weights)


def example(size, full, seed=0):
    random = np.random.default_rng(seed)
    logits = jnp.asarray(3 * random.normal(size=(2, *size, K)))
    labels = random.integers(0, K + 1, (2, *full))
    return logits, jnp.asarray(np.where(labels == K, 255, labels), jnp.uint8)


SIZES = pytest.mark.parametrize(
    ("size", "full"),
    [
        ((4, 6), (16, 24)),  # a whole factor
        ((5, 4), (17, 13)),  # none, and 17 rows are no multiple of a block's
        ((6, 6), (6, 6)),  # as it is
        ((9, 8), (4, 4)),  # labels coarser than logits
        ((1, 1), (7, 3)),
    ],
)


@SIZES
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_blocks_are_the_plain_formula_in_float64(size, full, rows):
    with jax.enable_x64(True):
        logits, labels = example(size, full)
        weights = jnp.asarray([1.0, 0.5, 2.0, 3.0, 0.1])
        block = rows * 2 * full[1] * K * 8

        def in_blocks(logits):
            total = sum_over_pixels(
                lambda x, y, w: pixels.nll_sum(x, y, w, ignore_label=255),
                *(logits, labels, weights),
                ignore_label=255,
                block_bytes=block,
            )
            return 0.3 * total  # any factor must reach the gradient

        value, gradient = jax.value_and_grad(in_blocks)(logits)
        expected = jax.value_and_grad(lambda x: 0.3 * plain_sum(x, labels, weights))(logits)
        np.testing.assert_allclose(value, expected[0], rtol=1e-13)
        np.testing.assert_allclose(gradient, expected[1], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(in_blocks(logits), value, rtol=1e-13)


@SIZES
def test_a_map_is_the_plain_formula_in_float64(monkeypatch, size, full):
    """``labels + 10 * logits`` of every pixel, from blocks of three rows."""
    block = 3 * 2 * full[1] * K * 8
    monkeypatch.setattr("dropclass_jax.losses.upsampled.BLOCK_BYTES", {"cpu": block})
    with jax.enable_x64(True):
        logits, labels = example(size, full)

        def of_pixels(logits, labels):
            return labels + 10 * jnp.sum(logits, axis=1)

        mapped = map_pixels(of_pixels, logits, labels, ignore_label=255)
        plain = labels + 10 * jnp.sum(resize_bilinear(logits, full), axis=-1)
        np.testing.assert_allclose(mapped, plain, rtol=1e-12, atol=1e-12)


def test_the_cross_entropy_has_it(monkeypatch):
    """Whatever the blocks are, ``losses.cross_entropy`` is the plain formula."""
    monkeypatch.setattr("dropclass_jax.losses.upsampled.BLOCK_BYTES", {"cpu": 1})
    with jax.enable_x64(True):
        logits, labels = example((4, 6), (16, 24), seed=1)
        weights = jnp.asarray([1.0, 0.5, 2.0, 3.0, 0.1])
        total, _ = pixels.cross_entropy(logits, labels, class_weights=weights)
        np.testing.assert_allclose(total, plain_sum(logits, labels, weights), rtol=1e-13)


def test_the_upsampled_logits_never_exist():
    """The largest array of the loss and its gradient is a block, not ``[B, H, W, K]``."""
    logits = jnp.zeros((2, 32, 32, K))
    labels = jnp.zeros((2, 128, 128), jnp.uint8)
    whole = 2 * 128 * 128 * K * 4

    def temporary_bytes(loss):
        compiled = jax.jit(jax.value_and_grad(loss)).lower(logits).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(lambda x: plain_sum(x, labels, jnp.ones(K))) > whole

    def in_blocks(logits):
        return sum_over_pixels(
            lambda x, y: pixels.nll_sum(x, y, None, ignore_label=255),
            logits,
            labels,
            ignore_label=255,
            block_bytes=whole // 32,
        )

    assert temporary_bytes(in_blocks) < whole / 2
