"""Batch norm against its formula, forwards and backwards, on one device and several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax.models.batch_norm import BatchNorm

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


def test_batch_norm_has_the_gradient_of_its_formula():
    """The derivative is written out: it is what differentiating the plain formula gives."""
    with jax.enable_x64(True):
        params, x = bn_variables(np.float64)["params"], bn_input(dtype=np.float64, mean=2.0)

        def formula(params, x):
            centred = x - x.mean((0, 1, 2))
            var = jnp.square(centred).mean((0, 1, 2))
            return centred / jnp.sqrt(var + 1e-5) * params["scale"] + params["bias"]

        def norm(params, x):
            variables = {**bn_variables(np.float64), "params": params}
            return BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])[0]

        def gradients(function):
            return jax.grad(lambda *args: jnp.sum(jnp.sin(function(*args))), (0, 1))(params, x)

        for ours, theirs in zip(
            *map(jax.tree.leaves, map(gradients, (norm, formula))), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


def test_batch_norm_keeps_its_input_for_the_backward_pass():
    """In the input's dtype, and nothing else of its size."""
    x = jnp.zeros((4, 8, 8, CHANNELS), jnp.bfloat16)
    variables = bn_variables()

    def norm(x):
        return BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])[0]

    kept = jax.tree.leaves(jax.eval_shape(lambda x: jax.vjp(norm, x)[1], x))
    large = [array for array in kept if array.size >= x.size]
    assert [(array.shape, array.dtype) for array in large] == [(x.shape, x.dtype)]
