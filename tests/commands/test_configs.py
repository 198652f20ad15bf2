"""Every config file builds its network and takes one step; no file is left out."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from facts import FACTS, facts_only

from dropclass_jax.data import info
from dropclass_jax.experiment import build, check
from dropclass_jax.experiment.config import load_config
from dropclass_jax.parallel import pmap
from dropclass_jax.training import state

FILES = sorted(p.stem for p in Path("configs").glob("*.py") if p.stem not in ("base", "__init__"))
VARIANTS = (
    "configs/camvid.py:hrnet_w18_small_v2,full",
    "configs/camvid.py:deeplab_v3_mobilenet_v3_small",
)
SPECS = [*(f"configs/{stem}.py" for stem in FILES), *VARIANTS]
COMPILED = ("configs/streets.py",)  # the quickstart's
# Whatever a user's folder holds.
FACTS["folder"] = info.DatasetInfo("folder", ("a", "b", "c"), info.distinct_colors(3))


def started(spec, **values):
    """A config, its training step, and what that takes: a state of zeros, a batch and a key."""
    config = load_config(spec)
    config.update(values)
    check.check(config)
    built = build.build(config, facts_only(config.data.name))
    shapes = jax.eval_shape(built.model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    before = state.from_variables(zeros, built.optimizer)
    batch = {"image": np.zeros((8, 32, 32, 3), np.uint8), "label": np.zeros((8, 32, 32), np.uint8)}
    arguments = before, pmap.shard(batch), jax.random.key(config.seed)
    return config, pmap.pmap_step(built.train_step), arguments


def test_runs_of_all_seeds_share_one_step(named_tiny):
    """The seed is an argument: the seeds of a sweep find the step of the first one compiled."""
    programs = []
    for seed in (0, 1):
        _, step, arguments = started("configs/streets.py:tiny", seed=seed)
        programs.append(step.lower(*arguments).as_text())
    assert programs[0] == programs[1]


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec not in COMPILED])
def test_a_config_builds_and_its_step_fits_together(spec):
    """What can be known of a step before it is compiled."""
    _, step, arguments = started(spec)
    after, scalars = jax.eval_shape(step, *arguments)
    assert scalars["loss"].shape == ()
    assert jax.tree.map(jnp.shape, after.params) == jax.tree.map(jnp.shape, arguments[0].params)


@pytest.mark.parametrize(
    "spec",
    [spec if spec in COMPILED else pytest.param(spec, marks=pytest.mark.slow) for spec in SPECS],
)
def test_config_builds_and_takes_a_step(spec):
    config, step, arguments = started(spec)
    after, scalars = step.lower(*arguments).compile()(*arguments)
    # A network of zeros knows nothing: the loss is that of a fair guess. Unoptimised code sums a
    # device's 32 x 32 equal values one after the other, each time rounding to float32.
    num_classes = FACTS[config.data.name].num_classes
    rounding = 32 * 32 * np.finfo(np.float32).eps / 2
    np.testing.assert_allclose(scalars["loss"], np.log(num_classes), rtol=rounding)
    assert after.step == 1
    assert np.abs(after.params["classifier"]["bias"]).max() > 0
