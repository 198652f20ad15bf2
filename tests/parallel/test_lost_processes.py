"""Two processes, one of which is killed: what becomes of the other."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import pytest
import tiny

# What a process of a run does, but for the network.
WORK = """
import sys
from dropclass_jax.errors import UserError
from dropclass_jax.parallel import leaving, processes

number, port, work = sys.argv[1:]
processes.initialize("127.0.0.1:" + port, 2, int(number))

import numpy as np

with leaving.leave_together():
    processes.any_process(False)
    print("begun", flush=True)
    while work == "exchanging":
        processes.gather_batches(np.zeros((1, 2), np.float32))
    while work == "computing":
        sum(range(1000))
    with processes.together():
        if number == "1":
            raise UserError("no such file")
"""


def start(work):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, number, port, work],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=tiny.environment(),
        )
        for number in ("0", "1")
    ]  # fmt: skip
    for process in started:
        for line in process.stdout:
            if line == "begun\n":
                break
    return started


def end(process):
    """The exit code of a process, and what it said, but for the messages of Gloo's success."""
    output = process.communicate(timeout=300)[0]
    lines = [line for line in output.splitlines() if not line.startswith("[Gloo]")]
    return process.returncode, lines


# While they exchange, Gloo tells the process; while it computes, jax's runtime would abort it.
@pytest.mark.parametrize(("work", "victim"), [("exchanging", 1), ("computing", 0)])
def test_the_other_one_says_one_line_and_asks_to_be_started_again(work, victim):
    started = start(work)
    started[victim].send_signal(signal.SIGKILL)
    code, lines = end(started[1 - victim])
    started[victim].communicate()
    assert code == 1, lines
    (line,) = lines
    gone = r"error: (another|the first) process of this run is gone.*Start all of them again to"
    assert re.match(gone, line)


def test_a_mistake_of_one_is_told_by_both_before_either_ends():
    (code, lines), other = map(end, start("a mistake"))
    assert (code, lines) == (2, ["error: process 1 stopped: no such file"])
    assert other == (2, ["error: no such file"])
