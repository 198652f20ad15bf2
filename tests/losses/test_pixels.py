"""Losses and the objective against plain NumPy formulas, and where they must stay finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax import objective
from dropclass_jax.losses import pixels

K = 4


def nll(logits):
    logits = np.asarray(logits, np.float64)
    return -(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


@pytest.fixture
def logits():
    return jax.random.normal(jax.random.key(0), (2, 3, 5, K)) * 2


@pytest.fixture
def labels():
    labels = np.random.default_rng(0).integers(0, K, (2, 3, 5))
    labels[0, 0] = 255
    return jnp.asarray(labels, jnp.uint8)


@pytest.mark.parametrize("class_weights", [None, [1.0, 0.5, 2.0, 3.0]])
def test_cross_entropy_is_the_weighted_mean(logits, labels, class_weights):
    total, weight = pixels.cross_entropy(
        logits, labels, class_weights=None if class_weights is None else jnp.array(class_weights)
    )
    kept = np.asarray(labels) != 255
    truth = np.asarray(labels)[kept]
    weights = np.ones(K) if class_weights is None else np.asarray(class_weights)
    expected = weights[truth] * nll(logits)[kept][np.arange(len(truth)), truth]
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(weight, weights[truth].sum(), rtol=1e-6)


def test_cross_entropy_upsamples_with_half_pixel_centres():
    """From 1x2 to 1x4: the outer pixels repeat the ends, the inner ones lie a quarter in."""
    logits = jnp.array([[[[0.0, 0.0], [4.0, 0.0]]]])  # class 0's logit goes from 0 to 4
    total, _ = pixels.cross_entropy(logits, jnp.zeros((1, 1, 4), jnp.uint8))
    expected = np.log1p(np.exp(-np.array([0.0, 1.0, 3.0, 4.0]))).sum()
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_suppression_covers_every_position(logits):
    probability = np.exp(-nll(logits))
    total, positions = pixels.suppression(logits, jnp.array([1, 1, 0, 1.0]))
    np.testing.assert_allclose(total / positions, probability[..., 2].mean(), rtol=1e-6)
    by_example = jnp.array([[1, 1, 1, 1], [0, 1, 1, 1.0]])
    total, positions = pixels.suppression(logits, by_example)
    np.testing.assert_allclose(total, probability[1, ..., 0].sum(), rtol=1e-6)
    assert positions == 2 * 3 * 5
    assert pixels.suppression(logits, jnp.ones(K))[0] == 0


def drawn(batch, gh, gw, num_classes):
    keep = np.random.default_rng(1).integers(0, 2, (batch, gh, gw, num_classes)).astype(float)
    keep[..., -1] = 1
    return keep


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (2, 3)])
def test_suppression_of_sets_by_tile(logits, grid):
    """The probability of the set at each position, of the tile that holds the position's centre."""
    probability = np.exp(-nll(logits))
    keep = drawn(2, *grid, K)
    expected = 0
    for i in range(3):
        for j in range(5):
            tile = keep[:, int((i + 0.5) * grid[0] / 3), int((j + 0.5) * grid[1] / 5)]
            expected += ((1 - tile) * probability[:, i, j]).sum()
    total, positions = pixels.suppression(logits, jnp.asarray(keep))
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert positions == 2 * 3 * 5


@pytest.mark.parametrize("num_classes", [7, 32, 70, 200])
@pytest.mark.parametrize(("size", "grid"), [((6, 8), (3, 2)), ((7, 9), (3, 4)), ((5, 3), (1, 3))])
def test_labels_are_masked_tile_by_tile(num_classes, size, grid):
    """Where tiles divide the labels and where they do not; beyond the 32 classes of a word."""
    labels = np.random.default_rng(0).integers(0, num_classes, (2, *size)).astype(np.uint8)
    labels[0, 0] = 255
    keep, expected = drawn(2, *grid, num_classes), labels.copy()
    for b, y, x in np.ndindex(*labels.shape):
        tile = int((y + 0.5) * grid[0] / size[0]), int((x + 0.5) * grid[1] / size[1])
        if labels[b, y, x] != 255 and keep[b, *tile, labels[b, y, x]] == 0:
            expected[b, y, x] = 255
    assert 0.2 < (expected == 255).mean() < 0.8
    for dtype in (np.uint8, np.int32):
        got = objective.mask_dropped(jnp.asarray(labels.astype(dtype)), jnp.asarray(keep))
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == dtype
    other = objective.mask_dropped(jnp.asarray(labels), jnp.asarray(keep), ignore_label=254)
    np.testing.assert_array_equal(other, np.where(expected != labels, 254, labels))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32])
def test_the_dropped_classs_pixels_are_ignored(labels, dtype):
    labels = labels.astype(dtype)
    got = objective.mask_dropped(labels, jnp.array([1, 0, 1, 1.0]))
    np.testing.assert_array_equal(got, np.where(np.asarray(labels) == 1, 255, labels))
    assert got.dtype == dtype
    np.testing.assert_array_equal(objective.mask_dropped(labels, jnp.ones(K)), labels)
    got = objective.mask_dropped(labels, jnp.array([[1, 1, 1, 1], [1, 1, 1, 0.0]]))
    expected = np.asarray(labels).copy()
    expected[1][expected[1] == 3] = 255
    np.testing.assert_array_equal(got, expected)


def test_total_weighs_the_terms(logits, labels):
    keep = jnp.array([1, 1, 0, 1.0])
    outputs = {"logits": logits, "logits_drop": logits[..., ::-1]}
    terms = objective.loss_terms(outputs, labels, keep)
    plain = pixels.mean(pixels.cross_entropy(logits, labels))
    masked = objective.mask_dropped(labels, keep)
    drop = pixels.mean(pixels.cross_entropy(logits[..., ::-1], masked))
    suppression = pixels.mean(pixels.suppression(logits[..., ::-1], keep))
    got = objective.total(terms, lambda_=0.25, alpha=3.0)
    np.testing.assert_allclose(got, 0.25 * plain + 0.75 * drop + 3 * suppression, rtol=1e-6)
    # Plain training is the same path without the other terms.
    alone = objective.loss_terms({"logits": logits}, labels, None)
    assert objective.total(alone, lambda_=0.25, alpha=3.0) == plain
    # An auxiliary classifier adds its own, of the labels as they are, to either.
    outputs["logits_auxiliary"] = -logits[:, ::2]
    more = objective.loss_terms(outputs, labels, keep)
    auxiliary = pixels.mean(pixels.cross_entropy(-logits[:, ::2], labels))
    np.testing.assert_allclose(
        objective.total(more, 0.25, 3.0, auxiliary=0.4), got + 0.4 * auxiliary, rtol=1e-6
    )


@pytest.mark.parametrize("value", [255, 2])
def test_nothing_to_learn_from_is_finite(logits, value):
    """All ignored, or all of the dropped class: the reference is NaN there."""
    labels = jnp.full((2, 3, 5), value, jnp.uint8)
    keep = jnp.array([1, 1, 0, 1.0])

    def loss(logits):
        terms = objective.loss_terms({"logits": logits, "logits_drop": logits}, labels, keep)
        return objective.total(terms, 0.5)

    value, gradient = jax.value_and_grad(loss)(logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_bfloat16_logits_are_summed_in_float32(logits, labels):
    total, weight = pixels.cross_entropy(logits.astype(jnp.bfloat16), labels)
    assert total.dtype == weight.dtype == jnp.float32
