"""One step: eight devices equal one, randomness is of (seed, step, example), coefficients move."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropclass_jax import schedules
from dropclass_jax.evaluation import inference, metrics
from dropclass_jax.evaluation.step import eval_step
from dropclass_jax.ops import axis
from dropclass_jax.parallel import pmap
from dropclass_jax.training import draw as draw_module
from dropclass_jax.training import state, step
from dropclass_jax.training.recipe import Recipe

K, B, H, W = 5, 8, 16, 24
ALPHA = 10.0
KEY = jax.random.key(3)
COEFFICIENTS = step.Coefficients(
    lambda_=schedules.ramp("linear", 1, 0, 10),
    p=optax.constant_schedule(1.0),
    alpha=optax.constant_schedule(ALPHA),
)
IMAGES = {"image_mean": jnp.array([0.4, 0.5, 0.6]), "image_std": jnp.array([0.2, 0.3, 0.25])}


@pytest.fixture
def batch():
    """Uneven numbers of valid pixels a device, the first one's example ignored altogether."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, K, (B, H, W)).astype(np.uint8)
    for row in range(B):
        labels[row, : 2 * row] = 255
    labels[0] = 255
    return {"image": rng.integers(0, 256, (B, H, W, 3)).astype(np.uint8), "label": labels}


def bound_step(model, draw, axis_name, class_weights=None):
    optimizer = optax.sgd(0.1, momentum=0.9)
    bound = partial(
        step.train_step,
        recipe=Recipe(model, optimizer, class_weights=class_weights, axis_name=axis_name),
        learning_rate=optax.constant_schedule(0.1),
        dropclass=(COEFFICIENTS, draw),
        **IMAGES,
    )
    return bound, optimizer


DRAWS = {
    "batch": step.Draw(jnp.ones(K)),
    "example": step.Draw(jnp.ones(K), per="example"),
    "present": step.Draw(jnp.ones(K), present_only=True),
    "tile": step.Draw(jnp.ones(K), per="tile", tile=7, count=2),
    "present in example": step.Draw(jnp.ones(K), per="example", present_only=True),
}


@pytest.mark.parametrize(
    ("draw", "auxiliary"),
    [*((draw, None) for draw in DRAWS.values()), (DRAWS["batch"], 0)],
    ids=[*DRAWS, "auxiliary head, with dropout"],
)
def test_eight_devices_equal_one(tiny, batch, draw, auxiliary):
    """Loss terms, parameters (so gradients), batch statistics and momentum, after two steps."""
    tiny = partial(tiny, auxiliary=auxiliary)
    assert jax.local_device_count() == 8
    weights = jnp.array([1.0, 2.0, 0.5, 1.0, 3.0])
    with jax.enable_x64(True):
        one, optimizer = bound_step(tiny(K), draw, None, weights)
        variables = tiny(K).init(jax.random.key(1), jnp.zeros((1, H, W, 3)))
        variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
        start = state.from_variables(variables, optimizer)
        one = jax.jit(one)
        many, _ = bound_step(tiny(K, axis_name=axis.AXIS), draw, axis.AXIS, weights)
        many = pmap.pmap_step(many)

        expected, got = start, jax.tree.map(jnp.array, start)  # the step takes its state's memory
        for _ in range(2):
            expected, expected_scalars = one(expected, batch, KEY)
            got, got_scalars = many(got, pmap.shard(batch), KEY)
        for path, value in jax.tree.leaves_with_path(expected):
            ours = dict(jax.tree.leaves_with_path(got))[path]
            np.testing.assert_allclose(
                ours, value, rtol=1e-5, atol=1e-7, err_msg=jax.tree_util.keystr(path)
            )
        assert got_scalars.keys() == expected_scalars.keys()
        for name, value in expected_scalars.items():
            np.testing.assert_allclose(got_scalars[name], value, rtol=1e-5, err_msg=name)


