"""The gradients of a whole network with the forms of a CPU against those of the plain ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from dropclass_jax import objective
from dropclass_jax.models import heads, hrnet, layers, resnet
from dropclass_jax.models.layers import Layers
from dropclass_jax.models.segmenter import Segmenter

K = 4
# Every kind of module that an HRNet has, and one of each.
SMALL = hrnet.Architecture(width=8, stage1_blocks=1, stage1_width=8, modules=(1, 1, 1), blocks=1)


def gradients(variables, images, labels, keep):
    own = Layers()
    model = Segmenter(hrnet.HRNet(SMALL, own), heads.Concat(own), K, layers=own)

    def loss(params):
        outputs, _ = model.apply(
            {**variables, "params": params}, images, keep, train=True, mutable=["batch_stats"]
        )
        return objective.total(objective.loss_terms(outputs, labels, keep), 0.5, 10.0)

    return jax.value_and_grad(loss)(variables["params"])


def test_the_step_has_the_gradients_of_the_plain_forms(monkeypatch):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        images = jnp.asarray(rng.normal(size=(2, 64, 32, 3)))
        labels = jnp.asarray(rng.integers(0, K, (2, 64, 32)))
        keep = 1 - jnp.eye(K)[1]
        own = Layers()
        model = Segmenter(hrnet.HRNet(SMALL, own), heads.Concat(own), K, layers=own)
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)
        variables = jax.tree.map(
            lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape)), shapes
        )
        ours = jax.jit(gradients)(variables, images, labels, keep)
        monkeypatch.setattr(layers, "_convolve", lax.conv_general_dilated)
        monkeypatch.setattr(hrnet, "relu_once", nn.relu)
        monkeypatch.setattr(resnet, "relu_once", nn.relu)
        jax.clear_caches()
        plain = jax.jit(gradients)(variables, images, labels, keep)
    assert float(ours[0]) == pytest.approx(float(plain[0]), rel=1e-12)
    for found, expected in zip(*map(jax.tree.leaves, (ours[1], plain[1])), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=1e-9 * scale + 1e-12)
