"""What fits a larger model or batch into the same memory, and what is averaged or held still."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from xla_flags import USUAL_EMITTERS

from dropclass_jax import models, objective
from dropclass_jax.errors import UserError
from dropclass_jax.losses import pixels
from dropclass_jax.models import hrnet, mobilenet_v3, patterns, resnet
from dropclass_jax.models.layers import Layers
from dropclass_jax.models.segmenter import Segmenter
from dropclass_jax.ops import axis
from dropclass_jax.parallel import pmap
from dropclass_jax.training import optimizers, state, step
from dropclass_jax.training.recipe import Recipe

K, B, H, W = 5, 8, 16, 24

FROZEN = {"freeze_bn": ("*",)}
WEIGHTS = np.array([1.0, 2.0, 0.5, 1.0, 3.0])


def float64(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


@pytest.fixture(scope="module")
def batch():
    """Uneven numbers of valid pixels an example, the first one ignored altogether."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, K, (B, H, W)).astype(np.uint8)
    for row in range(B):
        labels[row, : 2 * row] = 255
    labels[0] = 255
    return rng.standard_normal((B, H, W, 3)), labels


KEEP = {
    "plain": None,
    "batch": np.array([1, 1, 0, 1, 1.0]),
    "example": 1.0 - np.eye(K)[np.arange(B) % K] * (np.arange(B) % 3 > 0)[:, None],
    # Two classes a tile, on a grid that the features of 4 x 6 are no multiple of.
    "tile": 1.0 - sum(np.eye(K)[(np.arange(B * 12).reshape(B, 3, 4) + i) % K] for i in (0, 2)),
}


def one_update(model, keep, optimizer=None, **settings):
    """``(state, images, labels) -> (state, scalars)``, in the middle of training."""

    def update(current, images, labels, dropout_key=None, alpha=10.0, **settings):
        recipe = Recipe(
            model,
            optimizer or optax.sgd(0.1, momentum=0.9),
            class_weights=jnp.asarray(WEIGHTS),
            **settings,
        )
        mask = None if keep is None else jnp.asarray(keep)
        return step.update(
            current, images, labels, mask, 0.4, alpha, recipe, dropout_key=dropout_key
        )

    return partial(update, **settings)


def start(model, optimizer=None, **settings):
    """A state in float64 whose norms are no identity, the same for the same parameters."""
    variables = float64(jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, H, W, 3))))
    shift = lambda x: x + 0.1 * jax.random.uniform(jax.random.key(2), x.shape, x.dtype)  # noqa: E731
    variables["batch_stats"] = jax.tree.map(shift, variables["batch_stats"])
    return state.from_variables(variables, optimizer or optax.sgd(0.1, momentum=0.9), **settings)


def assert_same(got, expected, rtol=1e-10, atol=1e-13):
    got = dict(jax.tree.leaves_with_path(got))
    expected = dict(jax.tree.leaves_with_path(expected))
    assert got.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(
            got[path], value, rtol=rtol, atol=atol, err_msg=jax.tree_util.keystr(path)
        )


