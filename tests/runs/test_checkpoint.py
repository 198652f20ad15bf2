"""Checkpoints: exact, kept as promised, and never trusted when they are damaged."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropclass_jax.errors import UserError
from dropclass_jax.runs import checkpoint
from dropclass_jax.training import state

HERE = Path(__file__).parent

OPTIMIZER = optax.adamw(1e-3)


def state_at(step, size=8):
    """A state whose every value tells its step."""
    noise = np.random.default_rng(step).standard_normal((size, 4)).astype(np.float32)
    variables = {
        "params": {"head": {"kernel": jnp.asarray(noise)}, "bias": jnp.arange(3.0)},
        "batch_stats": {"norm": {"mean": jnp.full(5, -1.0 * step)}},
    }
    fresh = state.from_variables(variables, OPTIMIZER)
    return fresh.replace(step=jnp.asarray(step, jnp.int32))


def save_all(workdir, steps, keep=2):
    with checkpoint.manager(workdir, keep) as checkpoints:
        for step in steps:
            checkpoint.save(checkpoints, state_at(step))
        checkpoint.finish(checkpoints)


def restored(workdir, say=print):
    with checkpoint.manager(workdir) as checkpoints:
        return checkpoint.restore_latest(checkpoints, state_at(0), say)


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, jax.device_get(theirs))


def steps_of(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def test_what_is_saved_is_restored(tmp_path):
    assert not checkpoint.exists(tmp_path)
    assert_equal(restored(tmp_path), state_at(0))
    save_all(tmp_path, [3])
    assert checkpoint.exists(tmp_path)
    assert_equal(restored(tmp_path), state_at(3))


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    with checkpoint.manager(tmp_path, keep=2) as checkpoints:
        for step, mean_iou in ((1, 0.3), (2, 0.5), (3, 0.5), (4, 0.2), (5, 0.4), (6, None)):
            checkpoint.save(checkpoints, state_at(step))
            if mean_iou is not None:
                checkpoint.note_evaluation(tmp_path, step, mean_iou)
        checkpoint.finish(checkpoints)
    assert checkpoint.read_best(tmp_path) == (2, 0.5)
    assert steps_of(tmp_path) == [2, 5, 6]

    shapes = checkpoint.variable_shapes(tmp_path)
    for which, step in (("last", 6), ("best", 2), ("5", 5)):
        variables, found = checkpoint.restore_variables(tmp_path, shapes, which)
        assert found == step
        assert_equal(variables, state_at(step).variables)
    with pytest.raises(UserError, match=r"no checkpoint '3'; there are last, best and 2, 5, 6"):
        checkpoint.restore_variables(tmp_path, shapes, "3")


def test_best_needs_an_evaluation(tmp_path):
    save_all(tmp_path, [1])
    with pytest.raises(UserError, match="no evaluation yet"):
        checkpoint.restore_variables(tmp_path, checkpoint.variable_shapes(tmp_path), "best")


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


DAMAGE = {
    "a truncated file": lambda folder: largest_file(folder).write_bytes(b"x"),
    "a missing file": lambda folder: largest_file(folder).unlink(),
    "a missing manifest": lambda folder: (folder / "state" / "manifest.ocdbt").unlink(),
    "a truncated description": lambda folder: (folder / "state" / "_METADATA").write_bytes(b"{"),
    "an empty folder": lambda folder: [shutil.rmtree(folder / "state"), (folder / "state").mkdir()],
    "no state": lambda folder: shutil.rmtree(folder / "state"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_for_the_newest_good_one(tmp_path, damage):
    save_all(tmp_path, [3, 6])
    DAMAGE[damage](tmp_path / "checkpoints" / "6")
    told = []
    with checkpoint.manager(tmp_path) as checkpoints:
        found = checkpoint.restore_latest(checkpoints, state_at(0), told.append)
        assert_equal(found, state_at(3))
        assert len(told) == 1
        assert told[0].startswith("checkpoint 6 is damaged (")
        assert str(tmp_path / "damaged_checkpoint_6") in told[0]
        assert (tmp_path / "damaged_checkpoint_6").is_dir()
        # The run comes to that step again.
        checkpoint.save(checkpoints, state_at(6))
        checkpoint.finish(checkpoints)
    assert_equal(restored(tmp_path), state_at(6))


def test_nothing_but_damaged_checkpoints_is_an_error(tmp_path):
    save_all(tmp_path, [3, 6])
    for step in (3, 6):
        DAMAGE["a missing file"](tmp_path / "checkpoints" / str(step))
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read \(6: .*; 3: ") as error:
        restored(tmp_path)
    assert "\n" not in str(error.value)
    assert steps_of(tmp_path) == [3, 6]


def test_another_model_s_checkpoint_is_an_error(tmp_path):
    save_all(tmp_path, [3])
    with (
        checkpoint.manager(tmp_path) as checkpoints,
        pytest.raises(UserError, match="of another model"),
    ):
        checkpoint.restore_latest(checkpoints, state_at(0, size=9))
    shapes = jax.eval_shape(lambda: state_at(0, size=9).variables)
    with pytest.raises(UserError, match="does not fit this config's model"):
        checkpoint.restore_variables(tmp_path, shapes)


def damaged_from_the_start(workdir):
    """What the next test runs in a process of its own, to see all that is printed."""
    save_all(workdir, [3, 6])
    DAMAGE["a truncated file"](workdir / "checkpoints" / "6")
    restored(workdir)


def run(function, workdir):
    """A function of this file in a process of its own."""
    script = f"import pathlib, test_checkpoint as t; t.{function}(pathlib.Path({str(workdir)!r}))"
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=HERE,
        check=False,
    )


def test_damage_is_told_in_one_line(tmp_path):
    done = run("damaged_from_the_start", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("checkpoint 6 is damaged (")
    assert done.stdout.count("\n") == 1


def test_only_what_failed_readers_print_is_left_out(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: printed.append(error))
    checkpoint._quiet_about_closed_loops.__wrapped__()
    errors = [RuntimeError("Event loop is closed"), RuntimeError("other"), KeyError("other")]
    for error in errors:
        sys.excepthook(type(error), error, None)
    assert printed == errors[1:]


def on_a_full_disk(workdir):
    """What the next test runs in a process of its own, whose files may not grow past a limit."""
    with checkpoint.manager(workdir) as checkpoints:
        checkpoint.save(checkpoints, state_at(1, 50_000))
        checkpoint.finish(checkpoints)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        try:
            checkpoint.save(checkpoints, state_at(2, 50_000))
            checkpoint.finish(checkpoints)
        except UserError as error:
            print(f"told: {error}")


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    done = run("on_a_full_disk", tmp_path)
    told = [line for line in done.stdout.splitlines() if line.startswith("told: ")]
    assert len(told) == 1, done.stdout + done.stderr
    assert "cannot save a checkpoint in" in told[0]
    assert "the last good one is of step 1. Make room" in told[0]
    with checkpoint.manager(tmp_path) as checkpoints:
        found = checkpoint.restore_latest(checkpoints, state_at(0, 50_000))
    assert_equal(found, state_at(1, 50_000))
