"""What a CPU cannot show: an accelerator computes what a CPU does. Run with ``-m gpu``."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from dropclass_jax.benchmark import case
from dropclass_jax.losses import pixels
from dropclass_jax.models.variables import init_variables

pytestmark = pytest.mark.gpu

NETWORKS = ("hrnet_w18_small_v1", "efficientnet_lite0", "lr_aspp_mobilenet_v3_small")


@pytest.fixture
def devices():
    """The CPU, and an accelerator."""
    if jax.default_backend() == "cpu":
        pytest.skip("jax finds no accelerator here")
    return {"cpu": jax.devices("cpu")[0], "accelerator": jax.devices()[0]}


def on(device, function, *arguments):
    """The result of a jitted function, with float32 products in full."""
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        return jax.device_get(jax.jit(function)(*jax.device_put(arguments, device)))


def steps(devices, of):
    """The scalars of a step, and how it moves the parameters, on each device."""
    before = jax.device_get(case.new_state(of, "dropclass"))
    results = []
    for device in devices.values():
        arguments = before, case.random_batch(of), jax.random.key(0)
        after, scalars = on(device, case.train_step(of, "dropclass"), *arguments)
        moved = jax.tree.map(np.subtract, after.params, before.params)
        results.append((scalars, moved))
    return results


def inner(a, b):
    """The inner product of two trees."""
    return sum(jax.tree.leaves(jax.tree.map(np.vdot, a, b)))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_step(devices, name):
    of = case.Case(name, 64, 96, 2, classes=5)
    (expected, their_move), (scalars, move) = steps(devices, of)
    assert scalars["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    lengths = inner(move, move) * inner(their_move, their_move)
    assert inner(move, their_move) / np.sqrt(lengths) > 0.99


def test_a_step_in_bfloat16(devices):
    of = case.Case("hrnet_w18_small_v1", 64, 96, 2, "bfloat16", 5)
    (expected, _), (scalars, move) = steps(devices, of)
    assert scalars["loss"] == pytest.approx(expected["loss"], rel=0.05)
    assert np.isfinite(inner(move, move))


def test_a_loss_in_blocks(devices):
    """One block and many, on the accelerator, against a CPU."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 24, 40, 19)).astype(np.float32)
    labels = rng.integers(0, 19, (2, 96, 160))

    def loss(block_bytes):
        def of(logits, labels):
            return pixels.mean(pixels.cross_entropy(logits, labels, block_bytes=block_bytes))

        return jax.value_and_grad(of)

    expected, gradient = on(devices["cpu"], loss(2**30), logits, labels)
    for block_bytes in (2**16, 2**30, None):
        found, slope = on(devices["accelerator"], loss(block_bytes), logits, labels)
        assert found == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(slope, gradient, atol=1e-4 * np.abs(gradient).max())


def test_initial_variables_are_those_of_a_cpu(devices):
    model = case.network(case.Case(NETWORKS[0], 64, 96, 2, classes=5), "dropclass")
    drawn = []
    for device in devices.values():
        with jax.default_device(device):
            variables = init_variables(model, jax.random.key(0))
        assert {leaf.device for leaf in jax.tree.leaves(variables)} == {device}
        drawn.append(variables)
    jax.tree.map(np.testing.assert_array_equal, *drawn)