class TestAccumulation:
    @pytest.mark.parametrize("keep", KEEP)
    def test_parts_add_up_to_the_whole(self, tiny, batch, keep):
        """4 x 2 equals 1 x 8 without batch norm: loss terms, parameters, momentum."""
        model = tiny(K, layers=FROZEN, dropclass=None if keep == "plain" else {}, auxiliary=0)
        with jax.enable_x64(True):
            key, other = jax.random.key(5), jax.random.key(6)
            update = one_update(model, KEEP[keep])
            in_parts = jax.jit(partial(update, accumulate_steps=4))
            before = start(model)
            whole = jax.jit(update)(before, *batch, dropout_key=key)
            assert_same(in_parts(before, *batch, dropout_key=key), whole)
            # Each of the terms, dropout included, has a part in it.
            assert all(value > 0 for value in whole[1].values())
            assert in_parts(before, *batch, dropout_key=other)[1]["loss"] != whole[1]["loss"]

    def test_eight_devices_equal_one(self, tiny):
        """Batch norm's statistics are those of a part over all devices, k times in order."""
        rng = np.random.default_rng(1)
        images = rng.standard_normal((2 * B, H, W, 3))
        labels = rng.integers(0, K, (2 * B, H, W)).astype(np.uint8)
        labels[3:7] = 255
        keep = KEEP["batch"]
        with jax.enable_x64(True):
            settings = {"accumulate_steps": 2, "dropout_key": jax.random.key(5)}
            model = tiny(K, auxiliary=0)
            before = start(model)
            one = jax.jit(one_update(model, keep, **settings))(before, images, labels)

            model = tiny(K, auxiliary=0, axis_name=axis.AXIS)
            update = one_update(model, keep, **settings, axis_name=axis.AXIS)
            eight = pmap.pmap_step(lambda state, b, _: update(state, b["images"], b["labels"]))
            sharded = pmap.shard({"images": images, "labels": labels})
            assert_same(eight(jax.tree.map(jnp.copy, before), sharded, jax.random.key(0)), one)

    def test_statistics_are_updated_by_every_part(self, tiny, batch):
        """With momentum m, k parts leave m^k of the old statistics, in the order of the parts."""
        images, labels = batch
        model = tiny(K)
        with jax.enable_x64(True):
            before = start(model)
            after, _ = jax.jit(one_update(model, KEEP["batch"], accumulate_steps=2))(
                before, images, labels
            )
            stats = before.batch_stats
            for part in (images[::2], images[1::2]):
                variables = {"params": before.params, "batch_stats": stats}
                _, updated = model.apply(
                    variables, part, keep=KEEP["batch"], train=True, mutable=["batch_stats"]
                )
                stats = updated["batch_stats"]
            assert_same(after.batch_stats, stats)

    @pytest.mark.parametrize("class_weights", [None, WEIGHTS])
    def test_weights_known_beforehand_are_those_of_the_loss(self, batch, class_weights):
        labels = jnp.asarray(batch[1])
        for keep in (KEEP["batch"], KEEP["example"], KEEP["tile"]):
            settings = {"class_weights": class_weights}
            logits = jnp.zeros((B, 4, 6, K))
            outputs = {"logits": logits, "logits_drop": logits, "logits_auxiliary": logits}
            terms = objective.loss_terms(outputs, labels, jnp.asarray(keep), **settings)
            found = objective.label_weights(labels, jnp.asarray(keep), **settings)
            assert {*found, "suppression"} == terms.keys()
            assert found["drop"] < found["plain"]
            for name, weight in found.items():
                np.testing.assert_allclose(weight, terms[name][1], rtol=1e-6)
        assert pixels.pixel_weights(labels).sum() == (np.asarray(labels) != 255).sum()

    def test_a_part_takes_less_memory(self, tiny, batch):
        images = np.repeat(np.repeat(batch[0], 4, axis=1), 4, axis=2)
        labels = np.repeat(np.repeat(batch[1], 4, axis=1), 4, axis=2)
        model = tiny(K)
        before = start(model)
        needed = [
            jax.jit(one_update(model, KEEP["batch"], accumulate_steps=parts))
            .lower(before, images.astype(np.float32), labels)
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
            for parts in (1, 4)
        ]
        assert needed[1] < needed[0] / 2


@pytest.mark.parametrize("parts", [1, 2])
def test_gradient_norms_are_those_of_the_terms(tiny, batch, parts):
    """Of steps without and with the suppression; and asking for them changes nothing."""
    model = tiny(K, layers=FROZEN)
    with jax.enable_x64(True):
        before = start(model)
        update = one_update(model, KEEP["tile"], optax.sgd(1.0), accumulate_steps=parts)
        (plain, _), (whole, scalars), (same, more) = (
            jax.jit(partial(update, **settings))(before, *batch)
            for settings in ({"alpha": 0.0}, {}, {"gradient_norms": True})
        )
        assert_same(same.params, whole.params)
        assert_same({name: more[name] for name in scalars}, scalars)
        assert more.keys() - scalars.keys() == {
            "gradient_norm_cross_entropy",
            "gradient_norm_suppression",
        }
        moved = lambda a, b: optax.tree.norm(jax.tree.map(jnp.subtract, a.params, b.params))  # noqa: E731
        expected = moved(before, plain), moved(plain, whole)
        got = more["gradient_norm_cross_entropy"], more["gradient_norm_suppression"]
        np.testing.assert_allclose(got, expected, rtol=1e-9)
        assert min(expected) > 0.01


