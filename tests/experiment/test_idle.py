"""Settings that change nothing are named, and they do change nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
import tiny
from tiny import changed

from dropclass_jax.experiment import build, idle
from dropclass_jax.experiment.batches import load_data
from dropclass_jax.experiment.config import flatten, load_config
from dropclass_jax.models.variables import init_shapes
from dropclass_jax.ops import axis
from dropclass_jax.training import state

# A key of every rule, another value of it, and what makes it matter.
CASES = {
    "loss.ohem.threshold": (0.5, {"loss.name": "ohem"}),
    "loss.focal.gamma": (3.0, {"loss.name": "focal"}),
    "loss.region_weight": (2.0, {"loss.name": "dice"}),
    "loss.auxiliary": (0.1, {"model.auxiliary": True}),
    "model.deeplab_v3.dropout": (0.25, {"model.name": "deeplab_v3_tiny"}),
    "data.sampling.class_crop": (False, {"data.sampling.class_uniform": 0.5}),
    "dropclass.tile": (8, {"dropclass.draw_per": "tile"}),
    "dropclass.lambda_.start": (0.5, {"dropclass.lambda_.shape": "linear"}),
    "dropclass.p.start": (0.3, {"dropclass.p.shape": "cosine"}),
    "dropclass.refine_init": ("identity", {"dropclass.refine": "block"}),
    "dropclass.stop_importance_gradient": (True, {"dropclass.importance": "shared"}),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    with tiny.known():
        yield _config(tmp_path_factory.mktemp("prepared"))


def _config(prepared):
    config = load_config("configs/streets.py:tiny")
    config.data.prepared_dir = str(prepared)
    config.data.options.update(train=2, val=1, val_out=1, height=32, width=64)
    config.augment.crop = (32, 64)
    config.batch_size = 2
    config.dropclass.draw_per = "batch"
    config.dropclass.refine = "none"
    config.dropclass.lambda_.shape = config.dropclass.p.shape = "constant"
    config.dropclass.importance = "uniform"
    return config


@pytest.fixture(scope="module")
def dataset(config):
    return load_data(config)


def program(config, dataset):
    """What a step of training is, as text: with every constant, and what it starts from."""
    built = build.build(config, dataset)
    variables = init_shapes(built.model)
    current = jax.eval_shape(lambda v: state.from_variables(v, built.optimizer), variables)
    batch = {
        "image": jnp.zeros((2, *config.augment.crop, 3), jnp.uint8),
        "label": jnp.zeros((2, *config.augment.crop), jnp.uint8),
    }
    key = jax.random.key(0)
    start = jax.make_jaxpr(lambda key: built.model.init(key, jnp.zeros((1, 32, 32, 3))))(key)
    step = jax.make_jaxpr(built.train_step, axis_env=[(axis.AXIS, 1)])(current, batch, key)
    return f"{start}\n{step}"


def test_every_rule_has_a_case():
    def covered(need, key):
        return key == need.key or key.startswith(f"{need.key}.")

    assert all(any(covered(need, key) for key in CASES) for need in idle.NEEDS)
    assert all(any(covered(need, key) for need in idle.NEEDS) for key in CASES)


@pytest.mark.parametrize("key", CASES)
def test_is_named_until_it_matters(config, key):
    value, mend = CASES[key]
    given = changed(config, {key: value})
    [(named, line)] = idle.notes(given, ["optim.lr", key, "total_steps"]).items()
    assert named == key
    other = next(iter(mend))
    assert line.startswith(f"note: config.{key} changes nothing, as config.{other} is ")
    assert repr(dict(flatten(config))[other]) in line
    assert idle.notes(changed(given, mend), [key]) == {}
    assert idle.notes(given, ["optim.lr"]) == {}
    off = idle.notes(changed(given, {"dropclass.enabled": False}), [key])
    assert off == ({} if key.startswith("dropclass.") else {key: line})


def test_a_constant_has_a_start_where_it_begins_later(config):
    later = changed(config, {"dropclass.p.begin": 0.5, "dropclass.p.start": 0.3})
    assert idle.notes(later, ["dropclass.p.start", "dropclass.p.begin"]) == {}


@pytest.mark.parametrize("key", [key for key in CASES if not key.startswith("data.")])
def test_changes_the_step_only_where_it_matters(config, dataset, key):
    value, mend = CASES[key]
    before, after = (program(changed(config, v), dataset) for v in ({}, {key: value}))
    assert before == after
    before, after = (program(changed(config, {**mend, **v}), dataset) for v in ({}, {key: value}))
    assert before != after