def test_counts_of_eight_devices_equal_one(tiny, batch):
    model, sharded = tiny(K), tiny(K, axis_name=axis.AXIS)
    variables = model.init(jax.random.key(1), jnp.zeros((1, H, W, 3)))
    batch["distance"] = np.arange(1, B + 1, dtype=np.int32)
    views = inference.Views(window=(12, 16), stride=(4, 8), flip=True)
    evaluate = partial(eval_step, num_classes=K, views=views, **IMAGES)
    one, examples = jax.jit(partial(evaluate, model=model))(variables, batch)
    many = pmap.pmap_eval(partial(evaluate, model=sharded, axis_name=axis.AXIS))
    totals, sharded_examples = many(variables, pmap.shard(batch))
    for head in ("plain", "drop"):
        for name, value in one[head].items():
            np.testing.assert_array_equal(totals[head][name], value, err_msg=name)
        for name, value in examples[head].items():
            np.testing.assert_array_equal(pmap.unshard(sharded_examples[head][name]), value)
        confusion, counts = one[head]["confusion"], np.asarray(examples[head]["counts"])
        assert confusion.sum() == (batch["label"] != 255).sum()
        np.testing.assert_array_equal(counts.sum(axis=0), metrics.class_counts(confusion))
        valid = batch["label"] != 255
        prediction = np.asarray(examples[head]["prediction"])
        for row in range(B):
            for k in range(K):
                labelled, predicted = batch["label"][row] == k, (prediction[row] == k) & valid[row]
                expected = (labelled & predicted).sum(), labelled.sum(), predicted.sum()
                assert tuple(counts[row, k]) == expected


class TestDraws:
    def keep(self, draw, labels, number=0, seed=3, p=1.0):
        key = jax.random.fold_in(jax.random.key(seed), number)
        return np.asarray(step.draw_for_batch(draw, key, jnp.asarray(p), labels))

    def test_the_key_decides(self, batch):
        draw, labels = DRAWS["batch"], jnp.asarray(batch["label"])
        masks = [self.keep(draw, labels, number) for number in range(40)]
        again = [self.keep(draw, labels, number) for number in range(40)]
        np.testing.assert_array_equal(masks, again)
        assert len({tuple(mask) for mask in masks}) == K
        other = [self.keep(draw, labels, number, seed=4) for number in range(40)]
        assert (np.array(masks) != np.array(other)).any()

    def test_only_what_is_present(self):
        labels = jnp.asarray(np.array([[[1, 1]], [[3, 255]]], np.uint8))
        for number in range(10):
            batch = self.keep(DRAWS["present"], labels, number)
            assert set(np.flatnonzero(batch == 0)) <= {1, 3}
            rows = self.keep(DRAWS["present in example"], labels, number)
            np.testing.assert_array_equal(np.argmin(rows, axis=1), [1, 3])

    def test_a_row_does_not_depend_on_the_others(self, batch):
        labels = jnp.asarray(batch["label"])
        for draw in (DRAWS["example"], DRAWS["tile"], DRAWS["tile"]._replace(stratify=True)):
            np.testing.assert_array_equal(self.keep(draw, labels)[:4], self.keep(draw, labels[:4]))

    @pytest.mark.parametrize("stratify", [False, True])
    def test_tiles_differ_and_are_drawn_from_what_the_example_holds(self, batch, stratify):
        draw, labels = DRAWS["tile"]._replace(stratify=stratify), batch["label"].copy()
        keep = self.keep(draw, jnp.asarray(labels))
        assert keep.shape == (B, 3, 4, K)  # of 16 x 24 pixels in tiles of at most 7
        assert (keep.sum(-1) == K - 2).all()
        assert len({tuple(mask) for mask in keep.reshape(-1, K)}) > 5
        labels[1] = np.where(labels[1] == 255, 255, np.where(labels[1] < 2, 1, 3))
        keep = self.keep(draw._replace(present_only=True), jnp.asarray(labels))
        assert (keep[0] == 1).all()  # no label at all
        assert (keep[1] == [1, 0, 1, 0, 1]).all()

    @pytest.mark.parametrize("per", ["example", "tile"])
    def test_stratified_places_share_the_classes(self, batch, per):
        draw = step.Draw(jnp.ones(K), per=per, tile=8, count=2, stratify=True)
        for number in range(10):
            dropped = 1 - self.keep(draw, jnp.asarray(batch["label"]), number, p=0.5)
            groups = dropped.reshape((1, B, K) if per == "example" else (B, -1, K))
            for group in groups:
                assert group.sum() == len(group)  # 2 classes, half of the time
                assert np.ptp(group.sum(0)) <= 1
                assert (group.sum(1) == 1).all()

    @pytest.mark.parametrize("stratify", [False, True])
    @pytest.mark.parametrize("per", ["example", "tile"])
    def test_devices_do_not_change_it(self, batch, per, stratify):
        draw = step.Draw(jnp.ones(K), per=per, tile=8, count=2, stratify=stratify)
        args = draw, KEY, jnp.asarray(0.5)
        expected = step.draw_for_batch(*args, jnp.asarray(batch["label"]))
        many = jax.pmap(lambda y: step.draw_for_batch(*args, y, axis.AXIS), axis_name=axis.AXIS)
        got = pmap.unshard(many(pmap.shard(batch)["label"]))
        np.testing.assert_array_equal(got, expected)

    def test_a_tile_is_no_larger_than_asked_for_and_all_are_alike(self):
        assert draw_module.grid((512, 1024), 32) == (16, 32)
        assert draw_module.grid((97, 96), 32) == (4, 3)
        assert draw_module.grid((20, 30), 64) == (1, 1)