# A network of every kind of block, with the number of its blocks.
NETWORKS = {
    "hrnet": (lambda layers: hrnet.HRNet(hrnet.Architecture(16, 1, 16, (1,), 1), layers), 2),
    "resnet": (lambda layers: resnet.ResNet((1, 1), 8, layers), 2),
    "mobilenet_v3": (
        lambda layers: mobilenet_v3.MobileNetV3(
            mobilenet_v3.ARCHITECTURES["mobilenet_v3_small"][:2], 16, layers=layers
        ),
        2,
    ),
}


def kept_bytes(backbone, current):
    """What a backbone's forward pass in training keeps for the backward pass."""

    def backward(params, images):
        def forward(params):
            variables = {"params": params, "batch_stats": current.batch_stats["backbone"]}
            return backbone.apply(variables, images, True, mutable=["batch_stats"])[0]

        return jax.vjp(forward, params)[1]

    images = jax.ShapeDtypeStruct(
        (2, 8 * H, 8 * W, 3), jnp.float64
    )  # so that maps outweigh kernels
    kept = jax.eval_shape(backward, current.params["backbone"], images)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept))


@pytest.mark.parametrize("name", NETWORKS)
def test_rematerialised_blocks_change_nothing(name, batch):
    """Loss, parameters (so gradients), statistics and their names, in float64.

    And the forward pass leaves less for the backward one, whatever a compiler makes of that.
    """
    images, labels = batch[0][:2], batch[1][5:7]
    backbone, blocks = NETWORKS[name]
    rng, before, after, blocks_again, kept = np.random.default_rng(3), None, {}, {}, {}
    with jax.enable_x64(True):
        for remat in (False, True):
            layers = Layers(remat=remat)
            model = Segmenter(backbone(layers), lambda maps, train: maps[-1], K, layers=layers)
            if before is None:  # the other takes the same: their names agree
                shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
                variables = jax.tree.map(lambda x: rng.uniform(0.1, 1, x.shape), shapes)
                before = state.from_variables(float64(variables), optax.sgd(0.1, momentum=0.9))
            update = jax.jit(one_update(model, KEEP["batch"]))
            blocks_again[remat] = str(update.trace(before, images, labels).jaxpr).count("remat2")
            kept[remat] = kept_bytes(backbone(layers), before)
            after[remat] = update(before, images, labels)
        assert_same(after[True], after[False], rtol=1e-9)
        moved = jax.tree.map(lambda a, b: (a != b).any(), before.params, after[True][0].params)
        assert np.mean(jax.tree.leaves(moved)) > 0.5  # what leads to the deepest map
    assert blocks_again[True] - blocks_again[False] >= blocks
    assert kept[True] < 0.8 * kept[False]


def test_the_drop_path_keeps_two_maps(tiny):
    """Its convolution's output and what is classified; the rest of it is computed again."""
    images, labels = jnp.zeros((2, 8 * H, 8 * W, 3)), jnp.zeros((2, 8 * H, 8 * W), jnp.uint8)

    def kept(dropclass):
        model = tiny(K, dropclass={} if dropclass else None)
        keep = jnp.ones(K) if dropclass else None
        variables = jax.eval_shape(model.init, jax.random.key(0), images)

        def backward(params, batch_stats):
            def loss(params):
                outputs, _ = model.apply(
                    {"params": params, "batch_stats": batch_stats},
                    *(images, keep, True),
                    mutable=["batch_stats"],
                )
                return objective.total(objective.loss_terms(outputs, labels, keep), 0.5)

            return jax.vjp(loss, params)[1]

        return jax.tree.leaves(
            jax.eval_shape(backward, variables["params"], variables["batch_stats"])
        )

    positions = 2 * (2 * H) * (2 * W)  # of [B, h, w], at stride 4
    more = sum(x.size for x in kept(True)) - sum(x.size for x in kept(False))
    # Two maps of 12 features; logits and softmax of the suppression, K and 1 wide.
    maps = positions * (2 * 12 + 2 * K + 2)
    assert maps <= more < 1.01 * maps


