from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax.models import layers
from dropclass_jax.models.layers import BatchNorm, Layers

CHANNELS = 3


def bn_variables(dtype=np.float32):
    rng = np.random.default_rng(0)
    draw = lambda: rng.uniform(0.5, 1.5, CHANNELS).astype(dtype)  # noqa: E731
    return {
        "params": {"scale": draw(), "bias": draw()},
        "batch_stats": {"mean": draw(), "var": draw()},
    }


def bn_input(shape=(4, 5, 6, CHANNELS), mean=0.0, std=2.0, dtype=np.float32):
    rng = np.random.default_rng(1)
    return (mean + std * rng.standard_normal(shape)).astype(dtype)


def expected_bn(variables, x, momentum=0.9, epsilon=1e-5):
    """Training output and running statistics, float64."""
    x = x.astype(np.float64).reshape(-1, CHANNELS)
    params, stats = variables["params"], variables["batch_stats"]
    y = (x - x.mean(0)) / np.sqrt(x.var(0) + epsilon) * params["scale"] + params["bias"]
    return y, {
        "mean": momentum * stats["mean"] + (1 - momentum) * x.mean(0),
        "var": momentum * stats["var"] + (1 - momentum) * x.var(0, ddof=1),
    }


def test_batch_norm_in_training():
    variables, x = bn_variables(), bn_input()
    norm = BatchNorm(momentum=0.7, epsilon=1e-3)
    y, updates = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    expected, stats = expected_bn(variables, x, momentum=0.7, epsilon=1e-3)
    np.testing.assert_allclose(y, expected.reshape(x.shape), atol=2e-6)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], stats["mean"], rtol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], stats["var"], rtol=1e-6)


def test_batch_norm_in_evaluation():
    variables, x = bn_variables(), bn_input()
    y = BatchNorm().apply(variables, x, train=False)
    params, stats = variables["params"], variables["batch_stats"]
    expected = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(y, expected, atol=2e-6)


def test_batch_norm_keeps_its_precision_far_from_zero():
    # E[x^2] - E[x]^2 would be wrong by more than the variance itself.
    variables, x = bn_variables(), bn_input(mean=1e4, std=1.0)
    y, updates = BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])
    expected, stats = expected_bn(variables, x)
    np.testing.assert_allclose(updates["batch_stats"]["var"], stats["var"], rtol=1e-5)
    np.testing.assert_allclose(y, expected.reshape(x.shape), atol=2e-3)  # x is spaced by 1e-3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_batch_norm_statistics_of_short_floats_are_float32(dtype):
    variables, x = bn_variables(), jnp.asarray(bn_input(mean=3.0), dtype)
    y, updates = BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])
    expected, stats = expected_bn(variables, np.asarray(x, np.float32))
    assert y.dtype == dtype
    # Rounded once, at the end: half a unit in the last place and float32's own error.
    half_unit = float(jnp.finfo(dtype).eps) / 2
    y = np.asarray(y, np.float32)
    np.testing.assert_allclose(y, expected.reshape(x.shape), rtol=half_unit, atol=2e-6)
    assert updates["batch_stats"]["var"].dtype == jnp.float32
    np.testing.assert_allclose(updates["batch_stats"]["var"], stats["var"], rtol=1e-6)


def test_batch_norm_is_float64_throughout():
    with jax.enable_x64(True):
        variables, x = bn_variables(np.float64), bn_input(mean=100.0, dtype=np.float64)
        y, updates = BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])
        y, updates = jax.device_get((y, updates))
    expected, stats = expected_bn(variables, x)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, expected.reshape(x.shape), atol=1e-12)
    np.testing.assert_allclose(updates["batch_stats"]["var"], stats["var"], rtol=1e-12)


def test_batch_norm_initialises_to_the_identity():
    # With an axis name, outside of any mapped computation.
    x = bn_input()
    norm = BatchNorm(axis_name="devices")
    for train in (False, True):
        variables = norm.init(jax.random.key(0), x, train=train)
        for collection, names in (("params", ("scale", "bias")), ("batch_stats", ("var", "mean"))):
            assert set(variables[collection]) == set(names)
            np.testing.assert_array_equal(variables[collection][names[0]], np.ones(CHANNELS))
            np.testing.assert_array_equal(variables[collection][names[1]], np.zeros(CHANNELS))
    np.testing.assert_allclose(norm.apply(variables, x, train=False), x, rtol=1e-5)