def test_a_step_draws_by_its_key_and_number(batch, monkeypatch):
    """What is dropped, and the keys of dropout and of the loss's variation."""

    def update(current, images, labels, keep, *_, **keys):
        return current, {"keep": keep, **jax.tree.map(jax.random.key_data, keys)}

    monkeypatch.setattr(step, "update", update)
    bound, _ = bound_step(None, DRAWS["tile"], None)

    @jax.jit
    def drawn(number, key):
        _, scalars = bound(state.TrainState(number, {}, {}, {}, 0), batch, key)
        return {name: scalars[name] for name in ("keep", "dropout_key", "variation_key")}

    here, again, later, other = (
        drawn(number, key) for number, key in ((0, KEY), (0, KEY), (1, KEY), (0, jax.random.key(4)))
    )
    assert (here["dropout_key"] != here["variation_key"]).any()
    for name, value in here.items():
        np.testing.assert_array_equal(again[name], value)
        assert (later[name] != value).any()
        assert (other[name] != value).any()


def test_coefficients_follow_the_step(tiny, batch):
    bound, optimizer = bound_step(tiny(K), DRAWS["batch"], None)
    bound = jax.jit(bound)
    variables = tiny(K).init(jax.random.key(1), jnp.zeros((1, H, W, 3)))
    current, seen = state.from_variables(variables, optimizer), []
    for _ in range(3):
        current, scalars = bound(current, batch, KEY)
        seen.append(float(scalars["lambda"]))
        expected = (
            scalars["lambda"] * scalars["loss_plain"]
            + (1 - scalars["lambda"]) * scalars["loss_drop"]
            + ALPHA * scalars["suppression"]
        )
        np.testing.assert_allclose(scalars["loss"], expected, rtol=1e-5)
        assert scalars["suppression"] > 0
    np.testing.assert_allclose(seen, [1, 0.9, 0.8], rtol=1e-6)
    assert bound._cache_size() == 1  # every draw and step runs the same compiled program


def test_plain_training_is_the_same_path_without_the_method(tiny, batch):
    plain = partial(
        step.train_step,
        recipe=Recipe(tiny(K, dropclass=None), optax.sgd(0.1)),
        learning_rate=optax.constant_schedule(0.1),
        dropclass=None,
        **IMAGES,
    )
    variables = tiny(K, dropclass=None).init(jax.random.key(1), jnp.zeros((1, H, W, 3)))
    assert "refine" not in variables["params"]
    after, scalars = jax.jit(plain)(state.from_variables(variables, optax.sgd(0.1)), batch, KEY)
    assert scalars.keys() == {"loss", "loss_plain", "lr"}
    assert scalars["loss"] == scalars["loss_plain"]
    assert after.step == 1


def test_a_batch_without_labels_leaves_finite_parameters(tiny, batch):
    bound, optimizer = bound_step(tiny(K), DRAWS["batch"], None)
    variables = tiny(K).init(jax.random.key(1), jnp.zeros((1, H, W, 3)))
    empty = {**batch, "label": np.full_like(batch["label"], 255)}
    after, scalars = jax.jit(bound)(state.from_variables(variables, optimizer), empty, KEY)
    assert np.isfinite(scalars["loss"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
