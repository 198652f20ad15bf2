"""Whole runs in several processes, and on changing numbers of devices, of the tiny network."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
import soak
import tiny

from dropclass_jax.parallel import processes
from dropclass_jax.runs import checkpoint, records

# Sums over devices are added up in another order. SGD hands on the rounding of a gradient as it is;
# AdamW, which divides by a gradient's size, would make a step of it where the gradient is nearly 0.
SGD = {"optim.name": "sgd", "optim.lr": 0.05}
ROUNDING = 1e-5
# More than a run takes between a signal and the step that all agree to stop at.
STEPS = 24


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


def start(workdir, prepared, processes=1, devices=1, **settings):
    """The processes of one run, each with its own devices."""
    usual = {"log_every": 1, "total_steps": STEPS, "eval.every_steps": STEPS // 2, **SGD}
    command = tiny.command(workdir, prepared, **usual, **settings)
    return start_all([command] * processes, devices)


def start_all(commands, devices=1):
    """The processes of one run, of a command each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    join = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={len(commands)}"]
    return [
        subprocess.Popen(
            [*command, *([*join, f"--process_id={i}"] if len(commands) > 1 else [])],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=tiny.environment(devices),
        )
        for i, command in enumerate(commands)
    ]  # fmt: skip


def ends(started, timeout=300):
    """``[(exit code, output), ...]`` of every process."""
    deadline = time.monotonic() + timeout
    outputs = [p.communicate(timeout=max(deadline - time.monotonic(), 1))[0] for p in started]
    return [(process.returncode, output) for process, output in zip(started, outputs, strict=True)]


def finish(started):
    for code, output in ends(started):
        assert code == 0, output


def until(process, line):
    for shown in process.stdout:
        if shown.startswith(line):
            return
    raise AssertionError(f"the run ended before {line!r}")


def assert_close(ours, theirs):
    left, right = checkpoint.read_weights(ours), checkpoint.read_weights(theirs)
    assert left.keys() == right.keys()
    for name, value in right.items():
        np.testing.assert_allclose(left[name], value, atol=ROUNDING, err_msg=name)
    for record, expected in zip(records.read(ours)[0], records.read(theirs)[0], strict=True):
        assert record["step"] == expected["step"]
        for name in ("loss", "loss_drop", "mean_iou"):
            if name in expected:
                np.testing.assert_allclose(record[name], expected[name], rtol=5e-3, atol=5e-3)


def assert_images(ours, theirs):
    """Every image is counted once, in order, and they add up to the confusion matrices."""
    ours, theirs, metrics = (
        np.load(ours / "images.npz"),
        np.load(theirs / "images.npz"),
        json.loads((ours / "metrics.json").read_text()),
    )
    assert sorted(ours) == sorted(theirs)
    for result in metrics["results"]:
        split, confusion = result["split"], np.array(result["confusion"])
        ids, counts = ours[f"{split}/ids"], ours[f"{split}/{result['head']}/counts"]
        np.testing.assert_array_equal(ids, theirs[f"{split}/ids"])
        assert (counts.shape, counts.dtype) == ((5, 19, 3), np.int64)
        labelled = theirs[f"{split}/{result['head']}/counts"][:, :, 1]
        np.testing.assert_array_equal(counts[:, :, 1], labelled)
        for column, sums in enumerate((confusion.diagonal(), confusion.sum(1), confusion.sum(0))):
            np.testing.assert_array_equal(counts[:, :, column].sum(axis=0), sums)


def assert_pictures(ours, theirs):
    """The same images are shown, whichever process had them."""
    ours, theirs = np.load(ours / "samples.npz"), np.load(theirs / "samples.npz")
    assert len(ours) == 2 * 4 * 4
    assert sorted(ours) == sorted(theirs)
    for key in ours:
        if key.endswith("/prediction"):  # of weights that are rounded in another order
            assert (ours[key] == theirs[key]).mean() > 0.9, key
        else:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


@pytest.fixture(scope="module")
def one(tmp_path_factory, prepared):
    """An uninterrupted run on one device."""
    workdir = tmp_path_factory.mktemp("runs") / "one"
    finish(start(workdir, prepared))
    return workdir


@pytest.fixture(scope="module")
def pair(tmp_path_factory, prepared):
    """An uninterrupted run in two processes, and how they ended."""
    workdir = tmp_path_factory.mktemp("runs") / "pair"
    return workdir, ends(start(workdir, prepared, 2))