class TestFrozen:
    def after(self, model, batch, freeze=()):
        optimizer = optimizers.create(
            "sgd", optax.constant_schedule(0.1), weight_decay=0.01, freeze=freeze
        )
        before = start(model, optimizer)
        after, _ = jax.jit(one_update(model, KEEP["batch"], optimizer))(before, *batch)
        return before, after

    @pytest.mark.parametrize(
        ("patterns", "held"),
        [((), set()), (("backbone",), {"backbone"}), (("*",), {"backbone", "refine"}),
         (("*/conv1",), {"backbone/conv1"})],
    )  # fmt: skip
    def test_norms_that_match_leave_their_statistics(self, tiny, batch, patterns, held):
        with jax.enable_x64(True):
            before, after = self.after(tiny(K, layers={"freeze_bn": patterns}), batch)
        for path, old in jax.tree.leaves_with_path(before.batch_stats):
            name = "/".join(key.key for key in path)
            new = dict(jax.tree.leaves_with_path(after.batch_stats))[path]
            assert np.array_equal(old, new) == any(name.startswith(h + "/") for h in held), name
        # Scale and bias are trained all the same.
        moved = jax.tree.map(lambda a, b: (a != b).any(), before.params, after.params)
        assert all(jax.tree.leaves(moved))

    def test_a_frozen_norm_is_the_one_of_evaluation(self, tiny, batch):
        model, images = tiny(K, layers=FROZEN), batch[0]
        with jax.enable_x64(True):
            variables = start(model).variables
            trained = model.apply(variables, images, train=True, mutable=["batch_stats"])[0]
            assert_same(trained, model.apply(variables, images, train=False))
            free = tiny(K).apply(variables, images, train=True, mutable=["batch_stats"])[0]
            assert not np.allclose(free["logits"], trained["logits"], rtol=0.01)

    @pytest.mark.parametrize("name", ["sgd", "adamw"])
    def test_parameters_that_match_stay_and_have_no_moments(self, tiny, name):
        """And the others move as they would anyway, decay included."""
        params = start(tiny(K)).params
        gradients = jax.tree.map(jnp.ones_like, params)
        create = partial(optimizers.create, name, optax.constant_schedule(0.1))
        frozen, free = create(freeze=("backbone/conv1*", "*/norm")), create()
        updates, _ = frozen.update(gradients, frozen.init(params), params)
        expected, _ = free.update(gradients, free.init(params), params)
        held = patterns.mask(params, ("backbone/conv1", "*/norm"))
        assert 0 < sum(jax.tree.leaves(held)) < len(jax.tree.leaves(held))
        expected = jax.tree.map(lambda h, u: 0 * u if h else u, held, expected)
        assert_same(updates, expected)
        size = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
        spared = sum(
            p.size for p, h in zip(*map(jax.tree.leaves, (params, held)), strict=True) if h
        )
        moments = {"sgd": 1, "adamw": 2}[name]
        assert size(free.init(params)) - size(frozen.init(params)) == moments * spared

    def test_a_name_that_the_network_lacks_is_refused(self, tiny):
        params = start(tiny(K)).params
        patterns.check("optim.freeze", ("backbone", "*/norm*", "backbone/conv?"), params)
        message = r"config.optim.freeze .* no 'backbone/conv3'; did you mean backbone/conv"
        with pytest.raises(UserError, match=message):
            patterns.check("optim.freeze", ("backbone", "backbone/conv3"), params)


