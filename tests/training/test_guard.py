"""A loss that is not finite: stopped at with the evidence kept, or left out and counted."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropclass_jax import schedules, train
from dropclass_jax.errors import UserError
from dropclass_jax.experiment.config import load_config
from dropclass_jax.runs import checkpoint, records
from dropclass_jax.training import guard, state, step

KEY = jax.random.key(0)
OPTIMIZER = optax.sgd(0.1, momentum=0.9)


def toy_step(current, batch, key=None):
    """A step that is as finite as its batch."""
    gradients = jax.tree.map(lambda p: p * batch["factor"], current.params)
    updates, opt_state = OPTIMIZER.update(gradients, current.opt_state)
    new = current.replace(
        step=current.step + 1,
        params=optax.apply_updates(current.params, updates),
        batch_stats=jax.tree.map(lambda s: s + batch["factor"], current.batch_stats),
        opt_state=opt_state,
    )
    return new, {"loss": batch["loss"]}


def start():
    return state.from_variables(
        {"params": {"w": jnp.ones(3)}, "batch_stats": {"mean": jnp.zeros(2)}}, OPTIMIZER
    )


@pytest.mark.parametrize(
    ("loss", "factor"), [(np.nan, 1.0), (np.inf, 1.0), (1.0, np.nan), (1.0, np.inf)]
)
def test_a_bad_update_is_left_out_and_counted(loss, factor):
    step = jax.jit(guard.skip_nonfinite(toy_step))
    good = {"loss": jnp.float32(1.0), "factor": jnp.float32(0.5)}
    bad = {"loss": jnp.float32(loss), "factor": jnp.float32(factor)}
    expected, _ = toy_step(toy_step(start(), good)[0], good)

    current, scalars = step(start(), good, KEY)
    assert scalars["skipped"] == 0
    before = current
    current, scalars = step(current, bad, KEY)
    assert scalars["skipped"] == current.skipped == 1
    assert current.step == 2
    jax.tree.map(np.testing.assert_array_equal, current.params, before.params)
    jax.tree.map(np.testing.assert_array_equal, current.opt_state, before.opt_state)
    current, scalars = step(current, good, KEY)
    assert scalars["skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, current.params, expected.params)
    jax.tree.map(np.testing.assert_array_equal, current.batch_stats, expected.batch_stats)


@pytest.fixture
def config(tmp_path_factory, named_tiny, no_page):
    config = load_config("configs/streets.py:tiny")
    config.data.prepared_dir = str(tmp_path_factory.mktemp("prepared"))
    config.data.options.update(train=24, val=2, val_out=2)
    config.augment.crop = (32, 48)
    config.total_steps = 6
    config.log_every = config.eval.every_steps = config.checkpoint.every_steps = 100
    return config


@pytest.fixture
def poisoned(monkeypatch):
    """``poisoned(step)``: the loss of that step, the first being 1, is not a number."""

    def poison(*steps):
        original = step.update

        def update(current, *args, **kwargs):
            new, scalars = original(current, *args, **kwargs)
            bad = jnp.isin(new.step, jnp.array(steps))
            nan = jnp.where(bad, jnp.nan, 1.0)
            params = jax.tree.map(lambda p: p * nan, new.params)
            return new.replace(params=params), {**scalars, "loss": scalars["loss"] * nan}

        monkeypatch.setattr(step, "update", update)

    return poison


def test_a_run_stops_at_the_very_step_with_its_batch(config, tmp_path, poisoned):
    poisoned(3)
    ids = []
    iterate = train.train_batches

    def watched(*args, **kwargs):
        for batch in iterate(*args, **kwargs):
            ids.append(list(batch["id"]))
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "train_batches", watched)
        with pytest.raises(UserError) as error:
            train.train(config, tmp_path / "run")
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("the loss is not finite at step 3 (loss nan, loss_drop ")
    assert f"of the examples {', '.join(ids[2])}; the batch is in " in message
    assert "--config.on_nonfinite=skip" in message
    with np.load(tmp_path / "run" / "nonfinite_step3_process0.npz") as saved:
        assert list(saved["id"]) == ids[2]
        assert saved["image"].shape == (8, 32, 48, 3)
        assert saved["label"].shape == (8, 32, 48)
    # Nothing of it was saved; the same command would come to the same step.
    assert not checkpoint.exists(tmp_path / "run")


def test_the_last_step_is_looked_at_before_it_is_saved(config, tmp_path, poisoned):
    poisoned(6)
    with pytest.raises(UserError, match="not finite at step 6 "):
        train.train(config, tmp_path / "run")
    assert not checkpoint.exists(tmp_path / "run")


def test_a_run_goes_on_without_the_bad_updates(config, tmp_path, poisoned, capsys):
    poisoned(2, 5)
    config.on_nonfinite = "skip"
    config.log_every = 1
    assert train.train(config, tmp_path / "run") == 0
    lines = [r for r in records.read(tmp_path / "run")[0] if r["kind"] == "train"]
    assert [r["skipped"] for r in lines] == [0, 1, 1, 1, 2, 2]
    rate = schedules.poly(config.optim.lr, 6, power=config.optim.power, lag=config.optim.lag)
    expected = [float(rate(taken)) for taken in (0, 1, 1, 2, 3, 3)]  # as the optimizer counts
    assert [r["lr"] for r in lines] == pytest.approx(expected, rel=1e-5)
    assert "skipped 2" in capsys.readouterr().out
    leaves = checkpoint.read_weights(tmp_path / "run")
    assert all(np.isfinite(leaf).all() for leaf in leaves.values())


def test_an_average_is_of_the_updates_that_were_taken(config, tmp_path, poisoned):
    """That of a single one is that one, whatever was left out before."""
    poisoned(1, 2, 3, 4, 5)
    config.on_nonfinite = "skip"
    found = {}
    for ema in (0.0, 0.9):
        config.optim.ema = ema
        assert train.train(config, tmp_path / str(ema)) == 0
        found[ema] = checkpoint.read_weights(tmp_path / str(ema))
    for name, expected in found[0.0].items():
        np.testing.assert_allclose(found[0.9][name], expected, rtol=1e-5, atol=1e-7, err_msg=name)
