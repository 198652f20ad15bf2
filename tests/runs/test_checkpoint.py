"""Checkpoints: exact, kept as promised, and never trusted when they are damaged."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from functools import partial
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


def save_all(workdir, steps, keep=2, size=8):
    with checkpoint.manager(workdir, keep) as checkpoints:
        for step in steps:
            checkpoint.save(checkpoints, state_at(step, size))
        checkpoint.finish(checkpoints)


def restored(workdir, say=print, size=8):
    with checkpoint.manager(workdir) as checkpoints:
        return checkpoint.restore_latest(checkpoints, state_at(0, size), say)


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
                checkpoint.note_evaluation(tmp_path, step, mean_iou, "val")
        checkpoint.finish(checkpoints)
    assert checkpoint.read_best(tmp_path) == (2, 0.5, "val")
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


def flips(folder, count, seed=0):
    """Flip one bit of the array files of a checkpoint after another; says which lies flipped."""
    files = [p for p in folder.glob("state/**/*") if p.is_file()]
    rng = np.random.default_rng(seed)
    sizes = np.array([path.stat().st_size for path in files])
    for n in range(count):
        # Every file in turn, and the others as their size has it.
        path = files[n] if n < len(files) else files[rng.choice(len(files), p=sizes / sizes.sum())]
        good = path.read_bytes()
        bad = bytearray(good)
        at, bit = int(rng.integers(len(bad))), int(rng.integers(8))
        bad[at] ^= 1 << bit
        path.write_bytes(bad)
        yield f"{path.relative_to(folder)} byte {at} bit {bit}"
        path.write_bytes(good)


def test_no_flipped_bit_changes_a_value_in_silence(tmp_path):
    """Wherever it is: what is restored is what was saved, or the checkpoint is refused."""
    save_all(tmp_path, [6], size=500)
    shapes = checkpoint.variable_shapes(tmp_path)
    whole = jax.device_get(state_at(6, 500))
    weights = {
        "params/head/kernel": whole.params["head"]["kernel"],
        "params/bias": whole.params["bias"],
        "batch_stats/norm/mean": whole.batch_stats["norm"]["mean"],
    }
    readers = (
        (lambda: restored(tmp_path, size=500), whole),
        (lambda: checkpoint.restore_variables(tmp_path, shapes)[0], whole.variables),
        (lambda: checkpoint.read_weights(tmp_path), weights),
    )
    refused = 0
    for flip in flips(tmp_path / "checkpoints" / "6", 60):
        for read, expected in readers:
            try:
                values = read()
            except UserError as error:
                refused += "checksum of" in str(error)
            else:
                jax.tree.map(partial(np.testing.assert_array_equal, err_msg=flip), values, expected)
    assert refused > 50  # that nothing else has noticed


def test_a_flipped_bit_costs_the_steps_since_the_last_good_checkpoint(tmp_path):
    save_all(tmp_path, [3, 6], size=500)
    path = largest_file(tmp_path / "checkpoints" / "6" / "state")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    told = []
    assert_equal(restored(tmp_path, told.append, size=500), state_at(3, 500))
    assert len(told) == 1
    assert re.match(r"checkpoint 6 is damaged \(the checksum of \S+ is wrong\): moved to", told[0])


def test_another_step_s_state_is_not_taken_for_its_folder_s(tmp_path):
    save_all(tmp_path, [3, 6])
    folder = tmp_path / "checkpoints"
    shutil.rmtree(folder / "6")
    shutil.copytree(folder / "3", folder / "6")
    with pytest.raises(UserError, match=r"6 is damaged.*it holds the state of step 3"):
        checkpoint.restore_variables(tmp_path, checkpoint.variable_shapes(tmp_path))
    told = []
    assert_equal(restored(tmp_path, told.append), state_at(3))
    assert "checkpoint 6 is damaged (it holds the state of step 3)" in told[0]


def test_a_checkpoint_without_checksums_is_used_with_a_word(tmp_path):
    save_all(tmp_path, [3])
    shutil.rmtree(tmp_path / "checkpoints" / "3" / "checksums")
    told = []
    assert_equal(restored(tmp_path, told.append), state_at(3))
    shapes = checkpoint.variable_shapes(tmp_path)
    values, _ = checkpoint.restore_variables(tmp_path, shapes, say=told.append)
    assert_equal(values, state_at(3).variables)
    line = "checkpoint 3 is of an earlier version and has no checksums: used unchecked"
    assert told == [line] * 2


def test_saving_goes_on_while_training_does(tmp_path):
    """The checksums are of the state as it was when the save began."""
    with checkpoint.manager(tmp_path) as checkpoints:
        current = jax.tree.map(np.array, state_at(1))
        checkpoint.save(checkpoints, current)
        for leaf in jax.tree.leaves(current.params):
            leaf += 1  # a later step, in the same memory
        checkpoint.finish(checkpoints)
    assert_equal(restored(tmp_path), state_at(1))


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
