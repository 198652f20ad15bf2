"""Losses of hard pixels, against NumPy in float64 and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax.losses import hard_examples, pixels

ohem = jax.jit(hard_examples.ohem, static_argnames="threshold")
focal = jax.jit(hard_examples.focal, static_argnames="gamma")
K = 4
WEIGHTS = np.array([1.0, 0.5, 2.0, 3.0])


@pytest.fixture(scope="module")
def logits():
    return 2 * np.random.default_rng(1).standard_normal((3, 6, 5, K))


@pytest.fixture(scope="module")
def labels():
    labels = np.random.default_rng(0).integers(0, K, (3, 6, 5))
    labels[0, 0] = 255
    labels[1] = 255
    return labels.astype(np.uint8)


def pixels_of(probabilities):
    """``[N]`` probabilities of the class that is there -> logits ``[1, 1, N, 2]``, labels."""
    p = np.asarray(probabilities, float)
    logits = np.stack([np.log(p), np.log1p(-p)], axis=-1)[None, None]
    return jnp.asarray(logits), jnp.zeros(logits.shape[:3], jnp.uint8)


def nll(logits, labels):
    """``[B, H, W]``, NaN where ignored."""
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    known = np.where(labels == 255, 0, labels)[..., None]
    return np.where(labels == 255, np.nan, -np.take_along_axis(log_p, known, -1)[..., 0])


class TestOhem:
    @pytest.mark.parametrize(
        ("threshold", "min_kept", "hard"),
        [
            (0.7, 0.0, [0.1, 0.3, 0.6]),  # the threshold decides
            (0.7, 0.8, [0.1, 0.3, 0.6, 0.8]),  # the share does
            (0.05, 0.4, [0.1, 0.3]),
            (0.05, 0.41, [0.1, 0.3, 0.6]),  # of five pixels, rounded up
            (0.05, 0.0, []),
            (1.0, 0.0, [0.1, 0.3, 0.6, 0.8, 0.9]),
        ],
    )
    def test_by_hand(self, threshold, min_kept, hard):
        total, count = ohem(
            *pixels_of([0.9, 0.3, 0.8, 0.1, 0.6]), threshold=threshold, min_kept=min_kept
        )
        np.testing.assert_allclose(count, len(hard))
        np.testing.assert_allclose(total, -np.log(hard).sum(), rtol=1e-6)

    @pytest.mark.parametrize("class_weights", [None, WEIGHTS])
    @pytest.mark.parametrize("min_kept", [0.0, 0.3, 1.0])
    def test_by_formula(self, logits, labels, class_weights, min_kept):
        """An image at a time; the second has no labels at all."""
        expected, expected_weight = 0.0, 0.0
        weights = np.ones(K) if class_weights is None else class_weights
        for image, label in zip(nll(logits, labels), labels, strict=True):
            kept = label != 255
            image, weight = image[kept], weights[label[kept]]
            order = np.argsort(-image)
            hard = image > -np.log(0.4)
            hard[order[: int(np.ceil(min_kept * kept.sum()))]] = True
            expected += (image * weight)[hard].sum()
            expected_weight += weight[hard].sum()
        with jax.enable_x64(True):
            total, weight = ohem(
                jnp.asarray(logits),
                labels,
                threshold=0.4,
                min_kept=min_kept,
                class_weights=class_weights,
            )
            np.testing.assert_allclose(total, expected, rtol=1e-13)
            np.testing.assert_allclose(weight, expected_weight, rtol=1e-13)
            if min_kept == 1:
                every = pixels.cross_entropy(logits, labels, class_weights=class_weights)
                np.testing.assert_allclose((total, weight), every, rtol=1e-12)

    def test_easy_pixels_have_no_gradient(self):
        logits, labels = pixels_of([0.9, 0.3, 0.8, 0.1])
        gradient = jax.grad(lambda x: pixels.mean(ohem(x, labels)))(logits)
        # That of the cross-entropy's mean over the two hard ones: (p - 1) / 2.
        np.testing.assert_allclose(gradient[0, 0, :, 0], [0, -0.35, 0, -0.45], atol=1e-6)

    def test_pixels_that_are_equally_hard_are_kept_together(self):
        logits, labels = pixels_of([0.9] * 5)
        assert ohem(logits, labels, min_kept=0.2)[1] == 5

    def test_nothing_labelled_is_finite(self, logits):
        labels = jnp.full((3, 6, 5), 255, jnp.uint8)
        value, gradient = jax.value_and_grad(lambda x: pixels.mean(ohem(x, labels, min_kept=1.0)))(
            logits
        )
        assert value == 0
        assert not gradient.any()


class TestFocal:
    def test_by_hand(self):
        total, count = focal(*pixels_of([0.9, 0.5, 0.1]), gamma=2.0)
        expected = -(0.01 * np.log(0.9) + 0.25 * np.log(0.5) + 0.81 * np.log(0.1))
        np.testing.assert_allclose(total, expected, rtol=1e-6)
        assert count == 3

    @pytest.mark.parametrize("class_weights", [None, WEIGHTS])
    @pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
    def test_by_formula(self, logits, labels, class_weights, gamma):
        kept, weights = labels != 255, np.ones(K) if class_weights is None else class_weights
        each, weight = nll(logits, labels)[kept], weights[labels[kept]]
        with jax.enable_x64(True):
            got = focal(jnp.asarray(logits), labels, gamma=gamma, class_weights=class_weights)
        expected = ((1 - np.exp(-each)) ** gamma * each * weight).sum(), weight.sum()
        np.testing.assert_allclose(got, expected, rtol=1e-12)

    @pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
    def test_certain_pixels_and_none_at_all_are_finite(self, gamma):
        logits = jnp.array([[[[1e3, 0.0], [0.0, 1e3]]]])
        gradient = jax.grad(lambda x, y: pixels.mean(focal(x, y, gamma=gamma)))
        np.testing.assert_allclose(
            gradient(logits, jnp.zeros((1, 1, 2), jnp.uint8)), [[[[0, 0], [-0.5, 0.5]]]]
        )
        assert not gradient(logits, jnp.full((1, 1, 2), 255, jnp.uint8)).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kth_largest_is_that_of_a_sort(dtype):
    with jax.enable_x64(dtype == "float64"):
        values = np.random.default_rng(2).exponential(size=50).astype(dtype)
        values[:10] *= -1
        values[10:20] = values[20:30]
        values[30:33] = 0, 1e30, np.finfo(dtype).tiny
        found = jax.jit(jax.vmap(hard_examples.kth_largest, in_axes=(None, 0)))(
            jnp.asarray(values), jnp.arange(1, 42)
        )
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, [*np.sort(values)[:9:-1], 0])