def test_two_processes_train_as_one_does(pair, one):
    assert_as_one(*pair, one)


@pytest.mark.slow
def test_four_processes_train_as_one_does(tmp_path, prepared, one):
    workdir = tmp_path / "run"
    assert_as_one(workdir, ends(start(workdir, prepared, 4)), one)


def assert_as_one(workdir, results, one):
    assert {code for code, _ in results} == {0}, results
    assert_close(workdir, one)
    assert_images(workdir, one)
    assert_pictures(workdir, one)
    # Only the first one speaks.
    assert "mean IoU" in results[0][1]
    for _, output in results[1:]:
        assert "step " not in output
        assert "mean IoU" not in output


def assert_one_line(code, output):
    """Of a process that has lost another: what happened, and an exit code that asks for more."""
    assert code == 1, output
    told = [line for line in output.splitlines() if not line.startswith(("[Gloo]", "step "))]
    assert len(told) == 1, output
    gone = "error: (another|the first) process of this run is gone.*Start all of them again to"
    assert re.match(gone, told[0])


@pytest.mark.slow  # tests/parallel/test_lost_processes.py has the same kills of lighter processes
def test_when_one_process_is_killed_the_others_stop_and_all_continue(tmp_path, prepared, pair):
    killed = tmp_path / "killed"
    started = start(killed, prepared, 2)
    until(started[0], f"step 6/{STEPS}")
    started[1].send_signal(signal.SIGKILL)
    begun = time.monotonic()
    lost, _ = ends(started)
    assert time.monotonic() - begun < processes.HEARTBEAT_SECONDS + 60
    assert_one_line(*lost)
    started = start(killed, prepared, 2)
    until(started[0], f"step 9/{STEPS}")
    started[0].send_signal(signal.SIGKILL)  # the coordinator: jax itself aborts the others
    _, lost = ends(started)
    assert_one_line(*lost)
    results = ends(start(killed, prepared, 2))
    assert [code for code, _ in results] == [0, 0], results
    assert "continuing" in results[0][1]
    soak.compare(killed, pair[0])


def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path, prepared, pair):
    stopped = tmp_path / "stopped"
    settings = {"checkpoint.every_steps": 100}  # none but the one at the stop
    started = start(stopped, prepared, 2, **settings)
    until(started[0], f"step 3/{STEPS}")
    started[1].send_signal(signal.SIGTERM)
    results = ends(started)
    assert [code for code, _ in results] == [128 + signal.SIGTERM] * 2, results
    assert "stopped by SIGTERM at step" in results[0][1]
    finish(start(stopped, prepared, 2, **settings))
    soak.compare(stopped, pair[0])


def test_a_user_s_mistake_ends_every_process(tmp_path, prepared):
    (tmp_path / "thesis.tex").touch()
    results = ends(start(tmp_path, prepared, 2))
    assert [code for code, _ in results] == [2, 2], results
    assert "is not empty and holds no run" in results[0][1]
    assert "error: process 0 stopped: " in results[1][1]
    assert "is not empty and holds no run" in results[1][1]


def test_processes_of_different_settings_do_not_train_together(tmp_path, prepared):
    """Every one of them says in what they differ, before there is a run."""
    commands = [tiny.command(tmp_path / "run", prepared, **SGD) for _ in range(2)]
    commands[1].append("--config.optim.lr=0.07")
    started = start_all(commands)
    for code, output in ends(started):
        assert code == 2, output
        errors = [line for line in output.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "optim.lr is 0.05 in process 0, 0.07 in process 1. Start all with the" in errors[0]
    assert not (tmp_path / "run").exists()


def test_a_run_continues_on_other_numbers_of_devices(tmp_path, prepared, one):
    """8 devices, then 4 in 2 processes, then 1: the same global batches, the same outcome."""
    workdir = tmp_path / "run"
    for devices, last in ((8, 4), (4, 8)):
        (started,) = start(workdir, prepared, devices=devices)
        until(started, f"step {last}/{STEPS}")
        started.send_signal(signal.SIGTERM)
        ((code, output),) = ends([started])
        assert code == 128 + signal.SIGTERM, output
    finish(start(workdir, prepared))
    assert_close(workdir, one)