def test_batch_norm_of_a_single_value_stays_finite():
    x = bn_input(shape=(1, 1, 1, CHANNELS))
    y, updates = BatchNorm().apply(bn_variables(), x, train=True, mutable=["batch_stats"])
    assert np.all(np.isfinite(y))
    np.testing.assert_allclose(
        updates["batch_stats"]["var"], 0.9 * bn_variables()["batch_stats"]["var"], rtol=1e-6
    )


def test_synchronised_batch_norm_equals_the_whole_batch():
    """Outputs, running statistics and gradients on 4 devices of 2 examples, in float64."""
    with jax.enable_x64(True):
        variables = bn_variables(np.float64)
        # Devices whose means differ, so that statistics of their own would be far off.
        x = bn_input((4, 2, 5, 6, CHANNELS), dtype=np.float64)
        x += np.arange(4.0).reshape(4, 1, 1, 1, 1)
        weight = np.random.default_rng(2).standard_normal(x.shape)

        def loss(params, x, weight, axis_name):
            y, updates = BatchNorm(axis_name=axis_name).apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(weight * jnp.sin(y)), (y, updates["batch_stats"])

        gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)

        def on_device(x, weight):
            (param_grads, x_grad), (y, stats) = gradient(variables["params"], x, weight, "devices")
            return jax.lax.psum(param_grads, "devices"), x_grad, y, stats

        param_grads, x_grad, y, stats = jax.device_get(
            jax.vmap(on_device, axis_name="devices")(x, weight)
        )
        whole = [a.reshape(8, *a.shape[2:]) for a in (x, weight)]
        (whole_param_grads, whole_x_grad), (whole_y, whole_stats) = jax.device_get(
            gradient(variables["params"], *whole, None)
        )

    np.testing.assert_allclose(y.reshape(whole_y.shape), whole_y, atol=1e-13)
    np.testing.assert_allclose(x_grad.reshape(whole_x_grad.shape), whole_x_grad, atol=1e-13)
    for device in range(4):
        for name in ("mean", "var"):
            np.testing.assert_allclose(stats[name][device], whole_stats[name], rtol=1e-13)
        for name in ("scale", "bias"):
            np.testing.assert_allclose(
                param_grads[name][device], whole_param_grads[name], rtol=1e-12
            )
    np.testing.assert_allclose(whole_stats["var"], expected_bn(variables, x)[1]["var"], rtol=1e-12)


def test_evaluation_needs_no_axis():
    x = bn_input()
    y = BatchNorm(axis_name="devices").apply(bn_variables(), x, train=False)
    np.testing.assert_array_equal(y, BatchNorm().apply(bn_variables(), x, train=False))


class TestConv:
    x = jnp.arange(1.0, 31.0).reshape(1, 6, 5, 1)

    def apply(self, kernel, *args, **kwargs):
        kernel = jnp.asarray(kernel, jnp.float32)
        conv = Layers().conv(kernel.shape[-1], *args, **kwargs)
        return conv.apply({"params": {"kernel": kernel}}, self.x)

    @pytest.mark.parametrize("tap", [(0, 0), (1, 1), (2, 2), (2, 0)])
    def test_stride_2_pads_as_pytorch(self, tap):
        # One tap of a 3x3 kernel samples the input at 2 i + tap - 1, zeros outside.
        kernel = np.zeros((3, 3, 1, 1))
        kernel[tap] = 1
        y = self.apply(kernel, 3, 2)[0, :, :, 0]
        padded = np.pad(np.asarray(self.x[0, :, :, 0]), 1)
        np.testing.assert_array_equal(y, padded[tap[0] :: 2, tap[1] :: 2][:3, :3])

    @pytest.mark.parametrize("dilation", [1, 2, 4])
    def test_dilation_keeps_the_size(self, dilation):
        kernel = np.zeros((3, 3, 1, 1))
        kernel[0, 2] = 1
        y = self.apply(kernel, 3, dilation=dilation)[0, :, :, 0]
        padded = np.pad(np.asarray(self.x[0, :, :, 0]), dilation)
        np.testing.assert_array_equal(y, padded[:6, 2 * dilation :][:, :5])

    def test_groups_and_bias(self):
        conv = Layers().conv(4, 3, groups=4, use_bias=True)
        params = conv.init(jax.random.key(0), jnp.zeros((1, 8, 8, 4)))["params"]
        assert params["kernel"].shape == (3, 3, 1, 4)
        assert params["bias"].shape == (4,)
        assert "bias" not in Layers().conv(4).init(jax.random.key(0), self.x)["params"]