class TestAverage:
    DECAY = 0.9

    def test_it_is_the_debiased_average_of_optax(self, tiny, batch):
        """Over four updates, and the parameters at the start have no part in it."""
        model = tiny(K)
        with jax.enable_x64(True):
            update = jax.jit(one_update(model, KEEP["batch"], ema_decay=self.DECAY))
            current = start(model, ema=True)
            theirs = optax.ema(self.DECAY, debias=True)
            theirs_state = theirs.init(current.params)
            for number in range(4):
                current, _ = update(current, *batch)
                expected, theirs_state = theirs.update(current.params, theirs_state)
                assert_same(current.ema_params, expected)
                assert_same(current.ema_params, current.params) if number == 0 else None
            assert current.eval_variables["params"] is current.ema_params
            assert current.eval_variables["batch_stats"] is current.batch_stats
            assert current.variables["params"] is current.params
            apart = jax.tree.map(lambda a, b: (a != b).any(), current.params, current.ema_params)
            assert all(jax.tree.leaves(apart))

    def test_training_does_not_see_it(self, tiny, batch):
        model = tiny(K)
        with jax.enable_x64(True):
            averaged = one_update(model, KEEP["batch"], ema_decay=self.DECAY)
            # The older emitters round the two programs differently.
            jit = partial(jax.jit, compiler_options=USUAL_EMITTERS)
            with_it, _ = jit(averaged)(start(model, ema=True), *batch)
            without, _ = jit(one_update(model, KEEP["batch"]))(start(model), *batch)
        assert without.ema_params is None
        assert_same(with_it.replace(ema_params=None), without, rtol=0, atol=0)
        assert without.eval_variables == without.variables

    def test_a_long_average_in_float32(self):
        """A decay so near to 1 that ``1 - decay^step`` has few digits of its own."""
        decay, average = 0.9999, jnp.zeros(())
        values = np.random.default_rng(0).standard_normal(50)
        for number, value in enumerate(values, start=1):
            average = state.update_ema(average, jnp.float32(value), decay, jnp.int32(number))
        weights = decay ** np.arange(49, -1, -1)
        np.testing.assert_allclose(average, weights @ values / weights.sum(), atol=1e-6)


def test_bfloat16_computes_short_and_keeps_long(tiny, batch):
    """Every convolution's output is bfloat16; state and loss are float32, the loss near its."""
    images, labels = batch[0].astype(np.float32), batch[1]
    losses_of = {}
    for dtype in (None, jnp.bfloat16):
        model = tiny(K, layers={"dtype": dtype}, auxiliary=0)
        before = start(model, ema=True)  # float32 here, where float64 is off
        update = one_update(
            model, KEEP["batch"], dropout_key=jax.random.key(5), accumulate_steps=2, ema_decay=0.9
        )
        after, scalars = jax.jit(update)(before, images, labels)
        floats = [x for x in jax.tree.leaves((after, scalars)) if x.dtype != jnp.int32]
        assert {x.dtype for x in floats} == {jnp.dtype("float32")}
        assert jax.tree.structure(after) == jax.tree.structure(before)
        losses_of[dtype] = {name: float(value) for name, value in scalars.items()}
        apply = partial(model.apply, capture_intermediates=True, mutable=["intermediates"])
        _, kept = jax.eval_shape(apply, before.variables, images)
        for path, x in jax.tree.leaves_with_path(kept["intermediates"]["backbone"]):
            assert x.dtype == (dtype or jnp.float32), path
    assert losses_of[None] != losses_of[jnp.bfloat16]
    for name, value in losses_of[None].items():
        np.testing.assert_allclose(losses_of[jnp.bfloat16][name], value, rtol=0.02, err_msg=name)


def test_a_network_takes_all_of_it():
    model = models.create("hrnet_w18_small_v1", K, remat=True, freeze_bn=("backbone",))
    assert model.backbone.layers.remat
    assert model.backbone.layers.freeze_bn == ("backbone",)
