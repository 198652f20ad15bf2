"""The method: importance, class features, averages."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax import dropclass
from dropclass_jax.models.layers import Layers

B, H, W, C, K = 2, 3, 4, 6, 5


@pytest.fixture
def features():
    return jax.random.normal(jax.random.key(0), (B, H, W, C))


@pytest.fixture
def kernel():
    return jax.random.normal(jax.random.key(1), (C, K))


def linear(kernel):
    return lambda x: x @ kernel + 0.3


def curved(kernel):
    """A head that is neither affine nor of one position."""
    return lambda x: jnp.tanh(x + x.mean(axis=(1, 2), keepdims=True)) @ kernel


def at_every_position(keep):
    """A keep-mask of any shape as ``[B, h, w, K]``, position by position."""
    if keep.ndim < 4:
        return np.broadcast_to(np.atleast_2d(keep)[:, None, None], (B, H, W, K))
    gh, gw = keep.shape[1:3]
    rows = [int((i + 0.5) * gh / H) for i in range(H)]
    columns = [int((j + 0.5) * gw / W) for j in range(W)]
    return keep[:, rows][:, :, columns]


def by_formula(features, importances, keep):
    """The mean over kept classes of relu(S_c A), in NumPy float64; importances [K, B, h, w, C]."""
    maps = np.maximum(np.asarray(importances, np.float64) * np.asarray(features, np.float64), 0)
    keep = np.moveaxis(at_every_position(keep), -1, 0)[..., None]
    return (keep * maps).sum(0) / keep.sum(0)


def tiles(gh, gw):
    """A draw of any number of classes a tile, one of them kept; nothing is dropped in the first."""
    keep = np.random.default_rng(4).integers(0, 2, (B, gh, gw, K)).astype(float)
    keep[..., 3] = 1
    keep[0, 0, 0] = 1
    return keep


KEEPS = {
    "all": np.ones(K),
    "one dropped": np.array([1, 1, 0, 1, 1.0]),
    "by example": np.array([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1.0]]),
    "three dropped by example": np.array([[0, 1, 0, 0, 1], [0, 1, 1, 0, 0.0]]),
    "by tiles that divide": tiles(1, 2),
    "by tiles that do not": tiles(2, 3),
    "by position": tiles(H, W),
}


def test_importance_of_a_pointwise_head_is_its_kernel_column(features, kernel):
    got = dropclass.importance(linear(kernel), features, 3)
    np.testing.assert_allclose(got, np.broadcast_to(kernel[:, 3], got.shape), rtol=1e-6)
    np.testing.assert_allclose(dropclass.shared_importance(linear(kernel), C), kernel.T, rtol=1e-6)


def test_importance_of_a_curved_head_is_its_derivative(features, kernel):
    head = curved(kernel)
    got = np.asarray(dropclass.importance(head, features, 1))
    step = 1e-2
    for at in [(0, 0, 0, 0), (1, 2, 3, 5), (0, 1, 2, 4)]:
        up, down = features.at[at].add(step), features.at[at].add(-step)
        slope = (head(up)[..., 1].sum() - head(down)[..., 1].sum()) / (2 * step)
        np.testing.assert_allclose(got[at], slope, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("keep", KEEPS.values(), ids=KEEPS)
@pytest.mark.parametrize("make_head", [linear, curved])
def test_average_is_the_formula(features, kernel, make_head, keep):
    head = make_head(kernel)
    importances = [dropclass.importance(head, features, c) for c in range(K)]
    got = dropclass.average_features(features, head, jnp.asarray(keep))
    np.testing.assert_allclose(got, by_formula(features, importances, keep), atol=1e-6)


def test_what_does_not_fit_is_refused(features, kernel):
    """Instead of being broadcast: fewer classes than the head has, one importance for all."""
    with pytest.raises(ValueError, match=r"keep is \[5\], .* not \[3\]"):
        dropclass.average_features(features, linear(kernel), jnp.ones(3))
    weights = dropclass.shared_importance(linear(kernel), C)
    with pytest.raises(ValueError, match=r"keep is .* not \[1\]"):
        dropclass.average_features_shared(features, weights, jnp.ones(1))
    with pytest.raises(ValueError, match=r"importance is \[K, 6\], not \[5, 1\]"):
        dropclass.average_features_shared(features, weights[:, :1], jnp.ones(K))
    for index in (-1, K):
        with pytest.raises(ValueError, match=f"class {index} is none of the 5"):
            dropclass.importance(linear(kernel), features, index)


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("keep", KEEPS.values(), ids=KEEPS)
def test_shared_equals_general_for_features_of_both_signs(features, kernel, keep, stop):
    """In float64: values, and the gradients with respect to features and classifier as well."""
    assert (features < 0).any()
    assert (features > 0).any()

    def general(features, kernel):
        return dropclass.average_features(
            features, linear(kernel), jnp.asarray(keep), stop_gradient=stop
        )

    def shared(features, kernel):
        weights = dropclass.shared_importance(linear(kernel), C, kernel.dtype)
        weights = jax.lax.stop_gradient(weights) if stop else weights
        return dropclass.average_features_shared(features, weights, jnp.asarray(keep))

    def value_and_gradients(average):
        def loss(features, kernel):
            value = average(features, kernel)
            return jnp.sum(jnp.sin(3 * value)), value

        with jax.enable_x64(True):
            args = (jnp.asarray(x, jnp.float64) for x in (features, kernel))
            gradients, value = jax.grad(loss, argnums=(0, 1), has_aux=True)(*args)
        return value, *gradients

    for got, expected in zip(*map(value_and_gradients, (shared, general)), strict=True):
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)


def test_stopping_the_gradient_changes_the_heads_gradient_alone(features, kernel):
    def loss(kernel, stop):
        average = dropclass.average_features(
            features, linear(kernel), dropclass.keep_all(K), stop_gradient=stop
        )
        return jnp.sum(average**2)

    assert jnp.abs(jax.grad(loss)(kernel, False)).max() > 0.1
    assert jnp.abs(jax.grad(loss)(kernel, True)).max() == 0


@pytest.mark.parametrize("grid", [(), (1, 16, 16)])
def test_the_k_class_maps_are_never_built(grid):
    """The shared form's compiled program needs no memory that grows with K."""

    def temporary_bytes(num_classes):
        def average(features, kernel):
            weights = dropclass.shared_importance(lambda x: x @ kernel, 32)
            keep = jnp.ones((*grid, num_classes))
            return dropclass.average_features_shared(features, weights, keep)

        shapes = (jnp.zeros((1, 64, 64, 32)), jnp.zeros((32, num_classes)))
        return jax.jit(average).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    one_map = 64 * 64 * 32 * 4
    assert temporary_bytes(64) < temporary_bytes(4) + one_map