def test_he_normal_has_the_variance_of_its_fan_in():
    kernel = layers.he_normal(jax.random.key(0), (3, 3, 64, 128))
    assert abs(float(kernel.std()) / np.sqrt(2 / (9 * 64)) - 1) < 0.01
    assert abs(float(kernel.mean())) < 1e-3
    depthwise = layers.he_normal(jax.random.key(0), (3, 3, 1, 8192))
    assert abs(float(depthwise.std()) / np.sqrt(2 / 9) - 1) < 0.01


def test_normal_draws_flaxs_numbers():
    key, shape = jax.random.key(3), (3, 3, 4, 5)
    expected = jax.nn.initializers.normal(0.001)(key, shape)
    np.testing.assert_array_equal(layers.normal(0.001)(key, shape), expected)


def test_layers_are_compared_by_value():
    # So that a jitted function of two equal networks compiles once.
    assert Layers(momentum=0.5) == Layers(momentum=0.5)
    assert hash(Layers(dtype="bfloat16")) == hash(Layers(dtype="bfloat16"))
    assert Layers() != Layers(axis_name="devices")


def test_compute_dtype_reaches_every_layer():
    def network(x):
        stack = Layers(dtype=jnp.bfloat16)
        block = layers.ConvNorm(stack, 4, 3, name=None)
        return block.init_with_output(jax.random.key(0), x, train=False)

    y, variables = network(bn_input())
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


class TestDropout:
    x = np.ones((8, 5, 6, 4), np.float32)

    def apply(self, x, key=0, rate=0.3, axis_name=None):
        dropout = layers.Dropout(rate, axis_name)
        return dropout.apply({}, x, train=True, rngs={"dropout": jax.random.key(key)})

    def test_keeps_the_mean_and_scales_what_stays(self):
        y = self.apply(np.ones((4, 64, 64, 16), np.float32))
        values, counts = np.unique(y, return_counts=True)
        np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-6)
        # Five deviations of a binomial share.
        assert abs(counts[0] / y.size - 0.3) < 5 * np.sqrt(0.3 * 0.7 / y.size)
        assert not np.array_equal(self.apply(self.x), self.apply(self.x, key=1))

    def test_every_example_has_a_draw_of_its_own_wherever_it_is(self):
        whole = np.asarray(self.apply(self.x))
        assert len({row.tobytes() for row in whole}) == 8
        on_device = jax.vmap(lambda x: self.apply(x, axis_name="devices"), axis_name="devices")
        for devices in (2, 4):
            parts = on_device(self.x.reshape(devices, -1, *self.x.shape[1:]))
            np.testing.assert_array_equal(parts.reshape(whole.shape), whole)

    def test_evaluation_and_a_rate_of_zero_need_no_key(self):
        dropout = layers.Dropout(0.3)
        np.testing.assert_array_equal(dropout.apply({}, self.x, train=False), self.x)
        np.testing.assert_array_equal(layers.Dropout(0.0).apply({}, self.x, train=True), self.x)

    def test_keeps_the_dtype(self):
        assert self.apply(jnp.asarray(self.x, jnp.bfloat16)).dtype == jnp.bfloat16


def test_global_mean_of_short_floats():
    # In bfloat16 a sum of 2^16 ones would stop at 256.
    x = jnp.ones((2, 256, 256, 3), jnp.bfloat16)
    mean = layers.global_mean(x)
    assert mean.shape == (2, 1, 1, 3)
    assert mean.dtype == jnp.bfloat16
    np.testing.assert_array_equal(mean.astype(np.float32), 1)
