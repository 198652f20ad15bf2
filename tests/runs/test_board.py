"""TensorBoard's files, and a disk that is full under them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from board_events import events

from dropclass_jax.runs.board import Board


def test_scalars_and_pictures_are_there(tmp_path):
    board = Board(tmp_path / "tensorboard", first_step=5)
    board.scalars(7, {"train/loss": 0.5, "train/lr": 0.25})
    board.image(8, "val/1 größe", np.zeros((4, 6, 3), np.uint8))
    board.close()
    _, version, start, *shown = events(tmp_path / "tensorboard")
    assert (version.file_version, version.step, start.session_log.status) == ("brain.Event:2", 5, 1)
    found = [(event.step, event.summary.value[0]) for event in shown]
    assert [step for step, _ in found] == [7, 7, 8]
    assert [value.tag for _, value in found] == ["train/loss", "train/lr", "val/1 größe"]
    assert [value.simple_value for _, value in found[:2]] == [0.5, 0.25]
    assert (found[2][1].image.height, found[2][1].image.width) == (4, 6)


FULL = """
import pathlib, resource, sys
from dropclass_jax.runs.board import Board
board = Board(pathlib.Path(sys.argv[1]), 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    for step in range(1000):
        board.scalars(step, {"loss": 1.0})
    board.close()
except OSError as error:
    print("told", error.errno)
"""


def test_a_full_disk_is_told_and_does_not_hang(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "told"), done.stderr
    assert done.stderr == ""