def test_module_takes_any_head(features, kernel):
    """'position' equals 'shared' on a 1x1 head, and runs on a head that 'shared' is wrong for."""

    def module(importance):
        return dropclass.DropClass(
            conv=lambda *a, **k: nn.Conv(*a, **k),
            norm=lambda name: lambda x, train: x,
            importance=importance,
        )

    keep = jnp.asarray(KEEPS["one dropped"])
    variables = module("shared").init(jax.random.key(0), features, linear(kernel), keep)
    shared, position = (
        module(name).apply(variables, features, linear(kernel), keep)
        for name in ("shared", "position")
    )
    np.testing.assert_allclose(shared, position, atol=1e-6)
    assert np.isfinite(module("position").apply(variables, features, curved(kernel), keep)).all()
    with pytest.raises(ValueError, match=r"importance is .*'position'.*not 'other'"):
        module("other").apply(variables, features, linear(kernel), keep)


class TestRefine:
    features = jax.nn.relu(jax.random.normal(jax.random.key(1), (8, 25, 40, 5)))
    kernel = 3 * jax.random.normal(jax.random.key(3), (5, 6))  # the norm's epsilon is small to it

    def refined(self, features, keep=None, train=True, **settings):
        layers = Layers()
        module = dropclass.DropClass(conv=layers.conv, norm=layers.norm, **settings)
        keep = jnp.ones(6) if keep is None else keep
        got, variables = module.init_with_output(
            jax.random.key(0), features, linear(self.kernel), keep, train
        )
        return got, variables.get("params", {})

    def test_none_is_the_average_and_has_no_parameters(self):
        keep = jnp.array([1, 1, 0, 1, 1, 1.0])
        got, params = self.refined(self.features, keep, refine="none")
        expected = dropclass.average_features(self.features, linear(self.kernel), keep)
        np.testing.assert_allclose(got, expected, atol=1e-5)
        assert not params

    def test_a_uniform_importance_does_not_know_the_class(self):
        signed = self.features - 0.5
        keep = jnp.array([1, 1, 0, 1, 1, 1.0])
        got, _ = self.refined(signed, keep, refine="none", importance="uniform")
        np.testing.assert_array_equal(got, jnp.maximum(signed, 0))

    def test_identity_starts_from_rectified_normal_features_as_they_are(self):
        """8000 positions of each channel: their own mean and deviation are known to a percent."""
        assert (self.kernel > 0).any(axis=1).all()
        got, params = self.refined(self.features, refine_init="identity")
        np.testing.assert_allclose(got, self.features, atol=0.12)
        np.testing.assert_allclose(got.mean(), self.features.mean(), atol=0.01)
        scaled, _ = self.refined(3 * self.features, refine_init="identity")
        np.testing.assert_allclose(scaled, got, atol=1e-3)  # a factor is taken away
        default, usual = self.refined(self.features)
        assert jnp.abs(default - self.features).max() > 1
        assert jax.tree.structure(params) == jax.tree.structure(usual)
