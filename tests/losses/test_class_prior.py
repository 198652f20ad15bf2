"""Logits that know how common each class is."""

import jax
import jax.numpy as jnp
import numpy as np

from dropclass_jax import losses, objective
from dropclass_jax.losses import class_prior, pixels

PIXELS = np.array([140, 30, 30, 0])


def test_log_prior_is_the_share_of_the_pixels():
    np.testing.assert_allclose(
        class_prior.log_prior(PIXELS), np.log([0.7, 0.15, 0.15, 1.0]), rtol=1e-14
    )
    np.testing.assert_array_equal(class_prior.log_prior(np.zeros(3, int)), np.zeros(3))


def test_adjusted_logits_train_every_classifier_and_spare_the_suppression():
    rng = np.random.default_rng(0)
    names = ("logits", "logits_drop", "logits_auxiliary")
    outputs = {name: jnp.asarray(rng.standard_normal((2, 3, 5, 4)), jnp.float32) for name in names}
    labels = jnp.asarray(rng.integers(0, 4, (2, 6, 10)), jnp.uint8)
    keep = jnp.array([1, 1, 0, 1.0])
    offsets = jnp.asarray(0.5 * class_prior.log_prior(PIXELS), jnp.float32)
    loss = losses.LOSSES["cross_entropy"]._replace(offsets=offsets)
    got = objective.loss_terms(outputs, labels, keep, loss=loss)
    # What is added before the upsampling is added after it.
    shifted = {name: logits + offsets for name, logits in outputs.items()}
    expected = objective.loss_terms(shifted, labels, keep)
    for name in ("plain", "drop", "auxiliary"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-6)
    np.testing.assert_array_equal(
        got["suppression"], pixels.suppression(outputs["logits_drop"], keep)
    )


def test_the_best_logits_are_those_of_balanced_classes():
    """Equal features, classes 9 to 1: adjusted by tau = 1, the answer is indifferent."""
    labels = jnp.asarray([[[0] * 9 + [1]]], jnp.uint8)
    offsets = jnp.asarray(class_prior.log_prior(np.array([9, 1])), jnp.float32)
    loss = losses.LOSSES["cross_entropy"]._replace(offsets=offsets)

    def value(bias):
        logits = jnp.broadcast_to(bias, (1, 1, 10, 2))
        return objective.total(objective.loss_terms({"logits": logits}, labels, None, loss=loss))

    np.testing.assert_allclose(jax.grad(value)(jnp.zeros(2)), 0, atol=1e-7)


def test_rarity_is_that_of_the_rarest():
    rare = np.log([1 / 0.7, 1 / 0.15, 1 / 0.15])
    np.testing.assert_allclose(class_prior.rarity(PIXELS), [*rare / rare[1], 1], rtol=1e-14)
    np.testing.assert_array_equal(class_prior.rarity(np.array([5, 0])), [0, 0])
    np.testing.assert_array_equal(class_prior.rarity(np.zeros(3, int)), np.zeros(3))


class TestVariation:
    scale = jnp.array([0.0, 0.5, 1.0])

    def added(self, rows, sigma):
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(0), jnp.array(rows))
        return class_prior.vary(jnp.zeros((len(rows), 40, 50, 3)), keys, self.scale, sigma)

    def test_it_is_the_clipped_size_of_a_normal_draw_times_the_scale(self):
        got = np.asarray(self.added([0], sigma=0.8))[0]
        assert not got[..., 0].any()
        for c in (1, 2):
            size = got[..., c] / self.scale[c]
            assert size.min() >= 0
            assert size.max() == 1
            # 2000 draws; P(|0.8 x| > 1) is 0.211, and of |0.8 x| < 0.4 it is 0.383.
            np.testing.assert_allclose((size == 1).mean(), 0.211, atol=0.03)
            np.testing.assert_allclose((size < 0.4).mean(), 0.383, atol=0.03)

    def test_a_row_of_the_batch_decides_alone(self):
        both = self.added([3, 4], sigma=1.0)
        np.testing.assert_array_equal(both[1:], self.added([4], sigma=1.0))
        assert (both[0] != both[1]).any()

    def test_every_classifier_has_its_own(self):
        logits = jnp.zeros((2, 3, 5, 3))
        outputs = dict.fromkeys(("logits", "logits_drop", "logits_auxiliary"), logits)
        labels, keep = jnp.full((2, 3, 5), 2, jnp.uint8), jnp.ones(3)
        variation = losses.Variation(self.scale, 1.0)
        terms = objective.loss_terms(
            outputs,
            labels,
            keep,
            loss=losses.LOSSES["cross_entropy"]._replace(variation=variation),
            keys=jax.random.split(jax.random.key(0), 2),
        )
        sums = [float(terms[name][0]) for name in ("plain", "drop", "auxiliary")]
        assert len(set(sums)) == 3
        # Class 2 has the most added, and so a loss below that of equal logits.
        assert max(sums) < 30 * np.log(3)
