"""Initial variables: where they are drawn, and where they end."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from dropclass_jax.models.variables import init_variables


class Tiny(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True)(nn.Conv(2, (1, 1))(x))


@pytest.fixture(scope="module")
def drawn():
    return init_variables(Tiny(), jax.random.key(0))


def test_are_on_the_default_device_and_equal_on_every_one(drawn):
    other = jax.devices()[3]
    with jax.default_device(other):
        there = init_variables(Tiny(), jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, drawn, there)
    assert {leaf.device for leaf in jax.tree.leaves(there)} == {other}
    assert {leaf.device for leaf in jax.tree.leaves(drawn)} == {jax.devices()[0]}


def test_a_key_that_lives_on_another_device_is_taken(drawn):
    variables = init_variables(Tiny(), jax.device_put(jax.random.key(0), jax.devices()[2]))
    jax.tree.map(np.testing.assert_array_equal, drawn, variables)
    assert {leaf.device for leaf in jax.tree.leaves(variables)} == {jax.devices()[0]}


def test_without_a_cpu_they_are_drawn_on_the_default_device(drawn, monkeypatch):
    def without(backend=None):
        raise RuntimeError("Unknown backend cpu")  # what jax says under JAX_PLATFORMS=cuda

    monkeypatch.setattr(jax, "local_devices", without)
    jax.tree.map(np.testing.assert_array_equal, drawn, init_variables(Tiny(), jax.random.key(0)))
