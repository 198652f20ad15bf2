from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax.models import layers
from dropclass_jax.models.layers import Layers


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

    @pytest.mark.parametrize("tap", [(0, 0), (1, 1), (2, 2), (2, 0)])
    def test_stride_2_pads_as_tensorflow_where_asked(self, tap):
        # Of 6 rows the far side alone is padded, of 5 columns both are.
        kernel = np.zeros((3, 3, 1, 1), np.float32)
        kernel[tap] = 1
        conv = Layers(padding="same").conv(1, 3, 2)
        y = conv.apply({"params": {"kernel": kernel}}, self.x)[0, :, :, 0]
        padded = np.pad(np.asarray(self.x[0, :, :, 0]), ((0, 1), (1, 1)))
        np.testing.assert_array_equal(y, padded[tap[0] :: 2, tap[1] :: 2][:3, :3])

    @pytest.mark.parametrize("dilation", [1, 2, 4])
    def test_dilation_keeps_the_size(self, dilation):
        kernel = np.zeros((3, 3, 1, 1))
        kernel[0, 2] = 1
        y = self.apply(kernel, 3, dilation=dilation)[0, :, :, 0]
        padded = np.pad(np.asarray(self.x[0, :, :, 0]), dilation)
        np.testing.assert_array_equal(y, padded[:6, 2 * dilation :][:, :5])

    @pytest.mark.parametrize("size", [(6, 8), (7, 5), (6, 5)])
    @pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (5, 1), (3, 2)])
    def test_depthwise_with_tensorflows_padding(self, size, kernel_size, dilation):
        with jax.enable_x64(True):
            rng = np.random.default_rng(0)
            x = jnp.asarray(rng.normal(size=(2, *size, 4)))
            kernel = jnp.asarray(rng.normal(size=(kernel_size, kernel_size, 1, 4)))
            conv = Layers(padding="same").conv(4, kernel_size, 2, dilation=dilation, groups=4)

            def ours(x, kernel):
                return conv.apply({"params": {"kernel": kernel}}, x)

            def plain(x, kernel):
                settings = {"rhs_dilation": (dilation,) * 2, "feature_group_count": 4}
                dimensions = ("NHWC", "HWIO", "NHWC")
                return jax.lax.conv_general_dilated(
                    x, kernel, (2, 2), "SAME", dimension_numbers=dimensions, **settings
                )

            @partial(jax.jit, static_argnums=0)
            def with_gradients(convolve, x, kernel):
                y, pull = jax.vjp(convolve, x, kernel)
                return y, *pull(jnp.cos(y))

            found, expected = (with_gradients(f, x, kernel) for f in (ours, plain))
            for value, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(value, other, rtol=1e-12, atol=1e-12)

    def test_groups_of_several_channels(self):
        x = jax.random.normal(jax.random.key(1), (1, 4, 4, 6))
        conv = Layers().conv(2, 3, groups=2)
        y, variables = conv.init_with_output(jax.random.key(0), x)
        kernel = variables["params"]["kernel"]  # [3, 3, 3, 2]
        for group in range(2):
            part, own = x[..., 3 * group : 3 * group + 3], kernel[..., group : group + 1]
            alone = Layers().conv(1, 3).apply({"params": {"kernel": own}}, part)
            np.testing.assert_allclose(y[..., group : group + 1], alone, rtol=1e-5, atol=1e-5)

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

    y, variables = network(jnp.ones((4, 5, 6, 3)))
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
