"""Every loss of ``LOSSES``, with DropClass: global over devices and parts."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropclass_jax import losses, objective
from dropclass_jax.ops import axis
from dropclass_jax.parallel import pmap
from dropclass_jax.training import state, step
from dropclass_jax.training.recipe import Recipe

K, B, H, W = 4, 16, 8, 12
WEIGHTS = np.array([1.0, 2.0, 0.5, 3.0])
LAMBDA, ALPHA = 0.4, 10.0
KEEP = 1.0 - np.eye(K)[np.arange(B) % K] * (np.arange(B) % 3 > 0)[:, None]


class Pointwise(nn.Module):
    """Every output of a network without a norm, at half the images' size: compiles at once."""

    @nn.compact
    def __call__(self, images, keep=None, train=False):
        self.variable("batch_stats", "none", jnp.zeros, ())
        features = nn.avg_pool(images, (2, 2), (2, 2))  # [B, h, w, 3]
        outputs = {"logits": nn.Dense(K, name="plain")(features)}
        if keep is not None:
            seen = features * (1 + keep[..., None, None, :3])
            outputs["logits_drop"] = nn.Dense(K, name="drop")(seen)
        return outputs


@pytest.fixture(scope="module")
def batch():
    """Uneven numbers of pixels an image; two without any, and a class that two images hold."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, K - 1, (B, H, W)).astype(np.uint8)
    for row in range(B):
        labels[row, : row % H] = 255
    labels[0] = labels[5] = 255
    labels[1, -1] = labels[6, -2:] = K - 1
    return {"image": 3 * rng.standard_normal((B, H, W, 3)), "label": labels}


VARIED = losses.LOSSES["cross_entropy"]._replace(
    variation=losses.Variation(np.array([0.1, 0.5, 1.0, 0.7]), 2.0)
)
LOSSES = losses.LOSSES | {"varied": VARIED}


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"cross_entropy"}))  # see test_scale.py
def test_eight_devices_in_two_parts_compute_the_global_loss(batch, name):
    """Loss terms, and gradients as a step of 1; the whole batch at once is the measure."""
    settings = {
        "loss": LOSSES[name]._replace(region_weight=0.5, offsets=np.array([-0.1, -1.0, 0.0, -3.0])),
        "class_weights": jnp.asarray(WEIGHTS),
    }
    model, optimizer = Pointwise(), optax.sgd(1.0)
    with jax.enable_x64(True):
        keep, key = jnp.asarray(KEEP), jax.random.key(7)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(B))
        shapes = jax.eval_shape(model.init, key, batch["image"], keep)
        rng = np.random.default_rng(1)
        variables = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape)), shapes)

        @partial(jax.value_and_grad, has_aux=True)
        def loss(params):
            outputs = model.apply({**variables, "params": params}, batch["image"], keep)
            terms = objective.loss_terms(outputs, batch["label"], keep, keys=keys, **settings)
            return objective.total(terms, LAMBDA, ALPHA, region=0.5), terms

        loss = jax.jit(loss)
        (expected, terms), gradient = loss(variables["params"])
        assert all((value > 0).all() for value in jax.tree.leaves(terms))
        assert min(np.abs(x).max() for x in jax.tree.leaves(gradient)) > 1e-4

        def update(current, part, key):
            return step.update(
                current, part["image"], part["label"], part["keep"], LAMBDA, ALPHA,
                Recipe(model, optimizer, accumulate_steps=2, axis_name=axis.AXIS, **settings),
                variation_key=key,
            )  # fmt: skip

        start = state.from_variables(variables, optimizer)
        sharded = pmap.shard({**batch, "keep": keep})
        eight = pmap.pmap_step(update).lower(start, sharded, key).compile()
        after, scalars = eight(jax.tree.map(jnp.copy, start), sharded, key)
        np.testing.assert_allclose(scalars["loss"], expected, rtol=1e-12)
        compare = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-13)
        jax.tree.map(compare, jax.tree.map(jnp.subtract, start.params, after.params), gradient)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_drop_term_ignores_the_dropped_class_and_the_auxiliary_one_does_not(batch, name):
    loss, labels, keep = losses.LOSSES[name], batch["label"][:3], jnp.asarray(KEEP[:3])
    rng = np.random.default_rng(2)
    names = ("logits", "logits_drop", "logits_auxiliary")
    outputs = {name: jnp.asarray(rng.standard_normal((3, 4, 6, K)), jnp.float32) for name in names}
    kept = [
        np.where(y == np.argmin(k), 255, y) if 0 in k else y
        for y, k in zip(labels, KEEP[:3], strict=True)
    ]
    seen = {"plain": labels, "drop": np.stack(kept).astype(np.uint8), "auxiliary": labels}
    assert (seen["drop"] != labels).any()

    @jax.jit
    def terms_of(outputs, seen):
        got = objective.loss_terms(outputs, labels, keep, loss=loss, class_weights=WEIGHTS)
        expected = {}
        for term, output in zip(("plain", "drop", "auxiliary"), names, strict=True):
            args = outputs[output], seen[term]
            expected[term] = loss.of_pixels(*args, class_weights=WEIGHTS, ignore_label=255)
            if loss.of_regions:
                expected[f"{term}_region"] = loss.of_regions(*args, ignore_label=255)
        return got, expected

    got, expected = terms_of(outputs, seen)
    assert got.keys() == {*expected, "suppression"}
    for term, value in expected.items():
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), got[term], value)
    means = {term: float(objective.mean(value)) for term, value in got.items()}
    total = objective.total(got, 0.25, 3.0, auxiliary=0.4, region=0.5)
    whole = {t: means[t] + 0.5 * means.get(f"{t}_region", 0) for t in seen}
    expected = 0.25 * whole["plain"] + 0.75 * whole["drop"] + 0.4 * whole["auxiliary"]
    np.testing.assert_allclose(total, expected + 3 * means["suppression"], rtol=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_what_is_ignored_may_be_a_number_below_k(batch, name, weights):
    """Ignoring 0 is ignoring 255 where those pixels say 255; no block's size may show either."""
    labels = batch["label"][:2]
    beyond = np.where(labels == 0, 255, labels)
    within = np.where(labels == 255, 0, labels)
    logits = jnp.asarray(np.random.default_rng(2).standard_normal((2, H // 2, W // 2, K)))

    def terms(logits, labels, ignore_label):
        return objective.loss_terms(
            {"logits": logits},
            labels,
            None,
            loss=losses.LOSSES[name],
            class_weights=weights,
            ignore_label=ignore_label,
        )

    def outcome(labels, ignore_label):
        def of(logits):
            found = terms(logits, labels, ignore_label)
            return objective.total(found), found

        return jax.value_and_grad(of, has_aux=True)(logits)

    jax.tree.map(np.testing.assert_array_equal, outcome(within, 0), outcome(beyond, 255))
