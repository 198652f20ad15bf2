"""What a draw a tile does to the gradient: the same on average as one a batch, with less noise."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax import dropclass, objective

K, C = 3, 4
TILES = 2  # an example's, one beside the other


def features_and_labels(batch, alike=False):
    """``[B, 3, 4, C]`` and ``[B, 3, 4]``; each tile of 3 x 2 has two pixels of each class.

    So that the number of pixels left does not depend on the class that is dropped.
    """
    rng = np.random.default_rng(0)
    tiles = 1 if alike else batch * TILES
    features = rng.standard_normal((tiles, 3, 2, C))
    labels = np.stack([rng.permutation(np.arange(6) % K).reshape(3, 2) for _ in range(tiles)])
    if alike:
        features, labels = (np.repeat(x, batch * TILES, axis=0) for x in (features, labels))

    def side_by_side(x):
        return np.concatenate([x[0::TILES], x[1::TILES]], axis=2)

    return jnp.asarray(side_by_side(features)), jnp.asarray(side_by_side(labels))


def kernel():
    return jnp.asarray(np.random.default_rng(1).standard_normal((C, K)))


def gradient(kernel, features, labels, keep):
    """Of the whole loss with respect to a 1x1 classifier, without a refine block."""

    def loss(kernel):
        def classify(x):
            return x @ kernel

        weights = dropclass.shared_importance(classify, C, features.dtype)
        average = dropclass.average_features_shared(features, weights, keep)
        outputs = {"logits": classify(features), "logits_drop": classify(average)}
        return objective.total(objective.loss_terms(outputs, labels, keep), 0.3, 5.0)

    return jax.grad(loss)(kernel)


def all_masks(per, batch, count):
    """Every draw of ``count`` classes, all equally likely, ``[N, ...]``."""
    sets = [1.0 - np.eye(K)[list(z)].sum(0) for z in itertools.combinations(range(K), count)]
    shape = {"batch": (), "example": (batch,), "tile": (batch, 1, TILES)}[per]
    draws = itertools.product(sets, repeat=int(np.prod(shape)))
    return jnp.asarray(np.array([np.reshape(draw, (*shape, K)) for draw in draws]))


def all_gradients(per, data, batch, count=1):
    with_mask = jax.jit(jax.vmap(gradient, in_axes=(None, None, None, 0)))
    return np.asarray(with_mask(kernel(), *data, all_masks(per, batch, count)))


@pytest.mark.parametrize("count", [1, 2])
def test_the_mean_gradient_is_the_same_whatever_is_drawn_for(count):
    with jax.enable_x64(True):
        data = features_and_labels(2)
        batch, example, tile = (
            all_gradients(per, data, 2, count) for per in ("batch", "example", "tile")
        )
    assert len(batch) == K
    assert len(example) == K**2
    assert len(tile) == K**4
    np.testing.assert_allclose(example.mean(0), batch.mean(0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(tile.mean(0), batch.mean(0), rtol=1e-12, atol=1e-14)
    assert np.abs(batch - batch.mean(0)).max() > 0.05  # there is something to average out


def test_its_variance_falls_with_the_number_of_draws():
    """Where all tiles are alike: to a half with two examples, to a quarter with two tiles each."""
    with jax.enable_x64(True):
        data = features_and_labels(2, alike=True)
        batch, example, tile = (
            all_gradients(per, data, 2).var(0) for per in ("batch", "example", "tile")
        )
    assert batch.min() > 1e-6
    np.testing.assert_allclose(example, batch / 2, rtol=1e-9)
    np.testing.assert_allclose(tile, batch / 4, rtol=1e-9)


def test_tiles_of_one_image_are_examples_of_one_tile():
    """Loss terms and gradient."""
    with jax.enable_x64(True):
        features, labels = features_and_labels(2)
        keep = jnp.asarray([[1, 0, 1], [0, 1, 1], [1, 1, 1], [0, 1, 0.0]])  # of every tile

        def apart(x):  # [B, 3, 4, ...] -> [4, 3, 2, ...]
            x = x.reshape(2, 3, TILES, 2, *x.shape[3:])
            return jnp.swapaxes(x, 1, 2).reshape(4, 3, 2, *x.shape[4:])

        expected = gradient(kernel(), apart(features), apart(labels), keep)
        got = gradient(kernel(), features, labels, keep.reshape(2, 1, TILES, K))
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)
        other = gradient(kernel(), features, labels, keep[::-1].reshape(2, 1, TILES, K))
        assert np.abs(other - expected).max() > 0.01
